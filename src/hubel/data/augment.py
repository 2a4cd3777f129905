"""Training images varied at random, each as a pure function of (seed, epoch, its index).

What is drawn here are numbers; whoever assembles a batch moves, colours and mixes the pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hubel.data import counter
from hubel.errors import UsageError
from hubel.records import dataclass
from hubel.variation import FRACTION, Mixture, Places, Variation

__all__ = ["Augmentation", "Border", "Drawing", "check", "vary"]

Border: TypeAlias = Literal["zero", "reflect"]
"""What lies beyond the edge of an image: zeros, or the image reflected at its outermost pixels."""

# Told apart so that what is drawn for one thing has nothing to do with what is drawn for another.
_FLIP, _ROW, _COLUMN, _ANGLE, _SIZE, _BRIGHT, _CONTRAST, _SATURATION = range(1, 9)
_CUT_ROW, _CUT_COLUMN, _PARTNER, _KIND, _RADIUS, _DIRECTION, _BOX_ROW, _BOX_COLUMN = range(9, 17)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What is done to training images at random; 0, or False, leaves a thing out.

    `flip` mirrors left to right: which images in the first epoch is a coin's choice, in every later
    one those that were not in the one before (the alternating flip of Jordan, "94% on CIFAR-10 in
    3.29 Seconds on a Single GPU", 2024, section 3.6: every two epochs show each image both ways).
    `crop` moves an image by up to so many pixels (He et al., "Deep Residual Learning", 2015,
    section 4.2), `rotate` turns it by up to so many degrees to either side, `scale` makes it larger
    or smaller by a factor from 1 − scale to 1 + scale; what comes in from beyond the edge is the
    `border`. `colour` multiplies brightness, contrast around mid-grey (127.5 of bytes, 0.5 of
    floats), and the saturation of images of depth 3, by factors from 1 − colour to 1 + colour.
    `cutout` blanks a square of that side around any pixel (DeVries and Taylor, 2017). `mixup` is
    the alpha of the share Beta(alpha, alpha) by which an image is blended with another one (Zhang
    et al., 2018), `cutmix` that of the area in which it is not replaced by another (Yun et al.,
    2019); with both, a coin chooses for each image. The other one may be any training image, varied
    as it is in the same epoch.
    """

    flip: bool = False
    crop: int = 0
    border: Border = "zero"
    rotate: float = 0.0
    scale: float = 0.0
    colour: float = 0.0
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0


def check(chosen: Augmentation, height: int, width: int) -> None:
    """Raise UsageError where images of that size cannot be varied so."""
    if chosen.border == "reflect" and chosen.crop >= min(height, width):
        raise UsageError(
            f"images of {height}×{width} cannot be reflected by {chosen.crop} pixels", where="crop"
        )


