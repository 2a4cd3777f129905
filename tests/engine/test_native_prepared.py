"""Inference by weights laid out once: they are laid out anew whenever a parameter has changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hubel.engine.native import NativeSession
from hubel.engine.reference import ReferenceSession
from hubel.graph.modes import Update, for_inference, with_loss, with_updates
from hubel.graph.op import Graph
from hubel.graph.ops.loss import CrossEntropy
from hubel.graph.ops.update import Sgd
from hubel.program.program import Precision
from tests.engine.cases import Case, built, feeds, start_values, write_all
from tests.engine.test_native import EPS, SETS, agree, session
from tests.engine.tolerances import tolerances

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
TEXT = "conv3-8p1 bn relu conv3-64p1b0 bn relu [conv3-64p1 bn | ] relu gap fc"
CASE = Case(TEXT, (12, 12, 3), 16)


def ready(precision: Precision, threads: int = 2) -> NativeSession:
    started = NativeSession(threads, precision)
    write_all(started, start_values(CASE))
    return started


def fresh(of: NativeSession, graph: Graph, fed: dict[str, Any]) -> Any:
    """The scores of a session that has just been given all that `of` keeps."""
    made = NativeSession(1, of.precision)
    for value in graph.values.values():
        if value.persistent:
            made.write(value.name, of.read(value.name))
    return made.run(graph, fed)["fc1"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_parameter_that_is_written_is_seen(precision: Precision) -> None:
    graph, fed = for_inference(built(CASE).graph), feeds(CASE)
    used = ready(precision)
    assert used.program(graph, CASE.batch).first
    scores = used.run(graph, fed)["fc1"]
    np.testing.assert_array_equal(used.run(graph, fed)["fc1"], scores)
    for value in (*graph.with_role("parameter"), *graph.with_role("statistic")):
        before = used.read(value.name)
        used.write(value.name, 1.25 * before + 0.125)
        changed = used.run(graph, fed)["fc1"]
        np.testing.assert_array_equal(changed, fresh(used, graph, fed), err_msg=value.name)
        assert not np.array_equal(changed, scores), value.name
        used.write(value.name, before)
    np.testing.assert_array_equal(used.run(graph, fed)["fc1"], scores)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_step_of_training_is_seen(precision: Precision) -> None:
    graph, fed = for_inference(built(CASE).graph), feeds(CASE)
    lossy = with_loss(built(CASE).graph, "softmax_cross_entropy", CrossEntropy())
    training = with_updates(lossy, lambda _: Update("sgd", Sgd(momentum=0.9), ("velocity",)))
    used = ready(precision)
    seen = [used.run(graph, fed)["fc1"]]
    for _ in range(3):
        used.run(training, fed)
        seen.append(used.run(graph, fed)["fc1"])
        np.testing.assert_array_equal(seen[-1], fresh(used, graph, fed))
        assert not np.array_equal(seen[-1], seen[-2])


def test_programs_of_every_batch_size_see_the_change() -> None:
    graph, fed = for_inference(built(CASE).graph), feeds(CASE)
    used = ready("float32")
    for change in (1.0, 0.5):
        weight = used.read("conv2.weight")
        used.write("conv2.weight", change * weight)
        for batch in (16, 3, 16, 1):
            some = {**fed, "input": fed["input"][:batch], "labels": fed["labels"][:batch]}
            found = used.run(graph, some)["fc1"]
            np.testing.assert_array_equal(found, fresh(used, graph, some), err_msg=str(batch))


def test_what_is_laid_out_is_not_laid_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, fed = for_inference(built(CASE).graph), feeds(CASE)
    used = ready("float32")
    scores = used.run(graph, fed)["fc1"]
    (loaded,) = used._loaded.values()
    loaded.prepared[:] = 0
    assert not np.array_equal(used.run(graph, fed)["fc1"], scores)
    used.write("fc1.bias", used.read("fc1.bias"))
    np.testing.assert_array_equal(used.run(graph, fed)["fc1"], scores)


@pytest.mark.parametrize(
    "text",
    [
        "conv3-8p1 bn relu conv3-64p1b0 bn relu [conv3-64p1 bn | conv1-64 bn] relu gap fc",
        "conv5-6s2~ bn conv3-6g6p1 bn relu fc9 bn relu fc",
        "bn conv3-7 relu bn pool2 bn fc",
        "conv1-5 [bn | bn] {bn | tanh bn} fc",
    ],
)
@pytest.mark.parametrize("batch", [1, 16])
def test_folded_normalisation_gives_the_references_scores(
    monkeypatch: pytest.MonkeyPatch, text: str, batch: int
) -> None:
    case = Case(text, (12, 12, 3), batch)
    agree(monkeypatch, case, for_inference(built(case).graph))


def test_folding_does_not_lose_a_small_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("conv3-8p1 bn relu fc", (6, 6, 3), 4)
    graph, fed = for_inference(built(case).graph), feeds(case)
    values = start_values(case)
    (variance,) = (name for name in values if name.endswith("var"))
    values[variance] = np.geomspace(1e-12, 1e6, 8).astype(np.float32).astype(np.float64)
    reference = ReferenceSession()
    write_all(reference, values)
    exact = reference.run(graph, fed)["fc1"]
    allowed = tolerances(graph, values, fed, EPS, (), "float32")["fc1"]
    for isa in SETS:
        started = session(monkeypatch, isa)
        write_all(started, values)
        found = started.run(graph, fed)["fc1"]
        np.testing.assert_allclose(found, exact, rtol=0, atol=allowed)
