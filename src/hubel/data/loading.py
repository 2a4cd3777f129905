"""A path or a name to a Dataset: list, decode or take from the cache, split."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeAlias

from hubel.data.dataset import Dataset, printable
from hubel.data.preprocess import Resize
from hubel.errors import DataError

__all__ = ["Progress", "load"]

Progress: TypeAlias = Callable[[int, int], None]
"""Called with how many images (or, in a download, bytes) are done and how many there are."""


def load(
    source: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    resize: Resize = "squash",
    val_fraction: float = 0.1,
    seed: int = 0,
    data_dir: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    cache: bool = True,
    strict: bool = True,
    progress: Progress | None = None,
) -> Dataset:
    """Load a folder of images, or `digits`, `mnist`, `fashion-mnist` or `cifar10` by name.

    A folder holds one folder per class, or train/ with such folders and, if you like, val/ and
    test/ beside it. Without val/, `val_fraction` of the training images is set aside. Without
    `size` (height, width), images of one size keep it and others are brought to their median.
    Without `channels`, they are grey (1) if all training images are, and colour (3) otherwise.
    `workers` is how many images are decoded at once, `data_dir` where a named dataset lies.
    Decoded images of folders are kept in the user's cache folder unless `cache` is False.
    Unless `strict`, a folder may hold classes that its splits do not share, which are left out.
    A folder that is called like a named dataset is loaded as "./mnist". Raises `DataError` for
    what cannot be a dataset; an unreadable image is no error but in `Dataset.problems`.

    >>> digits = load("digits")
    >>> digits.train.images.shape[1:], len(digits.classes)
    ((8, 8, 1), 10)
    """
    # Sockets, archives and processes take longer to import than the rest of the package; whoever
    # brings arrays of their own never needs them.
    from hubel.data import named
    from hubel.data.assemble import load_folder

    if isinstance(source, str) and source in named.NAMES:
        folder = named.class_folders(source, data_dir)
        if folder is None:
            return named.load_named(
                source,
                size=size,
                channels=channels,
                resize=resize,
                val_fraction=val_fraction,
                seed=seed,
                data_dir=data_dir,
                progress=progress,
            )
        source = folder
    elif not os.path.lexists(source):
        raise DataError(
            "there is no such folder or dataset",
            where=printable(os.fspath(source)),
            hint=f"give a folder with a folder of images for each class, or one of "
            f"{', '.join(named.NAMES)}",
        )
    return load_folder(
        source,
        size=size,
        channels=channels,
        resize=resize,
        val_fraction=val_fraction,
        seed=seed,
        workers=workers,
        cache=cache,
        strict=strict,
        progress=progress,
    )
