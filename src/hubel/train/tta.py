"""Views of an image whose scores are averaged when it is classified: test-time augmentation."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from hubel.errors import UsageError
from hubel.records import dataclass
from hubel.variation import Places

__all__ = ["TTA", "View", "views_of"]


@dataclass(frozen=True, slots=True)
class View:
    """What is seen of an image, and the `share` that its scores have in the mean.

    The image is moved by so many pixels down and to the right, with its border reflected, then
    mirrored left to right where `flipped`.
    """

    share: float
    flipped: bool = False
    moved: int = 0

    def places(self, count: int, height: int, width: int) -> Places:
        """The row (N, H) and the column (N, W) that each pixel of `count` images is taken from.

        Raises UsageError for images too small to be reflected at their border.

        >>> View(1.0, flipped=True, moved=1).places(1, 3, 3)[1].tolist()
        [[1, 0, 1]]
        """
        if abs(self.moved) >= min(height, width):
            raise UsageError(
                f"images of {height}×{width} cannot be moved by {abs(self.moved)} pixel and "
                "reflected",
                hint="use tta none or flip (--tta flip)",
            )
        rows, columns = self._moved(height), self._moved(width)
        if self.flipped:
            columns = columns[::-1]
        return np.tile(rows, (count, 1)), np.tile(columns, (count, 1))

    def _moved(self, side: int) -> NDArray[np.int32]:
        at = np.arange(side, dtype=np.int32) - np.int32(self.moved)
        return np.asarray(side - 1 - abs(side - 1 - abs(at)), np.int32)


TTA: Mapping[str, tuple[View, ...]] = MappingProxyType(
    {
        "none": (View(1.0),),
        "flip": (View(0.5), View(0.5, flipped=True)),
        "crops": (
            View(0.25),
            View(0.25, flipped=True),
            *(View(0.125, flipped, by) for by in (1, -1) for flipped in (False, True)),
        ),
    }
)
"""The views by name: none but the image itself, its mirror image, and both moved by one pixel along
the diagonal, which count half (Jordan 2024)."""


def views_of(name: str) -> tuple[View, ...]:
    """The views of that name; raises UsageError where there are none."""
    if name not in TTA:
        raise UsageError(f"tta (--tta) is {name!r}, not one of {', '.join(TTA)}")
    return TTA[name]
