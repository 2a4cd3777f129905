"""Gradients against finite differences, in float64 on the reference engine."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from hubel.engine.reference import ReferenceSession
from hubel.engine.session import Array
from hubel.graph.build import build
from hubel.graph.differentiate import gradient_name, prune
from hubel.graph.modes import with_gradients, with_loss, with_settled
from hubel.graph.op import Graph
from hubel.graph.ops import OPS
from hubel.graph.ops.loss import CrossEntropy
from hubel.notation.parse import parse
from hubel.notation.spec import Branches, Layer, Spec
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

STEP = 2.0**-18  # near the cube root of eps, where truncation and rounding are alike
EPS = float(np.finfo(np.float64).eps)


def differences_agree(
    graph: Graph, wanted: dict[str, str], values: dict[str, Array], fed: dict[str, Any]
) -> None:
    """The gradients of "loss" along random directions, for every name in `wanted`."""
    losses_only = prune(Graph(graph.values, graph.nodes, ("loss",)))
    exact = _run(graph, values, fed)
    for seed, (name, output) in enumerate(wanted.items()):
        gradient = exact[output]

        def loss(moved: Array, name: str = name) -> float:
            numbers = {
                key: array + moved if key == name else array
                for key, array in {**values, **fed}.items()
            }
            return float(_run(losses_only, {key: numbers[key] for key in values}, numbers)["loss"])

        direction, difference, allowed = _smooth_difference(loss, gradient, seed)
        analytic = float((gradient * direction).sum())
        assert abs(analytic - difference) <= allowed, (name, analytic, difference, allowed)


def _smooth_difference(
    loss: Callable[[Array], float], gradient: Array, seed: int
) -> tuple[Array, float, float]:
    """A direction, the derivative of the loss along it, and by how much that may be off.

    A central difference with step h is off by about a third of its distance to the one with 2h, and
    by what rounding does to the loss over h. Where the two are far apart, or second differences do
    not grow with the square of the step, a kink, as of relu, lies between; that says nothing about
    the gradient, and another direction is taken.
    """
    rng = np.random.default_rng(seed)
    for _ in range(20):
        # Short enough to cross few kinks, long enough to stand out of the rounding.
        direction = rng.choice((-1.0, 1.0), gradient.shape) / gradient.size**0.25
        far_back, back, here, there, far_there = (
            loss(places * STEP * direction) for places in (-2, -1, 0, 1, 2)
        )
        small, large = (there - back) / (2 * STEP), (far_there - far_back) / (4 * STEP)
        bend = (far_there + far_back - 2 * here - 4 * (there + back - 2 * here)) / (2 * STEP)
        rounding = 64 * EPS * max(1.0, here) / STEP
        smooth = 1e-7 * np.linalg.norm(gradient) * np.linalg.norm(direction) + rounding
        if max(abs(large - small), abs(bend)) <= smooth:
            return direction, small, abs(large - small) + rounding
    raise AssertionError("the loss has a kink along every direction")


def _run(graph: Graph, values: dict[str, Array], fed: dict[str, Any]) -> dict[str, Array]:
    session = ReferenceSession()
    write_all(session, values)
    return session.run(graph, fed)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_are_differences(case: Case) -> None:
    differences_agree(*gradient_graph(case), start_values(case), feeds(case))


@pytest.mark.parametrize("case", random_cases(11, 40), ids=str)
def test_gradients_of_random_nets_are_differences(case: Case) -> None:
    differences_agree(*gradient_graph(case), start_values(case, 1), feeds(case, 1))


@pytest.mark.parametrize("case", [Case("conv3-4 relu fc", (5, 6, 3), 7), Case("gap", (4, 4, 5), 3)])
@pytest.mark.parametrize("loss", ["hinge", "target_cross_entropy"])
def test_gradients_of_other_losses_are_differences(case: Case, loss: str) -> None:
    differences_agree(*gradient_graph(case, loss), start_values(case), feeds(case))


SETTLED = Case("conv3-4 bn relu fc", (5, 4, 2), 3)


def settled_gradients() -> tuple[Graph, dict[str, str]]:
    """A net whose normalisation is kept as it is, and its gradients in front of that."""
    graph = with_loss(
        with_settled(built(SETTLED).graph, ["bn1"]), "softmax_cross_entropy", CrossEntropy()
    )
    wrt = ("input", "conv1.weight", "conv1.bias", "fc1.weight")
    graded = with_gradients(graph, wrt)
    return graded, dict(zip(wrt, graded.outputs[2:], strict=True))


def test_gradients_go_through_a_normalisation_that_is_kept_as_it_is() -> None:
    graded, wanted = settled_gradients()
    differences_agree(graded, wanted, start_values(SETTLED), feeds(SETTLED))


@cache
def differentiated_operations() -> frozenset[str]:
    graphs = [gradient_graph(case)[0] for case in CASES]
    small = Case("fc", (2, 2, 1), 2)
    graphs += [gradient_graph(small, loss)[0] for loss in ("hinge", "target_cross_entropy")]
    graphs.append(settled_gradients()[0])
    return frozenset(node.op for graph in graphs for node in graph.nodes)


@pytest.mark.parametrize("op", [op.name for op in OPS.values() if op.gradient or op.shapes is None])
def test_every_gradient_rule_is_compared_with_differences(op: str) -> None:
    assert op in differentiated_operations()


# Values that are used more than once.


def identities(join: Any, count: int) -> Spec:
    """A join of nothing but identities, which the notation refuses but a graph may hold."""
    return Spec((Branches(join, ((),) * count), Layer("fc", count=5)))


@pytest.mark.parametrize("join", ["add", "concat"])
@pytest.mark.parametrize("count", [2, 3])
def test_a_value_joined_with_itself(join: str, count: int) -> None:
    made = build(identities(join, count), (2, 3, 4))
    assert not made.problems
    graph = with_loss(made.graph, "softmax_cross_entropy", CrossEntropy())
    wrt = ("input", "fc1.weight", "fc1.bias")
    graded = with_gradients(graph, wrt)
    wanted = dict(zip(wrt, graded.outputs[2:], strict=True))
    rng = np.random.default_rng(0)
    values = {p.name: rng.normal(size=p.shape) for p in made.parameters}
    fed = {"input": rng.normal(size=(3, 2, 3, 4)), "labels": np.array([0, 1, 4])}
    differences_agree(graded, wanted, values, fed)


def test_gradients_of_a_value_used_twice_are_added_from_last_to_first() -> None:
    graph, wanted = gradient_graph(Case("[tanh | relu] fc", (2, 2, 1), 1))
    (total,) = (node for node in graph.nodes if wanted["input"] in node.outputs)
    assert total.op == "add"
    makers = {name: node.op for node in graph.nodes for name in node.outputs}
    made_from = [
        next(n for n in graph.nodes if name in n.outputs).attributes.function
        for name in total.inputs
    ]
    assert made_from == ["relu", "tanh"]
    assert [makers[name] for name in total.inputs] == ["activation_grad"] * 2


def test_three_gradients_are_added_at_once() -> None:
    graph, wanted = gradient_graph(Case("[tanh | relu | ] fc", (2, 2, 1), 1))
    (total,) = (node for node in graph.nodes if wanted["input"] in node.outputs)
    assert (total.op, len(total.inputs)) == ("add", 3)


# What is computed and what is not.


def test_names_shapes_and_roles_of_gradients() -> None:
    graph, wanted = gradient_graph(Case("conv3-4 relu fc", (5, 6, 3), 2))
    assert wanted["conv1.weight"] == gradient_name("conv1.weight") == "grad(conv1.weight)"
    value = graph["grad(conv1.weight)"]
    assert (value.shape, value.batched, value.role) == ((3, 3, 3, 4), False, "gradient")
    assert value.of == "conv1.weight"
    assert graph["grad(input)"].batched


def test_the_input_gradient_is_left_out_where_nobody_wants_it() -> None:
    graph = with_loss(built(Case("conv3-4 relu fc", (5, 6, 3), 2)).graph, "hinge")
    graded = with_gradients(graph, ["conv1.weight"])
    ops = [node.op for node in graded.nodes]
    assert "conv_input_grad" not in ops
    assert "dense_weight_grad" not in ops
    assert "bias_grad" not in ops
    assert ops[-3:] == ["dense_input_grad", "activation_grad", "conv_weight_grad"]
    assert graded.outputs == ("loss", "correct", "grad(conv1.weight)")
    assert "conv_input_grad" in {
        node.op for node in with_gradients(graph, ["conv1.weight", "input"]).nodes
    }


def test_a_layer_behind_a_frozen_one_costs_no_gradient_of_it() -> None:
    graph = with_loss(built(Case("conv3-4 relu fc", (5, 6, 3), 2)).graph, "hinge")
    ops = [node.op for node in with_gradients(graph, ["fc1.bias"]).nodes]
    assert [op for op in ops if op.endswith("_grad")] == ["hinge_grad", "bias_grad"]


def test_pruning_keeps_what_outputs_and_updates_need_in_order() -> None:
    graph = build(parse("conv3-4 bn relu fc2"), (5, 5, 3)).graph
    kept = prune(Graph(graph.values, graph.nodes, ("conv1",)))
    assert [node.op for node in kept.nodes] == ["conv", "batch_norm"]
    assert set(kept.values) == {
        "input",
        "conv1",
        "conv1.weight",
        "conv1.bias",
        "bn1",
        "bn1.weight",
        "bn1.bias",
        "bn1.mean",
        "bn1.inverse_deviation",
        "bn1.running_mean",
        "bn1.running_var",
    }
