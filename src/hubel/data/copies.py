"""Images that are there twice, with the very same pixels or nearly: one search for all splits."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hubel.data.alike import near_pairs

__all__ = ["Copies", "Copy", "digest", "find_copies"]


class Copy(NamedTuple):
    """An image, by its row, that another one is a copy of, and whether to the last bit."""

    row: int
    other: int
    exact: bool


@dataclass(frozen=True, slots=True, eq=False)
class Copies:
    """Which of N images are the same: `first` (N,) is the first row with the very same pixels.

    `near` pairs such first rows of pictures that are nearly the same, the closest first.
    """

    first: np.ndarray
    near: tuple[tuple[int, int], ...]

    def where(self, wanted: np.ndarray, among: np.ndarray, values: np.ndarray) -> tuple[Copy, ...]:
        """The rows in `wanted` (N,) with a copy of another value in `among` (N,), and the copy.

        >>> same = Copies(np.array([0, 1, 0]), ())
        >>> same.where(np.array([False, False, True]), np.array([True, True, False]), np.arange(3))
        (Copy(row=2, other=0, exact=True),)
        """
        found = []
        for row, others in self._relatives():
            if not wanted[row]:
                continue
            for other, exact in others:
                if among[other] and values[other] != values[row]:
                    found.append(Copy(row, other, exact))
                    break
        return tuple(found)

    def repeats(self, values: np.ndarray) -> tuple[Copy, ...]:
        """The rows that have a copy of the same value (N,) before them, and the copy."""
        found = []
        for row, others in self._relatives():
            for other, exact in others:
                if other < row and values[other] == values[row]:
                    found.append(Copy(row, other, exact))
                    break
        return tuple(found)

    def _relatives(self) -> Sequence[tuple[int, list[tuple[int, bool]]]]:
        """Every row with copies, in order, and its copies: exact ones first, then by closeness."""
        neighbours: dict[int, list[int]] = defaultdict(list)
        for first, second in self.near:
            neighbours[first].append(second)
            neighbours[second].append(first)
        copied = np.unique(self.first[self.first != np.arange(len(self.first))]).tolist()
        members: dict[int, list[int]] = {row: [] for row in (*copied, *neighbours)}
        for row in np.flatnonzero(np.isin(self.first, list(members))).tolist():
            members[int(self.first[row])].append(row)
        relatives = []
        for number, rows in members.items():
            near = [(other, False) for one in neighbours[number] for other in members[one]]
            exact = [(other, True) for other in rows]
            relatives += [(row, [pair for pair in exact if pair[0] != row] + near) for row in rows]
        return sorted(relatives, key=lambda pair: pair[0])


def digest(image: np.ndarray) -> bytes:
    """What two images (H, W, C) of one size and type have in common if every pixel is the same."""
    pixels = np.ascontiguousarray(image).reshape(-1).view(np.uint8)
    return hashlib.blake2b(pixels.data, digest_size=16).digest()


def find_copies(parts: Sequence[np.ndarray], left_out: np.ndarray) -> Copies:
    """Find the copies among all images of some arrays (N, H, W, C) of one size and type.

    Those `left_out` (N in all,), such as constant images, are near copies of nothing.
    """
    seen: dict[bytes, int] = {}
    first = np.arange(sum(map(len, parts)))
    row = 0
    for part in parts:
        for image in part:
            first[row] = seen.setdefault(digest(image), row)
            row += 1
    different = np.flatnonzero((first == np.arange(len(first))) & ~left_out)
    return Copies(first, tuple(near_pairs(parts, different)))
