"""Normalisation to zero mean and unit variance, then scaled and shifted channel by channel.

y = weight·(x − mean)/√(variance + epsilon) + bias. `batch_norm` takes mean and variance of each
channel over the batch in training and running ones after it (Ioffe and Szegedy 2015). Running
statistics move by `momentum` towards each batch's mean and unbiased variance, as in PyTorch. Where
it uses settled statistics a layer is kept as it is: the gradient goes through it to its x alone.
`group_norm` takes them over height, width and one group of channels of each image on its own, alike
in training and after it (Wu and He 2018); with a single group it is layer normalisation (Ba 2016),
as ConvNets use it.
"""

from __future__ import annotations

from hubel.graph.op import Emit, Node, Op, Shape
from hubel.records import dataclass

__all__ = ["OPS", "BatchNorm", "GroupNorm"]


@dataclass(frozen=True, slots=True)
class BatchNorm:
    """What keeps the division finite, and how far running statistics move at each step."""

    epsilon: float = 1e-5
    momentum: float = 0.1


@dataclass(frozen=True, slots=True)
class GroupNorm:
    """Into how many groups the channels fall, and what keeps the division finite."""

    groups: int
    epsilon: float = 1e-5


def _shapes(_: BatchNorm, x: Shape, weight: Shape, bias: Shape) -> tuple[Shape, ...]:
    return (x, weight, weight)


def _apply_shapes(_: BatchNorm, x: Shape, *rest: Shape) -> tuple[Shape, ...]:
    return (x,)


def _group_shapes(norm: GroupNorm, x: Shape, *rest: Shape) -> tuple[Shape, ...]:
    return (x, (norm.groups,), (norm.groups,))


def _gradient(node: Node, dy: str, emit: Emit) -> tuple[str, ...]:
    x, weight, _ = node.inputs
    _, mean, inverse = node.outputs
    inputs = (x, dy, weight, mean, inverse)
    attributes = node.attributes if node.op == "group_norm" else None
    return emit(f"{node.op}_grad", inputs, attributes, of=node.inputs)


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
    Op("group_norm", _group_shapes, _gradient),
    Op("group_norm_grad", None, batched=(True, False)),
)