@dataclass(frozen=True, slots=True)
class Drawing:
    """Where the random numbers are used: `count` images of (H, W, C) in all, `bytes` or floats."""

    seed: int
    epoch: int
    count: int
    shape: tuple[int, int, int]
    bytes: bool = True

    def bits(self, which: int, indices: NDArray[np.int64]) -> NDArray[np.uint64]:
        """64 random bits for each image, for one purpose."""
        return counter.draw(self.seed, self.epoch, indices, which)

    def below(self, bound: int, which: int, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """A whole number from 0 on and below `bound` for each image."""
        return (self.bits(which, indices) % np.uint64(bound)).astype(np.int64)

    def around(
        self, middle: float, off: float, which: int, indices: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """A number at most `off` from the middle for each image."""
        unit = counter.uniform(self.seed, self.epoch, indices, which)
        return middle + off * (2.0 * unit - 1.0)


def vary(
    chosen: Augmentation, drawing: Drawing, indices: NDArray[np.int64], mix: bool = True
) -> Variation | None:
    """What is done to the images of these indices, or None where nothing is chosen.

    >>> drawing = Drawing(seed=0, epoch=0, count=9, shape=(1, 3, 1))
    >>> found = vary(Augmentation(flip=True), drawing, np.arange(4))
    >>> found.places[1].tolist()
    [[2, 1, 0], [0, 1, 2], [0, 1, 2], [2, 1, 0]]
    """
    height, width, _ = drawing.shape
    check(chosen, height, width)
    if chosen == Augmentation(border=chosen.border):
        return None
    places = affine = colours = boxes = mixed = None
    if chosen.rotate or chosen.scale:
        affine = _affine(chosen, drawing, indices)
    elif chosen.flip or chosen.crop:
        places = _places(chosen, drawing, indices)
    if chosen.colour:
        colours = _colours(chosen, drawing, indices)
    if chosen.cutout:
        half = chosen.cutout // 2
        row = drawing.below(height, _CUT_ROW, indices) - half
        column = drawing.below(width, _CUT_COLUMN, indices) - half
        boxes = _boxes((row, column, row + chosen.cutout, column + chosen.cutout), height, width)
    if mix and (chosen.mixup or chosen.cutmix):
        mixed = _mixture(chosen, drawing, indices)
    return Variation(places, affine, chosen.border == "reflect", colours, boxes, mixed)


def _mirrored(drawing: Drawing, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
    # The coin is that of all epochs, which only says who begins.
    coin = counter.draw(drawing.seed, indices, _FLIP) ^ np.uint64(drawing.epoch)
    return (coin & np.uint64(1)).astype(bool)


def _shifts(
    chosen: Augmentation, drawing: Drawing, indices: NDArray[np.int64]
) -> Iterator[NDArray[np.int64]]:
    """By how many rows, and columns, further on a pixel is taken."""
    for which in (_ROW, _COLUMN):
        yield drawing.below(2 * chosen.crop + 1, which, indices) - chosen.crop


def _places(chosen: Augmentation, drawing: Drawing, indices: NDArray[np.int64]) -> Places:
    down, right = _shifts(chosen, drawing, indices)
    height, width, _ = drawing.shape
    rows = _shifted(height, down, chosen.border)
    columns = _shifted(width, right, chosen.border)
    if chosen.flip:
        mirrored = _mirrored(drawing, indices)[:, None]
        columns = np.where(mirrored, columns[:, ::-1], columns)
    return rows, columns


def _shifted(size: int, by: NDArray[np.int64], border: Border) -> NDArray[np.int32]:
    last = np.int32(size - 1)
    at = np.arange(size, dtype=np.int32) + by.astype(np.int32)[:, None]
    if border == "reflect":
        return last - abs(last - abs(at))
    return np.where((at >= 0) & (at <= last), at, np.int32(-1))


def _affine(
    chosen: Augmentation, drawing: Drawing, indices: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Mirrored, then turned and scaled around the middle, then moved, as the numbers' places."""
    height, width, _ = drawing.shape
    angle = np.radians(drawing.around(0.0, chosen.rotate, _ANGLE, indices))
    size = drawing.around(1.0, chosen.scale, _SIZE, indices)
    along, across = np.cos(angle) / size, np.sin(angle) / size
    side = np.where(_mirrored(drawing, indices), -1.0, 1.0) if chosen.flip else 1.0
    middle = ((height - 1) / 2, (width - 1) / 2)
    made = np.empty((len(indices), 2, 3))
    made[:, 0, 0], made[:, 0, 1] = along, across * side
    made[:, 1, 0], made[:, 1, 1] = -across, along * side
    for axis, shift in enumerate(_shifts(chosen, drawing, indices)):
        turned = made[:, axis, 0] * middle[0] + made[:, axis, 1] * middle[1]
        made[:, axis, 2] = middle[axis] - turned + shift
    return np.rint(made * 2.0**FRACTION).astype(np.int64)


def _colours(
    chosen: Augmentation, drawing: Drawing, indices: NDArray[np.int64]
) -> NDArray[np.float32]:
    bright, contrast, saturation = (
        drawing.around(1.0, chosen.colour, which, indices)
        for which in (_BRIGHT, _CONTRAST, _SATURATION)
    )
    if drawing.shape[2] != 3:
        saturation = np.ones_like(saturation)
    middle = 127.5 if drawing.bytes else 0.5
    gain = bright * contrast
    made = (gain * saturation, gain * (1.0 - saturation), middle * (1.0 - contrast))
    return np.stack(made, axis=1).astype(np.float32)


def _boxes(sides: tuple[NDArray[np.int64], ...], height: int, width: int) -> NDArray[np.int32]:
    """Boxes (top, left, bottom, right) as far as they lie on the image."""
    ends = (height, width, height, width)
    cut = (side.clip(0, end) for side, end in zip(sides, ends, strict=True))
    return np.stack(tuple(cut), axis=1).astype(np.int32)


def _mixture(chosen: Augmentation, drawing: Drawing, indices: NDArray[np.int64]) -> Mixture:
    height, width, _ = drawing.shape
    partners = drawing.below(drawing.count, _PARTNER, indices)
    coin = drawing.bits(_KIND, indices) & np.uint64(1)
    pasted = coin.astype(bool) if chosen.mixup and chosen.cutmix else np.bool_(chosen.cutmix)
    pasted = np.broadcast_to(pasted, indices.shape)
    shares = _beta(np.where(pasted, chosen.cutmix, chosen.mixup), drawing, indices)
    # A box of the share that is not the first one's, as far as it lies on the image; that decides.
    across = np.where(pasted, np.sqrt(1.0 - shares), 0.0)
    row, column = (
        drawing.below(size, which, indices)
        for size, which in ((height, _BOX_ROW), (width, _BOX_COLUMN))
    )
    tall, wide = ((size * across).astype(np.int64) for size in (height, width))
    top, left = row - tall // 2, column - wide // 2
    boxes = _boxes((top, left, top + tall, left + wide), height, width)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    shares = np.where(pasted, 1.0 - area / (height * width), shares)
    variation = vary(chosen, drawing, partners, mix=False)
    assert variation is not None  # for something is chosen
    return Mixture(partners, shares.astype(np.float32), boxes, variation)


def _beta(
    alpha: NDArray[np.float64], drawing: Drawing, indices: NDArray[np.int64]
) -> NDArray[np.float64]:
    """A number of Beta(alpha, alpha) for each image, from two that are uniform.

    By Bailey's polar form of Student's t (Devroye, "Random Variate Generation in One Line of Code",
    1996), exact for every alpha above 0.
    """
    radius = 1.0 - counter.uniform(drawing.seed, drawing.epoch, indices, _RADIUS)
    turn = np.cos(2.0 * np.pi * counter.uniform(drawing.seed, drawing.epoch, indices, _DIRECTION))
    # A tiny alpha overflows to infinity, whose share is 0 or 1.
    with np.errstate(over="ignore", divide="ignore"):
        square = (radius ** (-1.0 / alpha) - 1.0) * turn * turn
        off = 0.5 / np.sqrt(1.0 + 1.0 / square)
    return 0.5 + np.copysign(off, turn)
