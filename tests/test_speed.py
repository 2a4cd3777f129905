"""Timing a model: which step, which calls, and what cannot be timed."""

from __future__ import annotations

import numpy as np
import pytest

from hubel import Model, UsageError
from hubel.graph.modes import for_inference
from hubel.speed import explain, measure, native_session, step_of, training_step


def model(engine: str = "native") -> Model:
    threads = 1 if engine == "native" else None
    return Model("conv3-4p1 relu pool2 fc3", (4, 4, 2), engine=engine, threads=threads)


def test_a_timed_step_is_a_step_of_training() -> None:
    ours, truth = model(), model("reference")
    images = np.random.default_rng(1).normal(size=(5, 4, 4, 2)).astype(np.float32)
    labels = np.array([0, 1, 2, 1, 0])
    losses = [step_of(one, images, labels) for one in (ours, truth)]
    first = [step() for step in losses]
    second = [step() for step in losses]
    assert first[0] == pytest.approx(first[1], rel=1e-5)
    assert second[0] == pytest.approx(second[1], rel=1e-5)
    assert second[1] < first[1]


def test_measure_gives_positive_medians_of_what_was_asked() -> None:
    speed = measure(model(), 3, 0.0)
    assert speed.batch == 3
    assert min(speed.step, speed.single, speed.inference) > 0
    assert speed.operations == 2 * 3 * (2 * 16 * 4 * 18 + 3 * 16 * 3)


def test_explain_gives_the_programs_calls_in_order() -> None:
    timed = model()
    program = native_session(timed).program(training_step(timed), 6)
    rows = explain(timed, 6, repeats=2)
    assert [(row.kernel, row.node) for row in rows] == [
        (call.kernel, call.node) for call in program.calls
    ]
    assert all(row.seconds > 0 and row.bytes > 0 for row in rows)


def test_timing_calls_does_what_running_does() -> None:
    timed, plain = model(), model()
    images = np.ones((2, 4, 4, 2), np.float32)
    graph = training_step(timed)
    feeds = {"input": images, "labels": [0, 2], "rate": 0.1, "step": 1, "seed": 0}
    native_session(timed).time_calls(graph, feeds, repeats=2)
    for _ in range(3):
        plain.session.run(graph, feeds)
    for name, array in plain.parameters.items():
        np.testing.assert_array_equal(timed.parameters[name], array)


def test_the_peak_is_above_what_any_call_reaches() -> None:
    timed = Model("conv5-32p2 fc3", (16, 16, 32), threads=1)
    session = native_session(timed)
    feeds = {"input": np.ones((16, 16, 16, 32), np.float32)}
    calls = session.time_calls(for_inference(timed.network.graph), feeds)
    (conv,) = (one for one in calls if one.call.kernel == "conv" and one.call.node == "conv1")
    reached = 2 * 16 * 16 * 16 * 32 * 25 * 32 / conv.seconds
    # Other programs may hold the core in either measurement.
    assert reached < 1.5 * session.peak()


def test_what_cannot_be_timed_is_refused() -> None:
    with pytest.raises(UsageError, match="only the native engine is timed"):
        measure(model("reference"), 2)
    with pytest.raises(UsageError, match="batch is 0, at least 1 is needed"):
        explain(model(), 0)
