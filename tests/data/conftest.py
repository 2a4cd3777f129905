"""Folders of generated images, and a cache of its own for every test."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Maker = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HUBEL_CACHE", str(folder))
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Maker:
    """Write a PNG of noise, seeded by its name, for every name."""

    def make(*names: str, size: tuple[int, int] = (6, 5), channels: int = 3) -> Path:
        for name in names:
            path = tmp_path / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            random = np.random.default_rng(zlib.crc32(name.encode()))
            pixels = random.integers(0, 256, (*size, channels), np.uint8)
            Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(path, "PNG")
        return tmp_path / "set"

    return make
