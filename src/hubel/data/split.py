"""Which training images are set aside for validation, by a rule that added files hardly upset."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence

import numpy as np

from hubel.data import counter
from hubel.errors import UsageError

__all__ = ["by_index", "by_name"]


def by_name(
    names: Sequence[str],
    labels: np.ndarray,
    classes: Sequence[str],
    fraction: float,
    seed: int,
) -> np.ndarray:
    """Return a mask (N,) of the validation images, from (seed, class, name of the file) alone.

    Every image gets a place in [0, 1) by hash, and of a class of n images the round(fraction·n)
    with the lowest places are set aside: at least one, and never all, where there are two or more.
    Files that are added move no others but the few at the cut: at most fraction·k + 1 of a class
    change sides for k new ones.
    """
    # A name is the same file whichever way a file system spells "é".
    normal = [unicodedata.normalize("NFC", name) for name in names]
    places = np.array(
        [
            _place(f"{seed}\0{classes[label]}\0{name}")
            for name, label in zip(normal, labels.tolist(), strict=True)
        ]
    )
    return _set_aside(places, labels, fraction)


def by_index(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return a mask (N,) of the validation images, from (seed, label, index), as `by_name` does."""
    places = counter.uniform(seed, labels, np.arange(len(labels)))
    return _set_aside(places, labels, fraction)


def _place(key: str) -> float:
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def _set_aside(places: np.ndarray, labels: np.ndarray, fraction: float) -> np.ndarray:
    if not 0 <= fraction < 1:
        raise UsageError(f"the validation fraction is {fraction}, not in 0 to 1 (0.1 is a tenth)")
    mask = np.zeros(len(places), bool)
    if fraction == 0:
        return mask
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            continue
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        mask[members[np.argsort(places[members], kind="stable")[:count]]] = True
    return mask
