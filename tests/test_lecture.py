"""Every fact of the two lectures, with the lecture's own numbers, through the public names.

CS231n lecture 5 (convolutional networks) gives facts 1 to 17, lecture 6 (training) 18 to 20.
docs/tour.md shows the same facts to a reader.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import hubel
from hubel.data import load as load_data

CIFAR = (32, 32, 3)
ROWS = [-2.0, -0.5, 0.0, 0.5, 2.0, 3.0]


def noise(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model_of(text: str, size: tuple[int, int, int]) -> hubel.Model:
    """A model with weights and biases that are all in use."""
    model = hubel.Model(hubel.Network(text, input=size))
    drawn = {
        name: noise(*array.shape, seed=place) / math.sqrt(max(1, array.size // array.shape[-1]))
        for place, (name, array) in enumerate(model.parameters.items())
    }
    model.set_parameters(drawn)
    return model


# Lecture 5: the layers and their arithmetic


def test_01_fully_connected_flattens_and_multiplies() -> None:
    (row,) = hubel.check("fc10", input=CIFAR).rows
    assert row.formula == "32·32·3 = 3072 → 10"
    model = model_of("fc10", CIFAR)
    image = noise(1, *CIFAR)
    weight, bias = model.parameters["fc1.weight"], model.parameters["fc1.bias"]
    # Hubel keeps (in, out), the transpose of the lecture's 10 × 3072.
    assert weight.T.shape == (10, 3072)
    scores = model.logits(image)
    assert scores.shape == (1, 10)
    np.testing.assert_allclose(scores[0], weight.T @ image.reshape(3072) + bias, atol=1e-4)


def test_02_convolution_keeps_the_spatial_structure_and_its_filter_is_its_weights() -> None:
    model = hubel.Model(hubel.Network("conv3-1p1b0", input=(7, 7, 1)))
    assert list(model.parameters) == ["conv1.weight"]
    assert model.parameters["conv1.weight"].shape == (3, 3, 1, 1)
    shift = np.zeros((3, 3, 1, 1), np.float32)
    shift[1, 0] = 1
    model.set_parameters({"conv1.weight": shift})
    image = noise(1, 7, 7, 1)
    moved = model.activations(image)["conv1"]
    # Each place of the map comes from the same place of the image, here from its left neighbour.
    assert np.array_equal(moved[:, :, 1:], image[:, :, :-1])


def test_03_a_filter_spans_the_full_depth_of_its_input() -> None:
    net = hubel.Network("conv5-6 relu conv5-10", input=CIFAR)
    weights = {name: array.shape for name, array in hubel.Model(net).parameters.items()}
    assert weights["conv1.weight"] == (5, 5, 3, 6)
    assert weights["conv2.weight"] == (5, 5, 6, 10)


def test_04_one_number_is_75_products_plus_bias() -> None:
    model = model_of("conv5-6", CIFAR)
    image = noise(1, *CIFAR)
    weight, bias = model.parameters["conv1.weight"], model.parameters["conv1.bias"]
    maps = model.activations(image)["conv1"]
    assert weight[..., 0].size == 75
    for y, x, k in ((0, 0, 0), (13, 7, 3), (27, 27, 5)):
        products = image[0, y : y + 5, x : x + 5] * weight[..., k]
        assert products.size == 75
        assert maps[0, y, x, k] == pytest.approx(products.sum() + bias[k], abs=1e-5)


def test_05_flattening_the_patch_gives_the_same() -> None:
    model = model_of("conv5-6", CIFAR)
    image = noise(1, *CIFAR)
    weight, bias = model.parameters["conv1.weight"], model.parameters["conv1.bias"]
    maps = model.activations(image)["conv1"]
    flat = weight.reshape(75, 6)
    for y, x in product(range(28), repeat=2):
        patch = image[0, y : y + 5, x : x + 5].reshape(75)
        np.testing.assert_allclose(maps[0, y, x], patch @ flat + bias, atol=1e-5)


def test_06_each_filter_has_its_own_activation_map() -> None:
    report = hubel.check("conv5-6 relu conv5-10 relu", input=CIFAR)
    assert [row.output for row in report.rows if row.kind == "conv"] == [(28, 28, 6), (24, 24, 10)]
    model = model_of("conv5-6 relu conv5-10", CIFAR)
    image = noise(1, *CIFAR)
    before = model.activations(image)
    assert before["conv1"].shape == (1, 28, 28, 6)
    assert before["conv2"].shape == (1, 24, 24, 10)
    weight = model.parameters["conv1.weight"]
    weight[..., 4] *= -1
    model.set_parameters({"conv1.weight": weight})
    changed = (model.activations(image)["conv1"] != before["conv1"]).any(axis=(0, 1, 2))
    assert changed.tolist() == [False, False, False, False, True, False]


def test_07_activation_and_pooling_go_between_and_fc_gives_the_scores() -> None:
    net = hubel.Network("conv3-8p1 relu conv3-8p1 relu pool2 fc10", input=CIFAR)
    kinds = [row.kind for row in net.report.rows]
    assert kinds == ["conv", "relu", "conv", "relu", "pool", "fc"]
    assert net.report.rows[-1].output == (10,)
    assert not net.report.warnings
    probabilities = hubel.Model(net).predict(noise(2, *CIFAR))
    np.testing.assert_allclose(probabilities.sum(axis=1), [1, 1])


def test_08_every_layer_of_a_trained_net_can_be_looked_at() -> None:
    digits = load_data("digits")
    net = hubel.Network("conv3-8p1 relu pool2 conv3-16p1 relu pool2 fc", (8, 8, 1), classes=10)
    model = hubel.Model(net)
    model.fit(digits, epochs=3, batch_size=32, lr=0.01)
    assert digits.test is not None
    assert model.evaluate(digits.test.images, digits.test.labels)["accuracy"] > 0.8
    seen = model.activations(digits.test.images[:3])
    assert list(seen) == [row.name for row in net.report.rows]
    maps = [seen[name].shape for name in ("conv1", "pool1", "conv2", "pool2")]
    assert all(later[1] <= sooner[1] for sooner, later in pairwise(maps))
    assert all(later[3] >= sooner[3] for sooner, later in pairwise(maps))
    assert maps[0] == (3, 8, 8, 8)
    assert maps[-1] == (3, 2, 2, 16)
    # What is seen of the image grows with depth: this is what lets features grow complex.
    fields = [row.receptive_field for row in net.report.rows if row.kind in ("conv", "pool")]
    assert fields == [3, 4, 8, 10]
    assert np.array_equal(seen["relu1"], np.maximum(seen["conv1"], 0))
    assert np.array_equal(seen["fc1"], model.logits(digits.test.images[:3]))


@pytest.mark.parametrize(
    ("stride", "output", "formula"),
    [(1, 5, "(7 − 3)/1 + 1 = 5"), (2, 3, "(7 − 3)/2 + 1 = 3")],
)
def test_09_output_size(stride: int, output: int, formula: str) -> None:
    (row,) = hubel.check(f"conv3-1s{stride}", input=(7, 7, 1)).rows
    assert (row.output, row.formula) == ((output, output, 1), formula)
    made = hubel.Model(hubel.Network(f"conv3-1s{stride}", input=(7, 7, 1))).activations(
        noise(1, 7, 7, 1)
    )
    assert made["conv1"].shape == (1, output, output, 1)


def test_10_a_stride_that_does_not_fit_is_refused_with_what_would() -> None:
    report = hubel.check("conv3-1s3", input=(7, 7, 1))
    assert not report.ok
    (problem,) = report.problems
    assert problem.layer == "conv1"
    assert problem.formula == "(7 − 3)/3 + 1 = 2.33"
    assert problem.unread == "row and column 6 (counted from 0) would never be read"
    edits = [fix.edit for fix in problem.fixes]
    assert {"padding 1", "stride 2"} <= set(edits)
    for fix in problem.fixes:
        assert hubel.check(fix.text, input=fix.input).ok, fix
    with pytest.raises(hubel.NetworkError, match=r"\(7 − 3\)/3 \+ 1 = 2\.33.*Fits: padding 1"):
        hubel.Network("conv3-1s3", input=(7, 7, 1))


@pytest.mark.parametrize("filters", [1, 6, 10])
def test_11_zero_padding_keeps_the_size(filters: int) -> None:
    (row,) = hubel.check(f"conv3-{filters}p1", input=(7, 7, 3)).rows
    assert row.formula == "(7 + 2·1 − 3)/1 + 1 = 7"
    assert row.output == (7, 7, filters)


def test_11_zero_padding_lets_the_centre_reach_the_border() -> None:
    model = hubel.Model(hubel.Network("conv3-1p1b0", input=(7, 7, 1)))
    centre = np.zeros((3, 3, 1, 1), np.float32)
    centre[1, 1] = 1
    model.set_parameters({"conv1.weight": centre})
    image = noise(1, 7, 7, 1)
    assert np.array_equal(model.activations(image)["conv1"], image)
    model.set_parameters({"conv1.weight": np.ones((3, 3, 1, 1))})
    corner = model.activations(image)["conv1"][0, 0, 0, 0]
    assert corner == pytest.approx(image[0, :2, :2].sum(), abs=1e-6)


def test_12_shrinking_maps_are_warned_about_where_little_is_left() -> None:
    report = hubel.check("(conv5-8 relu)x7 fc10", input=CIFAR)
    assert report.ok
    heights = [row.output[0] for row in report.rows if row.kind == "conv"]
    assert heights == [28, 24, 20, 16, 12, 8, 4]
    (warning,) = [one for one in report.warnings if one.code == "shrinking"]
    assert warning.layer == "conv5"
    assert "leave 12×12×8 here; write p2 or same to keep the size" in str(warning)
    assert warning.formula == "heights 32 → 28 → 24 → 20 → 16 → 12"
    padded = hubel.check("(conv5-8p2 relu)x7 fc10", input=CIFAR)
    assert {row.output for row in padded.rows if row.kind == "conv"} == {(32, 32, 8)}
    assert not [one for one in padded.warnings if one.code == "shrinking"]


def test_12_maps_that_have_vanished_are_refused() -> None:
    report = hubel.check("(conv5-8 relu)x8 fc10", input=CIFAR)
    (problem,) = report.problems
    assert (problem.layer, problem.code) == ("conv8", "too-small")


def test_13_the_worked_example() -> None:
    (row,) = hubel.check("conv5-10p2", input=CIFAR).rows
    assert row.formula == "(32 + 2·2 − 5)/1 + 1 = 32"
    assert row.output == (32, 32, 10)
    made = hubel.Model(hubel.Network("conv5-10p2", input=CIFAR)).activations(noise(1, *CIFAR))
    assert made["conv1"].shape == (1, 32, 32, 10)


def test_14_its_parameters() -> None:
    (row,) = hubel.check("conv5-10p2", input=CIFAR).rows
    assert (row.parameters, row.parameter_formula) == (760, "(5·5·3 + 1)·10 = 760")
    kept = hubel.Model(hubel.Network("conv5-10p2", input=CIFAR)).parameters
    assert sum(array[..., 0].size for array in kept.values()) == 76
    assert sum(array.size for array in kept.values()) == 760


def test_15_pooling_shrinks_each_map_on_its_own() -> None:
    (row,) = hubel.check("pool2", input=(224, 224, 64)).rows
    assert row.formula == "(224 − 2)/2 + 1 = 112"
    assert (row.output, row.parameters) == ((112, 112, 64), 0)
    model = hubel.Model(hubel.Network("pool2", input=(224, 224, 64)))
    assert model.parameters == {}
    image = noise(1, 224, 224, 64)
    before = model.activations(image)["pool1"]
    image[..., 17] += 5
    changed = (model.activations(image)["pool1"] != before).any(axis=(0, 1, 2))
    assert np.flatnonzero(changed).tolist() == [17]


@pytest.mark.parametrize(("text", "size", "stride"), [("pool2", 2, 2), ("pool3s1", 3, 1)])
def test_16_max_pooling_takes_the_largest_of_each_window(text: str, size: int, stride: int) -> None:
    image = noise(2, 8, 8, 3)
    pooled = hubel.Model(hubel.Network(text, input=(8, 8, 3))).activations(image)["pool1"]
    places = range(pooled.shape[1])
    assert len(places) == (8 - size) // stride + 1
    for n, y, x, c in product(range(2), places, places, range(3)):
        top, left = stride * y, stride * x
        assert pooled[n, y, x, c] == image[n, top : top + size, left : left + size, c].max()


def test_17_pooling_keeps_the_whole_picture() -> None:
    model = hubel.Model(hubel.Network("pool2", input=(8, 8, 1)))
    pixels = np.eye(64, dtype=np.float32).reshape(64, 8, 8, 1)
    pooled = model.activations(pixels)["pool1"][..., 0]
    for image, (y, x) in zip(pooled, product(range(8), repeat=2), strict=True):
        # One bright pixel, wherever it is, can be seen at its own place of the smaller picture.
        assert [place.tolist() for place in np.nonzero(image)] == [[y // 2], [x // 2]]


# Lecture 6: training


@pytest.mark.parametrize(
    ("l2", "l1"), [(0.1, 0.0), (0.0, 0.01), (0.1, 0.01)], ids=["L2", "L1", "both"]
)
def test_18_scores_are_a_product_and_the_loss_has_a_regularisation_term(
    l2: float, l1: float
) -> None:
    model = hubel.Model(hubel.Network("fc3", input=(2, 2, 1)), seed=4)
    x, y = noise(6, 2, 2, 1), np.array([0, 1, 2, 0, 1, 2])
    start = {name: array.astype(np.float64) for name, array in model.parameters.items()}
    weight, bias = start["fc1.weight"], start["fc1.bias"]
    np.testing.assert_allclose(model.logits(x), x.reshape(6, 4) @ weight + bias, rtol=1e-5)

    data_loss, gradients = model.gradients(x, y)
    choices: dict[str, Any] = {
        "weight_decay": l2,
        "l1": l1,
        "optimizer": "sgd",
        "momentum": 0.0,
        "lr": 0.5,
    }
    events = model.train(x, y, batch_size=6, schedule="constant", preprocess=None, **choices)
    step = next(event for event in events if isinstance(event, hubel.StepDone))
    assert step.loss == pytest.approx(data_loss, rel=1e-6)
    penalty = l2 / 2 * (weight**2).sum() + l1 * np.abs(weight).sum()
    assert step.penalty == pytest.approx(penalty, rel=1e-6)

    pull = l2 * weight + l1 * np.sign(weight)
    moved = weight - 0.5 * (gradients["fc1.weight"] + pull)
    np.testing.assert_allclose(model.parameters["fc1.weight"], moved, atol=1e-6)
    # The bias is not regularised.
    np.testing.assert_allclose(
        model.parameters["fc1.bias"], bias - 0.5 * gradients["fc1.bias"], atol=1e-6
    )


def test_18_backward_goes_through_the_whole_graph() -> None:
    """Each gradient is the slope of the loss: moving against it by a little lowers the loss."""
    model = model_of("conv3-4p1 tanh pool2 fc3", (4, 4, 2))
    x, y = noise(5, 4, 4, 2), np.array([0, 1, 2, 0, 1])
    loss, gradients = model.gradients(x, y)
    assert set(gradients) == {*model.parameters, "input"}
    for name, start in model.parameters.items():
        step = 1e-3
        model.set_parameters({name: start - step * gradients[name]})
        fallen = (loss - model.gradients(x, y)[0]) / step
        model.set_parameters({name: start})
        assert fallen == pytest.approx((gradients[name] ** 2).sum(), rel=0.02), name


def normal_share(x: float) -> float:
    return (1 + math.erf(x / math.sqrt(2))) / 2


def elu(x: float, alpha: float) -> float:
    return x if x > 0 else alpha * (math.exp(x) - 1)


SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
ACTIVATIONS: dict[str, Callable[[float], float]] = {
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": math.tanh,
    "relu": lambda x: max(0.0, x),
    "leaky0.01": lambda x: max(0.01 * x, x),
    "prelu": lambda x: max(0.25 * x, x),
    "elu1": lambda x: elu(x, 1.0),
    "selu": lambda x: SELU_SCALE * elu(x, SELU_ALPHA),
    "gelu": lambda x: x * normal_share(x),
    "silu": lambda x: x / (1 + math.exp(-x)),
}


@pytest.mark.parametrize("text", ACTIVATIONS)
def test_19_activations(text: str) -> None:
    model = hubel.Model(hubel.Network(text, input=(1, 1, len(ROWS))))
    (made,) = model.activations(np.array([[[ROWS]]], np.float32)).values()
    expected = [ACTIVATIONS[text](x) for x in ROWS]
    np.testing.assert_allclose(made.ravel(), expected, rtol=1e-5, atol=1e-7)
    minus_two, *_, two, three = made.ravel()
    is_linear = minus_two == pytest.approx(-two) and three == pytest.approx(1.5 * two)
    assert not is_linear


def test_19_maxout_takes_the_largest_of_its_pieces() -> None:
    model = hubel.Model(hubel.Network("maxout2", input=(1, 1, len(ROWS))))
    (made,) = model.activations(np.array([[[ROWS]]], np.float32)).values()
    assert made.ravel().tolist() == [-0.5, 0.5, 3.0]


def test_19_the_slope_of_prelu_is_learned() -> None:
    model = hubel.Model(hubel.Network("prelu fc2", input=(1, 1, 3)))
    x, y = -np.abs(noise(4, 1, 1, 3)), [0, 1, 0, 1]
    before = model.parameters["prelu1.weight"]
    model.fit(x, y, epochs=1, preprocess=None)
    assert (model.parameters["prelu1.weight"] != before).all()


def test_20_many_linear_layers_are_worth_one() -> None:
    linear = model_of("conv3-4 avgpool2 conv3-5 fc7", (8, 8, 2))
    # A linear function is known by its values at 0 and at each pixel alone.
    bias = linear.logits(np.zeros((1, 8, 8, 2), np.float32))
    weight = linear.logits(np.eye(128, dtype=np.float32).reshape(128, 8, 8, 2)) - bias
    single = hubel.Model(hubel.Network("fc7", input=(8, 8, 2)))
    single.set_parameters({"fc1.weight": weight, "fc1.bias": bias[0]})
    images = noise(10, 8, 8, 2, seed=9)
    np.testing.assert_allclose(single.logits(images), linear.logits(images), atol=1e-4)

    bent = model_of("conv3-4 relu avgpool2 conv3-5 fc7", (8, 8, 2))
    bias = bent.logits(np.zeros((1, 8, 8, 2), np.float32))
    weight = bent.logits(np.eye(128, dtype=np.float32).reshape(128, 8, 8, 2)) - bias
    single.set_parameters({"fc1.weight": weight, "fc1.bias": bias[0]})
    assert np.abs(single.logits(images) - bent.logits(images)).max() > 0.1


def test_20_such_a_stack_is_pointed_out() -> None:
    (warning,) = hubel.check("conv3-4 avgpool2 conv3-5 fc7", input=(8, 8, 2)).warnings
    assert warning.code == "no-nonlinearity"
    assert "conv1, conv2 and fc1 have no activation between them" in str(warning)
    assert "worth a single linear layer, fc7 on 8×8×2" in str(warning)
    assert not hubel.check("conv3-4 relu avgpool2 conv3-5 relu fc7", input=(8, 8, 2)).warnings


@pytest.mark.parametrize("c", [0.5, 2.0, -3.0])
def test_20_the_lectures_own_proof(c: float) -> None:
    model = hubel.Model(hubel.Network("conv1-1b0 conv1-1b0 conv1-1b0", input=(1, 1, 1)))
    model.set_parameters({f"conv{i}.weight": [[[[c]]]] for i in (1, 2, 3)})
    for x in (-1.5, 0.25, 4.0):
        image = np.full((1, 1, 1, 1), x, np.float32)
        assert model.activations(image)["conv3"].item() == pytest.approx(c**3 * x)
