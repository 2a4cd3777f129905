"""Batches out of images, pixel by pixel: what every engine's `assemble` must give, to the bit."""

from __future__ import annotations

import numpy as np

from hubel.engine.feeds import check_choice
from hubel.engine.session import Array, Factors
from hubel.variation import FRACTION, GREY, Mixture, Variation

__all__ = ["assemble"]

# Of a fraction, the bits that weigh neighbouring pixels: with a byte they are exact in float32.
_WEIGHT = 16


def assemble(images: Array, indices: Array, variation: Variation | None, factors: Factors) -> Array:
    """See `Session.assemble`."""
    check_choice(images, indices, variation)
    batch = _varied(images, indices, variation, factors)
    if variation is None or variation.mixed is None:
        return batch
    mixed = variation.mixed
    return _mixed(batch, _varied(images, mixed.indices, mixed.variation, factors), mixed)


def _varied(images: Array, indices: Array, variation: Variation | None, factors: Factors) -> Array:
    chosen = images[indices]
    is_bytes = chosen.dtype == np.uint8
    # Numbers of a byte are exact in float32, so that the first product is the first to be rounded.
    batch = chosen.astype(np.float32)
    if variation is not None:
        if variation.places is not None:
            batch = _moved(batch, *variation.places)
        if variation.affine is not None:
            batch = _turned(batch, variation.affine, variation.reflect)
        if variation.colours is not None:
            batch = _coloured(batch, variation.colours, is_bytes)
    scale, shift = factors
    batch = batch * scale
    batch = batch + shift
    if variation is not None and variation.boxes is not None:
        batch[_inside(variation.boxes, batch)] = 0
    return batch


def _moved(batch: Array, rows: Array, columns: Array) -> Array:
    image = np.arange(len(batch))[:, None, None]
    made: Array = batch[image, rows[:, :, None], columns[:, None, :]]
    made[(rows < 0)[:, :, None] | (columns < 0)[:, None, :]] = 0
    return made


def _turned(batch: Array, affine: Array, reflect: bool) -> Array:
    count, height, width, _ = batch.shape
    y, x = np.arange(height)[:, None], np.arange(width)
    # Row and column (2, N, H, W), each in whole pixels and the weight of the pixel behind.
    places = np.stack(
        [
            a[:, None, None] * y + b[:, None, None] * x + c[:, None, None]
            for a, b, c in (affine[:, axis].T for axis in range(2))
        ]
    )
    whole = places >> FRACTION
    part = (places >> (FRACTION - _WEIGHT)) & ((1 << _WEIGHT) - 1)
    down, right = (part.astype(np.float32) * np.float32(2.0**-_WEIGHT))[..., None]
    image = np.arange(count)[:, None, None]

    def pixel(row: Array, column: Array) -> Array:
        if reflect:
            made: Array = batch[image, _reflected(row, height), _reflected(column, width)]
            return made
        there = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        found = batch[image, row.clip(0, height - 1), column.clip(0, width - 1)]
        return np.where(there[..., None], found, np.float32(0))

    def along(row: Array) -> Array:
        left = pixel(row, whole[1])
        made: Array = left + (pixel(row, whole[1] + 1) - left) * right
        return made

    upper = along(whole[0])
    return np.asarray(upper + (along(whole[0] + 1) - upper) * down)


def _reflected(place: Array, size: int) -> Array:
    last = size - 1
    if last == 0:
        return np.zeros_like(place)
    return np.asarray(last - abs(last - place % (2 * last)))


def _coloured(batch: Array, colours: Array, is_bytes: bool) -> Array:
    own, grey, offset = (colours[:, which, None, None, None] for which in range(3))
    middle: Array = np.zeros((*batch.shape[:3], 1), np.float32)
    if batch.shape[3] == 3:
        red, green, blue = (np.float32(share) for share in GREY)
        middle = red * batch[..., :1] + green * batch[..., 1:2] + blue * batch[..., 2:]
    made = own * batch + (grey * middle + offset)
    return np.asarray(made.clip(0, 255) if is_bytes else made)


def _inside(boxes: Array, batch: Array) -> Array:
    """Whether each pixel (N, H, W) lies in its image's box."""
    _, height, width, _ = batch.shape
    top, left, bottom, right = (boxes[:, side, None, None] for side in range(4))
    y, x = np.arange(height)[:, None], np.arange(width)
    return np.asarray((y >= top) & (y < bottom) & (x >= left) & (x < right))


def _mixed(first: Array, second: Array, mixed: Mixture) -> Array:
    share = mixed.shares[:, None, None, None]
    blended = first * share + second * (np.float32(1) - share)
    inside = _inside(mixed.boxes, first)
    boxed: Array = np.asarray(inside.any(axis=(1, 2)))[:, None, None, None]
    return np.where(boxed, np.where(inside[..., None], second, first), blended)
