"""Pooling: one number out of each window of each map on its own, so depth does not change.

`max_pool` also gives the position of the largest value inside its window, counted row by row; its
gradient goes there and nowhere else. `average_pool` counts padded zeros, as PyTorch does, but not
what lies beyond the padding. CS231n lecture 5.
"""

from __future__ import annotations

from hubel.graph.op import Emit, Node, Op, Shape
from hubel.graph.ops.conv import Window

__all__ = ["OPS"]


def _shapes(window: Window, x: Shape) -> tuple[Shape, ...]:
    return ((*window.output, x[2]),)


def _max_shapes(window: Window, x: Shape) -> tuple[Shape, ...]:
    return _shapes(window, x) * 2


def _max_gradient(node: Node, dy: str, emit: Emit) -> tuple[str, ...]:
    return emit("max_pool_grad", (dy, node.outputs[1]), node.attributes, of=node.inputs)


def _average_gradient(node: Node, dy: str, emit: Emit) -> tuple[str, ...]:
    return emit("average_pool_grad", (dy,), node.attributes, of=node.inputs)


OPS = (
    Op("max_pool", _max_shapes, _max_gradient, batched=(True, True), dtypes=("real", "index")),
    Op("max_pool_grad", None),
    Op("average_pool", _shapes, _average_gradient),
    Op("average_pool_grad", None),
)
