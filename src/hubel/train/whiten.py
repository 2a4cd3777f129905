"""A first layer made from the images: filters whose outputs are uncorrelated and of one variance.

Page, "How to Train Your ResNet", 2018; Jordan, "94% on CIFAR-10 in 3.29 Seconds", 2024. The filters
are eigenvectors of the covariance of the training images' patches, each by 1/√(λ + ε), then the
same again with the other sign, so that an activation behind them loses nothing.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubel.data.preprocess import Preprocess, factors
from hubel.engine import Session
from hubel.errors import UsageError
from hubel.graph.op import Graph, Value

__all__ = ["filters", "whitened", "write_whitened"]

# Pixels of the images that are measured, which are taken at even distances: those of 5000 images of
# CIFAR-10, as the recipe has.
_PIXELS = 5000 * 32 * 32

# Added to every variance, so that directions in which images hardly vary are not blown up.
_EPSILON = 5e-4


def write_whitened(
    session: Session, graph: Graph, images: NDArray[Any], preprocess: Preprocess | None
) -> None:
    """Give the first convolution of a network its filters; see `whitened` and `filters`."""
    weight = whitened(graph)
    session.write(weight.name, filters(weight, images, preprocess))


def whitened(graph: Graph) -> Value:
    """The weights of a network's first convolution, if they can be such filters.

    Raises UsageError where the network does not begin with a convolution of the whole image's
    depth, or has more filters than there are directions of both signs.
    """
    first = next((node for node in graph.nodes if "input" in node.inputs), None)
    if first is None or first.op != "conv" or first.attributes.groups > 1:
        found = "nothing" if first is None else first.name
        raise UsageError(
            f"only a convolution can be whitened, and {found} reads the images",
            hint="begin the network with one, such as conv2-24",
        )
    weight = graph[first.inputs[1]]
    *window, count = weight.shape
    if count > 2 * prod(window):
        taps = "·".join(map(str, window))
        raise UsageError(
            f"{first.name} has {count} filters, and its windows have 2·{taps} = "
            f"{2 * prod(window)} directions",
            hint=f"give it {2 * prod(window)} filters or fewer, or a larger window",
        )
    return weight


def filters(
    weight: Value, images: NDArray[Any], preprocess: Preprocess | None
) -> NDArray[np.float32]:
    """Filters (F, F, C, K) for `images` (N, H, W, C) as they are preprocessed.

    Where there are fewer than directions, those with the largest variance get one.
    """
    rows, columns, depth, count = weight.shape
    size, patches = rows * columns * depth, 0
    covariance = np.zeros((size, size))
    scale, shift = factors(preprocess, images)
    for image in images[:: -(-prod(images.shape[:3]) // _PIXELS)]:
        seen = (image * scale[0] + shift[0]).astype(np.float64)
        windows = np.lib.stride_tricks.sliding_window_view(seen, (rows, columns), axis=(0, 1))
        # (H, W, C, F, F) to a row a patch, its numbers as in a filter
        flat = windows.transpose(0, 1, 3, 4, 2).reshape(-1, size)
        covariance += flat.T @ flat
        patches += len(flat)
    covariance /= patches
    variances, directions = np.linalg.eigh(covariance)
    # Rounding may leave a variance of nothing below zero.
    half = (directions / np.sqrt(variances.clip(0) + _EPSILON))[:, ::-1]
    # LAPACK leaves open which way an eigenvector points.
    half *= np.where(half[np.abs(half).argmax(0), np.arange(size)] < 0, -1.0, 1.0)
    pairs = half[:, : -(-count // 2)]
    made = np.concatenate([pairs, -pairs], 1)[:, :count]
    return made.reshape(weight.shape).astype(np.float32)
