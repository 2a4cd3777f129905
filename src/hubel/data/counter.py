"""Random numbers as a pure function of where they are used: no stream, no state, no order."""

from __future__ import annotations

import numpy as np

__all__ = ["draw", "uniform"]

_INCREMENT = 0x9E3779B97F4A7C15
_MASK = 0xFFFFFFFFFFFFFFFF


def draw(*counters: int | np.ndarray) -> np.ndarray:
    """Hash integers modulo 2^64, broadcast against each other, to 64 random bits each.

    Each counter is absorbed by one round of SplitMix64 (Steele, Lea and Flood, "Fast Splittable
    Pseudorandom Number Generators", 2014), whose output does not depend on NumPy's version, the
    platform or the number of threads.

    >>> draw(7, np.arange(3)).tolist() == [draw(7, i).item() for i in range(3)]
    True
    """
    state = np.zeros((), np.uint64)
    for counter in counters:
        value = np.asarray(counter)
        if value.ndim == 0:
            value = np.asarray(int(value) & _MASK, np.uint64)
        state = _mix(state ^ value.astype(np.uint64))
    return state


def uniform(*counters: int | np.ndarray) -> np.ndarray:
    """Hash integers to float64 numbers in [0, 1), as `draw` does to bits."""
    return (draw(*counters) >> np.uint64(11)) * 2.0**-53


def _mix(state: np.ndarray) -> np.ndarray:
    # Arithmetic modulo 2^64 is the point here; arrays wrap silently, scalars would warn.
    z = np.atleast_1d(state) + np.uint64(_INCREMENT)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))).reshape(np.shape(state))
