"""The reference engine against numbers worked out by hand, among them the lecture's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from hubel.engine.reference import RULES, ReferenceSession
from hubel.engine.reference.call import Call
from hubel.engine.reference.pointwise import FORWARD, SLOPES
from hubel.engine.reference.update import orthogonalised
from hubel.engine.session import Array
from hubel.graph.build import build
from hubel.graph.modes import for_inference
from hubel.graph.ops import OPS
from hubel.graph.ops.conv import Conv, Window
from hubel.graph.ops.join import Concat
from hubel.graph.ops.loss import CrossEntropy, Penalty
from hubel.graph.ops.norm import BatchNorm, GroupNorm
from hubel.graph.ops.pointwise import FUNCTIONS, Activation, Dropout, Maxout
from hubel.graph.ops.update import Adam, RMSProp, Sgd
from hubel.notation.parse import parse
from tests.engine.cases import write_all


def compute(
    op: str,
    attributes: Any,
    *inputs: Any,
    shapes: Sequence[tuple[int, ...]] = (),
    state: Sequence[Array] = (),
) -> tuple[Array, ...]:
    arrays = tuple(np.asarray(array) for array in inputs)
    return RULES[op](Call(attributes, arrays, tuple(shapes), tuple(state)))


def window(
    size: int, stride: int, output: tuple[int, int], padding: int = 0, dilation: int = 1
) -> Window:
    return Window((size, size), (stride, stride), (padding,) * 4, (dilation, dilation), output)


def forward(text: str, x: Array, values: dict[str, Array], classes: int | None = None) -> Array:
    graph = for_inference(build(parse(text), x.shape[1:], classes).graph)
    session = ReferenceSession()
    write_all(session, values)
    return session.run(graph, {"input": x})[graph.outputs[0]]


def test_every_operation_has_a_rule() -> None:
    assert set(RULES) == set(OPS)
    assert set(FORWARD) == set(SLOPES) == set(FUNCTIONS)


# Lecture 5.


def test_one_place_of_a_filter_is_75_products_and_a_bias() -> None:
    rng = np.random.default_rng(0)
    image, filters, bias = (
        rng.normal(size=(1, 32, 32, 3)),
        rng.normal(size=(5, 5, 3, 6)),
        rng.normal(size=6),
    )
    maps = forward("conv5-6", image, {"conv1.weight": filters, "conv1.bias": bias})
    assert maps.shape == (1, 28, 28, 6)
    for row, column, k in ((0, 0, 0), (27, 27, 5), (3, 20, 2)):
        patch, weights = image[0, row : row + 5, column : column + 5], filters[:, :, :, k]
        products = [
            patch[i, j, c] * weights[i, j, c] for i in range(5) for j in range(5) for c in range(3)
        ]
        assert len(products) == 75
        assert maps[0, row, column, k] == pytest.approx(math.fsum(products) + bias[k], abs=1e-13)
        flattened = patch.reshape(75) @ weights.reshape(75) + bias[k]
        assert maps[0, row, column, k] == pytest.approx(flattened, abs=1e-13)


def test_fully_connected_flattens_32_32_3_to_3072_and_gives_ten_scores() -> None:
    rng = np.random.default_rng(1)
    image, matrix = rng.normal(size=(1, 32, 32, 3)), rng.normal(size=(3072, 10))
    scores = forward("fc10", image, {"fc1.weight": matrix, "fc1.bias": np.arange(10.0)})
    assert scores.shape == (1, 10)
    np.testing.assert_allclose(scores, image.reshape(1, 3072) @ matrix + np.arange(10), atol=1e-11)


def test_pooling_halves_224_224_64_and_keeps_the_largest_of_each_map() -> None:
    image = np.random.default_rng(2).integers(0, 256, (1, 224, 224, 64), dtype=np.uint8)
    maps = forward("pool2", image, {})
    assert maps.shape == (1, 112, 112, 64)
    blocks = image.reshape(1, 112, 2, 112, 2, 64)
    np.testing.assert_array_equal(maps, blocks.max((2, 4)))


def test_max_pooling_takes_the_largest() -> None:
    image = np.array([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]])
    pooled = forward("pool2", image.reshape(1, 4, 4, 1), {})
    assert pooled[0, :, :, 0].tolist() == [[6, 8], [3, 4]]


def test_three_linear_layers_are_worth_one() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4, 3, 3, 1))
    c = 1.7
    scaled = {f"conv{i}.weight": np.full((1, 1, 1, 1), c) for i in (1, 2, 3)}
    np.testing.assert_allclose(forward("(conv1-1b0)x3", x, scaled), c**3 * x, rtol=1e-14)

    a, b, d = rng.normal(size=(9, 5)), rng.normal(size=(5, 7)), rng.normal(size=(7, 2))
    deep = forward("fc5b0 fc7b0 fc2b0", x, {"fc1.weight": a, "fc2.weight": b, "fc3.weight": d})
    np.testing.assert_allclose(deep, forward("fc2b0", x, {"fc1.weight": a @ b @ d}), atol=1e-12)

    image = rng.normal(size=(2, 9, 9, 1))
    first, second = rng.normal(size=(3, 3, 1, 1)), rng.normal(size=(3, 3, 1, 1))
    one = np.zeros((5, 5, 1, 1))
    for i in range(3):
        for j in range(3):
            one[i : i + 3, j : j + 3] += first[i, j] * second
    two_layers = forward("(conv3-1b0)x2", image, {"conv1.weight": first, "conv2.weight": second})
    np.testing.assert_allclose(two_layers, forward("conv5-1b0", image, {"conv1.weight": one}))


# Windows.


def test_convolution_by_hand_with_padding_stride_dilation_and_groups() -> None:
    x = np.arange(1.0, 10).reshape(1, 3, 3, 1)
    ones = np.ones((3, 3, 1, 1))
    (same,) = compute("conv", Conv(window(3, 1, (3, 3), 1), 1), x, ones, shapes=[(1, 3, 3, 1)])
    assert same[0, :, :, 0].tolist() == [[12, 21, 16], [27, 45, 33], [24, 39, 28]]
    (strided,) = compute("conv", Conv(window(3, 2, (2, 2), 1), 1), x, ones, shapes=[(1, 2, 2, 1)])
    assert strided[0, :, :, 0].tolist() == [[12, 16], [24, 28]]
    dilated = Conv(window(2, 1, (1, 1), dilation=2), 1)
    (corners,) = compute("conv", dilated, x, np.ones((2, 2, 1, 1)), shapes=[(1, 1, 1, 1)])
    assert corners.item() == 1 + 3 + 7 + 9
    depthwise = Conv(window(1, 1, (1, 1)), 2, groups=2)
    (apart,) = compute(
        "conv", depthwise, [[[[2.0, 3.0]]]], [[[[10.0, 100.0]]]], [1.0, 2.0], shapes=[(1, 1, 1, 2)]
    )
    assert apart.tolist() == [[[[21, 302]]]]


def test_a_filter_that_hangs_over_the_border_reads_zeros() -> None:
    x = np.arange(1.0, 4).reshape(1, 1, 3, 1)
    over = Conv(Window((1, 2), (1, 2), (0, 0, 0, 0), (1, 1), (1, 2)), 1)
    (y,) = compute("conv", over, x, np.ones((1, 2, 1, 1)), shapes=[(1, 1, 2, 1)])
    assert y.ravel().tolist() == [3, 3]
    (dx,) = compute("conv_input_grad", over, y, np.ones((1, 2, 1, 1)), shapes=[x.shape])
    assert dx.ravel().tolist() == [3, 3, 3]


def test_max_pool_takes_the_first_of_equals_and_says_where() -> None:
    x = np.array([[1.0, 5, 2, 2], [5, 5, 2, 2]]).reshape(1, 2, 4, 1)
    y, index = compute("max_pool", window(2, 2, (1, 2)), x)
    assert y.ravel().tolist() == [5, 2]
    assert index.ravel().tolist() == [1, 0]
    (dx,) = compute("max_pool_grad", window(2, 2, (1, 2)), y, index, shapes=[x.shape])
    assert dx[0, :, :, 0].tolist() == [[0, 5, 2, 0], [0, 0, 0, 0]]


def test_max_pool_pads_with_less_than_anything_and_adds_what_windows_share() -> None:
    x = np.full((1, 2, 2, 1), -3.0)
    padded = window(3, 1, (2, 2), 1)
    y, index = compute("max_pool", padded, x)
    assert y.ravel().tolist() == [-3] * 4
    assert index.ravel().tolist() == [4, 3, 1, 0]
    (dx,) = compute("max_pool_grad", padded, np.ones_like(y), index, shapes=[x.shape])
    assert dx.ravel().tolist() == [4, 0, 0, 0]


def test_max_pool_passes_nan_on() -> None:
    x = np.array([1.0, np.nan, np.nan, 9.0]).reshape(1, 2, 2, 1)
    y, index = compute("max_pool", window(2, 2, (1, 1)), x)
    assert math.isnan(y.item())
    assert index.item() == 1


def test_average_pool_counts_padding_but_not_what_lies_beyond() -> None:
    x = np.full((1, 1, 3, 1), 12.0)
    pool = Window((1, 3), (1, 2), (0, 0, 1, 1), (1, 1), (1, 3))
    (y,) = compute("average_pool", pool, x)
    assert y.ravel().tolist() == [8, 8, 0]
    (dx,) = compute("average_pool_grad", pool, [[[[3.0], [6.0], [7.0]]]], shapes=[x.shape])
    assert dx.ravel().tolist() == [1, 3, 2]


# Numbers on their own.


@pytest.mark.parametrize(
    ("function", "alpha", "expected"),
    [
        ("relu", 0.0, {-2: 0, 0: 0, 3: 3}),
        ("leaky", 0.1, {-2: -0.2, 0: 0, 3: 3}),
        ("elu", 0.5, {-2: 0.5 * (math.exp(-2) - 1), 0: 0, 800: 800}),
        ("selu", 0.0, {-2: -1.5201664685956948, 1: 1.0507009873554804}),
        ("gelu", 0.0, {-1: -0.15865525393145707, 0: 0, 1: 0.8413447460685429}),
        ("scale", 0.1, {-2: -0.2, 0: 0, 3: 0.3}),
        ("silu", 0.0, {-1: -0.2689414213699951, 0: 0, 1: 0.7310585786300049}),
        ("sigmoid", 0.0, {-800: 0, 0: 0.5, 800: 1, -1: 0.2689414213699951}),
        ("tanh", 0.0, {-1: -0.7615941559557649, 0: 0, 800: 1}),
    ],
)
def test_activation_values(function: str, alpha: float, expected: dict[float, float]) -> None:
    x = np.array([list(expected)], np.float64)
    (y,) = compute("activation", Activation(function, alpha), x)
    assert y[0].tolist() == pytest.approx(list(expected.values()), abs=1e-15)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_activation_slopes_are_differences_of_values(function: str) -> None:
    x = np.array([[-3.1, -1.0, -0.2, 0.3, 2.5]])
    h = 1e-5
    below, above, y = (
        compute("activation", Activation(function, 0.3), x + d)[0] for d in (-h, h, 0)
    )
    kept = x if FUNCTIONS[function] == "input" else y
    (slope,) = compute("activation_grad", Activation(function, 0.3), kept, np.full(x.shape, 2.0))
    np.testing.assert_allclose(slope, (above - below) / h, atol=1e-9)


def test_prelu_learns_one_slope_a_channel() -> None:
    x, slope = np.array([[[[-2.0, -2.0]], [[4.0, -1.0]]]]), np.array([0.5, 10.0])
    (y,) = compute("prelu", None, x, slope)
    assert y.ravel().tolist() == [-1, -20, 4, -10]
    dx, d_slope = compute("prelu_grad", None, x, slope, np.ones_like(x))
    assert dx.ravel().tolist() == [0.5, 10, 1, 10]
    assert d_slope.tolist() == [-2, -3]


def test_maxout_takes_the_first_largest_of_neighbouring_channels() -> None:
    x = np.array([[1.0, 4.0, 3.0, 3.0]])
    assert compute("maxout", Maxout(2), x)[0].tolist() == [[4, 3]]
    (dx,) = compute("maxout_grad", Maxout(2), x, [[5.0, 7.0]])
    assert dx.tolist() == [[0, 5, 7, 0]]


def splitmix(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def test_splitmix_is_the_published_one() -> None:
    # The first output of the SplitMix64 generator started at 0 finalises its increment.
    assert splitmix(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF


@pytest.mark.parametrize(
    ("rate", "stream", "seed", "step"), [(0.5, 1, 0, 1), (0.2, 3, 2**64 - 1, 9), (0.999, 2, -1, 2)]
)
def test_dropout_keeps_what_its_definition_says(
    rate: float, stream: int, seed: int, step: int
) -> None:
    x = np.random.default_rng(0).normal(size=(3, 4, 5, 7))
    key = splitmix((splitmix((splitmix(seed % 2**64) + step) % 2**64) + stream) % 2**64)
    kept = [splitmix((key + i) % 2**64) >> 40 >= math.ceil(rate * 2**24) for i in range(x.size)]
    expected = np.where(np.reshape(kept, x.shape), x / (1 - rate), 0)
    np.testing.assert_array_equal(
        compute("dropout", Dropout(rate, stream), x, seed, step)[0], expected
    )


def test_dropout_drops_about_its_rate_and_draws_anew_each_step() -> None:
    x = np.ones((100, 1000))
    first, second, other = (
        compute("dropout", Dropout(0.25, stream), x, 5, step)[0] == 0
        for stream, step in ((1, 1), (1, 2), (2, 1))
    )
    deviation = math.sqrt(0.25 * 0.75 / x.size)
    for dropped, share in ((first, 0.25), (first & second, 0.0625), (first & other, 0.0625)):
        assert abs(dropped.mean() - share) < 5 * deviation
    assert compute("dropout", Dropout(0.0, 1), x, 5, 1)[0].tolist() == x.tolist()


# Normalisation and joins.


def test_batch_norm_by_hand() -> None:
    x = np.array([[1.0], [3.0], [5.0]])
    running_mean, running_var = np.array([10.0]), np.array([2.0])
    y, mean, inverse = compute(
        "batch_norm", BatchNorm(1e-5, 0.1), x, [2.0], [1.0], state=(running_mean, running_var)
    )
    assert mean.item() == 3
    assert inverse.item() == pytest.approx(1 / math.sqrt(8 / 3 + 1e-5), rel=1e-15)
    assert y.ravel().tolist() == pytest.approx([1 - 4 * inverse.item(), 1, 1 + 4 * inverse.item()])
    assert running_mean.item() == pytest.approx(0.9 * 10 + 0.1 * 3)
    assert running_var.item() == pytest.approx(0.9 * 2 + 0.1 * 4)  # unbiased: 8/2
    (applied,) = compute("batch_norm_apply", BatchNorm(0.0), x, [2.0], [1.0], [3.0], [4.0])
    assert applied.ravel().tolist() == [-1, 1, 3]


def test_group_norm_by_hand() -> None:
    x = np.array([[[[1.0, 3.0, 10.0, 10.0]], [[5.0, 7.0, 20.0, 20.0]]]])
    weight, bias = np.array([1.0, 2.0, 1.0, 1.0]), np.array([0.0, 0.0, 0.0, 5.0])
    (y, mean, inverse) = compute("group_norm", GroupNorm(2, 0.0), x, weight, bias)
    assert mean.tolist() == [[4.0, 15.0]]
    assert inverse.ravel().tolist() == pytest.approx([1 / math.sqrt(5), 1 / 5])
    root = math.sqrt(5)
    assert y[0, :, 0].ravel().tolist() == pytest.approx(
        [-3 / root, -2 / root, -1, 4, 1 / root, 6 / root, 1, 6]
    )
    (y, mean, _) = compute("group_norm", GroupNorm(1), x, weight, bias)  # layer normalisation
    assert mean.tolist() == [[9.5]]
    (two, *_) = compute("group_norm", GroupNorm(1), np.concatenate([x, 3 * x]), weight, bias)
    assert two[:1].tolist() == y.tolist()  # an image does not depend on its company


def test_batch_norm_of_one_number_and_without_running_statistics() -> None:
    running_mean, running_var = np.array([0.0]), np.array([1.0])
    (y, *_) = compute("batch_norm", BatchNorm(), [[7.0]], [2.0], [1.0])
    assert y.item() == 1
    compute("batch_norm", BatchNorm(), [[7.0]], [2.0], [1.0], state=(running_mean, running_var))
    assert running_mean.item() == pytest.approx(0.7)
    assert running_var.item() == pytest.approx(0.9)


def test_joins_by_hand() -> None:
    assert compute("add", None, [[1.0]], [[2.0]], [[4.0]])[0].tolist() == [[7]]
    joined = compute("concat", Concat((1, 2)), [[1.0]], [[2.0, 3.0]])[0]
    assert joined.tolist() == [[1, 2, 3]]
    parts = compute("split", Concat((1, 2)), joined)
    assert [part.tolist() for part in parts] == [[[1]], [[2, 3]]]


# Losses.


def test_softmax_cross_entropy_by_hand() -> None:
    scores, labels = np.log([[1.0, 2.0, 5.0]]), np.array([2])
    losses, p = compute(
        "softmax_cross_entropy", CrossEntropy(), scores, labels, shapes=[(1,), (1, 3)]
    )
    assert losses.tolist() == pytest.approx([math.log(8 / 5)])
    assert p[0].tolist() == pytest.approx([1 / 8, 2 / 8, 5 / 8])
    smoothed, _ = compute(
        "softmax_cross_entropy", CrossEntropy(0.3), scores, labels, shapes=[(1,), (1, 3)]
    )
    expected = -(0.1 * math.log(1 / 8) + 0.1 * math.log(2 / 8) + 0.8 * math.log(5 / 8))
    assert smoothed.tolist() == pytest.approx([expected])


def test_softmax_cross_entropy_of_equal_scores_is_the_logarithm_of_the_classes() -> None:
    zeros = np.zeros((2, 10))
    losses, _ = compute(
        "softmax_cross_entropy", CrossEntropy(), zeros, [0, 9], shapes=[(2,), zeros.shape]
    )
    assert losses.tolist() == pytest.approx([math.log(10)] * 2)


def test_softmax_cross_entropy_survives_huge_scores() -> None:
    scores = np.array([[1e4, 0.0], [0.0, 1e4]])
    losses, p = compute(
        "softmax_cross_entropy", CrossEntropy(), scores, [0, 0], shapes=[(2,), (2, 2)]
    )
    assert losses.tolist() == [0, 1e4]
    (dx,) = compute("softmax_cross_entropy_grad", CrossEntropy(), p, [0, 0], shapes=[(2, 2)])
    assert dx.tolist() == [[0, 0], [-0.5, 0.5]]


def test_targets_by_hand() -> None:
    # Class 1 is impossible, and only one of the images aims at it.
    scores, aims = np.array([[0.0, -np.inf]] * 3), np.array([[1.0, 0.0], [4.0, 0.0], [0.0, 0.5]])
    with np.errstate(invalid="ignore"):  # 0·(−inf), as within a session
        losses, p = compute("target_cross_entropy", None, scores, aims, shapes=[(3,), (3, 2)])
    assert losses.tolist() == [0, 0, np.inf]
    even, aims = np.zeros((2, 2)), np.array([[0.25, 0.75], [3.0, 0.0]])
    losses, p = compute("target_cross_entropy", None, even, aims, shapes=[(2,), (2, 2)])
    assert losses.tolist() == pytest.approx([np.log(2), 3 * np.log(2)])
    (dx,) = compute("target_cross_entropy_grad", None, p, aims, shapes=[(2, 2)])
    assert (2 * dx).tolist() == [[0.25, -0.25], [-1.5, 1.5]]


def test_hinge_by_hand() -> None:
    # The lecture's cat, car and frog: losses 2.9, 0 and 12.9.
    scores = np.array([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]])
    labels = np.array([0, 1, 2])
    (losses,) = compute("hinge", None, scores, labels)
    assert losses.tolist() == pytest.approx([2.9, 0, 12.9])
    assert compute("mean_loss", None, losses)[0] == pytest.approx(15.8 / 3)
    (dx,) = compute("hinge_grad", None, scores, labels, shapes=[scores.shape])
    assert (3 * dx).tolist() == [[-1, 1, 0], [0, 0, 0], [1, 1, -2]]


def test_count_correct_takes_the_first_largest_and_never_nan() -> None:
    scores = [[1.0, 1.0], [1.0, 1.0], [0.0, 2.0], [np.nan, 0.0], [0.0, np.nan]]
    assert compute("count_correct", None, scores, [0, 1, 1, 0, 0])[0] == 2


def test_penalty_by_hand() -> None:
    (term,) = compute("penalty", Penalty(0.5, 0.25), [[1.0, -2.0]], [[3.0]])
    assert term == pytest.approx(0.25 * 14 + 0.25 * 6)
    assert compute("penalty", Penalty(0.5, 0.25))[0] == 0


# Optimizers; their whole course is compared with PyTorch's elsewhere.


def test_sgd_by_hand() -> None:
    w = np.array([2.0])
    compute("sgd", Sgd(l2=0.5, l1=0.25), [1.0], 0.1, 1, state=[w])
    assert w.item() == pytest.approx(2 - 0.1 * (1 + 0.5 * 2 + 0.25))
    w, v = np.array([2.0]), np.array([4.0])
    compute("sgd", Sgd(momentum=0.5), [1.0], 0.1, 2, state=[w, v])
    assert (v.item(), w.item()) == (3, pytest.approx(1.7))
    w, v = np.array([2.0]), np.array([4.0])
    compute("sgd", Sgd(momentum=0.5, nesterov=True), [1.0], 0.1, 2, state=[w, v])
    assert (v.item(), w.item()) == (3, pytest.approx(2 - 0.1 * 2.5))


def test_decay_shrinks_the_weight_itself_and_l2_sees_the_weight_before_it() -> None:
    w = np.array([2.0])
    compute("sgd", Sgd(l2=1.0, decay=0.5), [0.0], 0.1, 1, state=[w])
    assert w.item() == pytest.approx(2 * 0.95 - 0.1 * 2)


def test_rmsprop_and_adam_by_hand() -> None:
    w, s = np.array([1.0]), np.array([0.0])
    compute("rmsprop", RMSProp(alpha=0.75, epsilon=0.5), [4.0], 0.1, 1, state=[w, s])
    assert (s.item(), w.item()) == (4, pytest.approx(1 - 0.1 * 4 / 2.5))
    w, first, second = np.array([1.0]), np.array([0.0]), np.array([0.0])
    compute("adam", Adam(epsilon=1.0), [3.0], 0.1, 1, state=[w, first, second])
    assert (first.item(), second.item()) == (pytest.approx(0.3), pytest.approx(0.009))
    assert w.item() == pytest.approx(1 - 0.1 * 3 / (3 + 1))


def test_bytes_are_taken_as_they_are() -> None:
    values = {"fc1.weight": np.ones((4, 1)), "fc1.bias": np.zeros(1)}
    scores = forward("fc1", np.full((1, 2, 2, 1), 255, np.uint8), values)
    assert scores.item() == 1020


@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (6, 6), (1, 4), (4, 1)])
def test_newton_and_schulz_change_singular_values_and_nothing_else(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(3).normal(size=shape)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    values = values / np.linalg.norm(values)
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    assert values.max() < 1.3
    found = orthogonalised(matrix, 5)
    np.testing.assert_allclose(found, left * values @ right, rtol=0, atol=1e-5)


def test_what_is_all_zero_stays_so() -> None:
    assert not orthogonalised(np.zeros((3, 4)), 5).any()
