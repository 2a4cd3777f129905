"""A folder of images and a command line to run on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hubel.cli import main
from tests.train import toy


@dataclass(frozen=True)
class Said:
    """What a command returned and printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def hubel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Said]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUBEL_CACHE", str(tmp_path / "cache"))

    def run(*arguments: object) -> Said:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Said(status, said.out, said.err)

    return run


def write_folder(folder: Path, count: int, names: tuple[str, ...], seed: int = 0) -> Path:
    """Toy images as PNG files, in a folder for each class."""
    x, y = toy.images(count, seed)
    for number, (image, label) in enumerate(zip(x, y, strict=True)):
        place = folder / names[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(image[..., 0])).save(place / f"{number:03}.png")
    return folder


def write_dataset(root: Path) -> Path:
    """48 training and 12 test images of three classes, and one that cannot be read."""
    write_folder(root / "train", 48, toy.NAMES)
    write_folder(root / "test", 12, toy.NAMES, seed=1)
    (root / "train" / "left" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot an image")
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small dataset."""
    return write_dataset(tmp_path / "shapes")
