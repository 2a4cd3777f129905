"""The parameters of kernels: field by field what the compiled structs of native/kernels/ hold."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from hubel.records import dataclass

__all__ = [
    "AdamStep",
    "Assembly",
    "AverageStep",
    "Chunked",
    "Convolution",
    "CopyChannels",
    "Cut",
    "Drop",
    "Fold",
    "Function",
    "GroupNorm",
    "Layout",
    "Loss",
    "MaxPoolGradient",
    "Mixing",
    "MuonStep",
    "Narrow",
    "Norm",
    "NormApplyGradient",
    "NormGradient",
    "NormPart",
    "NormPool",
    "NormPoolGradient",
    "PackWeights",
    "Pieces",
    "Pooling",
    "Regularisation",
    "RmspropStep",
    "Rows",
    "SgdStep",
    "Size",
    "Stem",
    "Sum",
    "WindowWeights",
    "Winograd",
    "WinogradGradient",
    "WinogradPool",
    "words",
]


@dataclass(frozen=True, slots=True)
class Assembly:
    """A batch out of so many images; `rows` of them have factors of their own, one or all.

    The last five tell what of a variation is given.
    """

    images: int
    batch: int
    height: int
    width: int
    depth: int
    bytes: int
    rows: int
    moved: int
    turned: int
    reflect: int
    coloured: int
    boxed: int


@dataclass(frozen=True, slots=True)
class Mixing:
    """Two batches of images."""

    batch: int
    height: int
    width: int
    depth: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Maps of images that lie in blocks, as [images / block][height][width][block][depth]."""

    images: int
    block: int
    height: int
    width: int
    depth: int


@dataclass(frozen=True, slots=True)
class CopyChannels:
    """`depth` neighbouring channels of every row."""

    rows: int
    depth: int
    from_depth: int
    from_at: int
    to_depth: int
    to_at: int


@dataclass(frozen=True, slots=True)
class PackWeights:
    """Weights (taps, depth/groups, filters) to panels or transforms of them.

    `backward` exchanges depth and filters.
    """

    taps: int
    depth: int
    filters: int
    groups: int
    backward: int


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution's geometry and what is fused into it."""

    images: int
    block: int
    height: int
    width: int
    depth: int
    out_height: int
    out_width: int
    filters: int
    rows: int
    columns: int
    stride_y: int
    stride_x: int
    top: int
    left: int
    dilation_y: int
    dilation_x: int
    groups: int
    has_bias: int = 0
    relu: int = 0
    has_gate: int = 0
    packed: int = 1


@dataclass(frozen=True, slots=True)
class Cut:
    """A convolution's work is cut into tasks: `chunks` of places times `parts` of the weights."""

    convolution: Convolution
    chunks: int
    parts: int


@dataclass(frozen=True, slots=True)
class Fold:
    """Rows of weights by `depth` filters, and the batch normalisation behind them."""

    rows: int
    depth: int
    epsilon: float
    has_bias: int


@dataclass(frozen=True, slots=True)
class Narrow:
    """A convolution that makes few channels, or `backward` its gradient by few."""

    convolution: Convolution
    backward: int


@dataclass(frozen=True, slots=True)
class WindowWeights:
    """Weights (rows, columns, depth, filters) to panels in the order of an interleaved window."""

    rows: int
    columns: int
    depth: int
    filters: int


@dataclass(frozen=True, slots=True)
class Stem:
    """A convolution that reads few channels, of images as given where `plain`."""

    convolution: Convolution
    chunks: int
    plain: int


@dataclass(frozen=True, slots=True)
class Chunked:
    """A convolution whose work is cut into `chunks` of rows of outputs."""

    convolution: Convolution
    chunks: int


@dataclass(frozen=True, slots=True)
class Winograd:
    """A convolution by tiles, `rows` of their matrices at once; filters are cut into `parts`."""

    convolution: Convolution
    rows: int
    parts: int


@dataclass(frozen=True, slots=True)
class WinogradPool:
    """The same with 2×2 max pooling behind it, and whether its positions are kept."""

    winograd: Winograd
    has_index: int

    @property
    def convolution(self) -> Convolution:
        """The convolution's geometry."""
        return self.winograd.convolution


@dataclass(frozen=True, slots=True)
class WinogradGradient:
    """The gradient by the weights, by tiles: `chunks` of these, and `parts` of the filters."""

    convolution: Convolution
    rows: int
    chunks: int
    parts: int


@dataclass(frozen=True, slots=True)
class Pooling:
    """A pooling's geometry; `wide` positions take two bytes."""

    images: int
    block: int
    height: int
    width: int
    depth: int
    out_height: int
    out_width: int
    rows: int
    columns: int
    stride_y: int
    stride_x: int
    top: int
    bottom: int
    left: int
    right: int
    wide: int = 0


