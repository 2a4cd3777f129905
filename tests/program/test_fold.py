"""Batch normalisation goes into the convolution before it unless something lies between."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hubel.graph.build import build
from hubel.graph.modes import for_inference
from hubel.graph.op import Graph
from hubel.notation.parse import parse
from hubel.program.fold import fold
from hubel.program.fuse import fuse
from hubel.program.kernels import packed_size
from hubel.program.lower import Lowered, lower
from hubel.program.make import lay_out, make
from hubel.program.program import Call
from tests.program.programs import step_graph

IMAGE = (8, 8, 3)


def inference(text: str, *outputs: str) -> Graph:
    return for_inference(build(parse(text), IMAGE, 5).graph, outputs or None)


def folded(text: str, *outputs: str, batch: int = 4) -> Lowered:
    graph = inference(text, *outputs)
    return fold(lower(graph, batch, lay_out(graph)))


def kernels(lowered: Lowered) -> list[str]:
    return [call.kernel for call in lowered.calls]


def the(lowered: Lowered, kernel: str) -> Call:
    (found,) = (call for call in lowered.calls if call.kernel == kernel)
    return found


@pytest.mark.parametrize(
    ("text", "kernel", "rows"),
    [
        ("conv7-64p3 bn relu fc", "stem", 147),
        ("conv1-16 pool2 tanh conv2-20 bn relu fc", "conv", 64),
        ("pool2 conv3-36g3p1b0 bn relu fc", "conv", 9),
        ("conv1-64 tanh conv3-64p1 bn relu fc", "winograd", 576),
    ],
)
def test_a_convolution_takes_the_normalisation_behind_it(text: str, kernel: str, rows: int) -> None:
    made = folded(text, batch=16)
    assert "batch_norm_apply" not in kernels(made)
    norm = the(made, "fold_norm")
    conv = next(call for call in made.calls if "bn1" in call.writes())
    assert conv.kernel == kernel
    assert (norm.parameters.rows, norm.parameters.depth) == (rows, conv_filters(conv))
    assert norm.parameters.has_bias == int("b0" not in text)
    assert conv.operand("y") == "bn1"
    assert conv.operand("bias") == norm.operand("shift")
    assert conv.parameters.convolution.has_bias == 1
    (layout,) = (call for call in made.calls if call.operands[-1] == conv.operand("weights"))
    assert layout.operand("weight") == norm.operand("folded")
    assert made.calls.index(norm) < made.calls.index(layout) < made.calls.index(conv)
    assert made.buffers[norm.operand("folded")].bytes >= rows * conv_filters(conv) * 4


def conv_of(made: Lowered) -> Call:
    return next(call for call in made.calls if call.kernel == "conv" and "fc" not in call.node)


def conv_filters(conv: Call) -> int:
    filters: int = conv.parameters.convolution.filters
    return filters


def test_a_fully_connected_layer_takes_it_too() -> None:
    made = folded("fc9 bn relu fc")
    assert "batch_norm_apply" not in kernels(made)
    assert the(made, "fold_norm").parameters.rows == 8 * 8 * 3


def test_weights_that_are_read_as_they_lie_are_folded() -> None:
    graph = inference("pool2 conv3-18g3p1 bn relu fc")
    given = lower(graph, 4, lay_out(graph))
    conv = conv_of(given)
    convolution = replace(conv.parameters.convolution, packed=0)
    parameters = replace(conv.parameters, convolution=convolution)
    as_it_lies = tuple(
        "conv1.weight" if name == conv.operand("weights") else name for name in conv.operands
    )
    unpacked = replace(conv, operands=as_it_lies, parameters=parameters)
    calls = tuple(
        unpacked if call is conv else call
        for call in given.calls
        if conv.operand("weights") not in call.writes()
    )
    made = fold(replace(given, calls=calls))
    assert kernels(made)[:4] == ["pack_maps", "max_pool", "fold_norm", "conv"]
    norm, joined = made.calls[2:4]
    assert norm.operand("weight") == "conv1.weight"
    assert joined.operand("weights") == norm.operand("folded")
    assert joined.operand("bias") == norm.operand("shift")
    assert joined.parameters.convolution.packed == 0


def test_a_relu_behind_the_normalisation_joins_the_convolution() -> None:
    made = fuse(folded("conv7-64p3 bn relu fc"))
    assert kernels(made) == ["fold_norm", "stem_weights", "stem", "narrow"]
    stem = the(made, "stem")
    assert (stem.operand("y"), stem.parameters.convolution.relu) == ("relu1", 1)
    assert {"conv1", "bn1"}.isdisjoint(made.buffers)


@pytest.mark.parametrize(
    "text",
    [
        "bn conv3-16 fc",  # no convolution before it
        "conv3-16 relu bn fc",  # something lies between
        "conv3-16 pool2 bn fc",
        "{conv1-3 | conv1-4} bn fc",
        "conv1-16 [bn | tanh] fc",  # its input is used twice
        "conv1-16 [bn | ] fc",
    ],
)
def test_normalisation_elsewhere_stays(text: str) -> None:
    made = folded(text)
    assert kernels(made).count("batch_norm_apply") == 1
    assert "fold_norm" not in kernels(made)


def test_two_normalisations_of_one_convolution_both_stay() -> None:
    assert kernels(folded("conv1-16 [bn | bn] fc")).count("batch_norm_apply") == 2


def test_of_two_in_a_row_the_first_is_folded() -> None:
    made = folded("conv7-64p3 bn bn fc")
    assert the(made, "batch_norm_apply").operand("x") == "bn1"
    assert the(made, "stem").operand("y") == "bn1"


def test_a_convolution_that_is_a_result_stays() -> None:
    made = folded("conv3-16 bn relu fc", "conv1", "fc1")
    assert "fold_norm" not in kernels(made)


def test_a_training_step_is_left_alone() -> None:
    graph = step_graph("conv3-16 bn relu fc", IMAGE)
    given = lower(graph, 4, lay_out(graph))
    assert fold(given).calls == given.calls


def test_the_program_needs_no_memory_for_what_lay_between() -> None:
    program = make(inference("conv7-64p3 bn relu fc"), 4)
    assert {"conv1", "bn1", "bn1:factors"}.isdisjoint(program.buffers)
    (packed,) = (call for call in program.first if call.kernel == "stem_weights")
    assert program.buffers[packed.operand("packed")].bytes == packed_size(1, 147, 64, 1) * 4
