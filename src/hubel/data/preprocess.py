"""Pixels to the numbers that the network sees, with statistics of the training images alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from hubel.errors import DataError, FormatError, UsageError
from hubel.records import dataclass

__all__ = ["Factors", "Method", "Preprocess", "Resize", "factors", "fit"]

Method: TypeAlias = Literal["none", "centre", "mean-image", "normalise"]

Resize: TypeAlias = Literal["squash", "pad", "crop"]
"""How images of other sizes are brought to the network's."""

Factors: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Scale and shift of every number of an image: (1, W, C), alike in all rows, or (H, W, C)."""

# Minus zero is what can be added to every number, zeros of both signs among them, and leaves it.
_NOTHING = np.float32(-0.0)

_CHUNK = 256


@dataclass(frozen=True, slots=True, eq=False)
class Preprocess:
    """A way to preprocess images, as `fit` measured it.

    `mean` and `std` are per channel, in units where uint8 pixels are 0..1 (they are divided by 255
    first; float images are taken as they are). `mean_image` (H, W, C) is set for "mean-image".
    """

    method: Method
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mean_image: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the mean image as what JSON can hold."""
        return {
            "method": self.method,
            "mean": list(self.mean),
            "std": list(self.std),
            "notes": list(self.notes),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays to keep beside `to_dict`: the mean image, where there is one."""
        return {} if self.mean_image is None else {"mean_image": self.mean_image}

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
        image = (arrays or {}).get("mean_image")
        if (method == "mean-image") != (image is not None):
            raise FormatError(f"the preprocessing {method!r} and its mean image do not match")
        if image is not None and (image.ndim != 3 or image.shape[2] != len(mean)):
            raise FormatError(f"the mean image has the shape {image.shape}, {len(mean)} channels")
        return cls(method, mean, std, image, notes)


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
    "normalise" also divides by each channel's standard deviation. Sums over uint8 are exact.

    >>> fit(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)).to_dict()["std"]
    [0.5]
    """
    if method not in get_args(Method):
        raise UsageError(f"preprocessing {method!r} is not one of {', '.join(get_args(Method))}")
    if images.ndim != 4 or not images.size:
        raise DataError(
            f"images of shape {images.shape} cannot be measured, (N, H, W, C) is needed"
        )
    channels = images.shape[3]
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
    return Preprocess(
        method,
        tuple(mean.tolist()),
        tuple(np.where(flat, 1.0, std).tolist()) if method == "normalise" else (1.0,) * channels,
        mean_image.astype(np.float32) if method == "mean-image" else None,
        tuple(notes),
    )


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
