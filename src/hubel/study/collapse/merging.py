"""Which neighbouring layers become one, which stay apart, and what the network then consists of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from math import prod
from typing import TypeAlias

from hubel.graph.build import Built, Placed
from hubel.graph.shape import describe
from hubel.notation.format import format as format_spec
from hubel.notation.format import token
from hubel.notation.spec import Item, Layer, Spec
from hubel.records import dataclass
from hubel.study.collapse import affine
from hubel.study.collapse.affine import LARGEST, Affine, ApartError, Numbers
from hubel.study.collapse.elements import Element, Join, Leaf, leaves_of, values_of
from hubel.study.collapse.equal import Arrays, as_affine, dense

__all__ = ["Kept", "Merge", "Merged", "Merges", "merge"]


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
class Merge:
    """A merge before the new network is built, of which it makes the layer at `place`."""

    elements: tuple[Element, ...]
    layer: Layer
    place: int

    def told(self, after: Built) -> Merged:
        """What was merged, with the names and costs that the layer has in the new network."""
        leaves = leaves_of(self.elements)
        single = after.layers[self.place]
        items = tuple(element.item for element in self.elements)
        return Merged(
            tuple(leaf.placed.name for leaf in leaves),
            format_spec(Spec(items)),
            single.name,
            token(self.layer),
            (_parameters([leaf.placed for leaf in leaves]), _parameters([single])),
            (sum(leaf.placed.multiply_adds for leaf in leaves), single.multiply_adds),
            tuple(leaf.placed.name for leaf in leaves if leaf.item.kind == "drop"),
        )


def _parameters(layers: Sequence[Placed]) -> int:
    return sum(prod(parameter.shape) for placed in layers for parameter in placed.parameters)


@dataclass(frozen=True, slots=True, eq=False)
class Merges:
    """What becomes of a network: its items, and each layer's arrays by the ends of their names."""

    items: tuple[Item, ...]
    arrays: tuple[Arrays, ...]
    merged: tuple[Merge, ...]
    kept: tuple[Kept, ...]


def merge(elements: Sequence[Element], values: Arrays) -> Merges:
    """Merge each stack of linear layers that a single one equals, in inference."""
    walk = _Walk(values)
    items, arrays = walk.sequence(elements)
    return Merges(tuple(items), tuple(arrays), tuple(walk.merged), tuple(walk.kept))


_Made: TypeAlias = tuple[list[Item], list[Arrays]]
"""Items, and the arrays of each layer in them by the ends of their names, in building order."""


class _Walk:
    """Goes through a network's elements once, and says what becomes of each."""

    def __init__(self, values: Arrays) -> None:
        self.values = values
        self.merged: list[Merge] = []
        self.kept: list[Kept] = []
        self.made = 0

    def sequence(self, elements: Sequence[Element]) -> _Made:
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

    def _same(self, element: Element) -> _Made:
        """An element as it is, but for the stacks on its branches."""
        if isinstance(element, Leaf):
            self.made += 1
            placed = element.placed
            names = values_of(placed)
            return [element.item], [
                {name.removeprefix(f"{placed.name}."): self.values[name] for name in names}
            ]
        made = [self.sequence(branch) for branch in element.branches]
        item = replace(element.item, branches=tuple(tuple(items) for items, _ in made))
        self.made += 1
        return [item], [*(each for _, arrays in made for each in arrays), {}]

    def _run(self, run: tuple[Element, ...]) -> list[_Made]:
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

    def _dense(self, core: tuple[Element, ...]) -> list[_Made]:
        size, (outputs,) = core[0].input, core[-1].output
        if prod(size) * outputs > LARGEST:
            reason = (
                f"fc{outputs} on {describe(size)} would have {prod(size) * outputs:,} weights, "
                f"more than {LARGEST:,}"
            )
            self.kept.append(Kept(_names(core), reason))
            return [self._same(element) for element in core]
        has_bias = any(f"{leaf.placed.name}.bias" in self.values for leaf in leaves_of(core))
        layer = Layer("fc", count=outputs, bias=has_bias)
        return [self._merge(core, layer, *dense(core, self.values))]

    def _convolutions(self, core: tuple[Element, ...]) -> list[_Made]:
        """As few convolutions as equal the stack: each takes in its neighbours while it can."""
        made: list[_Made] = []
        group: list[Element] = []
        current: Affine | None = None
        for element in core:
            try:
                following = as_affine(element, self.values)
                joined = following if current is None else affine.compose(current, following)
            except ApartError as reason:
                self.kept.append(Kept(_names([*group, element]), str(reason)))
                made += self._close(group, current)
                group, current = [], None
                try:
                    joined = as_affine(element, self.values)
                except ApartError:
                    made.append(self._same(element))
                    continue
            group.append(element)
            current = joined
        return made + self._close(group, current)

    def _close(self, group: Sequence[Element], current: Affine | None) -> list[_Made]:
        if current is None or not _worth(group):
            return [self._same(element) for element in group]
        layer, weights = affine.as_layer(current)
        return [self._merge(group, layer, weights, current.bias)]

    def _merge(
        self, group: Sequence[Element], layer: Layer, weights: Numbers, bias: Numbers
    ) -> _Made:
        self.merged.append(Merge(tuple(group), layer, self.made))
        self.made += 1
        return [layer], [{"weight": weights, "bias": bias}]


def _is(element: Element, *kinds: str) -> bool:
    return isinstance(element, Leaf) and element.item.kind in kinds


def _worth(elements: Sequence[Element]) -> bool:
    """Whether one layer in their place is fewer: two dot products, or one beside a branch."""
    dots = sum(element.dots for element in elements)
    return dots > 1 or (dots == 1 and any(isinstance(element, Join) for element in elements))


def _names(elements: Sequence[Element]) -> tuple[str, ...]:
    return tuple(leaf.placed.name for leaf in leaves_of(elements))
