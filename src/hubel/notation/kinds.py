"""The one table of the notation: what the token of every kind of layer takes."""

from __future__ import annotations

import math
from typing import Literal

from hubel.records import dataclass

__all__ = ["KINDS", "LARGEST_DIGITS", "SUFFIXES", "Kind"]

LARGEST_DIGITS = 9
"""Whole numbers of the notation have at most so many digits."""

SUFFIXES = {
    "stride": "s2",
    "padding": "p2 same",
    "dilation": "d2",
    "groups": "g4",
    "bias": "b0",
    "fit": "~ ^",
}
"""What the suffixes set, and how they are written; the numbers are examples."""

_POOL = ("stride", "padding", "fit")


@dataclass(frozen=True, slots=True)
class Kind:
    """What the token of one kind of layer takes after its name.

    `count` and `value` name the number in an error and are empty where the kind takes none; a
    `value` without a `default` must be written. A `value` is at least 0 and less than `below`.
    """

    title: str
    example: str
    size: bool = False
    count: str = ""
    count_needed: bool = False
    least_count: int = 1
    value: str = ""
    default: float | None = None
    below: float = math.inf
    suffixes: tuple[str, ...] = ()
    stride_default: Literal["one", "size"] = "one"


KINDS: dict[str, Kind] = {
    "conv": Kind(
        title="convolution",
        example="conv3-10",
        size=True,
        count="number of filters",
        count_needed=True,
        suffixes=tuple(SUFFIXES),
    ),
    "pool": Kind(
        title="max pooling", example="pool2", size=True, suffixes=_POOL, stride_default="size"
    ),
    "avgpool": Kind(
        title="average pooling",
        example="avgpool2",
        size=True,
        suffixes=_POOL,
        stride_default="size",
    ),
    "gap": Kind(title="global average pooling", example="gap"),
    "fc": Kind(
        title="fully connected", example="fc10", count="number of outputs", suffixes=("bias",)
    ),
    "relu": Kind(title="rectified linear unit", example="relu"),
    "leaky": Kind(title="leaky ReLU", example="leaky0.01", value="slope", default=0.01),
    "prelu": Kind(title="ReLU with a learned slope", example="prelu"),
    "elu": Kind(title="exponential linear unit", example="elu1", value="alpha", default=1.0),
    "selu": Kind(title="scaled ELU", example="selu"),
    "gelu": Kind(title="Gaussian error linear unit", example="gelu"),
    "silu": Kind(title="sigmoid linear unit", example="silu"),
    "sigmoid": Kind(title="logistic sigmoid", example="sigmoid"),
    "tanh": Kind(title="hyperbolic tangent", example="tanh"),
    "scale": Kind(title="multiplication by a number", example="scale0.1", value="factor"),
    "maxout": Kind(
        title="largest of several pieces",
        example="maxout2",
        count="number of pieces",
        count_needed=True,
        least_count=2,
    ),
    "bn": Kind(title="batch normalisation", example="bn"),
    "ln": Kind(title="layer normalisation", example="ln"),
    "gn": Kind(
        title="group normalisation",
        example="gn8",
        count="number of groups",
        count_needed=True,
    ),
    "drop": Kind(title="dropout", example="drop0.5", value="rate", below=1.0),
}
"""Every kind of layer by its name."""
