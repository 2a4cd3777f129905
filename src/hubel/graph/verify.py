"""The one check of a graph, run after everything that makes one."""

from __future__ import annotations

from hubel.graph.op import Graph, Node
from hubel.graph.ops import OPS

__all__ = ["GraphError", "verify"]


class GraphError(AssertionError):
    """A graph that does not hold together: a mistake in Hubel, not in the network it was given."""


def verify(graph: Graph) -> Graph:
    """The graph itself, which can run and means what its operations say.

    Every name that is used is fed, persistent or made by an earlier node, and made once; values are
    shaped as the operation's rule says, gradients as what they belong to; only persistent values
    are updated; the outputs exist. Raises GraphError, which shows the node.
    """
    for name, value in graph.values.items():
        if name != value.name:
            raise GraphError(f"the value {value.name!r} is filed under {name!r}")
    ready = {value.name for value in graph.values.values() if value.fed or value.persistent}
    given = frozenset(ready)
    for node in graph.nodes:
        _check_names(graph, node, ready, given)
        _check_outputs(graph, node)
        ready.update(node.outputs)
    for name in graph.outputs:
        if name not in ready:
            raise GraphError(f"the output {name!r} is made by no node")
    return graph


def _check_names(graph: Graph, node: Node, ready: set[str], given: frozenset[str]) -> None:
    if node.op not in OPS:
        raise _wrong(node, f"there is no operation {node.op!r}")
    for name in (*node.inputs, *node.updates):
        if name not in graph.values:
            raise _wrong(node, f"{name!r} is no value of the graph")
        if name not in ready:
            raise _wrong(node, f"{name!r} is read before it is made")
    for place, name in enumerate(node.outputs):
        if name not in graph.values:
            raise _wrong(node, f"{name!r} is no value of the graph")
        if name in given:
            raise _wrong(node, f"{name!r} is {graph[name].role} and cannot be made")
        if name in ready or name in node.outputs[:place]:
            raise _wrong(node, f"{name!r} is made twice")
    for name in node.updates:
        if not graph[name].persistent:
            raise _wrong(node, f"{name!r} is updated but does not outlive a step")


def _check_outputs(graph: Graph, node: Node) -> None:
    op = OPS[node.op]
    outputs = [graph[name] for name in node.outputs]
    for place, value in enumerate(outputs):
        batched, dtype = op.output(place)
        if value.batched != batched:
            raise _wrong(node, f"{value.name!r} has batched={value.batched}")
        if value.dtype != dtype:
            raise _wrong(node, f"{value.name!r} has dtype {value.dtype!r}")
        if (value.role == "gradient") != bool(value.of):
            raise _wrong(node, f"{value.name!r} is {value.role} of {value.of!r}")
        if value.of and value.shape != graph[value.of].shape:
            raise _wrong(
                node,
                f"{value.name!r} is {value.shape}, but {value.of!r} is {graph[value.of].shape}",
            )
    if op.shapes is None:
        for value in outputs:
            if not value.of:
                raise _wrong(node, f"{value.name!r} is the gradient of nothing")
        return
    ruled = op.shapes(node.attributes, *(graph[name].shape for name in node.inputs))
    made = tuple(value.shape for value in outputs)
    if made != ruled:
        raise _wrong(node, f"its outputs are {made}, but its rule gives {ruled}")


def _wrong(node: Node, what: str) -> GraphError:
    return GraphError(f"{what}, in {node}")
