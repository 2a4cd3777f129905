"""Edits of a network's text that may mend a problem; none is verified here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from math import gcd
from typing import TypeAlias

from hubel.graph import shape
from hubel.graph.build import Built
from hubel.graph.op import Shape
from hubel.notation.format import replace as replace_text
from hubel.notation.format import token
from hubel.notation.spec import Branches, Fit, Item, Layer, Repeat

__all__ = [
    "Edit",
    "apply",
    "branch_edits",
    "count_edits",
    "keeping_edits",
    "layers_of",
    "producer_of",
    "window_edits",
]

_OUTWARD = 64
_FITS: tuple[Fit, ...] = ("strict", "floor")

Pair: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Edit:
    """New tokens for spans of the text; `words` say it, `cost` is how far the numbers move.

    `kind` is what changes: of each kind only the best edit is shown. `shifts` tells that layers
    come or go, so that the later ones are numbered anew.
    """

    kind: str
    words: str
    cost: int
    changes: tuple[tuple[Pair, str], ...]
    shifts: bool = False


def apply(text: str, edit: Edit) -> str:
    """The text after the edit."""
    for span, new in sorted(edit.changes, reverse=True):
        # A token that goes takes a space beside it along.
        gap = not new and text[: span[0]].endswith(" ") and text[span[1] :].startswith(" ")
        text = replace_text(text, (span[0], span[1] + gap), new)
    return text


def layers_of(items: Sequence[Item]) -> Iterator[Layer]:
    """Every layer of the text, in its order, those inside repeats once."""
    for item in items:
        match item:
            case Layer():
                yield item
            case Repeat():
                yield from layers_of(item.body)
            case Branches():
                for branch in item.branches:
                    yield from layers_of(branch)


def window_edits(layer: Layer, x: Shape, code: str) -> Iterator[Edit]:
    """Paddings, strides, windows and dilations that fit an input of (height, width, depth).

    Only the axes that do not fit are changed. Misfits may also be rounded, and pools that find
    nothing left to pool be left out.
    """
    broken = [axis for axis in range(2) if not _fits(layer, x, axis)]
    options = {
        "padding": _paddings,
        "stride": _strides,
        "window": _windows,
        "dilation": _dilations,
    }
    for kind, values_of in options.items():
        current = _current(layer, kind)
        if current is None or not broken:
            continue
        values = {axis: list(islice(values_of(layer, x, axis), 4)) for axis in broken}
        if not all(values.values()):
            continue
        for place in range(max(map(len, values.values()))):
            new = list(current)
            for axis, found in values.items():
                new[axis] = found[min(place, len(found) - 1)]
            changed = _with(layer, kind, (new[0], new[1]))
            cost = max(abs(new[axis] - current[axis]) for axis in range(2))
            name = "filter" if kind == "window" and layer.kind == "conv" else kind
            yield _token_edit(kind, f"{name} {_pair_text((new[0], new[1]))}", cost, layer, changed)
    if code == "misfit":
        yield _token_edit("round", "round down with ~", 1000, layer, replace(layer, fit="floor"))
        yield _token_edit("round", "round up with ^", 1001, layer, replace(layer, fit="ceil"))
    if code == "too-small" and layer.kind in ("pool", "avgpool"):
        yield Edit("remove", f"leave {token(layer)} out", 2, ((layer.span, ""),), shifts=True)


# What the number in a token counts that must divide the depth, and the least there can be.
_COUNTED = {"maxout": ("pieces", 2), "norm-groups": ("groups", 1)}


def count_edits(layer: Layer, x: Shape, producer: Layer | None, code: str) -> Iterator[Edit]:
    """Groups, filters and pieces that divide; `producer` made the depth of the input."""
    depth = x[-1]
    if code == "groups":
        assert layer.count is not None
        for groups in _near_divisors(gcd(depth, layer.count), layer.groups, least=1):
            cost = abs(groups - layer.groups)
            changed = replace(layer, groups=groups)
            yield _token_edit("groups", f"groups {groups}", cost, layer, changed)
        if depth % layer.groups == 0:
            for count in _near_multiples(layer.groups, layer.count):
                cost = abs(count - layer.count)
                yield _token_edit(
                    "filters", f"filters {count}", cost, layer, replace(layer, count=count)
                )
    divisor = layer.groups if code == "groups" else layer.count or 1
    if code in _COUNTED:
        name, least = _COUNTED[code]
        for count in _near_divisors(depth, divisor, least=least):
            cost = abs(count - divisor)
            changed = replace(layer, count=count)
            yield _token_edit(name, f"{name} {count}", cost, layer, changed)
    if producer is not None and producer.count is not None and depth % divisor:
        for count in _near_multiples(divisor, producer.count):
            words = f"{count} filters in {token(producer)} before it"
            if producer.kind == "fc":
                words = f"{count} outputs of {token(producer)} before it"
            cost = abs(count - producer.count)
            changed = replace(producer, count=count)
            yield _token_edit("filters before", words, cost, producer, changed)


def branch_edits(item: Branches, begins: Shape, ends: Sequence[Shape]) -> Iterator[Edit]:
    """What may make branches end alike that all begin with a map of size `begins`."""
    if len(begins) != 3 or any(len(end) != 3 for end in ends):
        return
    depths = sorted({end[2] for end in ends})
    inside = [layer for branch in item.branches for layer in layers_of(branch)]
    yield from _projections(item, begins, ends)
    if item.join == "add" and len(depths) > 1:
        for depth in reversed(depths):
            for branch, end in zip(item.branches, ends, strict=True):
                counted = [layer for layer in layers_of(branch) if layer.kind == "conv"]
                if counted and depth != end[2]:
                    last = counted[-1]
                    words = f"{depth} filters in {token(last)}"
                    cost = abs(depth - end[2])
                    yield _token_edit("filters", words, cost, last, replace(last, count=depth))
    keeping = [(layer, _keeping_size(layer)) for layer in inside if layer.size is not None]
    kept = {layer.span: same for layer, same in keeping if same != layer}
    if kept:
        yield _keeping_edit("padding", inside, kept)
        for insertion in _insertions(item, Layer("conv", (1, 1), depths[-1])):
            projected = _keeping_edit("padding and projection", inside, kept)
            yield replace(
                projected,
                words=f"{projected.words}, {insertion.words}",
                cost=projected.cost + 1,
                changes=(*projected.changes, *insertion.changes),
                shifts=True,
            )
    ratios = {_ratio(begins, end) for end in ends}
    for stride in sorted(ratios, reverse=True):
        for layer, fit in product((layer for layer, _ in keeping), _FITS):
            changed = replace(layer, stride=stride, fit=fit)
            if changed != layer:
                words = f"{token(layer)} → {token(changed)}"
                cost = abs(stride[0] - layer.stride[0]) + abs(stride[1] - layer.stride[1])
                yield _token_edit("stride", words, cost, layer, changed)


def producer_of(built: Built, name: str) -> Layer | None:
    """The layer with a count that made the depth of what a layer reads, if it is one layer."""
    placed = {one.name: one for one in built.layers}
    source = placed.get(built.reads[name][0])
    while source is not None:
        if source.layer is None or source.layer.kind == "maxout":
            return None
        if source.layer.kind in ("conv", "fc"):
            return source.layer
        source = placed.get(source.sources[0])
    return None


def _token_edit(kind: str, words: str, cost: int, layer: Layer, changed: Layer) -> Edit:
    return Edit(kind, words, cost, ((layer.span, token(changed)),))


def _place(layer: Layer, size: int, axis: int) -> shape.Window:
    assert layer.size is not None
    window, stride, dilation = layer.size[axis], layer.stride[axis], layer.dilation[axis]
    if layer.padding == "same":
        before, after = shape.same_padding(size, window, stride, dilation)
    else:
        before = after = layer.padding[axis]
    return shape.window(size, window, stride, before, after, dilation)


def _fits(layer: Layer, x: Shape, axis: int) -> bool:
    """Whether a layer's window fits an axis, and pooling windows meet the image."""
    assert layer.size is not None
    found = _place(layer, x[axis], axis)
    inside = layer.kind == "conv" or max(found.before, found.after) < layer.size[axis]
    return found.exact and inside


