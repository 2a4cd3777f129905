"""The compiled engine with maps stored as bfloat16, against the reference.

Tolerances come from the reference with every number of every map moved by up to half the distance
of bfloat16 numbers, and rounding errors of float32 everywhere else (tests.engine.tolerances). Such
errors open and close ReLUs, so the largest error of a gradient may be as large as the gradient; the
root of the mean square, over arrays of many numbers, tells more: it must stay within twice that of
the reference's own. Measured, it is at most 1.1 times.
"""

from __future__ import annotations

import numpy as np
import pytest

from hubel.engine.reference import ReferenceSession
from hubel.engine.session import Array
from hubel.graph.modes import Update, for_inference, with_loss, with_updates
from hubel.graph.op import Graph
from hubel.graph.ops.loss import CrossEntropy
from hubel.graph.ops.update import Sgd
from tests.engine.cases import (
    CASES,
    Case,
    built,
    feeds,
    gradient_graph,
    random_cases,
    start_values,
    write_all,
)
from tests.engine.shipped import SHIPPED
from tests.engine.test_native import EPS, SETS, TRANSFORMED, assert_close, outcome, session
from tests.engine.tolerances import HALF_BFLOAT16, deviations, largest

MANY = 64
"""Numbers of an array from which on their mean square is a steady thing."""


def root_mean_square(array: Array) -> float:
    return float(np.sqrt(np.mean(np.square(array))))


def agree(
    monkeypatch: pytest.MonkeyPatch, case: Case, graph: Graph, sets: tuple[str, ...] = SETS
) -> None:
    """Scores, loss, gradients and statistics on the given instruction sets, as the reference's."""
    statistics = tuple(value.name for value in graph.with_role("statistic"))
    values, fed = start_values(case), feeds(case)
    exact = outcome(ReferenceSession(), graph, values, fed, statistics)
    off = deviations(graph, values, fed, EPS, statistics, "bfloat16")
    for isa in sets:
        started = session(monkeypatch, isa, precision="bfloat16")
        found = outcome(started, graph, values, fed, statistics)
        assert_close(found, exact, largest(off))
        for name, array in exact.items():
            if array.size >= MANY:
                typical = max(map(root_mean_square, off[name]))
                assert root_mean_square(found[name] - array) <= 2 * typical, (isa, name)


@pytest.mark.slow
@pytest.mark.parametrize("case", [*CASES[::2], *TRANSFORMED, *random_cases(7, 10)], ids=str)
def test_scores_loss_gradients_and_statistics(monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    graph, _ = gradient_graph(case)
    agree(monkeypatch, case, graph, SETS[:1])


@pytest.mark.parametrize("batch", [1, 6, 16])
@pytest.mark.parametrize(
    "text",
    [
        "conv3-10p1 bn relu pool2 conv3-7 relu [conv1-7 | ] {avgpool2 | pool2} drop0.3 fc",
        "conv3-12p1 maxout3 [conv3-4p1 prelu | ] pool3s2~ fc9 drop0.5 tanh fc",
    ],
)
def test_batches_on_every_instruction_set(
    monkeypatch: pytest.MonkeyPatch, text: str, batch: int
) -> None:
    case = Case(text, (8, 8, 3), batch)
    graph, _ = gradient_graph(case)
    agree(monkeypatch, case, graph)
    agree(monkeypatch, case, for_inference(built(case).graph))


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_nets(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    case = SHIPPED[name]
    graph, _ = gradient_graph(case)
    agree(monkeypatch, case, graph, SETS[:1])
    agree(monkeypatch, case, for_inference(built(case).graph), SETS[:1])


@pytest.mark.parametrize("loss", ["hinge", "target_cross_entropy"])
def test_other_losses(monkeypatch: pytest.MonkeyPatch, loss: str) -> None:
    case = Case("conv3-5 relu fc", (6, 5, 3), 7)
    graph, _ = gradient_graph(case, loss)
    agree(monkeypatch, case, graph)


def test_parameters_are_kept_and_updated_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("conv3-5p1 bn relu pool2 fc7 tanh fc", (6, 6, 3), 16)
    lossy = with_loss(built(case).graph, "softmax_cross_entropy", CrossEntropy())
    graph = with_updates(lossy, lambda _: Update("sgd", Sgd(momentum=0.9), ("velocity",)))
    values, fed = start_values(case), {**feeds(case), "rate": 2.0**-12}
    kept = tuple(value.name for value in graph.values.values() if value.persistent)
    exact = outcome(ReferenceSession(), graph, values, fed, kept)
    allowed = largest(deviations(graph, values, fed, EPS, kept, "bfloat16"))
    for isa in SETS:
        found = outcome(session(monkeypatch, isa, 2, "bfloat16"), graph, values, fed, kept)
        assert_close(found, exact, allowed)
        for parameter in graph.with_role("parameter"):
            before, after = values[parameter.name], found[parameter.name]
            # Changes that numbers of eight digits would swallow, or round up to one in 2⁸.
            small = np.abs(after - before) < HALF_BFLOAT16 / 4 * np.abs(before)
            assert np.count_nonzero(small & (after != before)) > 0.5 * before.size, parameter.name


def test_a_wrong_filter_tap_is_outside() -> None:
    case = Case("conv3-16p1 relu fc", (8, 8, 17), 3)
    graph, _ = gradient_graph(case)
    graph = Graph(graph.values, graph.nodes, ("conv1", *graph.outputs))
    values, fed = start_values(case), feeds(case)
    off = deviations(graph, values, fed, EPS, (), "bfloat16")
    wrong = {**values, "conv1.weight": values["conv1.weight"].copy()}
    wrong["conv1.weight"][2, 2] = 0
    outcomes = []
    for numbers in (values, wrong):
        reference = ReferenceSession()
        write_all(reference, numbers)
        outcomes.append(reference.run(graph, fed))
    for name in ("conv1", "grad(conv1.weight)", "grad(input)"):
        typical = max(map(root_mean_square, off[name]))
        assert root_mean_square(outcomes[0][name] - outcomes[1][name]) > 4 * typical, name