@dataclass(frozen=True, slots=True)
class MaxPoolGradient:
    """A pooling's gradient, and whether it is closed where a ReLU's output is not positive.

    The ReLU's output is the pooling's x, or its y if `gate_is_y`.
    """

    pooling: Pooling
    has_gate: int = 0
    gate_is_y: int = 0


@dataclass(frozen=True, slots=True)
class Function:
    """An activation function, by its place in graph.ops.pointwise.FUNCTIONS, on `size` numbers."""

    size: int
    function: int
    alpha: float


@dataclass(frozen=True, slots=True)
class Sum:
    """So many numbers, and the ReLU behind their sum or the gate of one before it."""

    size: int
    relu: int = 0
    has_gate: int = 0


@dataclass(frozen=True, slots=True)
class Size:
    """So many numbers."""

    size: int


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of `depth` channels."""

    rows: int
    depth: int


@dataclass(frozen=True, slots=True)
class NormGradient:
    """Rows of `depth` channels, and whether dy is closed where the ReLU behind was."""

    rows: int
    depth: int
    relu: int = 0


@dataclass(frozen=True, slots=True)
class NormApplyGradient:
    """Rows of `depth` channels that were normalised by settled statistics."""

    rows: int
    depth: int
    epsilon: float


@dataclass(frozen=True, slots=True)
class NormPool:
    """Batch normalisation of maps with 2×2 max pooling behind it.

    With `has_peak`, what each largest number was made of is kept.
    """

    maps: Layout
    epsilon: float
    momentum: float
    update: int
    relu: int
    has_peak: int
    parts: int = 0


@dataclass(frozen=True, slots=True)
class NormPoolGradient:
    """The maps that were normalised, and whether dy is closed where the ReLU behind was."""

    maps: Layout
    relu: int


@dataclass(frozen=True, slots=True)
class Pieces:
    """Rows of `depth` outputs, each the largest of `pieces`."""

    rows: int
    depth: int
    pieces: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Maps in blocks, the rate, and the layer's own stream of numbers."""

    images: int
    block: int
    height: int
    width: int
    depth: int
    rate: float
    stream: int


@dataclass(frozen=True, slots=True)
class Norm:
    """Batch normalisation of rows; `update` moves the running statistics.

    Behind it other maps are added, and a ReLU follows. Moments of `parts` of the rows are known.
    """

    rows: int
    depth: int
    epsilon: float
    momentum: float
    update: int
    relu: int = 0
    has_other: int = 0
    parts: int = 0


@dataclass(frozen=True, slots=True)
class GroupNorm:
    """Normalisation of each image's groups of channels."""

    maps: Layout
    groups: int
    epsilon: float


@dataclass(frozen=True, slots=True)
class Loss:
    """Scores of so many images and classes."""

    images: int
    classes: int
    smoothing: float = 0.0


@dataclass(frozen=True, slots=True)
class Regularisation:
    """The factors of one array's penalty; the `first` one starts the sum."""

    size: int
    l2: float
    l1: float
    first: int


@dataclass(frozen=True, slots=True)
class NormPart:
    """One gradient's part of the norm; `clip` is what that is brought down to, 0 for never.

    The `first` one starts the sum, of which the `last` one makes the norm.
    """

    size: int
    clip: float
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class SgdStep:
    """See graph.ops.update."""

    size: int
    momentum: float
    nesterov: int
    l2: float
    l1: float
    decay: float
    rate_factor: float
    clipped: int


@dataclass(frozen=True, slots=True)
class RmspropStep:
    """See graph.ops.update."""

    size: int
    alpha: float
    epsilon: float
    momentum: float
    l2: float
    l1: float
    decay: float
    rate_factor: float
    clipped: int


@dataclass(frozen=True, slots=True)
class AdamStep:
    """See graph.ops.update."""

    size: int
    beta1: float
    beta2: float
    epsilon: float
    l2: float
    l1: float
    decay: float
    rate_factor: float
    clipped: int


@dataclass(frozen=True, slots=True)
class MuonStep:
    """See graph.ops.update; the parameter as a matrix."""

    rows: int
    columns: int
    momentum: float
    steps: int
    unit: int
    l2: float
    l1: float
    decay: float
    rate_factor: float
    clipped: int


@dataclass(frozen=True, slots=True)
class AverageStep:
    """See graph.ops.update."""

    size: int
    decay: float


def words(parameters: Any) -> tuple[int | float, ...]:
    """A call's parameters laid flat, in the order of the compiled struct's fields.

    What is declared a float is one, for the struct tells them from whole numbers.
    """
    parts = parameters if isinstance(parameters, tuple) else _values(parameters)
    found: list[int | float] = []
    for value in parts:
        found.extend(words(value) if is_dataclass(value) else (value,))
    return tuple(found)


def _values(parameters: Any) -> tuple[Any, ...]:
    values = ((field, getattr(parameters, field.name)) for field in fields(parameters))
    return tuple(float(value) if field.type == "float" else value for field, value in values)
