"""Building: the lecture's sizes and counts, the rule of every layer, all problems in one pass."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest

from hubel.errors import Problem
from hubel.graph.build import Built, build
from hubel.graph.layers import Parameter
from hubel.graph.ops.conv import Conv, Window
from hubel.graph.ops.join import Concat
from hubel.graph.ops.norm import BatchNorm, GroupNorm
from hubel.graph.ops.pointwise import FUNCTIONS, Activation, Dropout, Maxout
from hubel.graph.shape import describe
from hubel.graph.verify import verify
from hubel.notation.parse import parse

RGB = (32, 32, 3)


def built(text: str, image: tuple[int, int, int] = RGB, **options: Any) -> Built:
    made = build(parse(text), image, **options)
    assert not made.problems, [str(problem) for problem in made.problems]
    return made


def sizes(made: Built) -> list[str]:
    return [describe(placed.output) for placed in made.layers]


def problems(text: str, image: tuple[int, int, int] = RGB, **options: Any) -> tuple[Problem, ...]:
    return build(parse(text), image, **options).problems


# Lecture 5.


def test_fully_connected_3072_to_10() -> None:
    (fc,) = built("fc10").layers
    assert (fc.input, fc.output, fc.multiply_adds) == (RGB, (10,), 30720)
    assert fc.parameters == (
        Parameter("fc1.weight", (3072, 10), 3072, 10, "random"),
        Parameter("fc1.bias", (10,), 3072, 10, 0.0),
    )


def test_filters_span_the_depth_of_their_input() -> None:
    made = built("conv5-6 relu conv5-10 relu")
    assert sizes(made) == ["28×28×6", "28×28×6", "24×24×10", "24×24×10"]
    assert [p.shape for p in made.parameters] == [(5, 5, 3, 6), (6,), (5, 5, 6, 10), (10,)]
    assert made.parameters[0].fan_in == 75


@pytest.mark.parametrize(
    ("token", "places"), [("conv3-1", 5), ("conv3-1s2", 3), ("conv3-1p1", 7), ("conv3-1s3~", 2)]
)
def test_a_filter_of_3_on_7(token: str, places: int) -> None:
    assert sizes(built(token, (7, 7, 1))) == [f"{places}×{places}×1"]


def test_the_worked_example() -> None:
    (conv,) = built("conv5-10p2").layers
    assert conv.output == (32, 32, 10)
    assert conv.fits is not None
    assert conv.fits[0].formula == "(32 + 2·2 − 5)/1 + 1 = 32"
    assert [prod(parameter.shape) for parameter in conv.parameters] == [750, 10]
    assert conv.multiply_adds == 32 * 32 * 750


def test_pooling_halves_and_keeps_the_depth() -> None:
    (pool,) = built("pool2", (224, 224, 64)).layers
    assert (pool.output, pool.parameters) == ((112, 112, 64), ())


def test_a_stride_that_does_not_fit_is_refused_with_the_numbers() -> None:
    (problem,) = problems("conv3-1s3", (7, 7, 1))
    assert (problem.code, problem.severity, problem.layer) == ("misfit", "error", "conv1")
    assert problem.span == (0, 9)
    assert str(problem) == (
        "conv1: the window does not fit both ways: (7 − 3)/3 + 1 = 2.33; "
        "row and column 6 (counted from 0) would never be read"
    )


# The rule of each layer.


def test_a_convolution_and_its_window() -> None:
    (conv,) = built("conv3x5-8s2x1p1x2d1x1g2b0~", (8, 9, 4)).layers
    window = Window((3, 5), (2, 1), (1, 1, 2, 2), (1, 1), (4, 9))
    assert conv.window == window
    assert conv.parameters == (Parameter("conv1.weight", (3, 5, 2, 8), 30, 60, "random"),)
    (node,) = built("conv3x5-8s2x1p1x2g2b0~", (8, 9, 4)).graph.nodes
    assert node.attributes == Conv(window, 8, 2)
    assert conv.multiply_adds == 4 * 9 * 8 * 30


def test_same_padding_splits_with_the_extra_pixel_at_the_end() -> None:
    (conv,) = built("conv3-4s2same", (9, 8, 3)).layers
    assert conv.output == (5, 4, 4)
    assert conv.window is not None
    assert conv.window.padding == (1, 1, 0, 1)


@pytest.mark.parametrize(("token", "output"), [("pool3s2~", (3, 4)), ("pool3s2^", (4, 4))])
def test_rounding_is_the_layers_own(token: str, output: tuple[int, int]) -> None:
    (pool,) = built(token, (8, 9, 3)).layers
    assert pool.output[:2] == output


@pytest.mark.parametrize(("fit", "output"), [("floor", 3), ("ceil", 4)])
def test_rounding_can_be_asked_for_all(fit: Any, output: int) -> None:
    assert built("pool3s2", (8, 8, 3), fit=fit).layers[0].output == (output, output, 3)
    assert built("pool3s2~", (8, 8, 3), fit=fit).layers[0].output == (3, 3, 3)


def test_pools_also_give_what_their_gradient_needs() -> None:
    made = built("pool2 avgpool2 gap", (8, 12, 5))
    assert sizes(made) == ["4×6×5", "2×3×5", "1×1×5"]
    assert [node.op for node in made.graph.nodes] == ["max_pool", "average_pool", "average_pool"]
    index = made.graph["pool1.index"]
    assert (index.shape, index.dtype, index.batched) == ((4, 6, 5), "index", True)
    assert made.layers[2].window == Window((2, 3), (2, 3), (0, 0, 0, 0), (1, 1), (1, 1))


@pytest.mark.parametrize(
    ("token", "attributes"),
    [
        ("relu", Activation("relu")),
        ("leaky0.2", Activation("leaky", 0.2)),
        ("elu0.5", Activation("elu", 0.5)),
        ("selu", Activation("selu")),
        ("gelu", Activation("gelu")),
        ("silu", Activation("silu")),
        ("scale0.1", Activation("scale", 0.1)),
        ("sigmoid", Activation("sigmoid")),
        ("tanh", Activation("tanh")),
    ],
)
def test_activations_keep_the_size(token: str, attributes: Activation) -> None:
    made = built(f"{token} fc4 {token}")
    assert sizes(made) == ["32×32×3", "4", "4"]
    assert made.graph.nodes[0].attributes == attributes
    assert attributes.function in FUNCTIONS


def test_prelu_starts_at_a_quarter_for_each_channel() -> None:
    (prelu,) = built("prelu").layers
    assert prelu.parameters == (Parameter("prelu1.weight", (3,), 1, 1, 0.25),)


def test_maxout_divides_the_depth() -> None:
    made = built("maxout3 fc10 maxout5", (4, 4, 6))
    assert sizes(made) == ["4×4×2", "10", "2"]
    assert made.graph.nodes[0].attributes == Maxout(3)


def test_layer_and_group_norm_learn_scale_and_shift_and_keep_nothing() -> None:
    made = built("conv1-8 ln gn4")
    assert [(p.name, p.shape, p.start) for p in made.parameters[2:]] == [
        ("ln1.weight", (8,), 1.0),
        ("ln1.bias", (8,), 0.0),
        ("gn1.weight", (8,), 1.0),
        ("gn1.bias", (8,), 0.0),
    ]
    _, layer, group = made.graph.nodes
    assert (layer.attributes, group.attributes) == (GroupNorm(1, 1e-5), GroupNorm(4, 1e-5))
    assert made.graph.with_role("statistic") == ()


def test_batch_norm_learns_scale_and_shift_and_keeps_statistics() -> None:
    made = built("bn")
    assert [(p.name, p.start) for p in made.parameters] == [("bn1.weight", 1.0), ("bn1.bias", 0.0)]
    (node,) = made.graph.nodes
    assert node.attributes == BatchNorm(1e-5, 0.1)
    assert node.outputs == ("bn1", "bn1.mean", "bn1.inverse_deviation")
    assert node.updates == ("bn1.running_mean", "bn1.running_var")
    assert [value.shape for value in made.graph.with_role("statistic")] == [(3,), (3,)]
    assert not made.graph["bn1.mean"].batched


def test_dropouts_draw_from_streams_of_their_own() -> None:
    made = built("drop0.5 fc9 drop0.2")
    first, _, second = made.graph.nodes
    assert (first.attributes, second.attributes) == (Dropout(0.5, 1), Dropout(0.2, 2))
    assert first.inputs == ("input", "seed", "step")
    assert [value.name for value in made.graph.with_role("scalar")] == ["seed", "step"]


def test_fc_takes_its_size_from_the_classes() -> None:
    assert sizes(built("fc7 fc", classes=4)) == ["7", "4"]


def test_repeats_number_their_layers() -> None:
    made = built("(conv3-4p1 relu)x2 fc2")
    assert [placed.name for placed in made.layers] == ["conv1", "relu1", "conv2", "relu2", "fc1"]
    assert [node.inputs[0] for node in made.graph.nodes] == [
        "input", "conv1", "relu1", "conv2", "relu2",
    ]  # fmt: skip


def test_branches_are_added_or_laid_behind_one_another() -> None:
    made = built("[conv3-3p1 relu | ] {conv1-5 | pool3s1p1}")
    assert sizes(made)[-1] == "32×32×8"
    add, concat = made.layers[2], made.layers[5]
    assert (add.name, add.op, add.sources, add.layer) == ("add1", "add", ("relu1", "input"), None)
    assert concat.sources == ("conv2", "pool1")
    (node,) = (node for node in made.graph.nodes if node.op == "concat")
    assert node.attributes == Concat((5, 3))


@pytest.mark.parametrize(
    "text", ["conv3-4p1 bn relu pool2 fc10", "[conv3-3p1 | ] {conv1-2 | maxout3} drop0.5 gap fc10"]
)
def test_what_is_built_is_sound(text: str) -> None:
    made = built(text)
    assert verify(made.graph) is made.graph
    assert made.graph.outputs == (made.layers[-1].name,)


def test_the_same_text_builds_the_same() -> None:
    assert built("conv3-4 bn fc2") == built("conv3-4 bn fc2")


# Problems.


@pytest.mark.parametrize(
    ("text", "image", "message"),
    [
        (
            "conv9-2",
            (7, 7, 3),
            "conv1: the 9×9 window is larger than its padded input, both ways: (7 − 9)/1 + 1 = −1",
        ),
        (
            "conv3x9-2",
            (7, 8, 3),
            "conv1: the 3×9 window is larger than its padded input, horizontally: "
            "(8 − 9)/1 + 1 = 0",
        ),
        (
            "fc5 conv3-2",
            RGB,
            "conv1: a window needs an image, but its input is a vector of 5 numbers",
        ),
        (
            "fc5 gap",
            RGB,
            "gap1: the average needs an image, but its input is a vector of 5 numbers",
        ),
        ("conv3-4g2", RGB, "conv1: 2 groups do not divide its input depth 3: 3/2 = 1.50"),
        ("conv3-4g3", RGB, "conv1: 3 groups do not divide its filters 4: 4/3 = 1.33"),
        ("gn2", RGB, "gn1: 2 groups do not divide its input depth 3: 3/2 = 1.50"),
        (
            "fc6 gn6",
            RGB,
            "gn1: each of its groups is a single number, which is normalised to zero: "
            "take fewer groups: 6/6 = 1",
        ),
        ("maxout2", RGB, "maxout1: 2 pieces do not divide its input depth 3: 3/2 = 1.50"),
        (
            "pool2p2",
            RGB,
            "pool1: padding 2 puts whole windows of 2 outside the image; pad less than 2",
        ),
        (
            "fc",
            RGB,
            "fc1: fc without a number has as many outputs as there are classes, and their number "
            "is not known: write fc10, or give it: --classes 10, or classes=10 in Python",
        ),
        (
            "[conv3-3 | ]",
            RGB,
            "add1: branches of different sizes cannot be added: conv1 30×30×3 and input 32×32×3",
        ),
        (
            "{conv3-3 | }",
            RGB,
            "concat1: branches of different sizes cannot be laid behind one another: "
            "conv1 30×30×3 and input 32×32×3",
        ),
        (
            "conv3-4s2",
            (7, 8, 3),
            "conv1: the window does not fit horizontally: (8 − 3)/2 + 1 = 3.5; "
            "column 7 (counted from 0) would never be read",
        ),
    ],
)
def test_problems(text: str, image: tuple[int, int, int], message: str) -> None:
    (problem,) = problems(text, image)
    assert str(problem) == message
    assert problem.severity == "error"
    assert problem.span is not None
    start, end = problem.span
    assert text[start:end] in (text, *text.split())


def test_branches_of_one_size_but_different_depths_can_only_be_concatenated() -> None:
    assert problems("[conv1-4 | ]")[0].code == "branches"
    assert sizes(built("{conv1-4 | }"))[-1] == "32×32×7"


def test_all_problems_in_one_pass() -> None:
    found = problems("conv3-4s3 pool2 [conv99-1 | conv3-3s2] maxout7 fc", (9, 8, 3))
    assert [(problem.layer, problem.code) for problem in found] == [
        ("conv1", "misfit"),
        ("pool1", "misfit"),
        ("conv2", "too-small"),
        ("conv3", "too-small"),
    ]
    found = problems("conv3-4s3 maxout2 maxout2 conv1-5g5 fc", (9, 8, 3))
    assert [(problem.layer, problem.code) for problem in found] == [
        ("conv1", "misfit"),
        ("conv2", "groups"),
        ("fc1", "classes"),
    ]


def test_a_branch_without_output_ends_there_but_the_others_are_read() -> None:
    made = build(parse("[conv9-2 relu | fc3 conv3-3] conv2-2s3"), (7, 7, 3))
    assert [problem.layer for problem in made.problems] == ["conv1", "conv2"]
    assert [placed.name for placed in made.layers] == ["fc1"]
    assert made.graph.outputs == ()
