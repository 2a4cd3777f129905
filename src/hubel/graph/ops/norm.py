"""Batch normalisation: each channel to zero mean and unit variance, then scaled and shifted.

y = weight·(x − mean)/√(variance + epsilon) + bias, with the batch's own statistics in training and
running ones after it (Ioffe and Szegedy 2015). Running statistics move by `momentum` towards each
batch's mean and unbiased variance, as in PyTorch. Where it uses settled statistics a layer is kept
as it is: the gradient goes through it to its x alone.
"""

from __future__ import annotations

from hubel.graph.op import Emit, Node, Op, Shape
from hubel.records import dataclass

__all__ = ["OPS", "BatchNorm"]


@dataclass(frozen=True, slots=True)
class BatchNorm:
    """What keeps the division finite, and how far running statistics move at each step."""

    epsilon: float = 1e-5
    momentum: float = 0.1


def _shapes(_: BatchNorm, x: Shape, weight: Shape, bias: Shape) -> tuple[Shape, ...]:
    return (x, weight, weight)


def _apply_shapes(_: BatchNorm, x: Shape, *rest: Shape) -> tuple[Shape, ...]:
    return (x,)


def _gradient(node: Node, dy: str, emit: Emit) -> tuple[str, ...]:
    x, weight, _ = node.inputs
    _, mean, inverse = node.outputs
    return emit("batch_norm_grad", (x, dy, weight, mean, inverse), of=node.inputs)


def _apply_gradient(node: Node, dy: str, emit: Emit) -> tuple[str | None, ...]:
    x, weight, _, _, variance = node.inputs
    inputs = (dy, weight, variance)
    made = emit("batch_norm_apply_grad", inputs, node.attributes, of=(x,))
    return (*made, None, None, None, None)


OPS = (
    Op("batch_norm", _shapes, _gradient, batched=(True, False)),
    Op("batch_norm_apply", _apply_shapes, _apply_gradient),
    Op("batch_norm_apply_grad", None),
    Op("batch_norm_grad", None, batched=(True, False)),
)
