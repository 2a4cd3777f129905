"""Linear layers on images as one kind of thing: a filter bank with a place, a stride and a bias."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hubel.notation.spec import Fit, Layer
from hubel.records import dataclass

__all__ = [
    "LARGEST",
    "Affine",
    "ApartError",
    "Numbers",
    "as_layer",
    "beside",
    "compose",
    "identity",
    "scaled",
    "total",
]

Numbers: TypeAlias = NDArray[np.float64]

LARGEST = 1 << 26
"""Weights that a single layer may have: 256 MiB in float32."""

_BORDER = (
    "zero padding lies between them, and at the border that reads zeros where a single filter "
    "would find {}: they are one only away from it"
)


class ApartError(Exception):
    """Linear layers that no single one equals everywhere, and why."""


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """y[p, q] = bias + Σ kernel[i, j]ᵀ·x[p·stride + origin + i, …], with zeros outside the image.

    `kernel` (T, U, C, K) holds zeros between the taps of dilated filters and between groups; `taps`
    of the same shape is above 0 where a number may be anything else. `input` and `output` are
    heights and widths. Pairs are (vertical, horizontal).
    """

    kernel: Numbers
    taps: Numbers
    bias: Numbers
    has_bias: bool
    origin: tuple[int, int]
    stride: tuple[int, int]
    input: tuple[int, int]
    output: tuple[int, int]

    def rows(self, axis: int) -> list[int]:
        """Where along an axis there is a tap, counted from the origin."""
        others = tuple(other for other in range(4) if other != axis)
        return [int(at) for at in np.flatnonzero(self.taps.any(axis=others))]


def identity(height: int, width: int, depth: int) -> Affine:
    """What hands its input on."""
    one = np.eye(depth)[None, None]
    size = (height, width)
    return Affine(one, one, np.zeros(depth), False, (0, 0), (1, 1), size, size)


def scaled(size: tuple[int, int], scale: Numbers, shift: Numbers) -> Affine:
    """Each channel by a factor of its own, and shifted, as batch normalisation does in the end."""
    one = np.eye(len(scale))[None, None]
    return Affine(one * scale, one, shift, True, (0, 0), (1, 1), size, size)


def compose(first: Affine, second: Affine) -> Affine:
    """The one that equals `second` after `first`: the convolution of their filters.

    Raises ApartError where `second` reads zeros around the maps of `first` for which no filter on
    the image would find zero, and where there would be more weights than LARGEST.
    """
    for axis in range(2):
        _check_border(first, second, axis)
    sides = [
        (second.kernel.shape[axis] - 1) * first.stride[axis] + first.kernel.shape[axis]
        for axis in range(2)
    ]
    weights = prod(sides) * first.kernel.shape[2] * second.kernel.shape[3]
    if weights > LARGEST:
        raise ApartError(f"as one they would have {weights:,} weights, more than {LARGEST:,}")
    kernel, taps = (
        _convolved(getattr(first, name), getattr(second, name), first.stride)
        for name in ("kernel", "taps")
    )
    reads = second.kernel.sum(axis=(0, 1))
    return Affine(
        kernel,
        (taps > 0).astype(np.float64),
        first.bias @ reads + second.bias,
        first.has_bias or second.has_bias,
        (
            second.origin[0] * first.stride[0] + first.origin[0],
            second.origin[1] * first.stride[1] + first.origin[1],
        ),
        (first.stride[0] * second.stride[0], first.stride[1] * second.stride[1]),
        first.input,
        second.output,
    )


def _check_border(first: Affine, second: Affine, axis: int) -> None:
    places = np.arange(second.output[axis])[:, None] * second.stride[axis]
    read = places + second.origin[axis] + np.array(second.rows(axis))
    outside = np.unique(read[(read < 0) | (read >= first.output[axis])])
    if not outside.size:
        return
    if first.has_bias:
        raise ApartError(_BORDER.format("the bias of the layer before"))
    seen = outside[:, None] * first.stride[axis] + first.origin[axis] + np.array(first.rows(axis))
    if ((seen >= 0) & (seen < first.input[axis])).any():
        raise ApartError(_BORDER.format("the image"))


def _convolved(first: Numbers, second: Numbers, stride: tuple[int, int]) -> Numbers:
    height, width, depth, _ = first.shape
    rows, columns, _, filters = second.shape
    made = np.zeros(
        ((rows - 1) * stride[0] + height, (columns - 1) * stride[1] + width, depth, filters)
    )
    for i in range(rows):
        for j in range(columns):
            top, left = i * stride[0], j * stride[1]
            made[top : top + height, left : left + width] += first @ second[i, j]
    return made


def total(parts: Sequence[Affine]) -> Affine:
    """The sum of several on the same input. Raises ApartError where they move differently."""
    kernels, taps, origin = _aligned(parts)
    return _joined(
        parts,
        sum(kernels, np.zeros_like(kernels[0])),
        np.maximum.reduce(taps),
        sum((part.bias for part in parts), np.zeros_like(parts[0].bias)),
        origin,
    )


def beside(parts: Sequence[Affine]) -> Affine:
    """Several on the same input, their maps behind one another. Raises as `total` does."""
    kernels, taps, origin = _aligned(parts)
    bias = np.concatenate([part.bias for part in parts])
    return _joined(parts, np.concatenate(kernels, 3), np.concatenate(taps, 3), bias, origin)


def _aligned(parts: Sequence[Affine]) -> tuple[list[Numbers], list[Numbers], tuple[int, int]]:
    """All kernels and taps in one window that covers each of them, and where that begins."""
    if len({part.stride for part in parts}) > 1:
        raise ApartError("its branches move by different strides")
    begins = [min(part.origin[axis] for part in parts) for axis in range(2)]
    ends = [max(part.origin[axis] + part.kernel.shape[axis] for part in parts) for axis in range(2)]

    def padded(part: Affine, kernel: Numbers) -> Numbers:
        before = [part.origin[axis] - begins[axis] for axis in range(2)]
        after = [ends[axis] - part.origin[axis] - kernel.shape[axis] for axis in range(2)]
        return np.pad(kernel, [*zip(before, after, strict=True), (0, 0), (0, 0)])

    return (
        [padded(part, part.kernel) for part in parts],
        [padded(part, part.taps) for part in parts],
        (begins[0], begins[1]),
    )


def _joined(
    parts: Sequence[Affine],
    kernel: Numbers,
    taps: Numbers,
    bias: Numbers,
    origin: tuple[int, int],
) -> Affine:
    first = parts[0]
    has_bias = any(part.has_bias for part in parts)
    return Affine(kernel, taps, bias, has_bias, origin, first.stride, first.input, first.output)


def as_layer(affine: Affine) -> tuple[Layer, Numbers]:
    """The convolution that it is, and its weights (F, F, C/groups, K).

    The notation pads both ends alike: where that is not what is needed, the filter gets rows of
    zeros in front or behind.
    """
    axes = [_Axis.of(affine, axis) for axis in range(2)]
    groups = _groups(affine.taps.max(axis=(0, 1)))
    depth, filters = affine.kernel.shape[2:]
    whole = np.zeros((axes[0].size, axes[1].size, depth, filters))
    rows, columns = (affine.rows(axis) for axis in range(2))
    whole[np.ix_(axes[0].places, axes[1].places)] = affine.kernel[np.ix_(rows, columns)]
    each = depth // groups
    of_filter = np.arange(filters) // (filters // groups)
    weights = np.stack(
        [whole[:, :, g * each : (g + 1) * each, k] for k, g in enumerate(of_filter)], axis=-1
    )
    fit: Fit = "strict" if all(axis.exact for axis in axes) else "floor"
    layer = Layer(
        "conv",
        (axes[0].size, axes[1].size),
        filters,
        stride=affine.stride,
        padding=(axes[0].padding, axes[1].padding),
        dilation=(axes[0].dilation, axes[1].dilation),
        groups=groups,
        bias=affine.has_bias,
        fit=fit,
    )
    return layer, weights


@dataclass(frozen=True, slots=True)
class _Axis:
    """A window along one axis as the notation writes it, and the `places` of its taps in it."""

    size: int
    padding: int
    dilation: int
    exact: bool
    places: list[int]

    @classmethod
    def of(cls, affine: Affine, axis: int) -> _Axis:
        rows, stride = affine.rows(axis), affine.stride[axis]
        span = rows[-1] - rows[0]
        before = -(affine.origin[axis] + rows[0])
        needed = (affine.output[axis] - 1) * stride
        padding = max(before, 0)
        # Padding one more on both ends, with one more row of zeros in front, makes room for one.
        padding += max(0, needed + span + 1 - affine.input[axis] - before - padding)
        lead = padding - before
        slack = affine.input[axis] + 2 * padding - lead - span - 1 - needed
        trail = max(0, slack - (stride - 1))
        step = gcd(lead, trail, *(row - rows[0] for row in rows)) or 1
        places = [(lead + row - rows[0]) // step for row in rows]
        size = (lead + span + trail) // step + 1
        return cls(size, padding, step, (slack - trail) % stride == 0, places)


def _groups(used: Numbers) -> int:
    """Into how many groups channels and filters fall; `used` (C, K) is above 0 where they meet."""
    depth, filters = used.shape
    for groups in range(gcd(depth, filters), 1, -1):
        if depth % groups or filters % groups:
            continue
        own = np.kron(np.eye(groups), np.ones((depth // groups, filters // groups)))
        if not used[own == 0].any():
            return groups
    return 1
