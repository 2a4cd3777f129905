"""Losses: how wrong the scores of one image are, averaged over the batch.

Softmax cross-entropy, −Σ q·log softmax(scores) with q the label smoothed by `smoothing`, or with q
a target that is fed, whose classes need not add up to 1 (it then weighs the image too); and the
multi-class hinge loss Σ max(0, s_j − s_y + 1) over the wrong classes j (CS231n lecture 3).
`mean_loss` averages over the batch and `count_correct` counts the images whose largest score is
their label's; `penalty` is the regularisation term ½·l2·Σw² + l1·Σ|w| of the lecture's f = Wx + R.
"""

from __future__ import annotations

from hubel.graph.op import Emit, Node, Op, Shape
from hubel.records import dataclass

__all__ = ["OPS", "CrossEntropy", "Penalty"]


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """The share of each label that is spread evenly over all classes (Szegedy 2016)."""

    smoothing: float = 0.0


@dataclass(frozen=True, slots=True)
class Penalty:
    """The factors of the squared and of the absolute weights."""

    l2: float
    l1: float


def _cross_entropy_shapes(_: CrossEntropy, scores: Shape, labels: Shape) -> tuple[Shape, ...]:
    return ((), scores)


def _cross_entropy_gradient(node: Node, dy: str, emit: Emit) -> tuple[str | None, ...]:
    scores, labels = node.inputs
    inputs = (node.outputs[1], labels)
    return (*emit("softmax_cross_entropy_grad", inputs, node.attributes, of=(scores,)), None)


def _target_gradient(node: Node, dy: str, emit: Emit) -> tuple[str | None, ...]:
    scores, targets = node.inputs
    inputs = (node.outputs[1], targets)
    return (*emit("target_cross_entropy_grad", inputs, of=(scores,)), None)


def _hinge_gradient(node: Node, dy: str, emit: Emit) -> tuple[str | None, ...]:
    return (*emit("hinge_grad", node.inputs, of=(node.inputs[0],)), None)


def _scalar(_: object, *inputs: Shape) -> tuple[Shape, ...]:
    return ((),)


OPS = (
    Op("softmax_cross_entropy", _cross_entropy_shapes, _cross_entropy_gradient),
    Op("softmax_cross_entropy_grad", None),
    Op("target_cross_entropy", _cross_entropy_shapes, _target_gradient),
    Op("target_cross_entropy_grad", None),
    Op("hinge", _scalar, _hinge_gradient),
    Op("hinge_grad", None),
    Op("mean_loss", _scalar, batched=(False,)),
    Op("count_correct", _scalar, batched=(False,)),
    Op("penalty", _scalar, batched=(False,)),
)
