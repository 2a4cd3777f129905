"""Forward graph to graph with gradients: the chain rule, walked backwards once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from hubel.graph.op import Graph, Node, Value
from hubel.graph.ops import OPS
from hubel.graph.verify import verify

__all__ = ["differentiate", "gradient_name", "prune"]


def gradient_name(name: str) -> str:
    """The name of the value that holds the gradient of another.

    >>> gradient_name("conv1.weight")
    'grad(conv1.weight)'
    """
    return f"grad({name})"


def differentiate(graph: Graph, loss: str, wrt: Sequence[str]) -> Graph:
    """The graph with nodes appended that compute the gradient of `loss` by each value in `wrt`.

    Where a value is used more than once its gradients are added, in the order of use from last to
    first. Nodes that no wanted gradient needs are left out. The outputs are those of `graph`
    followed by the gradients in the order of `wrt`.
    """
    sensitive = _depend_on(graph, wrt)
    values = dict(graph.values)
    nodes = list(graph.nodes)
    arrived: dict[str, list[str]] = {}

    def emit(op: str, inputs: Sequence[str], attributes: Any = None, *, of: Sequence[str]) -> Any:
        names = []
        for name in of:
            names.append(_place(values, name))
            value = Value(names[-1], graph[name].shape, "gradient", graph[name].batched, of=name)
            values[value.name] = value
        nodes.append(Node(op, names[0], tuple(inputs), tuple(names), attributes))
        return tuple(names)

    def total(name: str) -> str:
        parts = arrived[name]
        if len(parts) > 1:
            arrived[name] = list(emit("add", parts, of=(name,)))
        return arrived[name][0]

    for node in reversed(graph.nodes):
        rule = OPS[node.op].gradient
        reached = any(name in arrived for name in node.outputs) or loss in node.outputs
        if rule is None or not reached or not sensitive.intersection(node.outputs):
            continue
        dy = total(node.outputs[0]) if node.outputs[0] in arrived else loss
        for name, gradient in zip(node.inputs, rule(node, dy, emit), strict=True):
            if gradient is not None and name in sensitive:
                arrived.setdefault(name, []).append(gradient)
    gradients = tuple(total(name) for name in wrt)
    return verify(prune(Graph(values, tuple(nodes), (*graph.outputs, *gradients))))


def prune(graph: Graph) -> Graph:
    """The graph without nodes and values that neither its outputs nor a kept update needs."""
    wanted = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if node.updates or wanted.intersection(node.outputs):
            kept.append(node)
            wanted.update(node.inputs, node.outputs, node.updates)
    values = {name: value for name, value in graph.values.items() if name in wanted}
    return Graph(values, tuple(reversed(kept)), graph.outputs)


def _depend_on(graph: Graph, names: Collection[str]) -> set[str]:
    found = set(names)
    for node in graph.nodes:
        if found.intersection(node.inputs):
            found.update(node.outputs)
    return found


def _place(values: dict[str, Value], name: str) -> str:
    made = candidate = gradient_name(name)
    count = 1
    while candidate in values:
        count += 1
        candidate = f"{made}#{count}"
    return candidate
