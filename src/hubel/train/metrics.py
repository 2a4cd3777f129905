"""How good a classifier is: accuracy with its uncertainty, the loss, and what is taken for what."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hubel.train.losses import LOSSES, Labels, Scores

__all__ = ["Evaluation", "measure", "wilson"]

# The 97.5 % point of the normal distribution, for an interval that holds in 95 of 100 cases.
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The scores of `count` images: mean loss, and how often each class was taken for each.

    `confusion[i][j]` counts the images of class i that were taken for class j.
    """

    count: int
    correct: int
    loss: float
    confusion: tuple[tuple[int, ...], ...] = field(repr=False)

    @property
    def accuracy(self) -> float:
        """The share of images whose class was found."""
        return self.correct / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """Where the accuracy on all images of this kind lies, with 95 % confidence."""
        return wilson(self.correct, self.count)

    @property
    def baseline(self) -> float:
        """The accuracy of always naming the class that most of these images have."""
        return max(map(sum, self.confusion)) / self.count

    @property
    def per_class(self) -> tuple[float | None, ...]:
        """The accuracy on the images of each class; None where there are none."""
        return tuple(
            row[place] / sum(row) if any(row) else None for place, row in enumerate(self.confusion)
        )

    def without(self, part: Evaluation) -> Evaluation:
        """The scores of all images but those of a `part`, of which there must be fewer.

        >>> whole = Evaluation(3, 2, 0.5, confusion=((2, 0), (1, 0)))
        >>> part = Evaluation(1, 0, 0.9, confusion=((0, 0), (1, 0)))
        >>> whole.without(part).accuracy, whole.without(part).confusion
        (1.0, ((2, 0), (0, 0)))
        """
        count = self.count - part.count
        loss = (self.loss * self.count - part.loss * part.count) / count
        rows = tuple(
            tuple(number - less for number, less in zip(row, other, strict=True))
            for row, other in zip(self.confusion, part.confusion, strict=True)
        )
        return Evaluation(count, self.correct - part.correct, loss, rows)

    def as_dict(self) -> dict[str, Any]:
        """All of it as what JSON can hold."""
        return {
            "images": self.count,
            "correct": self.correct,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "baseline": self.baseline,
            "loss": self.loss,
        }


def wilson(correct: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share, after Wilson (1927), which stays within 0 to 1 for any count.

    >>> low, high = wilson(8, 10)
    >>> round(low, 3), round(high, 3)
    (0.49, 0.943)
    """
    share, square = correct / count, _Z * _Z
    centre = share + square / (2 * count)
    spread = _Z * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    scale = 1 + square / count
    # At the ends the exact bounds are 0 and 1; rounding would leave them a last bit off.
    low = 0.0 if correct == 0 else (centre - spread) / scale
    high = 1.0 if correct == count else (centre + spread) / scale
    return low, high


def measure(
    batches: Iterable[tuple[Scores, Labels]], classes: int, loss: str = "cross-entropy"
) -> Evaluation:
    """Evaluate batches of scores (B, classes) and labels (B,); of equal scores the first counts.

    Losses are added in float64, in order.
    """
    confusion = np.zeros((classes, classes), np.int64)
    total = 0.0
    for scores, labels in batches:
        total += float(LOSSES[loss].values(scores, labels).sum())
        np.add.at(confusion, (labels, scores.argmax(axis=1)), 1)
    count = int(confusion.sum())
    rows = tuple(tuple(int(number) for number in row) for row in confusion)
    return Evaluation(count, int(np.trace(confusion)), total / count, rows)
