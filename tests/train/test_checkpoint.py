"""Model files: all that is in them comes back, and what is no model is refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hubel.errors import FormatError, HubelError, UsageError
from hubel.formats import weights
from hubel.model import load
from tests.train import toy

X, Y = toy.images()


def saved(path: Path, preprocess: str | None = "normalise") -> Path:
    model = toy.model(seed=3, initialisation="xavier", classes=toy.NAMES, resize="pad")
    model.fit(X, Y, epochs=1, preprocess=preprocess, val_fraction=0.2)
    model.save(path / "m.hubel")
    return path / "m.hubel"


@pytest.mark.parametrize("preprocess", [None, "none", "centre", "mean-image", "normalise"])
def test_a_model_comes_back_as_it_was(tmp_path: Path, preprocess: str | None) -> None:
    path = saved(tmp_path, preprocess)
    model = load(path, engine="reference")
    again = load(path, engine="reference")
    model.save(tmp_path / "again.hubel")
    assert (tmp_path / "again.hubel").read_bytes() == path.read_bytes()
    assert model.classes == toy.NAMES
    assert (model.seed, model.initialisation, model.resize) == (3, "xavier", "pad")
    assert np.array_equal(model.predict(X), again.predict(X))
    assert model.settings is not None
    assert model.settings.preprocess == preprocess
    assert model.progress is not None
    assert model.progress.epoch == 1


def test_a_model_that_was_never_trained_comes_back_too(tmp_path: Path) -> None:
    model = toy.model()
    model.save(tmp_path / "m.hubel")
    again = load(tmp_path / "m.hubel", engine="reference")
    assert toy.bits(again) == toy.bits(model)
    assert again.settings is None


def test_weights_that_are_not_finite_never_replace_a_good_file(tmp_path: Path) -> None:
    path = saved(tmp_path)
    before = path.read_bytes()
    model = load(path, engine="reference")
    model.set_parameters({"fc1.bias": [0.0, np.nan, 0.0]})
    with pytest.raises(
        HubelError, match=r"fc1.bias holds numbers that are not finite, so the model"
    ):
        model.save(path)
    assert path.read_bytes() == before


def test_a_file_without_the_optimizers_state_cannot_be_resumed(tmp_path: Path) -> None:
    model = toy.model()
    model.fit(X, Y, epochs=1)
    model.save(tmp_path / "small.hubel", resumable=False)
    model.save(tmp_path / "whole.hubel")
    assert (tmp_path / "small.hubel").stat().st_size < (tmp_path / "whole.hubel").stat().st_size
    small = load(tmp_path / "small.hubel", engine="reference")
    with pytest.raises(HubelError, match=r"resume from the run's last\.hubel"):
        small.train(X, Y, resume=True, epochs=2)
    small.save(tmp_path / "again.hubel")
    assert (tmp_path / "again.hubel").read_bytes() == (tmp_path / "small.hubel").read_bytes()


def edited(path: Path, **changes: object) -> Path:
    """The file with fields of its model changed, and a right checksum."""
    tensors, metadata = weights.read(path)
    model = {**json.loads(metadata["hubel.model"]), **changes}
    weights.write(path, tensors, {**metadata, "hubel.model": json.dumps(model)})
    return path


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"seed": float("inf")}, "it lacks what a model has: OverflowError"),
        ({"seed": 2**64}, f"its seed is {2**64}, not at least 0 and below 2**64"),
        ({"seed": -1}, "its seed is -1, not at least 0 and below 2**64"),
        ({"input": [float("inf"), 1, 1]}, "it lacks what a model has: OverflowError"),
        ({"initialisation": "best"}, "its initialisation is 'best', not one of he, xavier"),
        ({"classes": ["a", "b", "a"]}, "two of its classes have the same name"),
        ({"net": "conv9-4 fc"}, "its parts do not fit together: the network has"),
        ({"net": "rleu fc"}, "its parts do not fit together: the network has"),
        ({"net": "fc7"}, "its parts do not fit together: "),
        ({"input": [0, 6, 1]}, "its parts do not fit together: "),
        ({"fit": "loose"}, "its fit is 'loose', not one of strict, floor, ceil"),
        ({"resize": 3}, "its resize is 3, not one of squash, pad, crop"),
        ({"input": [6, 6]}, "it lacks what a model has"),
        (
            {"input": [6, 6, 2]},
            "its parts do not fit together: conv1.weight has shape (3, 3, 2, 4)",
        ),
        ({"preprocess": {"method": "whiten"}}, "the preprocessing is incomplete"),
        (
            {"net": "conv3-4p1 bn relu bn pool2 drop0.1 fc"},
            "there is no bn2.bias, bn2.running_mean",
        ),
    ],
)
def test_a_file_whose_parts_cannot_be_is_refused(
    tmp_path: Path, changes: dict[str, object], what: str
) -> None:
    path = edited(saved(tmp_path), **changes)
    with pytest.raises(FormatError) as caught:
        load(path, engine="reference")
    assert what in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_an_engine_that_there_is_not_is_no_fault_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no engine 'naive'"):
        load(saved(tmp_path), engine="naive")


def test_other_files_are_refused(tmp_path: Path) -> None:
    weights.write(tmp_path / "a.safetensors", {"w": np.zeros(3)}, {})
    with pytest.raises(FormatError, match="it holds arrays, but no Hubel model"):
        load(tmp_path / "a.safetensors")
    weights.write(tmp_path / "b.hubel", {}, {"hubel.format": "2"})
    with pytest.raises(FormatError, match="it has format 2, and this version of Hubel reads 1"):
        load(tmp_path / "b.hubel")
    with pytest.raises(HubelError, match="the model cannot be read: no such file or directory"):
        load(tmp_path / "c.hubel")
    with pytest.raises(HubelError, match="the model cannot be read: is a directory"):
        load(tmp_path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(FormatError, match="the checksum does not match the content"):
        load(path)


def test_what_the_system_refuses_to_write_is_told_of_the_file_itself(tmp_path: Path) -> None:
    model = toy.model()
    folder = tmp_path / "folder.hubel"
    (folder / "inside").mkdir(parents=True)
    for target, why in (
        (tmp_path / "gone" / "a.hubel", "no such file or directory"),
        (folder, ""),
    ):
        with pytest.raises(HubelError) as caught:
            model.save(target)
        assert str(caught.value).startswith(f"{target}: the model cannot be saved: {why}")
        assert "Hint: give the name of a file in a folder that exists" in str(caught.value)
    assert list(tmp_path.glob("**/*.tmp")) == []
