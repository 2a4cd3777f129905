"""Convolution: the patch laid flat times the filter laid flat, and the two gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import numpy as np

from hubel.engine.reference.call import Call, Rule, pixels_of
from hubel.engine.reference.window import add_patches, patches_of
from hubel.engine.session import Array

__all__ = ["RULES"]


def _groups(depth: int, filters: int, groups: int) -> Iterator[tuple[slice, slice]]:
    """The channels and the filters of each group."""
    c, k = depth // groups, filters // groups
    return ((slice(g * c, (g + 1) * c), slice(g * k, (g + 1) * k)) for g in range(groups))


def _conv(call: Call) -> tuple[Array, ...]:
    conv = call.attributes
    x, weight, *bias = call.inputs
    patches = patches_of(x, conv.window, 0.0)
    y = np.zeros(call.shapes[0])
    length = math.prod(weight.shape[:3])
    for channels, filters in _groups(x.shape[3], conv.filters, conv.groups):
        # The patch laid flat times the filter laid flat.
        flat = patches[..., channels].reshape(-1, length) @ weight[..., filters].reshape(length, -1)
        y[..., filters] = flat.reshape(*y.shape[:3], -1)
    return (y + bias[0] if bias else y,)


def _conv_input_grad(call: Call) -> tuple[Array, ...]:
    conv = call.attributes
    dy, weight = call.inputs
    (shape,) = call.shapes
    d_patches = np.zeros((*dy.shape[:3], *conv.window.size, shape[3]))
    for channels, filters in _groups(shape[3], conv.filters, conv.groups):
        d_patches[..., channels] = np.tensordot(dy[..., filters], weight[..., filters], (3, 3))
    return (add_patches(d_patches, conv.window, shape),)


def _conv_weight_grad(call: Call) -> tuple[Array, ...]:
    conv = call.attributes
    x, dy = call.inputs
    patches = patches_of(x, conv.window, 0.0)
    d_weight = np.zeros(call.shapes[0])
    for channels, filters in _groups(x.shape[3], conv.filters, conv.groups):
        places = ((0, 1, 2), (0, 1, 2))
        d_weight[..., filters] = np.tensordot(patches[..., channels], dy[..., filters], places)
    return (d_weight,)


def _bias_grad(call: Call) -> tuple[Array, ...]:
    (dy,) = call.inputs
    return (pixels_of(dy).sum(0),)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "conv": _conv,
        "conv_input_grad": _conv_input_grad,
        "conv_weight_grad": _conv_weight_grad,
        "bias_grad": _bias_grad,
    }
)
