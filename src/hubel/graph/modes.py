"""A checked network's graph to what training, inference and a step of an optimizer need of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from hubel.graph.differentiate import differentiate, prune
from hubel.graph.op import Graph, Node, Value
from hubel.graph.ops.loss import Penalty
from hubel.graph.verify import verify

__all__ = [
    "decays",
    "for_inference",
    "with_gradients",
    "with_loss",
    "with_updates",
    "without_dropout",
    "without_updates",
]


def for_inference(graph: Graph, outputs: Sequence[str] | None = None) -> Graph:
    """The graph that uses running statistics and drops nothing; `outputs` default to the scores."""
    settled = without_dropout(graph, outputs)
    nodes = tuple(_settled(node) if node.op == "batch_norm" else node for node in settled.nodes)
    return verify(prune(Graph(settled.values, nodes, settled.outputs)))


def without_dropout(graph: Graph, outputs: Sequence[str] | None = None) -> Graph:
    """The graph in which dropout layers pass on what they are given."""
    instead: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        inputs = tuple(instead.get(name, name) for name in node.inputs)
        if node.op == "dropout":
            instead[node.outputs[0]] = inputs[0]
        else:
            nodes.append(replace(node, inputs=inputs))
    wanted = graph.outputs if outputs is None else outputs
    wanted = tuple(instead.get(name, name) for name in wanted)
    return verify(prune(Graph(graph.values, tuple(nodes), wanted)))


def without_updates(graph: Graph) -> Graph:
    """The graph that computes the same and leaves every persistent value as it is."""
    nodes = tuple(replace(node, updates=()) for node in graph.nodes)
    return verify(prune(Graph(graph.values, nodes, graph.outputs)))


def _settled(node: Node) -> Node:
    """Batch normalisation by the statistics that it would update."""
    return Node(
        "batch_norm_apply",
        node.name,
        (*node.inputs, *node.updates),
        node.outputs[:1],
        node.attributes,
    )


def with_loss(graph: Graph, op: str, attributes: Any = None) -> Graph:
    """The graph with a loss behind its scores; outputs "loss", its mean, and "correct", a count.

    What is correct the labels say, also where the loss aims at "targets".
    """
    (scores,) = graph.outputs
    aim = "targets" if op == "target_cross_entropy" else "labels"
    each = ("losses",) if op == "hinge" else ("losses", "probabilities")
    values = {
        **graph.values,
        "labels": Value("labels", (), "label", dtype="label"),
        "losses": Value("losses", (), "activation"),
        "loss": Value("loss", (), "result", batched=False),
        "correct": Value("correct", (), "result", batched=False),
    }
    if aim == "targets":
        values[aim] = Value(aim, (prod(graph[scores].shape),), "target")
    if len(each) > 1:
        values["probabilities"] = Value("probabilities", graph[scores].shape, "activation")
    nodes = (
        *graph.nodes,
        Node(op, "loss", (scores, aim), each, attributes),
        Node("mean_loss", "mean_loss", ("losses",), ("loss",)),
        Node("count_correct", "count_correct", (scores, "labels"), ("correct",)),
    )
    return verify(Graph(values, nodes, ("loss", "correct")))


def with_gradients(graph: Graph, wrt: Sequence[str]) -> Graph:
    """A graph with a loss, and after its outputs the gradient of the loss by each of `wrt`."""
    return differentiate(graph, "losses", wrt)


def with_updates(
    graph: Graph,
    op: str,
    attributes: Callable[[Value], Any],
    slots: Sequence[str],
    penalty: Penalty | None = None,
) -> Graph:
    """One whole training step: loss, gradients of all parameters, and an update of each.

    `attributes(parameter)` are those of the update `op`; each parameter gets the named `slots`,
    arrays of its own shape. With `penalty` the regularisation term is a further output.
    """
    parameters = graph.with_role("parameter")
    graded = with_gradients(graph, [parameter.name for parameter in parameters])
    gradients = graded.outputs[len(graph.outputs) :]
    values = {**graded.values}
    for name in ("rate", "step"):
        values[name] = Value(name, (), "scalar", batched=False)
    nodes = list(graded.nodes)
    outputs = graph.outputs
    if penalty is not None:
        values["penalty"] = Value("penalty", (), "result", batched=False)
        decayed = tuple(parameter.name for parameter in parameters if decays(parameter))
        nodes.append(Node("penalty", "penalty", decayed, ("penalty",), penalty))
        outputs = (*outputs, "penalty")
    for parameter, gradient in zip(parameters, gradients, strict=True):
        kept = tuple(f"{parameter.name}.{slot}" for slot in slots)
        for name in kept:
            values[name] = Value(name, parameter.shape, "slot", batched=False)
        nodes.append(
            Node(
                op,
                f"update({parameter.name})",
                (gradient, "rate", "step"),
                (),
                attributes(parameter),
                updates=(parameter.name, *kept),
            )
        )
    return verify(Graph(values, tuple(nodes), outputs))


def decays(parameter: Value) -> bool:
    """Whether regularisation applies: to the weights of dot products, not to biases and scales."""
    return len(parameter.shape) > 1
