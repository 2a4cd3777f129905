"""The losses by name: their operation in a graph, and their value on scores in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hubel.graph.ops.loss import CrossEntropy
from hubel.records import dataclass

if TYPE_CHECKING:
    from hubel.train.settings import Settings

__all__ = ["LOSSES", "Loss", "softmax"]

Scores: TypeAlias = NDArray[np.floating[Any]]
Labels: TypeAlias = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Loss:
    """One row of the table of losses: `values(scores, labels)` are those of each image, float64.

    `target_op` is its operation where a share of each class is aimed at, if it has such a form.
    """

    op: str
    target_op: str | None
    attributes: Callable[[Settings], Any]
    values: Callable[[Scores, Labels], NDArray[np.float64]]


def softmax(scores: Scores) -> NDArray[np.float64]:
    """Scores (N, classes) to probabilities in float64; each row adds up to 1."""
    powers = np.exp(_shifted(scores))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _shifted(scores: Scores) -> NDArray[np.float64]:
    exact = scores.astype(np.float64)
    # Infinite scores have no loss: what comes out is NaN, which the caller looks for.
    with np.errstate(invalid="ignore"):
        return np.asarray(exact - exact.max(axis=1, keepdims=True))


def _cross_entropy(scores: Scores, labels: Labels) -> NDArray[np.float64]:
    shifted = _shifted(scores)
    right = np.take_along_axis(shifted, labels[:, None], axis=1)[:, 0]
    return np.asarray(np.log(np.exp(shifted).sum(axis=1)) - right)


def _hinge(scores: Scores, labels: Labels) -> NDArray[np.float64]:
    exact = scores.astype(np.float64)
    with np.errstate(invalid="ignore"):
        margins = np.maximum(exact - np.take_along_axis(exact, labels[:, None], axis=1) + 1.0, 0.0)
    # The right class has a margin of exactly 1 to itself, which is not part of the sum.
    return np.asarray(margins.sum(axis=1) - 1.0)


LOSSES: Mapping[str, Loss] = MappingProxyType(
    {
        "cross-entropy": Loss(
            "softmax_cross_entropy",
            "target_cross_entropy",
            lambda chosen: CrossEntropy(chosen.label_smoothing),
            _cross_entropy,
        ),
        "hinge": Loss("hinge", None, lambda _: None, _hinge),
    }
)
