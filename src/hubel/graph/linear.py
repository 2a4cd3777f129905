"""Stacks of linear layers with no activation between them: together they are worth one layer.

With a linear h, h(h(h(x))) = c³·x is again one multiplication. CS231n lecture 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from hubel.errors import Problem
from hubel.graph import shape
from hubel.graph.build import Built, Placed
from hubel.graph.shape import describe
from hubel.notation.expand import expand
from hubel.notation.format import token
from hubel.notation.names import Names
from hubel.notation.spec import Branches, Item, Layer, Repeat, Spec
from hubel.records import dataclass

__all__ = ["DOT_PRODUCTS", "LINEAR", "list_names", "no_nonlinearity"]

DOT_PRODUCTS = frozenset({"conv", "fc"})
LINEAR = DOT_PRODUCTS | {"bn", "avgpool", "gap", "drop", "scale"}


@dataclass(slots=True)
class _Stack:
    """Neighbouring linear layers; `depth` dot products follow one another on its longest path."""

    layers: list[str] = field(default_factory=list)
    depth: int = 0
    joined: bool = False


def no_nonlinearity(spec: Spec, built: Built) -> list[Problem]:
    """A warning for each stack of linear layers that a single one equals."""
    warnings = []
    for layers, joined in _find(spec, built):
        dots = [placed for placed in layers if placed.op in ("conv", "dense")]
        names = list_names([placed.name for placed in dots])
        spans = [placed.span for placed in layers]
        single = "" if joined else f", {_single(layers)}"
        warnings.append(
            Problem(
                "no-nonlinearity",
                "warning",
                f"{names} have no activation between them, so together they are worth a single "
                f"linear layer{single}: put one between, as in {_token(dots[0])} relu, or see what "
                "hubel collapse makes of them",
                dots[0].name,
                (min(start for start, _ in spans), max(stop for _, stop in spans)),
            )
        )
    return warnings


def _find(spec: Spec, built: Built) -> list[tuple[tuple[Placed, ...], bool]]:
    """Stacks in which two or more dot products follow one another linearly, and if they branch.

    Batch normalisation, dropout, averages, factors and sums do not count as non-linear; max pooling
    and maxout do. A stack starts and ends with a dot product.
    """
    walk = _Walk({placed.name: placed for placed in built.layers})
    whole = walk.sequence(expand(spec).items)
    if whole is not None:
        walk.note(whole)
    return walk.found


class _Walk:
    """Goes through the items in building order, so that names agree."""

    def __init__(self, placed: Mapping[str, Placed]) -> None:
        self.placed = placed
        self.name = Names()
        self.found: list[tuple[tuple[Placed, ...], bool]] = []

    def sequence(self, items: Sequence[Item]) -> _Stack | None:
        """Notes the stacks inside; gives the whole sequence as one stack where it is linear."""
        stack = _Stack()
        linear = True
        for item in items:
            part = self.item(item)
            if part is None:
                linear = False
                self.note(stack)
                stack = _Stack()
            else:
                stack.layers += part.layers
                stack.depth += part.depth
                stack.joined |= part.joined
        if linear:
            return stack
        self.note(stack)
        return None

    def item(self, item: Item) -> _Stack | None:
        """The item as a stack, or None where it is not linear or was refused."""
        match item:
            case Layer():
                name = self.name(item.kind)
                if name not in self.placed or item.kind not in LINEAR:
                    return None
                return _Stack([name], int(item.kind in DOT_PRODUCTS))
            case Branches():
                branches = [self.sequence(branch) for branch in item.branches]
                name = self.name(item.join)
                stacks = [stack for stack in branches if stack is not None]
                if name not in self.placed or len(stacks) < len(branches):
                    for stack in stacks:
                        self.note(stack)
                    return None
                layers = [layer for stack in stacks for layer in stack.layers]
                return _Stack([*layers, name], max(stack.depth for stack in stacks), joined=True)
            case Repeat():
                raise AssertionError("repeats are unrolled")

    def note(self, stack: _Stack) -> None:
        if stack.depth < 2:
            return
        layers = [self.placed[name] for name in stack.layers]
        ends = [place for place, placed in enumerate(layers) if placed.op in ("conv", "dense")]
        self.found.append((tuple(layers[ends[0] : ends[-1] + 1]), stack.joined))


def _single(layers: Sequence[Placed]) -> str:
    """The token of the one layer that a chain of linear ones equals."""
    if any(placed.op == "dense" for placed in layers):
        return f"fc{layers[-1].output[0]} on {describe(layers[0].input)}"
    size, stride = [1, 1], [1, 1]
    for placed in layers:
        if placed.window is not None:
            for axis in range(2):
                extent = shape.extent_of(placed.window.size[axis], placed.window.dilation[axis])
                size[axis] += (extent - 1) * stride[axis]
                stride[axis] *= placed.window.stride[axis]
    single = Layer("conv", (size[0], size[1]), layers[-1].output[-1], stride=(stride[0], stride[1]))
    return f"{token(single)} but for its padding"


def _token(placed: Placed) -> str:
    assert placed.layer is not None
    return token(placed.layer)


def list_names(names: Sequence[str]) -> str:
    """Names in a sentence, the middle of a long list left out.

    >>> list_names(["conv1", "conv2", "fc1"])
    'conv1, conv2 and fc1'
    """
    if len(names) == 1:
        return names[0]
    if len(names) > 6:
        return f"{names[0]}, {names[1]}, … {names[-1]} ({len(names)} layers)"
    return f"{', '.join(names[:-1])} and {names[-1]}"
