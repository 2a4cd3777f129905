"""The tolerances themselves: wide enough for honest rounding, too narrow for a mistake."""

from __future__ import annotations

import numpy as np
import pytest

from hubel.engine.reference import ReferenceSession
from hubel.engine.session import Array, Feeds
from hubel.graph.op import Graph, Node
from tests.engine.cases import (
    CASES,
    Case,
    feeds,
    gradient_graph,
    random_cases,
    start_values,
    write_all,
)
from tests.engine.tolerances import tolerances

EPS = float(np.finfo(np.float32).eps)


class SinglePrecision(ReferenceSession):
    """The reference's rules in float32."""

    def run(self, graph: Graph, feeds: Feeds) -> dict[str, Array]:
        self._kept = {name: array.astype(np.float32) for name, array in self._kept.items()}
        return super().run(graph, feeds)

    def _run_node(self, graph: Graph, node: Node, arrays: dict[str, Array], batch: int) -> None:
        arrays["input"] = arrays["input"].astype(np.float32)
        super()._run_node(graph, node, arrays, batch)
        for name in node.outputs:
            if graph[name].dtype == "real":
                arrays[name] = np.asarray(arrays[name], np.float32)


@pytest.mark.parametrize("case", [*CASES, *random_cases(3, 60)], ids=str)
def test_single_precision_stays_within_its_tolerances(case: Case) -> None:
    graph, _ = gradient_graph(case)
    statistics = tuple(value.name for value in graph.with_role("statistic"))
    values, fed = start_values(case), feeds(case)
    allowed = tolerances(graph, values, fed, EPS, statistics)
    double, single = ReferenceSession(), SinglePrecision()
    outcomes = []
    for session in (double, single):
        write_all(session, values)
        out = session.run(graph, fed)
        out.update({name: session.read(name) for name in statistics})
        outcomes.append(out)
    exact, rounded = outcomes
    for name, array in exact.items():
        off = np.abs(rounded[name] - array).max()
        assert off <= allowed[name], name
        assert allowed[name] <= 1e-3 * max(1.0, np.abs(array).max()), name


def test_a_wrong_filter_tap_is_far_outside() -> None:
    case = Case("conv3-16p1 relu fc", (8, 8, 17), 3)
    graph, _ = gradient_graph(case)
    values, fed = start_values(case), feeds(case)
    allowed = tolerances(graph, values, fed, EPS)
    wrong = {**values, "conv1.weight": values["conv1.weight"].copy()}
    wrong["conv1.weight"][2, 2, 16] = 0
    outcomes = []
    for numbers in (values, wrong):
        session = ReferenceSession()
        write_all(session, numbers)
        outcomes.append(session.run(graph, fed))
    for name in ("fc1", "loss", "grad(conv1.weight)", "grad(input)"):
        off = np.abs(outcomes[0][name] - outcomes[1][name]).max()
        assert off > 100 * allowed[name], name
