"""What is written on a command line, to what it means."""

from __future__ import annotations

import re
from itertools import chain, count
from pathlib import Path

from hubel.errors import UsageError
from hubel.notation.named import Header
from hubel.train.run import BEST

__all__ = [
    "VAL_FRACTION",
    "duration",
    "image_size",
    "input_size",
    "model_file",
    "new_file",
    "print_json",
    "wanted_images",
]

VAL_FRACTION = 0.1
"""The share of the training images that is set aside where there are no others."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


def duration(text: str) -> float:
    """Seconds of "30s", "10m", "1.5h" or a plain number.

    >>> duration("1.5m")
    90.0
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?)([smh]?)", text.strip().lower())
    if found is None or not float(found[1]):
        raise UsageError(f"--time {text} is no time", hint="write 30s, 10m or 2h")
    return float(found[1]) * _UNITS[found[2]]


def input_size(text: str) -> tuple[int, int, int]:
    """(height, width, depth) of "32x32x3".

    >>> input_size("28x28x1")
    (28, 28, 1)
    """
    found = re.fullmatch(r"(\d+)[x×](\d+)[x×](\d+)", text.strip().lower())
    if found is None:
        raise UsageError(
            f"--input {text} is no size", hint="write HEIGHTxWIDTHxDEPTH, such as 32x32x3"
        )
    return int(found[1]), int(found[2]), int(found[3])


def image_size(text: str) -> tuple[int, int]:
    """(height, width) of "64" or "48x64".

    >>> image_size("48x64")
    (48, 64)
    """
    found = re.fullmatch(r"(\d+)(?:[x×](\d+))?", text.strip().lower())
    if found is None or int(found[1]) < 1 or int(found[2] or 1) < 1:
        raise UsageError(f"--size {text} is no size", hint="write 64 or HEIGHTxWIDTH, 48x64")
    return int(found[1]), int(found[2] or found[1])


def wanted_images(
    size: str | None, channels: int | None, header: Header
) -> tuple[tuple[int, int] | None, int | None]:
    """Height, width and depth of the images asked for, or else named by the network's text.

    None for what neither says: they stay as they are.

    >>> wanted_images(None, None, Header(input=(28, 28, 1)))
    ((28, 28), 1)
    >>> wanted_images("64", None, Header())
    ((64, 64), None)
    """
    named = header.input
    if channels is None and named is not None and named[2] in (1, 3):
        channels = named[2]
    if size is not None:
        return image_size(size), channels
    return None if named is None else named[:2], channels


def model_file(path: Path) -> Path:
    """A model file, or the best one of a run folder."""
    return path / BEST if path.is_dir() else path


def new_file(given: Path | None, usual: Path, overwrite: bool) -> Path:
    """Where a file is to be written: as `given`, else by its usual name, or usual-2, usual-3 ….

    Raises UsageError for a given file that is there, unless it may be overwritten.
    """
    if given is None:
        numbered = (usual.with_stem(f"{usual.stem}-{number}") for number in count(2))
        return next(path for path in chain((usual,), numbered) if not path.exists())
    if given.exists() and not overwrite:
        raise UsageError(
            "there is such a file", where=str(given), hint="give another name, or --overwrite"
        )
    return given


def print_json(content: object) -> None:
    """Print JSON on the standard output."""
    import json

    print(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))
