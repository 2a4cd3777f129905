"""Which algorithm a convolution gets: a cost for each that applies, and the cheapest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

from hubel.program.kernels import PANEL
from hubel.program.structs import Convolution
from hubel.records import dataclass

__all__ = [
    "POINTS",
    "Algorithm",
    "Choice",
    "Direction",
    "Problem",
    "choose",
    "tiles_of",
]

Algorithm: TypeAlias = Literal["direct", "winograd", "grouped", "stem", "narrow", "pairs"]

Direction: TypeAlias = Literal["forward", "backward", "weights"]
"""The outputs, the gradient by the inputs, or the gradient by the weights."""

POINTS, SIDE = 36, 4
"""F(4×4, 3×3): numbers of a tile in the transformed domain, and its outputs along a side."""

# Costs are in multiplications. They were measured with AVX-512, where two vectors of sixteen are
# multiplied a cycle: a cycle costs 32.

LANES = 16
"""Columns that one vector holds: fewer take as long."""

SHARE = 0.85
"""Share of the multipliers' peak that long products reach."""

ACROSS_SHARE = 0.7
"""The same where rows are channels and the sum is over places, as in gradients of weights."""

SHORT_ROW, SHORT_SUM = 4, 2
"""Rows, and numbers of a sum, that beginning a product costs."""

TRANSFORMED = 20.0
"""Making or reading one number of Winograd's transformed domain."""

TRANSFORMED_WEIGHT = 128.0
"""Transforming one number of the filters, which is written to memory far away."""

STREAMED_ROWS, FAR_ROWS = 14, 40
"""A product with fewer rows waits for its weights: where they are in a near cache, or far away."""

NEAR_WEIGHTS = 2**20
"""Weights that all cores together keep in a near cache: 4 MiB."""

MOVED = 32.0
"""Copying one number to another order, or back."""

GATHERED = 150.0
"""Copying one number of the images to where the rows of windows are read from."""

PASSED, MET = 5.0, 2.0
"""One number that passes a tap of a convolution in groups of few channels, and meets a filter."""

PAIR_DEPTH = 32
"""Numbers of a sum that an instruction on pairs takes at most: fewer take as long."""

FINISHED = 8.0
"""Bringing one sum of pairs from the tile that held it to the map."""

PAIRED = 16.0
"""Copying one bfloat16 number to where its pair is, or across."""

PAIRED_IMAGES = 16
"""Images of a block whose places can be paired."""

FEW_CHANNELS = 8
"""Channels, or those of a group, up to which a convolution has algorithms of its own."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A convolution and what is asked of it.

    `prepared` says that weights are laid out once, not at every step; `images` that x is the
    network's input, which lies there plain. `pair_rate` is how many products of pairs of bfloat16
    numbers the processor makes in the time of one of floats; 0 where none are to be made.
    """

    conv: Convolution
    direction: Direction
    prepared: bool = False
    images: bool = False
    pair_rate: float = 0.0

    @property
    def places(self) -> int:
        """Outputs, without their depth."""
        return self.conv.images * self.conv.out_height * self.conv.out_width

    @property
    def taps(self) -> int:
        """Places of the window."""
        return self.conv.rows * self.conv.columns

    @property
    def sides(self) -> tuple[int, int]:
        """Channels a group that are read, and that are made; backward the other way round."""
        inner, outer = self.conv.depth // self.conv.groups, self.conv.filters // self.conv.groups
        return (outer, inner) if self.direction == "backward" else (inner, outer)


@dataclass(frozen=True, slots=True)
class Choice:
    """The algorithm taken, what each that applies would cost, in multiplications, and for what."""

    algorithm: Algorithm
    costs: Mapping[Algorithm, float]
    problem: Problem


def choose(problem: Problem) -> Choice:
    """The cheapest algorithm. It follows from the sizes alone, so that a run is always the same."""
    costs = {
        name: cost(problem) for name, (applies, cost) in ALGORITHMS.items() if applies(problem)
    }
    return Choice(min(costs, key=lambda name: costs[name]), costs, problem)


def tiles_of(conv: Convolution) -> int:
    """4×4 tiles of the outputs of one block of images, times the blocks."""
    return conv.images // conv.block * -(-conv.out_height // SIDE) * -(-conv.out_width // SIDE)


