"""Image files of a command line, read as a model needs them and put to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubel.data.folder import natural_key
from hubel.data.image import SUFFIXES, Picture, decode, decoder_warnings
from hubel.errors import DataError, UsageError
from hubel.model import Model

__all__ = ["Read", "listed", "readable"]


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """An image that could be read: its own (height, width), and its classes' probabilities."""

    size: tuple[int, int]
    probabilities: NDArray[Any]


def listed(paths: Sequence[Path]) -> list[Path]:
    """The paths, with the images in a folder in its place, in order and without hidden ones.

    In a folder the suffix says what is an image. Raises UsageError where there is nothing at all.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = [
            file
            for file in path.rglob("*")
            if file.suffix.lower() in SUFFIXES
            and file.is_file()
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        ]
        files += sorted(inside, key=lambda file: natural_key(str(file)))
    if not files:
        raise UsageError("there is no image", where=", ".join(map(str, paths)))
    return files


def readable(
    model: Model, paths: Sequence[Path], batch_size: int, tta: str | None = None
) -> Iterator[tuple[Path, Read | DataError]]:
    """Each path in order with the image's probabilities, or why it cannot be read.

    `tta` names the views that are averaged, as for `Model.predict`.
    """
    for some in _batches(paths, batch_size):
        with decoder_warnings():
            pictures = [_decoded(model, path) for path in some]
        sound = [picture.pixels for picture in pictures if isinstance(picture, Picture)]
        probabilities = iter(model.predict(np.stack(sound), tta=tta) if sound else ())
        for path, picture in zip(some, pictures, strict=True):
            if isinstance(picture, DataError):
                yield path, picture
            else:
                yield path, Read(picture.size, next(probabilities))


def _batches(paths: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    return (paths[start : start + size] for start in range(0, len(paths), size))


def _decoded(model: Model, path: Path) -> Picture | DataError:
    height, width, depth = model.network.input
    try:
        channels = depth if depth in (1, 3) else None
        picture = decode(path, (height, width), channels, model.resize)
    except DataError as error:
        return error
    if picture.pixels.shape[2] != depth:
        return DataError(f"it has no {depth} channels", where=str(path))
    return picture
