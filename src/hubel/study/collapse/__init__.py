"""Stacks of linear layers made the single layers that they equal, with the proof by numbers.

With a linear h, h(h(h(x))) = c³·x is one multiplication (CS231n lecture 6). Branches that are added
or laid behind one another are linear too, if all that is on them is: a block of RepVGG (Ding 2021)
becomes the one convolution that it is in inference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hubel.engine.reference import ReferenceSession
from hubel.errors import UsageError
from hubel.graph.shape import describe
from hubel.model import Model
from hubel.network import Network
from hubel.notation.format import format as format_spec
from hubel.notation.spec import Spec
from hubel.records import dataclass
from hubel.study.collapse.elements import elements_of, values_of
from hubel.study.collapse.equal import Arrays
from hubel.study.collapse.merging import Kept, Merged, merge

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Collapsed", "Kept", "Merged", "collapse"]

_IMAGES = 8


@dataclass(frozen=True, slots=True, eq=False)
class Collapsed:
    """The network without stacks of linear layers, and how it was proven to be the same.

    `difference` is the largest between the scores of both on `images` images, in float64, and
    `rounded` that of `model`, whose weights are float32, to the original in float64; `largest` is
    the largest score, to hold both against. Where nothing was merged nothing was compared.
    """

    model: Model
    merged: tuple[Merged, ...]
    kept: tuple[Kept, ...]
    images: int
    difference: float
    rounded: float
    largest: float

    @property
    def network(self) -> Network:
        """The network that is left."""
        return self.model.network


def collapse(
    net: Model | Network | str | Path,
    input: tuple[int, int, int] | None = None,
    *,
    images: ArrayLike | None = None,
    seed: int = 0,
) -> Collapsed:
    """Make each stack of linear layers the one that it equals in inference.

    A model keeps its weights; a network has none, and gets random ones, its biases and statistics
    too, so that nothing agrees for being zero. What was given stays as it is. Both are compared on
    the `images`, or on random ones. Raises what `Network` and `Model.logits` raise.

    >>> result = collapse("conv3-4 conv3-5 fc7", (8, 8, 2))
    >>> result.network.text, result.difference < 1e-12
    ('fc7', True)
    """
    if not isinstance(net, Model):
        network = net if isinstance(net, Network) else Network(net, input)
        net = Model(network, seed=seed)
        net.set_parameters(_random_values(net, seed))
    elif input not in (None, net.network.input):
        raise UsageError(f"the network is for {describe(net.network.input)}, not {describe(input)}")
    network = net.network
    before = _twin(net, network, net.parameters)
    found = merge(elements_of(network), before.parameters)
    if not found.merged:
        return Collapsed(net, (), found.kept, 0, 0.0, 0.0, 0.0)
    classes = len(net.classes)
    after = Network(format_spec(Spec(found.items)), network.input, classes, network.fit)
    values = {
        parameter: arrays[parameter.removeprefix(f"{placed.name}.")]
        for placed, arrays in zip(after.built.layers, found.arrays, strict=True)
        for parameter in values_of(placed)
    }
    merged = tuple(one.told(after.built) for one in found.merged)
    reference = isinstance(net.session, ReferenceSession)
    collapsed = Model(
        after,
        seed=net.seed,
        engine="reference" if reference else "native",
        precision=net.precision,
        classes=net.classes,
        resize=net.resize,
    )
    collapsed.set_parameters(values)
    collapsed.preprocess = net.preprocess
    exact = _twin(net, after, values)
    shown = _shown(net, images, seed)
    return _proven(collapsed, before, exact, merged, found.kept, shown)


def _twin(model: Model, network: Network, values: Arrays) -> Model:
    """A network in float64 with these values, that sees images as the model does."""
    twin = Model(network, engine="reference", classes=model.classes)
    twin.set_parameters(values)
    twin.preprocess = model.preprocess
    return twin


def _random_values(model: Model, seed: int) -> dict[str, NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    return {
        name: random.uniform(0.5, 1.5, array.shape).astype(np.float32).astype(np.float64)
        for name, array in model.parameters.items()
        if array.ndim == 1
    }


def _shown(model: Model, images: ArrayLike | None, seed: int) -> NDArray[np.generic]:
    if images is not None:
        return np.asarray(images)
    random, shape = np.random.default_rng(seed), (_IMAGES, *model.network.input)
    if model.preprocess is not None:
        return random.integers(0, 256, shape, np.uint8)
    return random.standard_normal(shape, np.float32)


def _proven(
    model: Model,
    before: Model,
    exact: Model,
    merged: tuple[Merged, ...],
    kept: tuple[Kept, ...],
    images: NDArray[np.generic],
) -> Collapsed:
    scores = before.logits(images)
    return Collapsed(
        model,
        merged,
        kept,
        len(scores),
        float(np.abs(exact.logits(images) - scores).max()),
        float(np.abs(model.logits(images) - scores).max()),
        float(np.abs(scores).max()),
    )
