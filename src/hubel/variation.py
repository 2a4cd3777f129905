"""How the images of a batch differ from those in memory: drawn by augmentation, done by engines.

It stands below both, so that neither knows the other.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hubel.records import dataclass

__all__ = ["FRACTION", "GREY", "Mixture", "Places", "Variation"]

Places: TypeAlias = tuple[NDArray[Any], NDArray[Any]]
"""The row (N, H) and the column (N, W) of its image that each pixel is taken from; -1 is zero."""

FRACTION = 32
"""Bits behind the point of a coordinate: fixed point, so that every engine finds the same one."""

GREY = (0.299, 0.587, 0.114)
"""How much of red, green and blue is in the grey of a colour (ITU-R BT.601)."""


@dataclass(frozen=True, slots=True, eq=False)
class Variation:
    """What is done to each of N images before a network sees it, in this order; None: nothing.

    1. Pixels are moved, by `places` or by `affine`, never both. `affine` (N, 2, 3) holds whole
       numbers: with a·y + b·x + c the row, or the column, of its image that the pixel in row y and
       column x is taken from, times 2^FRACTION. Between four pixels it is interpolated, linearly
       along the upper row, along the lower, then between: each p + (q − p)·w in float32, with w the
       upper 16 bits of the fraction. Beyond the border pixels are zero, or with `reflect`
       those of the image reflected at its outermost ones.
    2. With (own, grey, offset) from `colours` (N, 3) float32, each number p becomes
       own·p + (grey·m + offset), where m is (0.299·red + 0.587·green) + 0.114·blue of an image of
       depth 3 and 0 of others; numbers of bytes stay within 0 and 255.
    3. After preprocessing, the box (top, left, bottom, right) of `boxes` (N, 4) is set to 0: what
       the network takes for the mean, where that was subtracted.
    4. Each image is `mixed` with a second one.
    """

    places: Places | None = None
    affine: NDArray[np.int64] | None = None
    reflect: bool = False
    colours: NDArray[np.float32] | None = None
    boxes: NDArray[np.int32] | None = None
    mixed: Mixture | None = None

    def copy(self) -> Variation:
        """The same in arrays that nobody else can change."""
        places, mixed = self.places, self.mixed
        return Variation(
            None if places is None else (np.array(places[0]), np.array(places[1])),
            None if self.affine is None else np.array(self.affine),
            self.reflect,
            None if self.colours is None else np.array(self.colours),
            None if self.boxes is None else np.array(self.boxes),
            None if mixed is None else mixed.copy(),
        )

    def part(self, which: slice) -> Variation:
        """The same for some of the images.

        >>> Variation(boxes=np.zeros((5, 4), np.int32)).part(slice(1, 3)).boxes.shape
        (2, 4)
        """
        places = self.places
        return Variation(
            None if places is None else (places[0][which], places[1][which]),
            None if self.affine is None else self.affine[which],
            self.reflect,
            None if self.colours is None else self.colours[which],
            None if self.boxes is None else self.boxes[which],
            None if self.mixed is None else self.mixed.part(which),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """A second image for each of N, by `indices` (N,), itself varied first by `variation`.

    Where the box (top, left, bottom, right) of `boxes` (N, 4) is not empty, the pixels in it are
    the second image's and all others the first one's. Else every number is a·s + b·(1 − s) of the
    first one's a and the second one's b with the share s of `shares` (N,) float32, 1 − s, both
    products and the sum rounded to float32 each. In either case `shares` is the first label's.
    """

    indices: NDArray[np.int64]
    shares: NDArray[np.float32]
    boxes: NDArray[np.int32]
    variation: Variation

    def copy(self) -> Mixture:
        """The same in arrays that nobody else can change."""
        return Mixture(
            np.array(self.indices),
            np.array(self.shares),
            np.array(self.boxes),
            self.variation.copy(),
        )

    def part(self, which: slice) -> Mixture:
        """The same for some of the images."""
        return Mixture(
            self.indices[which],
            self.shares[which],
            self.boxes[which],
            self.variation.part(which),
        )