def _vectors(columns: int) -> int:
    return -(-columns // LANES) * LANES


def _direct(problem: Problem) -> float:
    conv = problem.conv
    inner, columns = problem.sides
    groups = conv.groups * problem.taps * problem.places
    if problem.direction == "weights":
        return groups * (inner + SHORT_ROW) * _vectors(columns) / ACROSS_SHARE
    row = conv.out_width * conv.block
    share = SHARE * row / (row + SHORT_ROW)
    return groups * (inner + SHORT_SUM) * _vectors(columns) / share


def _winograd_applies(problem: Problem) -> bool:
    conv = problem.conv
    return (
        (conv.rows, conv.columns, conv.stride_y, conv.stride_x) == (3, 3, 1, 1)
        and (conv.dilation_y, conv.dilation_x) == (1, 1)
        and conv.groups == 1
        and max(conv.top, conv.left) <= 2
    )


def _winograd(problem: Problem) -> float:
    conv = problem.conv
    inner, columns = problem.sides
    tiles = tiles_of(conv) * conv.block
    weights = POINTS * inner * -(-columns // PANEL) * PANEL
    tile = POINTS * inner * _vectors(columns)
    if problem.direction == "weights":
        products = tiles * tile / ACROSS_SHARE
    else:
        waits = STREAMED_ROWS if weights <= NEAR_WEIGHTS else FAR_ROWS
        products = max(tiles, waits) * tile / SHARE
    transforms = tiles * POINTS * (_vectors(inner) + _vectors(columns)) * TRANSFORMED
    laid = problem.prepared and problem.direction != "weights"
    return products + transforms + (0.0 if laid else weights * TRANSFORMED_WEIGHT)


def _grouped_applies(problem: Problem) -> bool:
    inner, columns = problem.sides
    few = FEW_CHANNELS % inner == 0 and problem.conv.depth % LANES == 0
    return inner == columns and (inner == 1 or few)


def _grouped(problem: Problem) -> float:
    met = PASSED + MET * problem.sides[0]
    return problem.taps * problem.places * _vectors(problem.conv.depth) * met


def _stem_applies(problem: Problem) -> bool:
    conv = problem.conv
    whole = conv.groups == 1 and conv.dilation_x == 1 and problem.taps > 1
    # With one place a row, every image would stream all the weights past.
    several = conv.out_width > 1 and conv.depth <= FEW_CHANNELS
    return whole and several and problem.direction != "backward"


def _stem(problem: Problem) -> float:
    conv = problem.conv
    window = problem.taps * conv.depth
    copied = conv.rows * conv.depth * conv.stride_x * problem.places * GATHERED
    share = ACROSS_SHARE if problem.direction == "weights" else SHARE
    return problem.places * (window + SHORT_SUM) * _vectors(conv.filters) / share + copied


def _narrow_applies(problem: Problem) -> bool:
    conv = problem.conv
    whole = conv.groups == 1 and conv.stride_x == 1 and problem.taps > 1
    return whole and problem.sides[1] <= FEW_CHANNELS and problem.direction != "weights"


def _narrow(problem: Problem) -> float:
    inner, made = problem.sides
    places = _vectors(problem.conv.out_width * problem.conv.block)
    places *= problem.places // (problem.conv.out_width * problem.conv.block)
    products = places * problem.taps * inner * max(made, SHORT_ROW) / ACROSS_SHARE
    return products + problem.places * (inner + 2 * made) * MOVED


def _pairs_apply(problem: Problem) -> bool:
    conv = problem.conv
    if problem.pair_rate == 0 or conv.groups > 1:
        return False
    if problem.direction == "weights":
        return conv.block == PAIRED_IMAGES
    return problem.sides[0] % 2 == 0


def _pairs(problem: Problem) -> float:
    conv = problem.conv
    inner, columns = problem.sides
    products = float(problem.taps * problem.places * _vectors(columns))
    if problem.direction == "weights":
        moved = conv.images * conv.height * conv.width * inner + problem.places * columns
        products *= _vectors(inner) / ACROSS_SHARE
        return products / problem.pair_rate + moved * PAIRED
    row = conv.out_width * conv.block
    products *= -(-inner // PAIR_DEPTH) * PAIR_DEPTH * (row + SHORT_ROW) / row / SHARE
    return products / problem.pair_rate + problem.places * _vectors(columns) * FINISHED


ALGORITHMS: Mapping[Algorithm, tuple[Callable[[Problem], bool], Callable[[Problem], float]]] = (
    MappingProxyType(
        {
            "direct": (lambda problem: True, _direct),
            "winograd": (_winograd_applies, _winograd),
            "grouped": (_grouped_applies, _grouped),
            "stem": (_stem_applies, _stem),
            "narrow": (_narrow_applies, _narrow),
            "pairs": (_pairs_apply, _pairs),
        }
    )
)
"""Every algorithm: where it applies, and what it costs."""
