"""Training images varied at random, each as a pure function of (seed, epoch, its index)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import as_strided

from hubel.data import counter
from hubel.errors import UsageError

__all__ = ["crop", "flip"]

# Told apart so that the coin of `flip` and the place of `crop` have nothing to do with each other.
_FLIP, _ROW, _COLUMN = 1, 2, 3


def flip(images: np.ndarray, seed: int, epoch: int, indices: np.ndarray) -> np.ndarray:
    """Mirror each image (N, H, W, C) left to right with probability one half."""
    chosen = (counter.draw(seed, epoch, indices, _FLIP) & np.uint64(1)).astype(bool)
    mirrored = images.copy()
    mirrored[chosen] = images[chosen, :, ::-1]
    return mirrored


def crop(
    images: np.ndarray,
    seed: int,
    epoch: int,
    indices: np.ndarray,
    padding: int = 4,
    border: Literal["zero", "reflect"] = "zero",
) -> np.ndarray:
    """Pad each image (N, H, W, C) on all sides and cut its own size out at a random place.

    The border is zero (as in He et al., "Deep Residual Learning", 2015, section 4.2) or the image
    reflected at its edge, which needs images larger than the padding.
    """
    count, height, width, depth = images.shape
    if border == "reflect" and padding >= min(height, width):
        raise UsageError(
            f"images of {height}×{width} cannot be reflected by {padding} pixels", where="crop"
        )
    amounts = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    if border == "reflect":
        padded = np.pad(images, amounts, mode="reflect")
    else:
        padded = np.zeros((count, height + 2 * padding, width + 2 * padding, depth), images.dtype)
        padded[:, padding : padding + height, padding : padding + width] = images
    places = np.uint64(2 * padding + 1)
    rows = (counter.draw(seed, epoch, indices, _ROW) % places).astype(np.intp)
    columns = (counter.draw(seed, epoch, indices, _COLUMN) % places).astype(np.intp)
    by_image, by_row, by_column, by_value = padded.strides
    windows = as_strided(
        padded,
        (count, 2 * padding + 1, 2 * padding + 1, height, width * depth),
        (by_image, by_row, by_column, by_row, by_value),
        writeable=False,
    )
    return windows[np.arange(count), rows, columns].reshape(images.shape)
