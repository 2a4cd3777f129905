"""Spec: a network as it was written. It knows no sizes of images and no shapes of weights."""

from __future__ import annotations

from dataclasses import field
from typing import Literal, TypeAlias

from hubel.records import dataclass

__all__ = ["Branches", "Fit", "Item", "Layer", "Repeat", "Spec"]

Fit: TypeAlias = Literal["strict", "floor", "ceil"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer as one token says it, with the notation's defaults filled in.

    Pairs are (height, width). `size` is the window of a convolution or pooling, `count` the
    filters, outputs or maxout pieces (None where the token leaves it open), `value` a slope or a
    rate. `span` is the token's place in the text and takes no part in comparisons.
    """

    kind: str
    size: tuple[int, int] | None = None
    count: int | None = None
    value: float | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] | Literal["same"] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bias: bool = True
    fit: Fit = "strict"
    span: tuple[int, int] = field(default=(0, 0), compare=False)


@dataclass(frozen=True, slots=True)
class Repeat:
    """`( … )x3`: the body, `times` times over."""

    body: tuple[Item, ...]
    times: int
    span: tuple[int, int] = field(default=(0, 0), compare=False)


@dataclass(frozen=True, slots=True)
class Branches:
    """`[ a | b ]` (join "add") or `{ a | b }` (join "concat"); an empty branch is the identity."""

    join: Literal["add", "concat"]
    branches: tuple[tuple[Item, ...], ...]
    span: tuple[int, int] = field(default=(0, 0), compare=False)


Item: TypeAlias = Layer | Repeat | Branches


@dataclass(frozen=True, slots=True)
class Spec:
    """A whole network: its `items` in order, and the `text` that the spans point into."""

    items: tuple[Item, ...]
    text: str = field(default="", compare=False)
