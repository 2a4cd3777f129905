"""The planner's side of the table of kernels: what each reads and writes, and its parameters.

The compiled side is native/kernels.inc; a test holds the two together. A signature lists a kernel's
operands in order: `name` is read, `name>` written, `name!` changed in place, `name?` may be absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any

from hubel.records import dataclass

__all__ = ["BFLOAT16", "KERNELS", "PANEL", "Kernel", "packed_size", "words"]

PANEL = 32
"""Columns of weights that lie side by side; kPanel in native/brgemm.h."""


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
    """Normalisation of each image's groups of channels, of maps in blocks."""

    images: int
    block: int
    height: int
    width: int
    depth: int
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


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel's operands, as its signature says, and the class of its parameters.

    A kernel of `maps` has a twin for maps of bfloat16 numbers, called by its name and BFLOAT16.
    One that `repeats` may do any number of parts in a call: the operands and the parameters are
    those of each, one part after another.
    """

    signature: str
    parameters: type
    maps: bool = False
    repeats: bool = False

    @property
    def operands(self) -> tuple[str, ...]:
        """The operands with their marks, in order."""
        return tuple(self.signature.split())


BFLOAT16 = "_bf16"
"""Ends the name of a kernel whose maps hold bfloat16 numbers."""


KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {
        "assemble": Kernel(
            "images indices rows? columns? affine? colours? boxes? scale shift batch>", Assembly
        ),
        "mix": Kernel("second shares boxes batch!", Mixing),
        "pack_maps": Kernel("images maps>", Layout, maps=True),
        "unpack_maps": Kernel("maps images>", Layout, maps=True),
        "copy_channels": Kernel("from to!", CopyChannels, maps=True),
        "widen": Kernel("x y>", Size),
        "pack_weights": Kernel("weight packed>", PackWeights),
        "fold_norm": Kernel("weight bias? scale offset mean variance folded> shift>", Fold),
        "conv": Kernel("x weights bias? y>", Cut, maps=True),
        "conv_input_grad": Kernel("dy weights gate? dx>", Cut, maps=True),
        "conv_weight_grad": Kernel("x dy workspace> dweight> dbias?>", Cut, maps=True),
        "turn_groups": Kernel("weight turned>", PackWeights),
        "grouped": Kernel("x weights bias? y>", Convolution, maps=True),
        "grouped_input_grad": Kernel("dy weights gate? dx>", Convolution, maps=True),
        "grouped_weight_grad": Kernel("x dy workspace> dweight> dbias?>", Chunked, maps=True),
        "narrow": Kernel("x weights bias? gate? y>", Narrow, maps=True),
        "stem_weights": Kernel("weight packed>", WindowWeights),
        "stem": Kernel("x weights bias? y>", Stem, maps=True),
        "stem_weight_grad": Kernel("x dy workspace> dweight> dbias?>", Stem, maps=True),
        "winograd_weights": Kernel("weight packed>", PackWeights),
        "winograd": Kernel("x weights bias? gate? y>", Winograd, maps=True),
        "winograd_moments": Kernel("x weights bias? y> moments>", Winograd, maps=True),
        "winograd_pool": Kernel("x weights bias? y> index?>", WinogradPool, maps=True),
        "winograd_weight_grad": Kernel(
            "x dy workspace> dweight> dbias?>", WinogradGradient, maps=True
        ),
        "max_pool": Kernel("x y> index>", Pooling, maps=True),
        "max_pool_grad": Kernel("dy index gate? dx>", MaxPoolGradient, maps=True),
        "average_pool": Kernel("x y>", Pooling, maps=True),
        "average_pool_grad": Kernel("dy dx>", Pooling, maps=True),
        "activation": Kernel("x y>", Function, maps=True),
        "activation_grad": Kernel("kept dy dx>", Function, maps=True),
        "add": Kernel("a b gate? y>", Sum, maps=True),
        "prelu": Kernel("x slope y>", Rows, maps=True),
        "prelu_grad": Kernel("x slope dy dx> dslope> workspace>", Rows, maps=True),
        "maxout": Kernel("x y>", Pieces, maps=True),
        "maxout_grad": Kernel("x dy dx>", Pieces, maps=True),
        "dropout": Kernel("x seed step y>", Drop, maps=True),
        "batch_norm": Kernel(
            "x weight bias other? moments? running_mean?! running_var?! "
            "y> mean> inverse> workspace>",
            Norm,
            maps=True,
        ),
        "batch_norm_apply": Kernel("x weight bias mean variance y> workspace>", Norm, maps=True),
        "batch_norm_apply_grad": Kernel(
            "dy weight variance dx> workspace>", NormApplyGradient, maps=True
        ),
        "batch_norm_grad": Kernel(
            "x dy weight bias? mean inverse dx> dweight> dbias> workspace>",
            NormGradient,
            maps=True,
        ),
        "batch_norm_pool": Kernel(
            "x weight bias moments? running_mean?! running_var?! "
            "y> peak?> mean> inverse> workspace>",
            NormPool,
            maps=True,
        ),
        "batch_norm_pool_grad": Kernel(
            "x peak dy weight bias mean inverse dx> dweight> dbias> workspace>",
            NormPoolGradient,
            maps=True,
        ),
        "group_norm": Kernel("x weight bias y> mean> inverse> workspace>", GroupNorm, maps=True),
        "group_norm_grad": Kernel(
            "x dy weight mean inverse dx> dweight> dbias> workspace>", GroupNorm, maps=True
        ),
        "softmax_cross_entropy": Kernel("scores labels losses> probabilities>", Loss),
        "softmax_cross_entropy_grad": Kernel("probabilities labels dscores>", Loss, maps=True),
        "target_cross_entropy": Kernel("scores targets losses> probabilities>", Rows),
        "target_cross_entropy_grad": Kernel("probabilities targets dscores>", Rows, maps=True),
        "hinge": Kernel("scores labels losses>", Loss),
        "hinge_grad": Kernel("scores labels dscores>", Loss, maps=True),
        "mean_loss": Kernel("losses loss>", Size),
        "count_correct": Kernel("scores labels correct>", Loss),
        "penalty": Kernel("weight penalty!", Regularisation),
        "gradient_norm": Kernel("gradient sums> norm! scale?!", NormPart),
        "sgd": Kernel("gradient rate step scale? weight! velocity?!", SgdStep, repeats=True),
        "rmsprop": Kernel(
            "gradient rate step scale? weight! square! velocity?!", RmspropStep, repeats=True
        ),
        "adam": Kernel("gradient rate step scale? weight! first! second!", AdamStep, repeats=True),
        "muon": Kernel("gradient rate step scale? weight! velocity! workspace>", MuonStep),
        "average": Kernel("weight step mean!", AverageStep, repeats=True),
        "pair_weights": Kernel("weight packed>", PackWeights),
        "pair_conv": Kernel("x weights bias? y>", Cut),
        "pair_conv_input_grad": Kernel("dy weights gate? dx>", Cut),
        "pair_conv_weight_grad": Kernel("x dy workspace> dweight> dbias?>", Cut),
    }
)
"""Every kernel of the compiled engine."""


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


def packed_size(taps: int, inner: int, columns: int, groups: int) -> int:
    """Numbers that weights take in panels."""
    return groups * -(-columns // PANEL) * taps * inner * PANEL
