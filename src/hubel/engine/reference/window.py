"""How windows read an image: the patches of a convolution or pool, and their transpose."""

from __future__ import annotations

import numpy as np

from hubel.engine.session import Array
from hubel.graph.op import Shape
from hubel.graph.ops.conv import Window

__all__ = ["add_patches", "patches_of"]


def _reach(window: Window, height: int, width: int) -> tuple[int, int]:
    """The size of the padded image, with what windows that hang over its end read besides."""
    top, bottom, left, right = window.padding
    sides = (height + top + bottom, width + left + right)
    vertical, horizontal = (
        max(sides[axis], (window.output[axis] - 1) * window.stride[axis] + _span(window, axis))
        for axis in range(2)
    )
    return vertical, horizontal


def _span(window: Window, axis: int) -> int:
    return window.dilation[axis] * (window.size[axis] - 1) + 1


def patches_of(x: Array, window: Window, outside: float) -> Array:
    """What each window sees, (N, P, Q, F, F, C); `outside` stands for what is not in the image."""
    n, height, width, depth = x.shape
    top, _, left, _ = window.padding
    padded = np.full((n, *_reach(window, height, width), depth), outside)
    padded[:, top : top + height, left : left + width] = x
    spans = (_span(window, 0), _span(window, 1))
    seen = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=(1, 2))
    (p, q), (down, across) = window.output, window.stride
    seen = seen[:, ::down, ::across][:, :p, :q, :, :: window.dilation[0], :: window.dilation[1]]
    return np.moveaxis(seen, 3, -1)


def add_patches(patches: Array, window: Window, shape: Shape) -> Array:
    """The transpose of `patches_of`: each number added where in the image its window read it."""
    n, height, width, depth = shape
    padded = np.zeros((n, *_reach(window, height, width), depth))
    (p, q), (down, across) = window.output, window.stride
    for i in range(window.size[0]):
        for j in range(window.size[1]):
            row, column = i * window.dilation[0], j * window.dilation[1]
            padded[:, row : row + down * p : down, column : column + across * q : across] += (
                patches[:, :, :, i, j]
            )
    top, _, left, _ = window.padding
    return padded[:, top : top + height, left : left + width]
