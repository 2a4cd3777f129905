"""One call for neighbours that may be one, to the same bits, and none for those that may not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hubel.engine.native import NativeSession
from hubel.graph.modes import Update, with_loss, with_updates
from hubel.graph.op import Graph
from hubel.graph.ops.loss import CrossEntropy
from hubel.graph.ops.update import Adam, RMSProp, Sgd
from hubel.program import make as making
from hubel.program.join import join
from hubel.program.lower import Lowered
from hubel.program.program import Call
from hubel.program.structs import SgdStep, Size
from tests.engine.cases import Case, built, feeds, start_values, write_all
from tests.program.programs import step

STEP = SgdStep(8, 0.9, 0, 0.0, 0.0, 0.0, 1.0, 0)
CASE = Case("conv3-4p1 bn relu pool2 fc", (6, 6, 3), 4)


def update(name: str, gradient: str = "") -> Call:
    kept = (name, f"{name}.velocity")
    return Call("sgd", (gradient or f"grad({name})", "rate", "step", "", *kept), STEP, name)


def joined(*calls: Call) -> tuple[Call, ...]:
    return join(Lowered(1, calls, {}, ())).calls


def test_neighbours_of_one_optimizer_become_parts_of_one_call() -> None:
    (call,) = joined(update("a"), update("b"), update("c"))
    assert call.parts == (update("a").operands, update("b").operands, update("c").operands)
    assert call.parameters == (STEP, STEP, STEP)
    assert set(call.writes()) == {f"{name}{slot}" for name in "abc" for slot in ("", ".velocity")}
    assert {"grad(a)", "grad(b)", "grad(c)", "rate"} <= set(call.reads())


def test_a_call_between_them_keeps_them_apart() -> None:
    between = Call("mean_loss", ("losses", "loss"), Size(8))
    calls = (update("a"), between, update("b"))
    assert joined(*calls) == calls


def test_other_kernels_do_not_repeat() -> None:
    calls = (Call("mean_loss", ("a", "b"), Size(8)), Call("mean_loss", ("c", "d"), Size(8)))
    assert joined(*calls) == calls


def test_maps_of_two_number_types_stay_apart() -> None:
    calls = (update("a"), replace(update("b"), precision="bfloat16"))
    assert joined(*calls) == calls


@pytest.mark.parametrize(
    "second",
    [update("a"), update("b", gradient="a"), update("b", gradient="a.velocity")],
    ids=["writes the same", "reads what was written", "reads a slot"],
)
def test_calls_that_depend_on_each_other_stay_apart(second: Call) -> None:
    assert joined(update("a"), second) == (update("a"), second)
    assert joined(second, update("a")) == (second, update("a"))


def test_a_step_ends_with_one_sweep_over_all_parameters() -> None:
    program = step("conv3-4p1 bn relu pool2 fc", (6, 6, 3), 4)
    (sweep,) = (call for call in program.calls if call.kernel == "sgd")
    assert sweep is program.calls[-1]
    names = ["conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias", "fc1.weight", "fc1.bias"]
    assert [part[4] for part in sweep.parts] == names


@pytest.mark.parametrize(
    ("op", "attributes", "slots"),
    [
        ("sgd", Sgd(momentum=0.9, nesterov=True, l2=0.01), ("velocity",)),
        ("rmsprop", RMSProp(l1=0.01), ("square",)),
        ("adam", Adam(decay=0.1), ("first", "second")),
    ],
)
def test_the_sweep_gives_the_bits_of_single_calls(
    op: str, attributes: object, slots: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    lossy = with_loss(built(CASE).graph, "softmax_cross_entropy", CrossEntropy())
    graph = with_updates(lossy, lambda _: Update(op, attributes, slots))
    together = _after_steps(graph, 2)
    monkeypatch.setattr(making, "join", lambda lowered: lowered)
    alone = _after_steps(graph, 1)
    assert together.keys() == alone.keys()
    for name, array in together.items():
        assert array.tobytes() == alone[name].tobytes(), name


def _after_steps(graph: Graph, threads: int) -> dict[str, np.ndarray]:
    session = NativeSession(threads)
    write_all(session, start_values(CASE))
    for number in (1, 2):
        session.run(graph, {**feeds(CASE), "rate": 0.05, "step": number, "seed": 0})
    kept = [value.name for value in graph.values.values() if value.persistent]
    return {name: session.read(name) for name in kept}
