"""Stacks of linear layers made the single layers that they equal, with the proof by numbers.

With a linear h, h(h(h(x))) = c³·x is one multiplication (CS231n lecture 6). Branches that are added
or laid behind one another are linear too, if all that is on them is: a block of RepVGG (Ding 2021)
becomes the one convolution that it is in inference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from math import prod
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hubel.engine.reference import RULES, ReferenceSession
from hubel.engine.reference.call import Call
from hubel.errors import UsageError
from hubel.graph.build import Built, Placed
from hubel.graph.linear import DOT_PRODUCTS, LINEAR
from hubel.graph.op import Node, Shape
from hubel.graph.shape import describe
from hubel.model import Model
from hubel.network import Network
from hubel.notation.expand import expand
from hubel.notation.format import format as format_spec
from hubel.notation.format import token
from hubel.notation.parse import parse
from hubel.notation.spec import Branches, Item, Layer, Repeat, Spec
from hubel.records import dataclass
from hubel.study import affine
from hubel.study.affine import LARGEST, Affine, ApartError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Collapsed", "Kept", "Merged", "collapse"]

Numbers: TypeAlias = NDArray[np.float64]
Arrays: TypeAlias = Mapping[str, Numbers]

_IMAGES = 8

# Numbers of maps that are carried back through a stack at once: memory stays bounded.
_AT_ONCE = 1 << 21


@dataclass(frozen=True, slots=True)
class Merged:
    """Layers that became one: their names and text, its name and token, what each side costs.

    Costs are (before, after). `dropout` names the dropout layers among them: one layer in their
    place computes the same in inference, but trains differently.
    """

    layers: tuple[str, ...]
    text: str
    into: str
    token: str
    parameters: tuple[int, int]
    multiply_adds: tuple[int, int]
    dropout: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """Neighbouring linear layers that stayed apart, and the `reason`."""

    layers: tuple[str, ...]
    reason: str


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
    walk = _Walk(network.built, before.parameters)
    items, made = walk.sequence(walk.named(expand(parse(network.text)).items, network.input))
    if not walk.merged:
        return Collapsed(net, (), tuple(walk.kept), 0, 0.0, 0.0, 0.0)
    classes = len(net.classes)
    after = Network(format_spec(Spec(tuple(items))), network.input, classes, network.fit)
    values = {
        parameter: arrays[parameter.removeprefix(f"{placed.name}.")]
        for placed, arrays in zip(after.built.layers, made, strict=True)
        for parameter in _names_of(placed)
    }
    merged = tuple(one.told(network.built, after.built) for one in walk.merged)
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
    return _proven(collapsed, before, exact, merged, tuple(walk.kept), shown)


def _twin(model: Model, network: Network, values: Arrays) -> Model:
    """A network in float64 with these values, that sees images as the model does."""
    twin = Model(network, engine="reference", classes=model.classes)
    twin.set_parameters(values)
    twin.preprocess = model.preprocess
    return twin


def _random_values(model: Model, seed: int) -> dict[str, Numbers]:
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


def _names_of(placed: Placed) -> list[str]:
    """The names of a layer's parameters and statistics."""
    names = [parameter.name for parameter in placed.parameters]
    if placed.op == "batch_norm":
        names += [f"{placed.name}.running_mean", f"{placed.name}.running_var"]
    return names


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A layer in its place."""

    layer: Layer
    placed: Placed
    node: Node

    @property
    def linear(self) -> bool:
        return self.layer.kind in LINEAR

    @property
    def dots(self) -> int:
        return int(self.layer.kind in DOT_PRODUCTS)

    @property
    def leaves(self) -> tuple[_Leaf, ...]:
        return (self,)

    @property
    def item(self) -> Item:
        return self.layer

    @property
    def output(self) -> Shape:
        return self.placed.output


@dataclass(frozen=True, slots=True)
class _Join:
    """Branches in their place, and the shape that each of them begins from."""

    item: Branches
    placed: Placed
    input: Shape
    branches: tuple[tuple[_Element, ...], ...]

    @property
    def linear(self) -> bool:
        return all(element.linear for branch in self.branches for element in branch)

    @property
    def dots(self) -> int:
        return sum(element.dots for branch in self.branches for element in branch)

    @property
    def leaves(self) -> tuple[_Leaf, ...]:
        branches = self.branches
        return tuple(leaf for branch in branches for element in branch for leaf in element.leaves)

    @property
    def output(self) -> Shape:
        return self.placed.output


_Element: TypeAlias = _Leaf | _Join
_Made: TypeAlias = tuple[list[Item], list[Arrays]]
"""Items, and the arrays of each layer in them by the ends of their names, in building order."""


@dataclass(frozen=True, slots=True, eq=False)
class _Merge:
    """A merge before the new network is built: the arrays that name it are those of one layer."""

    elements: tuple[_Element, ...]
    layer: Layer
    place: int

    def told(self, before: Built, after: Built) -> Merged:
        leaves = [leaf for element in self.elements for leaf in element.leaves]
        single = after.layers[self.place]
        items = tuple(element.item for element in self.elements)
        return Merged(
            tuple(leaf.placed.name for leaf in leaves),
            format_spec(Spec(items)),
            single.name,
            token(self.layer),
            (_parameters([leaf.placed for leaf in leaves]), _parameters([single])),
            (sum(leaf.placed.multiply_adds for leaf in leaves), single.multiply_adds),
            tuple(leaf.placed.name for leaf in leaves if leaf.layer.kind == "drop"),
        )


def _parameters(layers: Sequence[Placed]) -> int:
    return sum(prod(parameter.shape) for placed in layers for parameter in placed.parameters)


class _Walk:
    """Goes through a network's items once, and says what becomes of each."""

    def __init__(self, built: Built, values: Arrays) -> None:
        self.placed = {placed.name: placed for placed in built.layers}
        self.nodes = {node.name: node for node in built.graph.nodes}
        self.values = values
        self.counts: dict[str, int] = {}
        self.merged: list[_Merge] = []
        self.kept: list[Kept] = []
        self.made = 0

    def named(self, items: Sequence[Item], size: Shape) -> tuple[_Element, ...]:
        """The items with their places, named as building named them."""
        found: list[_Element] = []
        for item in items:
            element = self._element(item, size)
            found.append(element)
            size = element.output
        return tuple(found)

    def _element(self, item: Item, size: Shape) -> _Element:
        match item:
            case Layer():
                name = self._name(item.kind)
                return _Leaf(item, self.placed[name], self.nodes[name])
            case Branches():
                branches = tuple(self.named(branch, size) for branch in item.branches)
                return _Join(item, self.placed[self._name(item.join)], size, branches)
            case Repeat():
                raise AssertionError("repeats are unrolled")

    def _name(self, kind: str) -> str:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return f"{kind}{self.counts[kind]}"

    def sequence(self, elements: Sequence[_Element]) -> _Made:
        """The items that these become."""
        items: list[Item] = []
        arrays: list[Arrays] = []
        for linear, some in groupby(elements, lambda element: element.linear):
            run = tuple(some)
            parts = self._run(run) if linear else [self._same(each) for each in run]
            for made_items, made_arrays in parts:
                items += made_items
                arrays += made_arrays
        return items, arrays

    def _same(self, element: _Element) -> _Made:
        """An element as it is, but for the stacks on its branches."""
        if isinstance(element, _Leaf):
            self.made += 1
            placed = element.placed
            names = _names_of(placed)
            return [element.layer], [
                {name.removeprefix(f"{placed.name}."): self.values[name] for name in names}
            ]
        made = [self.sequence(branch) for branch in element.branches]
        item = replace(element.item, branches=tuple(tuple(items) for items, _ in made))
        self.made += 1
        return [item], [*(each for _, arrays in made for each in arrays), {}]

    def _run(self, run: tuple[_Element, ...]) -> list[_Made]:
        """Neighbours that are all linear: from the first dot product to the last they are merged,
        and batch normalisation, dropout and scaling right behind that.
        """
        dots = [place for place, element in enumerate(run) if element.dots]
        if not dots:
            return [self._same(element) for element in run]
        first, last = dots[0], dots[-1] + 1
        while last < len(run) and _is(run[last], "bn", "drop", "scale"):
            last += 1
        made = [self._same(element) for element in run[:first]]
        core = run[first:last]
        if not _worth(core):
            made += [self._same(element) for element in core]
        elif len(core[-1].output) == 1:
            made += self._dense(core)
        else:
            made += self._convolutions(core)
        return made + [self._same(element) for element in run[last:]]

    def _dense(self, core: tuple[_Element, ...]) -> list[_Made]:
        size, (outputs,) = _input_of(core[0]), core[-1].output
        if prod(size) * outputs > LARGEST:
            reason = (
                f"fc{outputs} on {describe(size)} would have {prod(size) * outputs:,} weights, "
                f"more than {LARGEST:,}"
            )
            return self._apart(core, reason)
        numbers = max(prod(leaf.placed.input) for element in core for leaf in element.leaves)
        at_once = max(1, _AT_ONCE // (16 * numbers))
        weights, biases = [], []
        for start in range(0, outputs, at_once):
            wanted = np.eye(outputs)[start : start + at_once]
            back, bias = self._back(core, wanted)
            weights.append(back.reshape(len(wanted), -1).T)
            biases.append(bias)
        layer = Layer("fc", count=outputs, bias=self._biased(core))
        return [self._merge(core, layer, np.concatenate(weights, 1), np.concatenate(biases))]

    def _biased(self, core: Sequence[_Element]) -> bool:
        return any(
            f"{leaf.placed.name}.bias" in self.values for element in core for leaf in element.leaves
        )

    def _back(self, elements: Sequence[_Element], by: Numbers) -> tuple[Numbers, Numbers]:
        """What each output takes of every number of the input, and all that biases add to it.

        `by` (outputs, …) is what it takes of what the elements make.
        """
        bias = np.zeros(len(by))
        for element in reversed(elements):
            if isinstance(element, _Join):
                by, added = self._back_branches(element, by)
            else:
                by, added = self._back_layer(element, by)
            bias += added
        return by, bias

    def _back_branches(self, join: _Join, by: Numbers) -> tuple[Numbers, Numbers]:
        parts = [by] * len(join.branches)
        if join.item.join == "concat":
            parts = np.split(by, np.cumsum(_depths(join))[:-1], axis=-1)
        ends = [self._back(branch, part) for branch, part in zip(join.branches, parts, strict=True)]
        back = np.zeros((len(by), *join.input))
        for end, _ in ends:
            back = back + end
        return back, np.sum([bias for _, bias in ends], axis=0)

    def _back_layer(self, leaf: _Leaf, by: Numbers) -> tuple[Numbers, Numbers]:
        name, kind = leaf.placed.name, leaf.layer.kind
        if kind == "drop":
            return by, np.zeros(len(by))
        if kind == "scale":
            return by * leaf.node.attributes.alpha, np.zeros(len(by))
        by = by.reshape(len(by), *leaf.output)
        each = by.reshape(len(by), -1, by.shape[-1]).sum(axis=1)
        if kind == "bn":
            scale, shift = self._normalisation(leaf)
            return by * scale, each @ shift
        bias = self.values.get(f"{name}.bias")
        weight = (self.values[f"{name}.weight"],) if kind in DOT_PRODUCTS else ()
        op = {"conv": "conv_input_grad", "fc": "dense_input_grad"}.get(kind, "average_pool_grad")
        shapes = ((len(by), *leaf.placed.input),)
        (back,) = RULES[op](Call(leaf.node.attributes, (by, *weight), shapes, ()))
        return back, np.zeros(len(by)) if bias is None else each @ bias

    def _normalisation(self, leaf: _Leaf) -> tuple[Numbers, Numbers]:
        """The factor and the shift of each channel, by the running statistics."""
        weight, bias, mean, variance = (self.values[name] for name in _names_of(leaf.placed))
        scale = weight / np.sqrt(variance + leaf.node.attributes.epsilon)
        return scale, bias - mean * scale

    def _convolutions(self, core: tuple[_Element, ...]) -> list[_Made]:
        """As few convolutions as equal the stack: each takes in its neighbours while it can."""
        made: list[_Made] = []
        group: list[_Element] = []
        current: Affine | None = None
        for element in core:
            try:
                following = self._affine(element)
                joined = following if current is None else affine.compose(current, following)
            except ApartError as reason:
                self.kept.append(Kept(_names([*group, element]), str(reason)))
                made += self._close(group, current)
                group, current = [], None
                try:
                    joined = self._affine(element)
                except ApartError:
                    made.append(self._same(element))
                    continue
            group.append(element)
            current = joined
        return made + self._close(group, current)

    def _close(self, group: Sequence[_Element], current: Affine | None) -> list[_Made]:
        if current is None or not _worth(group):
            return [self._same(element) for element in group]
        layer, weights = affine.as_layer(current)
        return [self._merge(group, layer, weights, current.bias)]

    def _affine(self, element: _Element) -> Affine:
        if isinstance(element, _Join):
            parts = []
            for branch in element.branches:
                height, width, depth = element.input
                whole = affine.identity(height, width, depth)
                for each in branch:
                    whole = affine.compose(whole, self._affine(each))
                parts.append(whole)
            return affine.total(parts) if element.item.join == "add" else affine.beside(parts)
        placed = element.placed
        height, width, depth = placed.input
        match element.layer.kind:
            case "drop":
                return affine.identity(height, width, depth)
            case "scale":
                factor = np.full(depth, element.node.attributes.alpha)
                return affine.scaled((height, width), factor, np.zeros(depth))
            case "bn":
                return affine.scaled((height, width), *self._normalisation(element))
            case "conv":
                return self._filters(element)
            case _:
                return self._average(element)

    def _filters(self, leaf: _Leaf) -> Affine:
        window, groups = leaf.placed.window, leaf.layer.groups
        assert window is not None
        weight = self.values[f"{leaf.placed.name}.weight"]
        bias = self.values.get(f"{leaf.placed.name}.bias")
        rows, columns, each, filters = weight.shape
        depth, (down, across) = each * groups, window.dilation
        shape = ((rows - 1) * down + 1, (columns - 1) * across + 1, depth, filters)
        kernel, taps = np.zeros(shape), np.zeros(shape)
        for group in range(groups):
            channels = slice(group * each, (group + 1) * each)
            own = slice(group * filters // groups, (group + 1) * filters // groups)
            kernel[::down, ::across, channels, own] = weight[..., own]
            taps[::down, ::across, channels, own] = 1
        return Affine(
            kernel,
            taps,
            np.zeros(filters) if bias is None else bias,
            bias is not None,
            (-window.padding[0], -window.padding[2]),
            window.stride,
            (leaf.placed.input[0], leaf.placed.input[1]),
            window.output,
        )

    def _average(self, leaf: _Leaf) -> Affine:
        window = leaf.placed.window
        assert window is not None
        height, width, depth = leaf.placed.input
        top, bottom, left, right = window.padding
        for axis, side in enumerate((height + top + bottom, width + left + right)):
            if (window.output[axis] - 1) * window.stride[axis] + window.size[axis] > side:
                raise ApartError(
                    f"{leaf.placed.name} divides by fewer numbers where its last window hangs over"
                )
        taps = np.tile(np.eye(depth), (*window.size, 1, 1))
        return Affine(
            taps / prod(window.size),
            taps,
            np.zeros(depth),
            False,
            (-top, -left),
            window.stride,
            (height, width),
            window.output,
        )

    def _merge(
        self, group: Sequence[_Element], layer: Layer, weights: Numbers, bias: Numbers
    ) -> _Made:
        self.merged.append(_Merge(tuple(group), layer, self.made))
        self.made += 1
        return [layer], [{"weight": weights, "bias": bias}]

    def _apart(self, elements: Sequence[_Element], reason: str) -> list[_Made]:
        self.kept.append(Kept(_names(elements), reason))
        return [self._same(element) for element in elements]


def _depths(join: _Join) -> list[int]:
    """The depth that each branch ends with."""
    return [(branch[-1].output if branch else join.input)[-1] for branch in join.branches]


def _input_of(element: _Element) -> Shape:
    return element.input if isinstance(element, _Join) else element.placed.input


def _is(element: _Element, *kinds: str) -> bool:
    return isinstance(element, _Leaf) and element.layer.kind in kinds


def _worth(elements: Sequence[_Element]) -> bool:
    """Whether one layer in their place is fewer: two dot products, or one beside a branch."""
    dots = sum(element.dots for element in elements)
    return dots > 1 or (dots == 1 and any(isinstance(element, _Join) for element in elements))


def _names(elements: Sequence[_Element]) -> tuple[str, ...]:
    return tuple(leaf.placed.name for element in elements for leaf in element.leaves)
