"""Fully connected: the image laid flat, (H·W·C,), times a matrix (in, out), plus bias.

y = x·W + b, so dx = dy·Wᵀ and dW = xᵀ·dy. CS231n lecture 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from hubel.graph.op import Emit, Node, Op, Shape

__all__ = ["OPS"]


def _shapes(_: None, x: Shape, weight: Shape, bias: Shape | None = None) -> tuple[Shape, ...]:
    return ((weight[1],),)


def _gradient(node: Node, dy: str, emit: Emit) -> tuple[str, ...]:
    x, weight, *bias = node.inputs
    return (
        *emit("dense_input_grad", (dy, weight), of=(x,)),
        *emit("dense_weight_grad", (x, dy), of=(weight,)),
        *(grad for name in bias for grad in emit("bias_grad", (dy,), of=(name,))),
    )


def _multiply_adds(_: None, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    return prod(inputs[1])


def _weight_multiply_adds(_: None, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    return prod(outputs[0])


OPS = (
    Op("dense", _shapes, _gradient, _multiply_adds),
    Op("dense_input_grad", None, None, _multiply_adds),
    Op("dense_weight_grad", None, None, _weight_multiply_adds, batched=(False,)),
)
