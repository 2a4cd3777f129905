"""Max and average pooling: one number out of each window of each map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from hubel.engine.reference.call import Call, Rule
from hubel.engine.reference.window import add_patches, patches_of
from hubel.engine.session import Array
from hubel.graph.ops.conv import Window

__all__ = ["RULES"]


def _max_pool(call: Call) -> tuple[Array, ...]:
    (x,) = call.inputs
    patches = patches_of(x, call.attributes, -np.inf)
    n, p, q, _, _, depth = patches.shape
    flat = patches.reshape(n, p, q, -1, depth)
    index = flat.argmax(3)  # the first largest; NumPy takes NaN for the largest, as is wanted
    return np.take_along_axis(flat, index[:, :, :, None], 3)[:, :, :, 0], index


def _max_pool_grad(call: Call) -> tuple[Array, ...]:
    dy, index = call.inputs
    height, width = call.attributes.size
    chosen = index[:, :, :, None] == np.arange(height * width)[:, None]
    d_patches = (dy[:, :, :, None] * chosen).reshape(*dy.shape[:3], height, width, -1)
    return (add_patches(d_patches, call.attributes, call.shapes[0]),)


def _window_areas(window: Window, height: int, width: int) -> Array:
    """How many places of each window lie on the image and its padding, (1, P, Q, 1)."""
    top, bottom, left, right = window.padding
    padded = np.ones((1, height + top + bottom, width + left + right, 1))
    areas: Array = patches_of(padded, replace(window, padding=(0, 0, 0, 0)), 0.0).sum((3, 4))
    return areas


def _average_pool(call: Call) -> tuple[Array, ...]:
    (x,) = call.inputs
    areas = _window_areas(call.attributes, *x.shape[1:3])
    return (patches_of(x, call.attributes, 0.0).sum((3, 4)) / areas,)


def _average_pool_grad(call: Call) -> tuple[Array, ...]:
    (dy,) = call.inputs
    (shape,) = call.shapes
    each = (dy / _window_areas(call.attributes, *shape[1:3]))[:, :, :, None, None]
    height, width = call.attributes.size
    d_patches = np.broadcast_to(each, (*dy.shape[:3], height, width, shape[3]))
    return (add_patches(d_patches, call.attributes, shape),)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "max_pool": _max_pool,
        "max_pool_grad": _max_pool_grad,
        "average_pool": _average_pool,
        "average_pool_grad": _average_pool_grad,
    }
)
