"""The planner's table of kernels is the compiled one, and every operation has a rule."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import pytest

from hubel import _native
from hubel.graph.build import build
from hubel.graph.modes import (
    Update,
    for_inference,
    with_gradients,
    with_loss,
    with_settled,
    with_updates,
)
from hubel.graph.ops import OPS
from hubel.graph.ops.loss import CrossEntropy, Penalty
from hubel.graph.ops.update import Adam, Average, Muon, RMSProp, Sgd
from hubel.notation.parse import parse
from hubel.program.kernels import KERNELS, packed_size
from hubel.program.make import make
from hubel.program.program import Call, Precision
from hubel.program.rules import RULES
from hubel.program.structs import Convolution, Cut, Drop, Size, words

LOSSES = (
    ("softmax_cross_entropy", CrossEntropy()),
    ("target_cross_entropy", None),
    ("hinge", None),
)
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


def flat_fields(parameters: Any) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    hints = get_type_hints(parameters)
    for each in fields(parameters):
        kind = hints[each.name]
        found.extend(flat_fields(kind) if is_dataclass(kind) else [(each.name, kind)])
    return found


def test_both_tables_list_the_same_kernels() -> None:
    ours = [
        (Call(name, (), None, precision=precision).compiled, operands, parameters)
        for name, kernel in KERNELS.items()
        for operands, parameters in [(len(kernel.operands), len(flat_fields(kernel.parameters)))]
        for precision in (PRECISIONS if kernel.maps else PRECISIONS[:1])
    ]
    assert ours == [tuple(row) for row in _native.kernels()]


@pytest.mark.parametrize("name", KERNELS)
def test_parameters_are_eight_byte_numbers(name: str) -> None:
    assert {kind for _, kind in flat_fields(KERNELS[name].parameters)} <= {int, float}


def test_every_operation_has_a_rule() -> None:
    assert set(RULES) == set(OPS)


def test_every_kernel_is_called_for_some_operation() -> None:
    deep = "conv3-64p1 bn conv3-64p1 pool2"
    groups = "conv3-16g16p1 conv3-16g4p1 pool2"
    branches = f"{{pool2 | avgpool2 | conv2-4s2 | {groups} | {deep} | bn pool2}}"
    rest = "gelu prelu maxout2 gn2 drop0.5 fc"
    text = f"[bn conv3-16p1 | conv7-64p3 conv1-16 bn] relu {branches} {rest}"
    built = build(parse(text), (16, 16, 3), 5).graph
    program = make(for_inference(built), 32)
    used = {call.kernel for call in (*program.first, *program.calls)}
    updates = (
        ("sgd", Sgd(), ()),
        ("rmsprop", RMSProp(), ("square",)),
        ("adam", Adam(), ("first", "second")),
        ("muon", Muon(), ("velocity",)),
    )
    for loss, attributes in LOSSES:
        lossy = with_loss(built, loss, attributes)
        for op, update, slots in updates:
            chosen = Update(op, update, slots)
            graph = with_updates(
                lossy, lambda _, chosen=chosen: chosen, Penalty(1, 1), average=Average(0.9)
            )
            used.update(call.kernel for call in make(graph, 32).calls)
        settled = with_loss(with_settled(built, ["bn2"]), loss, attributes)
        used.update(call.kernel for call in make(with_gradients(settled, ["input"]), 32).calls)
        whole = with_gradients(lossy, ["input"])
        for precision in PRECISIONS:
            used.update(call.kernel for call in make(whole, 32, precision=precision).calls)
        used.update(call.kernel for call in make(graph, 32, None, "bfloat16", 1e6).calls)
    assert used == set(KERNELS) - {"assemble", "mix"}


@pytest.mark.parametrize(
    ("text", "depth", "kernel"),
    [
        ("conv3-6g6p1", 6, "grouped"),
        ("conv3-6g6s2d2p2~", 6, "grouped"),
        ("conv3-32g4p1", 32, "grouped"),
        ("conv5-48g24s2p2~", 48, "grouped"),
        ("conv3-12g6p1", 6, "conv"),  # more filters than channels
        ("conv3-6g3p1", 6, "conv"),  # no whole vectors
        ("conv3-48g16p1", 48, "conv"),  # groups that lie across vectors
    ],
)
def test_small_groups_have_kernels_of_their_own(text: str, depth: int, kernel: str) -> None:
    lossy = with_loss(build(parse(f"{text} fc"), (8, 8, depth), 5).graph, "hinge")
    made = make(with_gradients(lossy, ["input", "conv1.weight", "conv1.bias"]), 4)
    geometry = {
        call.kernel
        for call in made.calls
        if getattr(getattr(call.parameters, "convolution", call.parameters), "rows", 0) in (3, 5)
    }
    assert geometry == {kernel, f"{kernel}_input_grad", f"{kernel}_weight_grad"}


def test_words_lie_flat_in_the_order_of_the_fields() -> None:
    convolution = Convolution(*range(1, 18))
    made = words(Cut(convolution, 3, 4))
    assert made == (*range(1, 18), 0, 0, 0, 1, 3, 4)
    assert words((Size(3), Size(4))) == (3, 4)
    assert words(Drop(1, 1, 2, 3, 4, 0.5, 6)) == (1, 1, 2, 3, 4, 0.5, 6)


def test_a_whole_number_where_a_float_belongs_becomes_one() -> None:
    made = words(Drop(1, 1, 2, 3, 4, 1, 6))
    assert [type(word) for word in made] == [int] * 5 + [float, int]


def test_panels_are_filled_up_to_32_columns() -> None:
    assert packed_size(9, 3, 10, 1) == 9 * 3 * 32
    assert packed_size(9, 3, 33, 1) == 9 * 3 * 64
    assert packed_size(1, 2, 5, 7) == 7 * 2 * 32


def test_calls_know_what_they_read_and_write() -> None:
    call = Call("sgd", ("g", "rate", "step", "", "w", "v"), None)
    assert call.reads() == ("g", "rate", "step", "w", "v")
    assert call.writes() == ("w", "v")
    call = Call("conv", ("x", "w", "", "y"), None)
    assert call.reads() == ("x", "w")
    assert call.writes() == ("y",)
    assert (call.place("bias"), call.operand("y")) == (2, "y")
