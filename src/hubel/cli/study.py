"""What the commands that experiment have in common: images, a network's text, a picture's name."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from hubel.cli.values import wanted_images
from hubel.data import load
from hubel.data.dataset import Dataset
from hubel.data.preprocess import Resize
from hubel.errors import UsageError
from hubel.notation.named import find, read_header
from hubel.views.canvas import SUFFIXES

__all__ = ["check_picture", "loaded"]


def check_picture(path: Path | None) -> None:
    """Raise UsageError, before anything long begins, for a picture that could not be written."""
    if path is None:
        return
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError("a picture is .png or .svg", where=str(path), hint="name it so")
    if not path.parent.is_dir():
        raise UsageError("there is no such folder", where=str(path.parent), hint="make it first")


def loaded(
    data: str | None,
    net: str | None,
    size: str | None,
    channels: int | None,
    resize: str | None,
    data_dir: Path | None,
) -> tuple[Dataset, str | None]:
    """The images, in the size that is asked for or that the network names, and its text."""
    if data is None:
        raise UsageError("there are no images", hint="name a folder of class folders, or digits")
    text = None if net is None else find(net)[0]
    sides, depth = wanted_images(size, channels, read_header(text or ""))
    how = cast(Resize, resize or "squash")
    return load(data, size=sides, channels=depth, resize=how, data_dir=data_dir), text
