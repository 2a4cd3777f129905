"""The whitening first layer: what its filters do to the images, and that they stay as they are."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from hubel.data import preprocess as preprocessing
from hubel.errors import UsageError
from hubel.model import Model, load
from hubel.network import Network
from hubel.train.whiten import filters, whitened
from tests.train import toy

X, Y = toy.images()
NET = "conv2-8 gelu conv3-4 bn relu fc"
RECIPE = {"epochs": 2, "batch_size": 16, "optimizer": "sgd", "lr": 0.05, "val_fraction": 0.2}


def colours(count: int = 40) -> np.ndarray:
    """Smooth noise in colour (count, 9, 9, 3), whose patches have no two numbers independent."""
    noise = np.random.default_rng(1).integers(0, 80, (count, 11, 11, 3))
    return (noise[:, 1:-1, 1:-1] + noise[:, :-2, 1:-1] + noise[:, 1:-1, :-2]).astype(np.uint8)


@pytest.mark.parametrize("count", [24, 12])
def test_outputs_are_uncorrelated_and_of_one_variance(count: int) -> None:
    weight = whitened(Network(f"conv2-{count} fc2", input=(9, 9, 3)).graph)
    x = colours()
    preprocess = preprocessing.fit(x)
    made = filters(weight, x, preprocess)
    scale, shift = preprocessing.factors(preprocess, x)
    windows = np.lib.stride_tricks.sliding_window_view(x * scale + shift, (2, 2), (1, 2))
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 12)
    outputs = patches @ made.reshape(12, count).astype(np.float64)
    half = count // 2
    np.testing.assert_allclose(outputs[:, :half], -outputs[:, half:], atol=1e-12)
    second = outputs[:, :half].T @ outputs[:, :half] / len(outputs)
    # ε takes a little off the smallest variances.
    np.testing.assert_allclose(second, np.eye(half), atol=0.02)


def test_the_strongest_directions_come_first() -> None:
    weight = whitened(Network("conv2-24 fc2", input=(9, 9, 3)).graph)
    all_of_them = filters(weight, colours(), None)
    few = filters(whitened(Network("conv2-7 fc2", input=(9, 9, 3)).graph), colours(), None)
    assert np.array_equal(few[..., :4], all_of_them[..., :4])
    assert np.array_equal(few[..., 4:], -all_of_them[..., :3])
    norms = np.linalg.norm(all_of_them.reshape(12, 24), axis=0)
    assert np.all(np.diff(norms[:12]) >= 0)


def test_a_run_makes_the_filters_and_leaves_them() -> None:
    model = toy.model(NET)
    before = model.parameters
    events = model.train(X, Y, **RECIPE, whiten=True)
    list(islice(events, 1))
    begun = model.parameters
    list(events)
    after = model.parameters
    assert not np.array_equal(before["conv1.weight"], begun["conv1.weight"])
    assert np.array_equal(begun["conv1.weight"], after["conv1.weight"])
    for name in ("conv1.bias", "conv2.weight", "fc1.weight"):
        assert not np.array_equal(begun[name], after[name]), name


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_run_left_anywhere_and_resumed_ends_with_the_same_bits(tmp_path: Path, stop: int) -> None:
    recipe = {**RECIPE, "whiten": True, "freeze": "conv2", "average": 0.9}
    whole = toy.model(NET)
    whole.fit(X, Y, **recipe)
    model = toy.model(NET)
    events = model.train(X, Y, **recipe)
    list(islice(events, stop))
    events.close()
    model.save(tmp_path / "m.hubel")
    again = load(tmp_path / "m.hubel", engine="reference")
    again.fit(X, Y, resume=True)
    assert toy.bits(again) == toy.bits(whole)


@pytest.mark.parametrize(
    ("net", "what"),
    [
        ("conv2-9 fc", "conv1 has 9 filters, and its windows have 2·2·2·1 = 8 directions"),
        ("fc", "only a convolution can be whitened, and fc1 reads the images"),
        ("bn conv2-8 fc", "only a convolution can be whitened, and bn1 reads the images"),
    ],
)
def test_what_cannot_be_whitened_is_refused_before_the_run(net: str, what: str) -> None:
    with pytest.raises(UsageError) as caught:
        toy.model(net).train(X, Y, whiten=True)
    assert what in str(caught.value)


def test_frozen_layers_stay_to_the_bit_and_the_others_learn() -> None:
    model = Model("conv3-4p1 bn relu conv3-4p1 bn relu fc3", (6, 6, 1), engine="reference")
    before = model.parameters
    model.fit(X, Y, **RECIPE, freeze=["conv1", "bn2"])
    after = model.parameters
    for name, array in before.items():
        same = np.array_equal(after[name], array)
        assert same == name.startswith(("conv1", "bn2")), name


def test_a_single_parameter_is_frozen_and_its_layer_goes_on() -> None:
    model = toy.model()
    before = model.parameters
    model.fit(X, Y, **RECIPE, freeze="bn1.weight")
    after = model.parameters
    same = {name for name, array in before.items() if np.array_equal(after[name], array)}
    assert same == {"bn1.weight"}


def test_for_frozen_layers_alone_nothing_is_computed() -> None:
    from hubel.train.settings import settings
    from hubel.train.step import step_graph

    graph = Network("conv3-4p1 bn relu conv3-4p1 bn relu fc3", input=(6, 6, 1)).graph
    whole = step_graph(graph, settings(freeze="conv1,bn1"))
    made = [name for node in whole.nodes for name in node.outputs]
    assert "grad(conv2.weight)" in made
    assert not any(name.startswith(("grad(conv1", "grad(bn1", "grad(relu1")) for name in made)


@pytest.mark.parametrize(
    ("freeze", "what"),
    [
        (
            "conv7",
            "there is no layer conv7 with weights to freeze. Hint: those with weights are "
            "conv1, bn1, fc1; a single parameter will do: conv1.weight.",
        ),
        (("relu1",), "there is no layer relu1 with weights to freeze"),
        ("conv1,bn1,fc1", "every layer is frozen, so that there is nothing to train"),
    ],
)
def test_layers_that_cannot_be_frozen_are_refused(freeze: object, what: str) -> None:
    with pytest.raises(UsageError) as caught:
        toy.model().train(X, Y, freeze=freeze)
    assert what in str(caught.value)
