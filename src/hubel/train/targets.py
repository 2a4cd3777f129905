"""What a loss aims at where a class number does not say it: labels mixed, smoothed and weighted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hubel.errors import DataError
from hubel.train.losses import Labels
from hubel.variation import Mixture

__all__ = ["balanced", "targets"]


def balanced(labels: Labels, classes: int) -> NDArray[np.float64]:
    """The weight n/(classes·n_c) of each class, by which all classes weigh the same in total.

    This is what scikit-learn calls "balanced" (King and Zeng, 2001). Raises DataError for a class
    without an image.

    >>> balanced(np.array([0, 0, 0, 1]), 2).round(3).tolist()
    [0.667, 2.0]
    """
    counts = np.bincount(labels, minlength=classes)
    missing = np.flatnonzero(counts == 0).tolist()
    if missing:
        which = ", ".join(map(str, missing))
        raise DataError(
            f"{len(missing)} of {classes} classes have no training image and so no weight: "
            f"{which} (from 0)",
            where="class weights",
            hint="give each class an image, leave the class out, or train without class weights",
        )
    return np.asarray(len(labels) / (classes * counts))


def targets(
    labels: Labels,
    all_labels: Labels,
    classes: int,
    mixed: Mixture | None = None,
    smoothing: float = 0.0,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """The share (B, classes) of each class that the loss of each image of a batch aims at.

    The labels of two images that were `mixed` have the share of each; `all_labels` are those that
    the second images are chosen from. They are smoothed then. With `weights` each class's share is
    multiplied by its weight, and divided by the mean weight of the batch's labels, so that the mean
    of the losses is the weighted mean: what PyTorch's `cross_entropy` gives for the same weights.

    >>> targets(np.array([1]), np.array([1]), 4, smoothing=0.2).round(3).tolist()
    [[0.05, 0.85, 0.05, 0.05]]
    """
    rows = np.arange(len(labels))
    made = np.zeros((len(labels), classes))
    made[rows, labels] = 1.0
    if mixed is not None:
        shares = mixed.shares.astype(np.float64)
        made[rows, labels] = shares
        made[rows, all_labels[mixed.indices]] += 1.0 - shares
    mean = 1.0 if weights is None else float((made * weights).sum(axis=1).mean())
    made = (1.0 - smoothing) * made + smoothing / classes
    return np.asarray(made if weights is None else made * (weights / mean), np.float32)
