"""What each initialisation does to activations ten layers deep, as in CS231n lecture 6."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hubel.data import preprocess as preprocessing
from hubel.data.dataset import Dataset
from hubel.errors import UsageError
from hubel.graph.ops.pointwise import FUNCTIONS
from hubel.model import Model
from hubel.network import Network
from hubel.notation.parse import parse
from hubel.notation.spec import Layer
from hubel.train.initialise import INITIALISATIONS

__all__ = ["BINS", "DEPTH", "Begun", "Depth", "Kind", "look"]

Kind: TypeAlias = Literal["fc", "conv"]

DEPTH = 10
"""Layers, as many as in the lecture."""

BINS = 40
"""Bars of a histogram."""

_WIDTH: dict[Kind, str] = {"fc": "fc100", "conv": "conv3-16p1"}
_FUNCTIONS = (*FUNCTIONS, "prelu")
_IMAGES = 256

# Outputs whose deviation is so much smaller or larger than the images' have vanished or exploded.
_VANISHED, _EXPLODED = 0.01, 100.0

# An output this near to a bound of its function is saturated, and a layer where so many are.
_NEAR, _SATURATED = 0.95, 0.5
_BOUNDS = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}


@dataclass(frozen=True, slots=True)
class Depth:
    """The outputs of one layer: mean, deviation, and the share of them in each of BINS bars.

    `saturated` is the share near a bound of the function, if it has any. The bars go from `low` to
    `high`, which is alike for all layers of an initialisation.
    """

    layer: str
    mean: float
    deviation: float
    saturated: float
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Begun:
    """One initialisation: what each layer makes of the images, and a `verdict` in words."""

    method: str
    net: str
    layers: tuple[Depth, ...]
    low: float
    high: float
    verdict: str


def look(
    data: Dataset, *, kind: Kind = "fc", activation: str = "tanh", seed: int = 0
) -> tuple[Begun, ...]:
    """Put up to 256 normalised training images through ten fresh layers of each initialisation.

    `kind` says what the layers are, 100 outputs or 16 filters each; `activation` is the token of
    the function behind each. What begins just as one before it does, as `dirac` where there are no
    convolutions, is left out. Raises UsageError for what is no function of one number.
    """
    if kind not in _WIDTH:
        raise UsageError(f"the layers are {kind!r}, not one of {', '.join(_WIDTH)}")
    layers = parse(activation).items
    known = len(layers) == 1 and isinstance(layers[0], Layer) and layers[0].kind in _FUNCTIONS
    if not known:
        raise UsageError(f"{activation} is no function of one number", hint="try tanh or relu")
    net = f"({_WIDTH[kind]} {activation})x{DEPTH} fc"
    height, width, depth = data.train.images.shape[1:]
    network = Network(net, (height, width, depth), len(data.classes))
    images = data.train.images[:_IMAGES]
    measured = preprocessing.fit(data.train.images)
    begun: list[Begun] = []
    for method in INITIALISATIONS:
        made = _begun(network, method, images, measured, seed)
        if all(made.layers != before.layers for before in begun):
            begun.append(made)
    return tuple(begun)


def _begun(
    network: Network,
    method: str,
    images: NDArray[np.generic],
    measured: preprocessing.Preprocess,
    seed: int,
) -> Begun:
    model = Model(network, seed=seed, initialisation=method)
    model.preprocess = measured
    made = model.activations(images)
    placed = network.built.layers[1 : 2 * DEPTH : 2]
    kind = placed[0].layer.kind if placed[0].layer else ""
    outputs = [made[each.name].astype(np.float64) for each in placed]
    largest = max(float(np.abs(each).max()) for each in outputs) or 1.0
    lowest = min(float(each.min()) for each in outputs)
    low, high = _BOUNDS.get(kind, (-largest if lowest < 0 else 0.0, largest))
    layers = tuple(
        Depth(
            each.name,
            float(values.mean()),
            float(values.std()),
            _saturated(values, kind),
            tuple(float(n) / values.size for n in np.histogram(values, BINS, (low, high))[0]),
        )
        for each, values in zip(placed, outputs, strict=True)
    )
    return Begun(method, network.text, layers, low, high, _verdict(layers))


def _saturated(values: NDArray[np.float64], kind: str) -> float:
    """The share of outputs within a twentieth of the function's range of one of its bounds."""
    if kind not in _BOUNDS:
        return 0.0
    low, high = _BOUNDS[kind]
    within = (values - low) / (high - low)
    margin = (1 - _NEAR) / 2
    return float(((within < margin) | (within > 1 - margin)).mean())


def _verdict(layers: tuple[Depth, ...]) -> str:
    first, last = layers[0], layers[-1]
    for number, each in enumerate(layers, 1):
        if each.deviation == 0:
            return f"all outputs of layer {number} are alike: no filter can become unlike another"
        # Images are normalised, so their own deviation is 1.
        if each.deviation < _VANISHED:
            return f"vanishes: at layer {number} the outputs differ by {each.deviation:.1e} only"
        if each.deviation > _EXPLODED:
            return f"explodes: at layer {number} the outputs differ by {each.deviation:.1e}"
        if each.saturated > _SATURATED:
            return f"saturates: {each.saturated:.0%} of layer {number} are at the bounds"
    change = last.deviation / first.deviation
    how = "keeps its spread" if change > 0.5 else f"shrinks to {change:.0%} of its spread"
    return (
        f"{how} through {len(layers)} layers (from {first.deviation:.2g} to {last.deviation:.2g})"
    )