def _current(layer: Layer, kind: str) -> Pair | None:
    if kind == "padding":
        return None if layer.padding == "same" else layer.padding
    if kind == "dilation" and layer.kind != "conv":
        return None
    return {"stride": layer.stride, "window": layer.size, "dilation": layer.dilation}[kind]


def _with(layer: Layer, kind: str, pair: Pair) -> Layer:
    match kind:
        case "padding":
            return replace(layer, padding=pair)
        case "stride":
            return replace(layer, stride=pair)
        case "window":
            return replace(layer, size=pair)
        case _:
            return replace(layer, dilation=pair)


def _try(layer: Layer, x: Shape, axis: int, kind: str, values: Iterator[int]) -> Iterator[int]:
    """The values that fit the axis, the other axis as it is."""
    current = _current(layer, kind)
    assert current is not None
    for value in values:
        pair = (value, current[1]) if axis == 0 else (current[0], value)
        if value != current[axis] and _fits(_with(layer, kind, pair), x, axis):
            yield value


def _outward(centre: int, least: int, most: int) -> Iterator[int]:
    """Whole numbers of a range, the nearest to the centre first, at ties the smaller."""
    centre = min(max(centre, least), most)
    if least > most:
        return
    yield centre
    for distance in range(1, _OUTWARD):
        if centre - distance >= least:
            yield centre - distance
        if centre + distance <= most:
            yield centre + distance


