"""Which training images are set aside for validation, by a rule that added files do not upset."""

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

    Every image gets a place in [0, 1) by hash and is set aside where that is below `fraction`, so
    that a file's side never depends on which others there are; a class of at least two images
    keeps at least one on either side. The price is that the share of a class is `fraction` only on
    average (1,000 images at 0.1: 100, give or take 10), and that the one image moved to keep a
    small class on both sides may move back when the class grows.
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
    mask = places < fraction
    if fraction == 0:
        return mask
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            mask[members] = False
        elif not mask[members].any():
            mask[members[np.argmin(places[members])]] = True
        elif mask[members].all():
            mask[members[np.argmax(places[members])]] = False
    return mask
