"""Images that are there twice: copies that leak from training into testing, or change class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from hubel.data.dataset import printable

__all__ = ["about_copies"]


def about_copies(
    copies: Iterable[tuple[int, int]],
    in_training: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
) -> tuple[str, ...]:
    """Return the sentences that a user should read about images with the very same pixels.

    `copies` pairs the row of each copy with that of the first such image, `in_training` and
    `labels` (N,) and `names` are by row.

    >>> about_copies([(1, 0)], np.array([True, True]), np.array([0, 1]), ["cat/1", "dog/1"])
    ('1 image lies in more than one class (cat/1 and dog/1).',)
    """
    groups: dict[int, list[int]] = defaultdict(list)
    for row, first in copies:
        if not groups[first]:
            groups[first].append(first)
        groups[first].append(row)
    leaks: list[str] = []
    conflicts: list[str] = []
    for rows in groups.values():
        seen = [row for row in rows if in_training[row]]
        if seen:
            original = printable(names[seen[0]])
            leaks += [f"{printable(names[r])} of {original}" for r in rows if not in_training[r]]
        other = [row for row in rows if labels[row] != labels[rows[0]]]
        if other:
            conflicts.append(f"{printable(names[rows[0]])} and {printable(names[other[0]])}")
    notes = []
    if leaks:
        what = (
            "validation or test image is an exact copy of a training image"
            if len(leaks) == 1
            else "validation or test images are exact copies of training images"
        )
        whose = "its" if len(leaks) == 1 else "their"
        notes.append(f"{len(leaks)} {what} ({_some(leaks)}): {whose} score flatters.")
    if conflicts:
        what = "image lies" if len(conflicts) == 1 else "images lie"
        notes.append(f"{len(conflicts)} {what} in more than one class ({_some(conflicts)}).")
    return tuple(notes)


def _some(examples: list[str]) -> str:
    return ", ".join(examples[:3]) + (", …" if len(examples) > 3 else "")
