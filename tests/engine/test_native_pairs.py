"""Convolutions that multiply pairs of bfloat16 numbers, against the reference.

They are chosen where a processor makes such products faster than those of floats; here they are
made to be, whatever the processor. AMX's own kernels are tested by the selftest, in software too.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from hubel.engine.native import NativeSession, instruction_sets
from hubel.engine.reference import ReferenceSession
from hubel.graph.modes import Update, for_inference, with_updates
from hubel.graph.op import Graph
from hubel.graph.ops.update import Sgd
from tests.engine.cases import Case, built, feeds, gradient_graph, start_values
from tests.engine.test_native import EPS, assert_close, outcome
from tests.engine.tolerances import deviations, largest

FAST = 1e6
"""A rate at which pairs are chosen wherever they can be."""

SETS = [isa for isa in ("amx", "avx512_bf16") if isa in instruction_sets()]

pytestmark = pytest.mark.skipif(not SETS, reason="no instruction set here multiplies pairs")

CASES = (
    Case("conv3-16p1 bn relu conv3-34p1 relu pool2 conv3-10s2p1 relu fc20 relu fc", (10, 6, 3), 16),
    Case("conv3-16p1 relu [conv1-16 | ] conv5-8p2 bn relu (conv3-8p1 relu)x2 fc", (7, 7, 3), 32),
    Case("conv3-8p1 relu conv3-48p2d2 relu conv3-6s2p1 tanh fc6 relu fc", (7, 9, 3), 2),
    Case("conv3-64p1 relu conv3-40p1 relu conv1-12 relu conv3-12g2p1 fc", (6, 20, 3), 1),
)


def session(monkeypatch: pytest.MonkeyPatch, isa: str, threads: int = 2) -> NativeSession:
    monkeypatch.setenv("HUBEL_ISA", isa)
    made = NativeSession(threads, "bfloat16")
    made.pair_rate = FAST
    return made


@pytest.mark.parametrize("case", CASES, ids=str)
def test_scores_loss_gradients_and_statistics(monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    graph, _ = gradient_graph(case)
    for each in (graph, for_inference(built(case).graph)):
        statistics = tuple(value.name for value in each.with_role("statistic"))
        values, fed = start_values(case), feeds(case)
        exact = outcome(ReferenceSession(), each, values, fed, statistics)
        off = deviations(each, values, fed, EPS, statistics, "bfloat16", FAST)
        for isa in SETS:
            found = outcome(session(monkeypatch, isa), each, values, fed, statistics)
            assert_close(found, exact, largest(off))


def kernels(graph: Graph, made: NativeSession, batch: int) -> Counter[str]:
    program = made.program(graph, batch)
    return Counter(call.kernel for call in (*program.first, *program.calls))


@pytest.mark.parametrize("isa", SETS)
def test_they_are_what_runs(monkeypatch: pytest.MonkeyPatch, isa: str) -> None:
    graph, _ = gradient_graph(CASES[0])
    made = session(monkeypatch, isa)
    outcome(made, graph, start_values(CASES[0]), feeds(CASES[0]), ())
    found = kernels(graph, made, 16)
    # The first layer sums over three channels, which are odd; its weights over places.
    assert found["conv"] == 1
    assert found["pair_conv"] == 4
    assert found["pair_conv_input_grad"] == 4
    assert found["pair_conv_weight_grad"] == 5
    assert found["winograd"] + found["conv_weight_grad"] == 0


def test_floats_are_multiplied_where_that_is_faster() -> None:
    graph, _ = gradient_graph(CASES[0])
    made = NativeSession(1, "bfloat16")
    made.pair_rate = 0.01
    outcome(made, graph, start_values(CASES[0]), feeds(CASES[0]), ())
    assert not any(name.startswith("pair") for name in kernels(graph, made, 16))


def test_maps_of_floats_are_never_rounded() -> None:
    graph, _ = gradient_graph(CASES[0])
    made = NativeSession(1)
    made.pair_rate = FAST
    outcome(made, graph, start_values(CASES[0]), feeds(CASES[0]), ())
    assert not any(name.startswith("pair") for name in kernels(graph, made, 16))


@pytest.mark.parametrize("isa", SETS)
def test_threads_show_in_no_bit(monkeypatch: pytest.MonkeyPatch, isa: str) -> None:
    case = CASES[1]
    graph, _ = gradient_graph(case)
    step = with_updates(graph, lambda _: Update("sgd", Sgd(momentum=0.9), ("velocity",)))
    fed = {**feeds(case), "rate": 2.0**-9}
    kept = tuple(value.name for value in step.values.values() if value.persistent)
    one, *others = (
        outcome(session(monkeypatch, isa, threads), step, start_values(case), fed, kept)
        for threads in (1, 2, 3)
    )
    for other in others:
        for name, array in one.items():
            assert np.array_equal(array, other[name], equal_nan=True), name
