"""Which algorithm a convolution gets: a cost for each that applies, and the cheapest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from hubel.program.kernels import PANEL, Convolution

__all__ = [
    "POINTS",
    "TILE_ROWS",
    "Algorithm",
    "Choice",
    "Direction",
    "choose",
    "tiles_of",
    "winograd_applies",
]

Algorithm: TypeAlias = Literal["direct", "winograd"]
Direction: TypeAlias = Literal["forward", "backward", "weights"]
"""The outputs, the gradient by the inputs, or the gradient by the weights."""

POINTS, SIDE, REACH = 36, 4, 6
"""F(4×4, 3×3): numbers of a tile in the transformed domain, its outputs and inputs along a side."""

TILE_ROWS = 64
"""Rows of the matrices that Winograd works on at once; kTileRows in native/kernels/winograd.h."""

# Costs in multiplications, measured on AVX-512 where two vectors of sixteen are multiplied a cycle.
PER_TRANSFORMED = 5.0
"""Making or reading one number of the transformed domain."""

PER_WEIGHT = 128.0
"""Transforming one number of the filters, which is written to memory far away."""

STREAMED_ROWS = 14
"""A product with fewer rows than this waits for its weights."""

DIRECT_SHARE = {"forward": 0.85, "backward": 0.85, "weights": 0.7}
"""Share of the multipliers' peak that the direct kernels reach on long rows of places."""

SHORT_ROW = 4
"""Places that beginning a row of products costs, which tells where a map's row has few."""

WINOGRAD_SHARE = 0.85


@dataclass(frozen=True, slots=True)
class Choice:
    """The algorithm taken, and what each that applies would cost, in multiplications."""

    algorithm: Algorithm
    costs: Mapping[Algorithm, float]


def winograd_applies(conv: Convolution) -> bool:
    """Whether the filters are 3×3 with stride 1, undilated, over all channels."""
    window = (conv.rows, conv.columns, conv.stride_y, conv.stride_x)
    return (
        window == (3, 3, 1, 1)
        and (conv.dilation_y, conv.dilation_x) == (1, 1)
        and conv.groups == 1
        and max(conv.top, conv.left) <= 2
    )


def tiles_of(conv: Convolution) -> int:
    """4×4 tiles of the outputs of one block of images, times the blocks."""
    return conv.images // conv.block * -(-conv.out_height // SIDE) * -(-conv.out_width // SIDE)


def choose(conv: Convolution, direction: Direction, prepared: bool) -> Choice:
    """The cheapest algorithm; it follows from the sizes alone, so a run is always the same.

    `prepared` says that the filters are transformed once, not at every step.
    """
    places = conv.images * conv.out_height * conv.out_width
    taps = conv.rows * conv.columns
    macs = places * taps * conv.depth // conv.groups * conv.filters
    row = conv.out_width * conv.block
    share = DIRECT_SHARE[direction] * row / (row + SHORT_ROW)
    costs: dict[Algorithm, float] = {"direct": macs / share}
    if winograd_applies(conv):
        costs["winograd"] = _winograd(conv, direction, prepared)
    return Choice(min(costs, key=lambda name: costs[name]), costs)


def _winograd(conv: Convolution, direction: Direction, prepared: bool) -> float:
    tiles = tiles_of(conv) * conv.block
    weights = POINTS * conv.depth * -(-conv.filters // PANEL) * PANEL
    rows = tiles if direction == "weights" else max(tiles, STREAMED_ROWS)
    products = rows * weights / WINOGRAD_SHARE
    transforms = tiles * POINTS * (conv.depth + conv.filters) * PER_TRANSFORMED
    filters = 0.0 if prepared and direction != "weights" else weights * PER_WEIGHT
    return products + transforms + filters
