"""Repeats unrolled: a Spec with every layer that it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hubel.notation.spec import Branches, Item, Repeat, Spec

__all__ = ["count_layers", "expand"]


def expand(spec: Spec) -> Spec:
    """The same network without repeats; every copy of a layer keeps the span of its token.

    >>> from hubel.notation.format import format
    >>> from hubel.notation.parse import parse
    >>> format(expand(parse("(conv3-8 relu)x2 fc")))
    'conv3-8 relu conv3-8 relu fc'
    """
    return replace(spec, items=_expand(spec.items))


def count_layers(items: Sequence[Item]) -> int:
    """How many layers there are once the repeats are unrolled.

    >>> from hubel.notation.parse import parse
    >>> count_layers(parse("((conv3-8 relu)x2 pool2)x3 fc").items)
    16
    """
    count = 0
    for item in items:
        match item:
            case Repeat():
                count += item.times * count_layers(item.body)
            case Branches():
                count += sum(count_layers(branch) for branch in item.branches)
            case _:
                count += 1
    return count


def _expand(items: Sequence[Item]) -> tuple[Item, ...]:
    unrolled: list[Item] = []
    for item in items:
        match item:
            case Repeat():
                unrolled.extend(_expand(item.body) * item.times)
            case Branches():
                branches = tuple(_expand(branch) for branch in item.branches)
                unrolled.append(replace(item, branches=branches))
            case _:
                unrolled.append(item)
    return tuple(unrolled)
