"""Where branches meet: added number by number, or laid behind one another along depth."""

from __future__ import annotations

from hubel.graph.op import Emit, Node, Op, Shape
from hubel.records import dataclass

__all__ = ["OPS", "Concat"]


@dataclass(frozen=True, slots=True)
class Concat:
    """The depth of each branch, in order."""

    depths: tuple[int, ...]


def _add_shapes(_: None, *inputs: Shape) -> tuple[Shape, ...]:
    return (inputs[0],)


def _add_gradient(node: Node, dy: str, emit: Emit) -> tuple[str, ...]:
    return (dy,) * len(node.inputs)


def _concat_shapes(concat: Concat, *inputs: Shape) -> tuple[Shape, ...]:
    return ((*inputs[0][:-1], sum(concat.depths)),)


def _concat_gradient(node: Node, dy: str, emit: Emit) -> tuple[str, ...]:
    return emit("split", (dy,), node.attributes, of=node.inputs)


OPS = (
    Op("add", _add_shapes, _add_gradient),
    Op("concat", _concat_shapes, _concat_gradient),
    Op("split", None),
)