def _paddings(layer: Layer, x: Shape, axis: int) -> Iterator[int]:
    assert layer.size is not None
    assert layer.padding != "same"
    extent = shape.extent_of(layer.size[axis], layer.dilation[axis])
    most = layer.size[axis] - 1 if layer.kind != "conv" else max(extent, layer.padding[axis]) + 64
    least = max(0, -(-(extent - x[axis]) // 2))
    return _try(layer, x, axis, "padding", _outward(layer.padding[axis], least, most))


def _strides(layer: Layer, x: Shape, axis: int) -> Iterator[int]:
    found = _place(layer, x[axis], axis)
    room = found.padded - found.extent
    if room <= 0 or layer.padding == "same":
        values = _outward(layer.stride[axis], 1, layer.stride[axis] + 2)
    else:
        values = iter(_near_divisors(room, layer.stride[axis], least=1))
    return _try(layer, x, axis, "stride", values)


def _windows(layer: Layer, x: Shape, axis: int) -> Iterator[int]:
    assert layer.size is not None
    found = _place(layer, x[axis], axis)
    most = (found.padded - 1) // layer.dilation[axis] + 1
    least = 1 if layer.kind == "conv" else 2
    return _try(layer, x, axis, "window", _outward(layer.size[axis], least, most))


def _dilations(layer: Layer, x: Shape, axis: int) -> Iterator[int]:
    most = max(1, layer.dilation[axis] - 1)
    return _try(layer, x, axis, "dilation", _outward(layer.dilation[axis], 1, most))


def _near_divisors(number: int, wanted: int, least: int) -> list[int]:
    """Divisors other than `wanted`, the nearest to it first."""
    small = [one for one in range(1, int(number**0.5) + 1) if number % one == 0]
    divisors = {*small, *(number // one for one in small)}
    found = [one for one in divisors if one >= least and one != wanted]
    return sorted(found, key=lambda one: (abs(one - wanted), one))[:4]


def _near_multiples(divisor: int, number: int) -> list[int]:
    below = number // divisor * divisor
    found = [one for one in (below, below + divisor) if one > 0 and one != number]
    return sorted(found, key=lambda one: (abs(one - number), one))


def _ratio(begins: Shape, end: Shape) -> Pair:
    return -(-begins[0] // max(end[0], 1)), -(-begins[1] // max(end[1], 1))


def _projections(item: Branches, begins: Shape, ends: Sequence[Shape]) -> Iterator[Edit]:
    """A 1×1 convolution for an empty branch, as residual nets have where the size changes."""
    for end in ends:
        if end != begins:
            count = end[2] if item.join == "add" else begins[2]
            for fit in _FITS:
                made = Layer("conv", (1, 1), count, stride=_ratio(begins, end), fit=fit)
                yield from _insertions(item, made)


def _insertions(item: Branches, layer: Layer) -> Iterator[Edit]:
    """The layer in the first or last branch of some where that is empty."""
    places = {0: item.span[0] + 1, len(item.branches) - 1: item.span[1] - 1}
    for branch, position in places.items():
        if not item.branches[branch]:
            words = f"{token(layer)} in the empty branch"
            span = (position, position)
            yield Edit("projection", words, 1, ((span, f" {token(layer)} "),), shifts=True)


def keeping_edits(items: Sequence[Item]) -> Iterator[Edit]:
    """Padding that keeps the size, in every convolution of a network that lacks it."""
    inside = [layer for layer in layers_of(items) if layer.kind == "conv"]
    pairs = [(layer, _keeping_size(layer)) for layer in inside]
    kept = {layer.span: same for layer, same in pairs if same != layer}
    if len(kept) > 1:
        yield _keeping_edit("padding throughout", inside, kept)


def _keeping_edit(kind: str, layers: Sequence[Layer], kept: Mapping[Pair, Layer]) -> Edit:
    lacking = [layer for layer in layers if layer.span in kept]
    changes = {f"{token(layer)} → {token(kept[layer.span])}": None for layer in lacking}
    words = ", ".join(changes)
    if len(changes) > 3:
        words = f"padding that keeps the size in {len(kept)} layers"
    changed = tuple((span, token(layer)) for span, layer in kept.items())
    return Edit(kind, words, len(kept), changed)


def _keeping_size(layer: Layer) -> Layer:
    """The layer with padding that keeps the size of what it reads, where its stride is 1."""
    assert layer.size is not None
    if layer.stride != (1, 1) or layer.padding == "same":
        return layer
    extents = [
        shape.extent_of(size, dilation)
        for size, dilation in zip(layer.size, layer.dilation, strict=True)
    ]
    if any(extent % 2 == 0 for extent in extents):
        return replace(layer, padding="same")
    return replace(layer, padding=(extents[0] // 2, extents[1] // 2))


def _pair_text(pair: Pair) -> str:
    return f"{pair[0]}" if pair[0] == pair[1] else f"{pair[0]}×{pair[1]}"
