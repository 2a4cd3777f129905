"""Losses, their gradients, the count of correct images and the regularisation term."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from hubel.engine.reference.call import Call, Rule
from hubel.engine.session import Array

__all__ = ["RULES"]


def _scores(array: Array) -> Array:
    return array.reshape(len(array), -1)


def _smoothed(labels: Array, classes: int, smoothing: float) -> Array:
    right = np.arange(classes) == labels[:, None]
    target: Array = np.where(right, 1 - smoothing, 0.0) + smoothing / classes
    return target


def _softmax_cross_entropy(call: Call) -> tuple[Array, ...]:
    scores, labels = _scores(call.inputs[0]), call.inputs[1]
    # Softmax does not change when a number is taken off all scores; without the largest none can
    # overflow.
    shifted = scores - scores.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    target = _smoothed(labels, scores.shape[1], call.attributes.smoothing)
    # Where nothing is asked of a class its infinite logarithm must not turn 0·(−inf) into NaN.
    losses = -np.where(target > 0, target * logs, 0.0).sum(1)
    return losses, np.exp(logs).reshape(call.shapes[1])


def _softmax_cross_entropy_grad(call: Call) -> tuple[Array, ...]:
    probabilities, labels = _scores(call.inputs[0]), call.inputs[1]
    target = _smoothed(labels, probabilities.shape[1], call.attributes.smoothing)
    return (((probabilities - target) / len(labels)).reshape(call.shapes[0]),)


def _target_cross_entropy(call: Call) -> tuple[Array, ...]:
    scores, targets = _scores(call.inputs[0]), call.inputs[1]
    shifted = scores - scores.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    losses = -np.where(targets != 0, targets * logs, 0.0).sum(1)
    return losses, np.exp(logs).reshape(call.shapes[1])


def _target_cross_entropy_grad(call: Call) -> tuple[Array, ...]:
    probabilities, targets = _scores(call.inputs[0]), call.inputs[1]
    slopes = targets.sum(1, keepdims=True) * probabilities - targets
    return ((slopes / len(targets)).reshape(call.shapes[0]),)


def _margins(scores: Array, labels: Array) -> Array:
    """s_j − s_y + 1 for the wrong classes j, and 0 for the right one."""
    margins: Array = scores - np.take_along_axis(scores, labels[:, None], 1) + 1
    margins[np.arange(len(labels)), labels] = 0
    return margins


def _hinge(call: Call) -> tuple[Array, ...]:
    return (np.maximum(_margins(_scores(call.inputs[0]), call.inputs[1]), 0).sum(1),)


def _hinge_grad(call: Call) -> tuple[Array, ...]:
    scores, labels = _scores(call.inputs[0]), call.inputs[1]
    slopes = np.where(_margins(scores, labels) > 0, 1.0, 0.0)
    slopes[np.arange(len(labels)), labels] = -slopes.sum(1)
    return ((slopes / len(labels)).reshape(call.shapes[0]),)


def _mean_loss(call: Call) -> tuple[Array, ...]:
    return (call.inputs[0].mean(),)


def _count_correct(call: Call) -> tuple[Array, ...]:
    scores, labels = _scores(call.inputs[0]), call.inputs[1]
    # argmax takes NaN for the largest; scores that hold one have no largest and count as wrong.
    right = (scores.argmax(1) == labels) & ~np.isnan(scores).any(1)
    return (right.sum().astype(np.float64),)


def _penalty(call: Call) -> tuple[Array, ...]:
    l2, l1 = call.attributes.l2, call.attributes.l1
    terms = (l2 / 2 * (w * w).sum() + l1 * np.abs(w).sum() for w in call.inputs)
    return (np.asarray(sum(terms, 0.0)),)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "softmax_cross_entropy": _softmax_cross_entropy,
        "softmax_cross_entropy_grad": _softmax_cross_entropy_grad,
        "target_cross_entropy": _target_cross_entropy,
        "target_cross_entropy_grad": _target_cross_entropy_grad,
        "hinge": _hinge,
        "hinge_grad": _hinge_grad,
        "mean_loss": _mean_loss,
        "count_correct": _count_correct,
        "penalty": _penalty,
    }
)
