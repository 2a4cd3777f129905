"""Arrays of images and labels to a Dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from hubel.data.dataset import Dataset, Split, fingerprint_of, set_aside_note
from hubel.data.folder import natural_key
from hubel.data.image import read
from hubel.data.preprocess import Resize
from hubel.data.split import by_index
from hubel.errors import DataError

__all__ = ["resize_images", "split_arrays"]


def split_arrays(
    x: np.ndarray,
    y: Sequence[object] | np.ndarray,
    *,
    validation: tuple[np.ndarray, Sequence[object] | np.ndarray] | None = None,
    test: tuple[np.ndarray, Sequence[object] | np.ndarray] | None = None,
    classes: Sequence[str] | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    name: str = "arrays",
    notes: tuple[str, ...] = (),
) -> Dataset:
    """Make a dataset of images (N, H, W, C) or (N, H, W), uint8 or float, and N labels.

    Labels are class names, or integers: numbers of `classes` where these are given, else names
    like any other. Without `validation`, `val_fraction` of the images is set aside. Raises
    `DataError` for shapes, types or labels that do not go together.

    >>> data = split_arrays(np.zeros((6, 4, 4), np.uint8), ["cat", "dog"] * 3)
    >>> data.classes, len(data.train), len(data.validation)
    (('cat', 'dog'), 4, 2)
    """
    images = _images(x, "the images")
    named = _names(y, len(images), "the labels", classes)
    numeric = np.asarray(y).dtype.kind in "iu"
    order = tuple(classes or sorted(set(named), key=int if numeric else natural_key))
    if len(order) < 2 or len(set(order)) < len(order):
        raise DataError(f"a classifier needs at least two distinct classes, given are {order}")
    labels = _numbers(named, order, "the labels")
    held_out = np.zeros(len(images), bool)
    if validation is None:
        held_out = by_index(labels, val_fraction, seed)
        train = Split(images[~held_out], labels[~held_out])
        rest = Split(images[held_out], labels[held_out])
        notes += set_aside_note(len(rest), len(images))
    else:
        train = Split(images, labels)
        rest = _other(validation, "validation", train, order, classes)
    final = None if test is None else _other(test, "test", train, order, classes)
    parts = [part for part in (train, rest, final) if part is not None]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.ascontiguousarray(part.images).reshape(-1).view(np.uint8).data)
    numbers = np.concatenate([part.labels for part in parts])
    shape = (*images.shape, len(rest), len(final or ()))
    fingerprint = fingerprint_of(order, digest.hexdigest(), shape, numbers, held_out)
    return Dataset(name, order, train, rest, final, notes=notes, fingerprint=fingerprint)


def resize_images(
    images: np.ndarray, size: tuple[int, int] | None, channels: int | None, resize: Resize
) -> np.ndarray:
    """Return images (N, H, W, C) in a size and a number of channels, each as `read` does it."""
    if size in (None, images.shape[1:3]) and channels in (None, images.shape[3]):
        return images
    return np.stack([read(image, size, channels, resize) for image in images])


def _images(x: np.ndarray, what: str) -> np.ndarray:
    array = np.asarray(x)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or not array.size:
        raise DataError(f"{what} have the shape {np.shape(x)}; (N, H, W, C) or (N, H, W) is needed")
    _, first, second, last = array.shape
    if first in (1, 3) and second == last and last > 4:
        raise DataError(
            f"{what} have the shape {array.shape}, which looks like (N, C, H, W)",
            hint="put the channels last: x.transpose(0, 2, 3, 1)",
        )
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise DataError(
            f"{what} are of type {array.dtype}",
            hint="give uint8 in 0..255 or float32; x.astype(np.uint8) if they are bytes already",
        )
    with np.errstate(over="ignore"):  # what is too large for float32 is named below
        array = array.astype(np.float32)
    finite = np.isfinite(array).all(axis=(1, 2, 3))
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise DataError(
            f"{len(bad)} of {len(array)} images hold values that are no finite float32 numbers, "
            f"the first at index {bad[0]}"
        )
    return array


def _names(
    y: Sequence[object] | np.ndarray, count: int, what: str, classes: Sequence[str] | None
) -> list[str]:
    array = np.asarray(y)
    if array.shape != (count,):
        raise DataError(f"{what} have the shape {array.shape}, the {count} images need ({count},)")
    if array.dtype.kind in "iu":
        if classes is None:
            return [str(label) for label in array.tolist()]
        if array.min() < 0 or array.max() >= len(classes):
            raise DataError(
                f"{what} are {array.min()} to {array.max()}, "
                f"the {len(classes)} classes are 0 to {len(classes) - 1}"
            )
        return [classes[label] for label in array.tolist()]
    if array.dtype.kind == "U" or all(isinstance(label, str) for label in array.tolist()):
        return [str(label) for label in array.tolist()]
    raise DataError(f"{what} are of type {array.dtype}", hint="give integers or strings")


def _numbers(names: list[str], order: tuple[str, ...], what: str) -> np.ndarray:
    number = {name: index for index, name in enumerate(order)}
    if unknown := sorted(set(names) - set(order), key=natural_key):
        raise DataError(
            f"{what} have the class {unknown[0]!r}, which is none of {', '.join(order)}"
        )
    return np.array([number[name] for name in names], np.int64)


def _other(
    pair: tuple[np.ndarray, Sequence[object] | np.ndarray],
    split: str,
    train: Split,
    order: tuple[str, ...],
    classes: Sequence[str] | None,
) -> Split:
    images = _images(pair[0], f"the {split} images")
    if images.shape[1:] != train.images.shape[1:] or images.dtype != train.images.dtype:
        raise DataError(
            f"the {split} images are {images.shape[1:]} {images.dtype}, the training images "
            f"{train.images.shape[1:]} {train.images.dtype}"
        )
    what = f"the {split} labels"
    return Split(images, _numbers(_names(pair[1], len(images), what, classes), order, what))
