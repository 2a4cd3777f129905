"""What hangs on parameters alone is done beforehand, unless the step changes them."""

from __future__ import annotations

from itertools import pairwise

import pytest

from hubel.graph.build import build
from hubel.graph.modes import for_inference, with_gradients, with_loss
from hubel.graph.op import Graph
from hubel.graph.ops.loss import CrossEntropy
from hubel.notation.parse import parse
from hubel.program.lower import Lowered, lower
from hubel.program.make import lay_out, make
from hubel.program.prepare import prepare
from hubel.program.program import Call
from tests.program.programs import step_graph

IMAGE = (12, 12, 3)
TEXT = "conv3-16p1 bn relu conv3-64p1 bn relu conv3-64p1 relu pool2 fc9 relu fc"


def inference(text: str) -> Graph:
    return for_inference(build(parse(text), IMAGE, 5).graph)


def lowered(graph: Graph, batch: int = 16) -> Lowered:
    return lower(graph, batch, lay_out(graph))


def kernels(calls: tuple[Call, ...]) -> list[str]:
    return [call.kernel for call in calls]


@pytest.mark.parametrize("batch", [1, 16])
def test_inference_lays_out_every_weight_beforehand(batch: int) -> None:
    program = make(inference(TEXT), batch)
    layers = 5
    laid = [kernel for kernel in kernels(program.first) if kernel != "fold_norm"]
    assert len(laid) == layers
    assert set(laid) <= {"pack_weights", "stem_weights", "winograd_weights"}
    assert kernels(program.first).count("fold_norm") == 2
    assert not {"pack_weights", "stem_weights", "winograd_weights", "fold_norm"} & set(
        kernels(program.calls)
    )
    assert all(
        call.parameters.convolution.packed for call in program.calls if call.kernel == "conv"
    )


def test_what_is_laid_out_lies_apart_from_what_steps_share() -> None:
    program = make(inference(TEXT), 16)
    made = {name for call in program.first for name in call.writes()}
    assert {program.buffers[name].memory for name in made} == {"prepared"}
    ends = sorted((b.offset, b.offset + b.bytes) for b in map(program.buffers.get, made) if b)
    assert all(one[1] <= other[0] for one, other in pairwise(ends))
    assert program.sizes["prepared"] == ends[-1][1]


def test_what_hangs_on_what_is_prepared_is_prepared_too() -> None:
    program = make(inference("conv7-64p3 bn relu fc"), 16)
    (folded,) = (call for call in program.first if call.kernel == "fold_norm")
    (packed,) = (call for call in program.first if call.kernel == "stem_weights")
    assert packed.operand("weight") == folded.operand("folded")
    assert program.first.index(folded) < program.first.index(packed)


def test_what_reads_the_images_is_not() -> None:
    made = prepare(lowered(inference(TEXT)))
    fed = {name for name, b in made.lowered.buffers.items() if b.memory == "input"}
    assert fed
    reached = set(fed)
    for call in (*made.first, *made.lowered.calls):
        if reached & set(call.reads()):
            reached.update(call.writes())
            assert call in made.lowered.calls


def test_a_training_step_prepares_nothing() -> None:
    given = lowered(step_graph(TEXT, IMAGE))
    made = prepare(given)
    assert made.first == ()
    assert made.lowered is given
    program = make(step_graph(TEXT, IMAGE), 16)
    assert program.first == ()
    assert program.sizes["prepared"] == 0
    assert "winograd_weights" in kernels(program.calls)


def test_gradients_without_an_update_prepare_both_directions() -> None:
    graph = build(parse("conv7-64p3 relu conv3-20s2~ fc11"), IMAGE, 5).graph
    lossy = with_loss(graph, "softmax_cross_entropy", CrossEntropy())
    program = make(with_gradients(lossy, ["input"]), 16)
    # The first layer's gradient makes few channels, and reads its filters as they lie.
    kinds = sorted((call.kernel, getattr(call.parameters, "backward", 0)) for call in program.first)
    assert kinds.count(("pack_weights", 1)) == 2
    assert ("stem_weights", 0) in kinds
    assert len(kinds) == 5


def test_without_parameters_there_is_nothing_to_prepare() -> None:
    made = prepare(lowered(inference("pool2 tanh gap")))
    assert made.first == ()
