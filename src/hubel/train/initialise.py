"""What a network's parameters start from, each drawn from the seed and its own name alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hubel.errors import UsageError
from hubel.graph.layers import Parameter

__all__ = ["INITIALISATIONS", "SEEDS", "initial"]

# A string: NumPy imports its generators only once they are named.
Draw: TypeAlias = "Callable[[np.random.Generator, Parameter], NDArray[np.float64]]"

SEEDS = 2**64
"""How many seeds there are, from 0: an engine counts its random numbers from 64 bits."""


def _he(random: np.random.Generator, parameter: Parameter) -> NDArray[np.float64]:
    """Normal with variance 2/fan_in, which keeps the variance through ReLU (He 2015)."""
    return random.standard_normal(parameter.shape) * math.sqrt(2 / parameter.fan_in)


def _xavier(random: np.random.Generator, parameter: Parameter) -> NDArray[np.float64]:
    """Uniform with variance 2/(fan_in + fan_out) (Glorot and Bengio 2010)."""
    limit = math.sqrt(6 / (parameter.fan_in + parameter.fan_out))
    return random.uniform(-limit, limit, parameter.shape)


def _small(random: np.random.Generator, parameter: Parameter) -> NDArray[np.float64]:
    """The lecture's small random numbers: normal with deviation 0.01."""
    return random.standard_normal(parameter.shape) * 0.01


def _dirac(random: np.random.Generator, parameter: Parameter) -> NDArray[np.float64]:
    """As He, but the first filters, as many as there are channels, pass one on each (Jordan 2024).

    So a deep stack begins near the identity; it takes windows that have a centre.
    """
    drawn = _he(random, parameter)
    if len(parameter.shape) != 4:
        return drawn
    rows, columns, depth, filters = parameter.shape
    if rows % 2 and columns % 2:
        same = min(depth, filters)
        drawn[..., :same] = 0.0
        drawn[rows // 2, columns // 2, np.arange(same), np.arange(same)] = 1.0
    return drawn


def _zero(random: np.random.Generator, parameter: Parameter) -> NDArray[np.float64]:
    """All zero, which does not learn: every filter gets the same gradient."""
    return np.zeros(parameter.shape)


INITIALISATIONS: Mapping[str, Draw] = MappingProxyType(
    {"he": _he, "xavier": _xavier, "small-random": _small, "zero": _zero, "dirac": _dirac}
)


def initial(
    parameters: Iterable[Parameter], method: str = "he", seed: int = 0
) -> dict[str, NDArray[Any]]:
    """The parameters' first values by name, in float32.

    A layer's numbers stay the same when others are added or removed. Raises UsageError for a
    method that does not exist.
    """
    if method not in INITIALISATIONS:
        raise UsageError(f"initialisation is {method!r}, not one of {', '.join(INITIALISATIONS)}")
    draw = INITIALISATIONS[method]
    values = {}
    for parameter in parameters:
        if parameter.start == "random":
            exact = draw(_generator(seed, parameter.name), parameter)
        else:
            exact = np.full(parameter.shape, parameter.start)
        values[parameter.name] = exact.astype(np.float32)
    return values


def _generator(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
