"""Images and classes as users have them, to the arrays that a network is trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hubel.data.dataset import Dataset, Split
from hubel.errors import DataError, UsageError
from hubel.graph.shape import describe

if TYPE_CHECKING:
    from hubel.network import Network
    from hubel.train.settings import Settings

__all__ = [
    "Classes",
    "as_images",
    "as_labels",
    "as_split",
    "class_names",
    "fingerprint",
    "handed_over",
    "held_out",
    "names_in",
]

Classes: TypeAlias = Sequence[int] | Sequence[str] | NDArray[Any]


def as_images(given: ArrayLike, size: tuple[int, int, int], *, least: int = 1) -> NDArray[Any]:
    """Images (N, H, W, C), uint8 or float32; raises UsageError where they are not of that size.

    (N, H, W) will do where the depth is 1. There must be at least `least` of them.
    """
    images = np.asarray(given)
    if images.shape == size:
        raise UsageError(
            f"the images have the shape of a single one, {size}",
            hint=f"give an array of shape (N, {', '.join(map(str, size))}): x[None] of a single x",
        )
    if images.ndim == 3 and size[2] == 1:
        images = images[..., None]
    if images.ndim != 4 or images.shape[1:] != size:
        found = describe(images.shape[1:]) if images.ndim == 4 else f"shape {images.shape}"
        raise UsageError(
            f"the images are {found}, and the network takes {describe(size)}",
            hint=f"give an array of shape (N, {', '.join(map(str, size))}), or resize the images",
        )
    if len(images) < least:
        raise UsageError("there is no image", hint="give at least one")
    if images.dtype.kind == "f":
        return images.astype(np.float32, copy=False)
    if images.dtype != np.uint8:
        raise UsageError(f"the images are {images.dtype}", hint="give uint8 or float32")
    return images


def names_in(given: Classes) -> tuple[str, ...] | None:
    """The names among classes given by name, sorted; None for classes given by number."""
    labels = np.asarray(given)
    return tuple(np.unique(labels).tolist()) if labels.dtype.kind in "US" else None


def class_names(network: Network, names: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the scores, by default their numbers; raises UsageError where they misfit."""
    (scores,) = network.graph.outputs
    count = prod(network.graph[scores].shape)
    if names is None:
        return tuple(map(str, range(count)))
    named = tuple(map(str, names))
    if len(named) != count:
        raise UsageError(
            f"there are {len(named)} classes, and the network has {count} outputs",
            hint="write fc without a number, and it has as many outputs as there are classes",
        )
    if len(set(named)) < count:
        twice = sorted({name for name in named if named.count(name) > 1})
        raise UsageError(f"two classes are called {', '.join(twice)}")
    return named


def as_labels(given: Classes, names: Sequence[str]) -> NDArray[np.int64]:
    """Class numbers (N,) of classes given by number or name; raises UsageError for unknown ones."""
    labels = np.asarray(given)
    if labels.ndim != 1:
        raise UsageError(f"the classes have shape {labels.shape}", hint="give one class an image")
    if labels.dtype.kind in "US":
        number = {name: place for place, name in enumerate(names)}
        strangers = sorted(set(labels.tolist()) - set(number))
        if strangers:
            raise UsageError(
                f"{', '.join(map(str, strangers))} is no class of the model",
                hint=f"its classes are {', '.join(names)}",
            )
        return np.array([number[name] for name in labels.tolist()], np.int64)
    if labels.dtype.kind not in "iu":
        raise UsageError(f"the classes are {labels.dtype}", hint="give whole numbers or names")
    wrong = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if wrong.size:
        raise UsageError(
            f"the class {labels[wrong[0]]} of image {wrong[0]} (from 0) is none of "
            f"the {len(names)} that the network has",
            hint=f"number them 0 to {len(names) - 1}, or give the network more outputs",
        )
    return labels.astype(np.int64)


def as_split(
    images: ArrayLike, labels: Classes, size: tuple[int, int, int], names: Sequence[str]
) -> Split:
    """Both in one, as many of one as of the other."""
    split = Split(as_images(images, size), as_labels(labels, names))
    if len(split.images) != len(split.labels):
        raise UsageError(f"there are {len(split.images)} images, but {len(split.labels)} classes")
    return split


def handed_over(
    x: ArrayLike | Dataset,
    y: Classes | None,
    validation: tuple[ArrayLike, Classes] | None,
    classes: Sequence[str] | None,
    *,
    network: Network,
    known: tuple[str, ...],
    trained: bool,
    chosen: Settings,
) -> tuple[tuple[str, ...], Split, Split | None]:
    """The names of the classes, what is trained on and what is validated on, checked.

    Where no names are given, they are the `known` ones, or those in `y` before a model is
    `trained`. Raises UsageError and DataError for what cannot be trained on.
    """
    if isinstance(x, Dataset):
        if y is not None or validation is not None or classes is not None:
            raise UsageError("a Dataset brings its own classes and validation images")
        names = class_names(network, x.classes)
        as_images(x.train.images, network.input)
        return names, x.train, x.validation if len(x.validation) else None
    if y is None:
        raise UsageError("the classes of the images are missing", hint="train(x, y)")
    given = names_in(y) if classes is None and not trained else classes
    names = known if given is None else class_names(network, given)
    size = network.input
    training = as_split(x, y, size, names)
    if validation is not None:
        if len(validation) != 2:
            raise UsageError(
                f"validation has {len(validation)} parts", hint="give (images, classes)"
            )
        return names, training, as_split(*validation, size, names)
    if not chosen.val_fraction:
        return names, training, None
    return names, *held_out(training, chosen.val_fraction, chosen.seed)


def held_out(split: Split, fraction: float, seed: int) -> tuple[Split, Split | None]:
    """The images to train on, and where `fraction` is above 0 those to validate on."""
    from hubel.data.split import by_index

    mask = by_index(split.labels, fraction, seed)
    if not mask.any():
        if fraction:
            raise DataError(
                f"no image can be set aside from {len(split)}",
                hint="give at least two images of a class, or validation images of your own",
            )
        return split, None
    return (
        Split(split.images[~mask], split.labels[~mask]),
        Split(split.images[mask], split.labels[mask]),
    )


def fingerprint(training: Split, validation: Split | None, names: Sequence[str]) -> str:
    """A hash that changes with any pixel, any label, any class name, and their order."""
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape"))
    for split in (training, validation):
        if split is None:
            continue
        digest.update(f"{split.images.dtype.str} {split.images.shape}".encode())
        # One image after the other: a mapped file is not read into memory as a whole.
        for image in split.images:
            digest.update(np.ascontiguousarray(image).reshape(-1).view(np.uint8).data)
        digest.update(np.ascontiguousarray(split.labels, "<i8").data)
    return digest.hexdigest()
