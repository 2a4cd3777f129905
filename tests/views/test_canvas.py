"""Drawings in two formats: the same shapes in the same places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hubel.errors import UsageError
from hubel.views.canvas import Bar, Line, Words, save

SHAPES = [
    Bar(10, 20, 30, 10, "#ff0000"),
    Line(((0, 50), (100, 50)), "#0000ff", 4),
    Words(60, 30, "a < b", "#00aa00", 14),
]


def test_a_png_has_each_shape_where_it_belongs(tmp_path: Path) -> None:
    save(tmp_path / "d.png", SHAPES, 100, 60)
    pixels = np.asarray(Image.open(tmp_path / "d.png"))
    assert pixels.shape == (120, 200, 3)
    assert pixels[50, 50].tolist() == [255, 0, 0]
    assert pixels[100, 150].tolist() == [0, 0, 255]
    assert pixels[10, 10].tolist() == [255, 255, 255]
    words = pixels[30:64, 118:180].astype(int)
    assert (words[..., 1] - words[..., 0] > 80).any()


def test_an_svg_says_the_same_and_escapes_text(tmp_path: Path) -> None:
    save(tmp_path / "d.svg", SHAPES, 100, 60)
    text = (tmp_path / "d.svg").read_text(encoding="utf-8")
    assert '<rect x="10.0" y="20.0" width="30.0" height="10.0" fill="#ff0000"/>' in text
    assert '<polyline points="0.0,50.0 100.0,50.0" fill="none" stroke="#0000ff"' in text
    assert ">a &lt; b</text>" in text


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a picture is \.png or \.svg\. Hint: name it so"):
        save(tmp_path / "d.pdf", SHAPES, 100, 60)
