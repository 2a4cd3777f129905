"""Every stack of linear layers becomes one, and computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hubel
from hubel.errors import UsageError
from hubel.study.collapse import collapse
from hubel.views.collapse import as_dict, lines

MERGED = [
    # (net, input, what is left)
    ("conv3-4 conv3-5 fc7", (8, 8, 2), "fc7"),
    ("conv5-3 conv3-4 relu fc3", (9, 8, 2), "conv7-4 relu fc3"),
    ("(conv3-4 conv3-4)x2 relu fc2", (11, 11, 1), "conv9-4 relu fc2"),
    ("conv3-4p2 conv3-4 relu fc2", (7, 7, 1), "conv5-4p2 relu fc2"),
    # Strides multiply, dilations keep their common measure.
    ("conv3-4s2 conv3-4 relu fc2", (9, 11, 2), "conv7-4s2 relu fc2"),
    ("conv3-4d2 conv3-4d2 relu fc2", (11, 11, 1), "conv5-4d2 relu fc2"),
    ("conv3-4s2p1~d2 conv2-4s2d2~ avgpool2s1 conv1-3 relu fc2", (33, 30, 3), None),
    ("conv3x1-4p1x0 conv1x3-4b0 relu fc2", (9, 9, 3), "conv3-4p1x0 relu fc2"),
    # Uneven padding becomes zeros in the filter.
    ("conv2-4same conv3-4 relu fc3", (9, 8, 3), "conv5-4p1 relu fc3"),
    ("conv3-4s2same conv3-4 relu fc3", (10, 8, 3), None),
    ("conv2-4s3^ conv2-3^ relu fc3", (9, 10, 3), None),
    # Groups stay groups; beside full convolutions they become full.
    ("conv3-8g8b0 conv3-16g8 relu fc3", (9, 9, 8), "conv5-16g8 relu fc3"),
    ("conv3-8g4 conv3-4g2 relu fc3", (9, 9, 8), "conv5-4g2 relu fc3"),
    ("conv3-8g8p1 bn conv1-5 bn relu fc3", (6, 6, 8), "conv3-5p1 relu fc3"),
    # What goes before a padded layer must make zeros of zeros.
    ("conv1-8b0 conv3-10p1b0 relu fc3", (9, 9, 3), "conv3-10p1b0 relu fc3"),
    ("conv1-8s2b0~ conv3-10p1 relu fc3", (9, 8, 3), None),
    # Batch normalisation, averages and dropout are linear in inference.
    ("conv3-4 bn conv3-5 bn drop0.5 relu fc7 bn fc5b0 bn", (8, 8, 2), "conv5-5 relu fc5"),
    ("conv3-4 gap conv1-3 relu fc3", (9, 9, 3), None),
    ("conv3-4p1 bn conv3-4p1 avgpool3s2p1^ gap drop0.1 fc3", (9, 9, 3), "fc3"),
    # Branches that are added or concatenated.
    ("[conv3-8p1b0 bn | conv1-8b0 bn | bn] relu fc3", (6, 6, 8), "conv3-8p1 relu fc3"),
    ("[conv3-3p1 | ] relu fc3", (9, 9, 3), "conv3-3p1 relu fc3"),
    ("[conv3-6s2p1~ | conv1-6s2~] relu fc3", (6, 7, 3), "conv3-6s2p1~ relu fc3"),
    ("{conv3-3p1 | conv1-2 | } conv2-3 relu [fc3 | fc3] bn", (9, 9, 3), "conv4-3p1 relu fc3"),
    ("conv3-4p1 [conv3-4p1 | {conv1-2 | conv5-2p2}] fc3", (7, 9, 3), "fc3"),
    (
        "[conv3-4p1 relu conv3-4p1 conv3-4 | conv3-4 conv1-4] relu conv3-3 fc4 tanh",
        (9, 9, 3),
        "[conv3-4p1 relu conv5-4p1 | conv3-4] relu fc4 tanh",
    ),
]


@pytest.mark.parametrize(("net", "size", "left"), MERGED, ids=lambda value: str(value))
def test_what_is_left_gives_the_same_scores(
    net: str, size: tuple[int, int, int], left: str | None
) -> None:
    result = collapse(net, size)
    assert left is None or result.network.text == left
    assert len(result.network.report.rows) < len(hubel.Network(net, size).report.rows)
    assert result.largest > 0.5
    # Sums of at most a few thousand products of numbers near 1, in another order.
    assert result.difference < 1e-12 * result.largest
    assert result.rounded < 1e-5 * result.largest
    assert result.images == 8


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        ("conv3-4p1 conv3-5p1 relu fc7", "the bias of the layer before"),
        ("conv3-4p1b0 conv3-5p1 relu fc7", "the image"),
        ("[conv3-2s2p1~ avgpool3s1p1 | conv3-2p1 avgpool2] relu fc2", "zero padding lies between"),
        ("[conv5-2s3 | conv7-2] relu fc2", "its branches move by different strides"),
        ("conv1-2 avgpool3s2^ conv1-2 relu fc2", "its last window hangs over"),
    ],
)
def test_layers_that_no_single_one_equals_stay_apart_with_a_reason(net: str, reason: str) -> None:
    result = collapse(hubel.Network(net, (8, 8, 2), fit="floor"))
    assert result.merged == ()
    assert any(reason in kept.reason for kept in result.kept), result.kept
    assert any("stay apart" in line for line in lines(result, "random images"))


def test_one_layer_is_told_with_its_cost_and_its_dropout() -> None:
    result = collapse("conv3-16g16p1 drop0.2 conv1-32 relu fc3", (6, 6, 16))
    (merged,) = result.merged
    assert merged.layers == ("conv1", "drop1", "conv2")
    assert (merged.into, merged.token, merged.text) == (
        "conv1",
        "conv3-32p1",
        "conv3-16p1g16 drop0.2 conv1-32",
    )
    assert merged.parameters == (16 * 10 + 32 * 17, 32 * (9 * 16 + 1))
    assert merged.multiply_adds == (36 * (16 * 9 + 16 * 32), 36 * 9 * 16 * 32)
    text = "\n".join(lines(result, "random images"))
    assert "the several are cheaper" in text
    assert "drop1 would still drop in training" in text
    assert as_dict(result)["merged"][0]["dropout"] == ("drop1",)


def test_a_layer_that_would_be_too_large_stays_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hubel.study.collapse.merging.LARGEST", 100)
    monkeypatch.setattr("hubel.study.collapse.affine.LARGEST", 100)
    result = collapse("conv3-2 conv3-3 relu conv1-2 fc4 relu fc5 fc6", (8, 8, 2))
    assert result.network.text == "conv3-2 conv3-3 relu conv1-2 fc4 relu fc6"
    assert [kept.reason for kept in result.kept] == [
        "as one they would have 150 weights, more than 100",
        "fc4 on 4×4×3 would have 192 weights, more than 100",
    ]


def test_a_trained_model_keeps_its_preprocessing_and_classes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (40, 8, 8, 3), np.uint8)
    labels = ["left", "right"] * 20
    model = hubel.Model("conv3-4p1 bn conv3-4 bn relu fc", (8, 8, 3), classes=("left", "right"))
    model.fit(images, labels, epochs=2, batch_size=8)
    before = model.predict(images)
    result = collapse(model, images=images)
    result.model.save(tmp_path / "one.hubel")
    loaded = hubel.load(tmp_path / "one.hubel")
    assert loaded.network.text == "conv5-4p1 relu fc"
    assert loaded.classes == ("left", "right")
    assert result.images == 40
    np.testing.assert_allclose(loaded.predict(images), before, atol=1e-5)
    np.testing.assert_array_equal(model.predict(images), before)


def test_the_input_of_a_model_is_its_own() -> None:
    with pytest.raises(UsageError, match="is for 1×1×1, not 2×2×1"):
        collapse(hubel.Model("fc2", (1, 1, 1)), (2, 2, 1))
