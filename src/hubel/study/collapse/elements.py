"""A network's layers in their places, branch by branch, as the search for stacks sees them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from hubel.graph.build import Placed
from hubel.graph.linear import DOT_PRODUCTS, LINEAR
from hubel.graph.op import Node, Shape
from hubel.network import Network
from hubel.notation.expand import expand
from hubel.notation.names import Names
from hubel.notation.parse import parse
from hubel.notation.spec import Branches, Item, Layer, Repeat
from hubel.records import dataclass

__all__ = ["Element", "Join", "Leaf", "elements_of", "leaves_of", "values_of"]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A layer in its place."""

    item: Layer
    placed: Placed
    node: Node

    @property
    def linear(self) -> bool:
        """Whether it has no activation, in inference."""
        return self.item.kind in LINEAR

    @property
    def dots(self) -> int:
        """How many layers of dot products it is."""
        return int(self.item.kind in DOT_PRODUCTS)

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The layers in it."""
        return (self,)

    @property
    def input(self) -> Shape:
        """The shape that it reads."""
        return self.placed.input

    @property
    def output(self) -> Shape:
        """The shape that it makes."""
        return self.placed.output


@dataclass(frozen=True, slots=True)
class Join:
    """Branches in their place, and the shape that each of them begins from."""

    item: Branches
    placed: Placed
    input: Shape
    branches: tuple[tuple[Element, ...], ...]

    @property
    def linear(self) -> bool:
        """Whether all that is on the branches is."""
        return all(element.linear for branch in self.branches for element in branch)

    @property
    def dots(self) -> int:
        """How many layers of dot products are on the branches."""
        return sum(element.dots for branch in self.branches for element in branch)

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The layers on the branches."""
        return tuple(leaf for branch in self.branches for leaf in leaves_of(branch))

    @property
    def output(self) -> Shape:
        """The shape that they make together."""
        return self.placed.output


Element: TypeAlias = Leaf | Join


def leaves_of(some: Iterable[Element]) -> list[Leaf]:
    """All layers in these elements, in building order."""
    return [leaf for element in some for leaf in element.leaves]


def values_of(placed: Placed) -> list[str]:
    """The names of a layer's parameters and statistics."""
    names = [parameter.name for parameter in placed.parameters]
    if placed.op == "batch_norm":
        names += [f"{placed.name}.running_mean", f"{placed.name}.running_var"]
    return names


def elements_of(network: Network) -> tuple[Element, ...]:
    """The network's items, repeats unrolled, with what building made of each."""
    return _Places(network).of(expand(parse(network.text)).items, network.input)


class _Places:
    """Goes through the items in building order, so that names agree."""

    def __init__(self, network: Network) -> None:
        self.placed = {placed.name: placed for placed in network.built.layers}
        self.nodes = {node.name: node for node in network.graph.nodes}
        self.name = Names()

    def of(self, items: Sequence[Item], size: Shape) -> tuple[Element, ...]:
        found: list[Element] = []
        for item in items:
            element = self._element(item, size)
            found.append(element)
            size = element.output
        return tuple(found)

    def _element(self, item: Item, size: Shape) -> Element:
        match item:
            case Layer():
                name = self.name(item.kind)
                return Leaf(item, self.placed[name], self.nodes[name])
            case Branches():
                branches = tuple(self.of(branch, size) for branch in item.branches)
                return Join(item, self.placed[self.name(item.join)], size, branches)
            case Repeat():
                raise AssertionError("repeats are unrolled")
