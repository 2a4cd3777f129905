"""Pixels to the numbers that the network sees, with statistics of the training images alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from hubel.errors import DataError, FormatError, UsageError
from hubel.records import dataclass

__all__ = [
    "EPSILON",
    "LARGEST",
    "Factors",
    "Method",
    "Preprocess",
    "Resize",
    "factors",
    "fit",
]

Method: TypeAlias = Literal["none", "centre", "mean-image", "normalise", "pca", "whiten"]

LARGEST = 3072
"""Numbers in an image that "pca" and "whiten" take at most, those of 32×32×3: beyond, the matrix of
their covariances would take more memory and time than it is worth."""

EPSILON = 1e-5
"""What "whiten" adds to each variance before the root, in units where pixels are 0..1 (CS231n)."""

Resize: TypeAlias = Literal["squash", "pad", "crop"]
"""How images of other sizes are brought to the network's."""

Factors: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Scale and shift of every number of an image: (1, W, C), alike in all rows, or (H, W, C)."""

_ROTATED = ("pca", "whiten")

# Minus zero is what can be added to every number, zeros of both signs among them, and leaves it.
_NOTHING = np.float32(-0.0)

_CHUNK = 256

# 1024 products of two numbers of up to 128 are at most 2**24, where float32 still counts.
_EXACT = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Preprocess:
    """A way to preprocess images, as `fit` measured it.

    `mean` and `std` are per channel, in units where uint8 pixels are 0..1 (they are divided by 255
    first; float images are taken as they are). `mean_image` (H, W, C) is set for "mean-image",
    "pca" and "whiten". For the last two a whole image, laid flat and centred, is multiplied by
    `matrix` (H·W·C, H·W·C) besides: whoever applies the `factors` does that behind them.
    """

    method: Method
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mean_image: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    matrix: np.ndarray | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the arrays as what JSON can hold."""
        return {
            "method": self.method,
            "mean": list(self.mean),
            "std": list(self.std),
            "notes": list(self.notes),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays to keep beside `to_dict`: the mean image and the matrix, if any."""
        kept = {"mean_image": self.mean_image, "matrix": self.matrix}
        return {name: array for name, array in kept.items() if array is not None}

    @classmethod
    def from_dict(
        cls, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None
    ) -> Preprocess:
        """Return what `to_dict` and `arrays` were made of; raises `FormatError` where they lie."""
        try:
            method, notes = fields["method"], tuple(str(note) for note in fields["notes"])
            mean = tuple(float(value) for value in fields["mean"])
            std = tuple(float(value) for value in fields["std"])
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"the preprocessing is incomplete ({error!r})") from None
        if method not in get_args(Method):
            raise FormatError(f"the preprocessing {method!r} is unknown")
        if not mean or len(mean) != len(std) or not all(s > 0 for s in std):
            raise FormatError(f"the preprocessing has means {mean} and deviations {std}")
        image, matrix = ((arrays or {}).get(name) for name in ("mean_image", "matrix"))
        if (method in ("mean-image", *_ROTATED)) != (image is not None):
            raise FormatError(f"the preprocessing {method!r} and its mean image do not match")
        if image is not None and (image.ndim != 3 or image.shape[2] != len(mean)):
            raise FormatError(f"the mean image has the shape {image.shape}, {len(mean)} channels")
        if (method in _ROTATED) != (matrix is not None):
            raise FormatError(f"the preprocessing {method!r} and its matrix do not match")
        if matrix is not None and image is not None and matrix.shape != (image.size, image.size):
            raise FormatError(f"the matrix has the shape {matrix.shape}, images {image.shape}")
        return cls(method, mean, std, image, notes, matrix)


def factors(preprocess: Preprocess | None, images: np.ndarray) -> Factors:
    """Return what makes the numbers that the network sees of images: number * scale + shift.

    Product and sum are rounded to float32 each. Without `preprocess` the numbers stay as they are.
    Raises `DataError` for images of another depth or, with a mean image, of another size.

    >>> white = np.full((1, 1, 1, 1), 255, np.uint8)
    >>> scale, shift = factors(fit(white, "centre"), white)
    >>> scale.item() * 255 + shift.item()
    0.0
    """
    row = (1, *images.shape[2:])
    if preprocess is None:
        return np.ones(row, np.float32), np.full(row, _NOTHING)
    mean, mean_image = preprocess.mean, preprocess.mean_image
    if images.ndim != 4 or images.shape[3] != len(mean):
        raise DataError(
            f"images of shape {images.shape} were given; the preprocessing was measured on "
            f"(N, H, W, {len(mean)})"
        )
    if mean_image is not None and images.shape[1:] != mean_image.shape:
        raise DataError(
            f"images of {_by(images.shape[1:])} were given; the mean image is "
            f"{_by(mean_image.shape)}",
            hint="resize the images to the size that the network was trained on",
        )
    unit = 1 / 255 if images.dtype == np.uint8 else 1.0
    if mean_image is not None:
        return np.full(mean_image.shape, unit, np.float32), -mean_image
    std = np.array(preprocess.std)
    shift = np.broadcast_to(-np.array(mean) / std, row).astype(np.float32)
    if preprocess.method == "none":
        shift[:] = _NOTHING
    return np.broadcast_to(unit / std, row).astype(np.float32), shift


def fit(images: np.ndarray, method: Method = "normalise") -> Preprocess:
    """Measure images (N, H, W, C), which should be the training images and no others.

    "none" only scales to 0..1, "centre" subtracts each channel's mean, "mean-image" each pixel's,
    "normalise" also divides by each channel's standard deviation. "pca" subtracts the mean image
    and rotates what is left, a whole image at a time, into the eigenbasis of the covariances, the
    largest variance first: numbers are then uncorrelated, but no longer pixels. "whiten" divides
    each of those by √(variance + EPSILON) and rotates back, so that it is still an image that
    filters can be laid on (ZCA; Krizhevsky, "Learning Multiple Layers of Features from Tiny
    Images", 2009). Sums over uint8 are exact. Raises `DataError` for images of more than LARGEST
    numbers that would be rotated.

    >>> fit(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)).to_dict()["std"]
    [0.5]
    """
    if method not in get_args(Method):
        raise UsageError(f"preprocessing {method!r} is not one of {', '.join(get_args(Method))}")
    if images.ndim != 4 or not images.size:
        raise DataError(
            f"images of shape {images.shape} cannot be measured, (N, H, W, C) is needed"
        )
    channels, numbers = images.shape[3], math.prod(images.shape[1:])
    if method in _ROTATED and numbers > LARGEST:
        raise DataError(
            f"{method} would need the covariances of {numbers:,} numbers in an image of "
            f"{_by(images.shape[1:])}, and takes at most {LARGEST:,}",
            hint="bring the images to a smaller size, such as --size 32, or take normalise",
        )
    mean_image, variance = _moments(images)
    mean = mean_image.mean(axis=(0, 1))
    std = np.sqrt(variance)
    notes = []
    # Float rounding leaves a constant channel with a deviation near, but not at, zero.
    flat = std <= 1e-7 * np.maximum(1.0, np.abs(mean))
    if method == "normalise" and flat.any():
        which = ", ".join(str(channel + 1) for channel in np.flatnonzero(flat))
        notes.append(
            f"channel {which} of {channels} has the same value in every training image: "
            "it carries no information and is only centred"
        )
    matrix = None
    if method in _ROTATED:
        matrix = _rotation(_covariances(images), method == "whiten")
        if len(images) <= numbers:
            notes.append(
                f"{len(images):,} training images vary in at most {len(images) - 1:,} of "
                f"{numbers:,} directions: what other images have in the rest is "
                + (
                    "made up to 316 times larger"
                    if method == "whiten"
                    else "seen for the first time"
                )
            )
    return Preprocess(
        method,
        tuple(mean.tolist()),
        tuple(np.where(flat, 1.0, std).tolist()) if method == "normalise" else (1.0,) * channels,
        mean_image.astype(np.float32) if method in ("mean-image", *_ROTATED) else None,
        tuple(notes),
        matrix,
    )


def _covariances(images: np.ndarray) -> NDArray[np.float64]:
    """Return the covariances of an image's numbers laid flat, (H·W·C, H·W·C), in float64.

    They come from whole numbers whose sums are exact, however the products are cut and ordered:
    bytes less 128, whose sums over _EXACT images stay within 2**24 in float32; and floats rounded
    to 15 bits of the largest, whose sums stay below 2**53 in float64.
    """
    count, numbers = len(images), math.prod(images.shape[1:])
    starts = range(0, count, _EXACT)
    is_bytes = images.dtype == np.uint8
    unit = 255.0
    if not is_bytes:
        largest = max(float(np.abs(images[start : start + _EXACT]).max()) for start in starts)
        unit = 2.0**15 / (largest or 1.0)
    products, sums = np.zeros((numbers, numbers)), np.zeros(numbers)
    for start in starts:
        rows = images[start : start + _EXACT].reshape(-1, numbers)
        if is_bytes:
            rows = rows.astype(np.float32) - np.float32(128)
        else:
            rows = np.rint(rows.astype(np.float64) * unit)
        products += rows.T @ rows
        sums += rows.sum(axis=0, dtype=np.float64)
    mean = sums / count
    products /= count
    products -= np.outer(mean, mean)
    products /= unit * unit
    return products


def _rotation(covariances: NDArray[np.float64], whiten: bool) -> NDArray[np.float32]:
    """Return what rows of centred numbers are multiplied by."""
    variances, directions = np.linalg.eigh(covariances)
    # An eigenvector is one of two: the one whose largest number is positive.
    largest = np.abs(directions).argmax(axis=0)
    directions *= np.sign(directions[largest, np.arange(len(largest))])
    if not whiten:
        rotation: NDArray[np.float64] = directions[:, ::-1]
        return rotation.astype(np.float32)
    scale = 1 / np.sqrt(np.maximum(variances, 0) + EPSILON)
    whitened: NDArray[np.float64] = (directions * scale) @ directions.T
    return whitened.astype(np.float32)


def _moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean image (H, W, C) and each channel's variance, in float64."""
    shape = images.shape[1:]
    chunks = range(0, len(images), _CHUNK)
    if images.dtype == np.uint8:
        # 256 squares of a byte fit into 32 bits, so that integers do it, exactly.
        total = np.zeros(shape, np.uint64)
        squares = np.zeros(shape, np.uint64)
        for start in chunks:
            chunk = images[start : start + _CHUNK]
            total += chunk.sum(axis=0, dtype=np.uint32)
            squares += np.square(chunk, dtype=np.uint16).sum(axis=0, dtype=np.uint32)
        count = len(images) * shape[0] * shape[1]
        sums = [int(s) for s in total.sum(axis=(0, 1))]
        powers = [int(s) for s in squares.sum(axis=(0, 1))]
        # Python's integers: count * power does not fit into 64 bits.
        exact = [
            (count * power - s * s) / (count * count) for s, power in zip(sums, powers, strict=True)
        ]
        return total / (len(images) * 255.0), np.array(exact) / 255.0**2
    mean_image = np.zeros(shape)
    for start in chunks:
        mean_image += images[start : start + _CHUNK].sum(axis=0, dtype=np.float64)
    mean_image /= len(images)
    mean = mean_image.mean(axis=(0, 1))
    deviations = np.zeros(shape[2])
    for start in chunks:
        chunk = images[start : start + _CHUNK].astype(np.float64)
        deviations += np.square(chunk - mean).sum(axis=(0, 1, 2))
    return mean_image, deviations / (len(images) * shape[0] * shape[1])


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(str(length) for length in shape)
