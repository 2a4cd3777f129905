"""The reference engine's session: what it keeps, what it changes, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from hubel.engine import Session, start
from hubel.errors import DataError, UsageError
from hubel.graph.modes import Update, for_inference, with_loss, with_updates
from hubel.graph.op import Graph, Node, Value
from hubel.graph.ops.loss import CrossEntropy, Penalty
from hubel.graph.ops.pointwise import Activation
from hubel.graph.ops.update import Sgd
from tests.engine.cases import Case, built, feeds, start_values, write_all

CASE = Case("conv3-4 bn relu drop0.5 fc", (5, 6, 3), 4)


def training_step() -> Graph:
    lossy = with_loss(built(CASE).graph, "softmax_cross_entropy", CrossEntropy())
    update = Update("sgd", Sgd(momentum=0.9), ("velocity",))
    return with_updates(lossy, lambda _: update, Penalty(0.1, 0.0))


def ready() -> Session:
    session = start("reference")
    write_all(session, start_values(CASE))
    return session


def test_a_training_step_changes_what_it_should() -> None:
    session, before = ready(), start_values(CASE)
    out = session.run(training_step(), feeds(CASE))
    assert set(out) == {"loss", "correct", "penalty", "gradient_norm"}
    for name, array in before.items():
        assert not np.array_equal(session.read(name), array), name
    weight, velocity = session.read("fc1.weight"), session.read("fc1.weight.velocity")
    np.testing.assert_allclose(weight, before["fc1.weight"] - 0.125 * velocity, rtol=1e-13)


def test_training_lowers_the_loss_and_the_same_start_gives_the_same_bits() -> None:
    sessions, losses = (ready(), ready()), []
    for step in range(1, 31):
        fed = {**feeds(CASE), "step": step}
        first, second = (float(one.run(training_step(), fed)["loss"]) for one in sessions)
        assert first == second
        losses.append(first)
    assert sum(losses[-5:]) < sum(losses[:5]) / 2


def test_inference_drops_nothing_and_changes_nothing() -> None:
    session = ready()
    graph = for_inference(built(CASE).graph)
    x = feeds(CASE)["input"]
    whole = session.run(graph, {"input": x})["fc1"]
    alone = session.run(graph, {"input": x[2:3]})["fc1"]
    np.testing.assert_allclose(alone, whole[2:3], atol=1e-14)
    for name, array in start_values(CASE).items():
        assert np.array_equal(session.read(name), array)


def test_reading_and_writing_copy() -> None:
    session = start("reference")
    array = np.ones(2)
    session.write("w", array)
    array[0] = 5
    session.read("w")[1] = 6
    assert session.read("w").tolist() == [1, 1]
    graph = Graph({"w": Value("w", (2,), "parameter", batched=False)}, (), ("w",))
    session.run(graph, {})["w"][:] = 7
    assert session.read("w").tolist() == [1, 1]


def test_divergence_gives_nan_not_a_warning() -> None:
    session = ready()
    session.write("fc1.weight", start_values(CASE)["fc1.weight"] * 1e308)
    session.write("conv1.weight", start_values(CASE)["conv1.weight"] * 1e308)
    assert math.isnan(session.run(training_step(), feeds(CASE))["loss"])


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        (
            {"input": None},
            UsageError,
            "the graph reads 'input', which was not fed. "
            "Hint: feed 'input' with shape (N, 5, 6, 3).",
        ),
        (
            {"labels": None},
            UsageError,
            "the graph reads 'labels', which was not fed. Hint: feed 'labels' with shape (N,).",
        ),
        (
            {"rate": None},
            UsageError,
            "the graph reads 'rate', which was not fed. Hint: feed 'rate' with shape ().",
        ),
        (
            {"input": np.zeros((4, 6, 5, 3))},
            UsageError,
            "'input' has shape (4, 6, 5, 3), but must be (N, 5, 6, 3)",
        ),
        ({"input": np.zeros((0, 5, 6, 3))}, UsageError, "'input' holds no image. Hint: feed"),
        (
            {"input": np.full((4, 5, 6, 3), "a")},
            UsageError,
            "'input' must hold numbers, not <U1",
        ),
        ({"labels": 3}, UsageError, "'labels' has shape (), but must be (N,)"),
        (
            {"labels": np.zeros(3, int)},
            UsageError,
            "'labels' has 3 entries, but 'input' has 4. Hint: feed one entry an image.",
        ),
        ({"labels": np.zeros(4)}, UsageError, "'labels' must hold whole numbers, not float64"),
        (
            {"labels": np.array([0, 4, 5, -1])},
            DataError,
            "labels: the label 5 of image 2 (from 0) is no class. "
            "Hint: labels of 5 classes are 0 to 4.",
        ),
        ({"labels": np.array([0, -1, 5, 1])}, DataError, "the label -1 of image 1 (from 0)"),
        ({"rate": np.ones(2)}, UsageError, "'rate' has shape (2,), but must be ()"),
        ({"rate": True}, UsageError, "'rate' must hold numbers, not bool"),
        ({"step": 1.5}, UsageError, "'step' must hold whole numbers, not float64"),
        ({"seed": "seven"}, UsageError, "'seed' must hold whole numbers, not <U5"),
    ],
)
def test_feeds_that_cannot_be_run_are_refused_before_anything_changes(
    changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    session = ready()
    fed = {name: value for name, value in {**feeds(CASE), **changed}.items() if value is not None}
    with pytest.raises(error) as caught:
        session.run(training_step(), fed)
    assert message in str(caught.value)
    for name, array in start_values(CASE).items():
        assert np.array_equal(session.read(name), array)


def test_values_that_were_never_written_or_do_not_fit_are_named() -> None:
    session = start("reference")
    with pytest.raises(UsageError, match=r"keeps no 'fc1.bias'. Hint: it keeps nothing yet."):
        session.read("fc1.bias")
    with pytest.raises(
        UsageError, match=r"the parameter 'conv1.weight' was never written. Hint: write an array"
    ):
        session.run(training_step(), feeds(CASE))
    write_all(session, start_values(CASE))
    session.write("fc1.bias", np.zeros(3))
    with pytest.raises(
        UsageError, match=r"parameter 'fc1.bias' has shape \(3,\), but the graph needs \(5,\)"
    ):
        session.run(training_step(), feeds(CASE))
    with pytest.raises(UsageError, match=r"keeps no 'fc9.bias'. Hint: it keeps conv1.weight, "):
        session.read("fc9.bias")


def test_an_engine_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no engine 'gpu'. Hint: use one of native, ref"):
        start("gpu")


def test_nodes_run_in_order_on_values_of_their_own_batch() -> None:
    values = {
        "input": Value("input", (2,), "input"),
        "a": Value("a", (2,), "activation"),
        "b": Value("b", (2,), "activation"),
    }
    nodes = (
        Node("add", "a", ("input", "input"), ("a",)),
        Node("activation", "b", ("a",), ("b",), Activation("relu")),
    )
    out = start("reference").run(Graph(values, nodes, ("b",)), {"input": np.array([[1, -1]])})
    assert out["b"].tolist() == [[2, 0]]
