"""Training images varied at random, each as a pure function of (seed, epoch, its index).

What is varied is the place that a pixel is taken from; whoever assembles a batch moves the pixels.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hubel.data import counter
from hubel.errors import UsageError

__all__ = ["Places", "crop", "flip", "straight"]

Places: TypeAlias = tuple[NDArray[np.int32], NDArray[np.int32]]
"""The row (N, H) and the column (N, W) of its image that each pixel is taken from; -1 is zero."""

# Told apart so that the coin of `flip` and the place of `crop` have nothing to do with each other.
_FLIP, _ROW, _COLUMN = 1, 2, 3


def straight(count: int, height: int, width: int) -> Places:
    """The places of images that nothing was done to.

    >>> rows, columns = straight(2, 2, 3)
    >>> columns.tolist()
    [[0, 1, 2], [0, 1, 2]]
    """
    rows, columns = np.arange(height, dtype=np.int32), np.arange(width, dtype=np.int32)
    return np.tile(rows, (count, 1)), np.tile(columns, (count, 1))


def flip(places: Places, seed: int, epoch: int, indices: np.ndarray) -> Places:
    """Mirror each image left to right with probability one half."""
    rows, columns = places
    chosen = (counter.draw(seed, epoch, indices, _FLIP) & np.uint64(1)).astype(bool)
    return rows, np.where(chosen[:, None], columns[:, ::-1], columns)


def crop(
    places: Places,
    seed: int,
    epoch: int,
    indices: np.ndarray,
    padding: int = 4,
    border: Literal["zero", "reflect"] = "zero",
) -> Places:
    """Pad each image on all sides and cut its own size out at a random place.

    The border is zero (as in He et al., "Deep Residual Learning", 2015, section 4.2) or the image
    reflected at its edge, which needs images larger than the padding.
    """
    rows, columns = places
    height, width = rows.shape[1], columns.shape[1]
    if border == "reflect" and padding >= min(height, width):
        raise UsageError(
            f"images of {height}×{width} cannot be reflected by {padding} pixels", where="crop"
        )
    choices = np.uint64(2 * padding + 1)
    down, right = (
        (counter.draw(seed, epoch, indices, which) % choices).astype(np.int32) - padding
        for which in (_ROW, _COLUMN)
    )
    return _shifted(rows, down, border), _shifted(columns, right, border)


def _shifted(places: NDArray[np.int32], by: NDArray[np.int32], border: str) -> NDArray[np.int32]:
    last = places.shape[1] - 1
    at = np.arange(last + 1, dtype=np.int32) + by[:, None]
    if border == "reflect":
        at = last - abs(last - abs(at))
    found = np.take_along_axis(places, at.clip(0, last), axis=1)
    return np.where((at >= 0) & (at <= last), found, np.int32(-1))
