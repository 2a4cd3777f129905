"""Drawings as data: lines, bars and words, written as SVG or painted as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil
from pathlib import Path
from typing import Literal, TypeAlias

from hubel.errors import UsageError
from hubel.records import dataclass

__all__ = ["COLORS", "INK", "PALE", "SUFFIXES", "Bar", "Line", "Shape", "Words", "save", "to_svg"]

COLORS = (
    "#4269d0",
    "#d97706",
    "#c2264b",
    "#6aa84f",
    "#8b5a2b",
    "#a463f2",
    "#0e9aa7",
    "#e377c2",
    "#555555",
    "#9a8a00",
)
"""Ten colours that can be told apart on white."""

SUFFIXES = (".png", ".svg")
"""What a picture may be."""

INK, PALE = "#222222", "#c8c8c8"

_SCALE = 2
_SMOOTH = 2

Anchor: TypeAlias = Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points, in pixels from the top left."""

    points: tuple[tuple[float, float], ...]
    color: str = INK
    width: float = 1.5


@dataclass(frozen=True, slots=True)
class Bar:
    """A filled rectangle: its left, top, width and height."""

    left: float
    top: float
    width: float
    height: float
    color: str = INK


@dataclass(frozen=True, slots=True)
class Words:
    """A line of text on its base line; `anchor` says what of it lies at x."""

    x: float
    y: float
    text: str
    color: str = INK
    size: int = 12
    anchor: Anchor = "start"


Shape: TypeAlias = Line | Bar | Words


def save(path: Path, shapes: Sequence[Shape], width: float, height: float) -> None:
    """Write a drawing as the suffix says; raises UsageError for one that is not .png or .svg."""
    match path.suffix.lower():
        case ".svg":
            path.write_text(to_svg(shapes, width, height), encoding="utf-8")
        case ".png":
            _paint(path, shapes, width, height)
        case _:
            raise UsageError("a picture is .png or .svg", where=str(path), hint="name it so")


def to_svg(shapes: Sequence[Shape], width: float, height: float) -> str:
    """The drawing as SVG, white behind.

    >>> to_svg([Bar(0, 1, 2, 3)], 4, 5).splitlines()[2]
    '<rect x="0.0" y="1.0" width="2.0" height="3.0" fill="#222222"/>'
    """
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" font-family="sans-serif">'
    )
    ground = '<rect width="100%" height="100%" fill="white"/>'
    return "\n".join([head, ground, *map(_element, shapes), "</svg>", ""])


def _element(shape: Shape) -> str:
    match shape:
        case Line():
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
            return (
                f'<polyline points="{points}" fill="none" stroke="{shape.color}" '
                f'stroke-width="{shape.width:g}" stroke-linejoin="round"/>'
            )
        case Bar():
            return (
                f'<rect x="{shape.left:.1f}" y="{shape.top:.1f}" width="{shape.width:.1f}" '
                f'height="{shape.height:.1f}" fill="{shape.color}"/>'
            )
        case Words():
            return (
                f'<text x="{shape.x:.1f}" y="{shape.y:.1f}" fill="{shape.color}" '
                f'font-size="{shape.size}" text-anchor="{shape.anchor}">{escape(shape.text)}</text>'
            )


def _paint(path: Path, shapes: Sequence[Shape], width: float, height: float) -> None:
    from PIL import Image, ImageDraw, ImageFont

    # Painted larger than it is kept, so that edges come out smooth.
    times = _SCALE * _SMOOTH
    image = Image.new("RGB", (ceil(width * times), ceil(height * times)), "white")
    draw = ImageDraw.Draw(image)
    anchors = {"start": "ls", "middle": "ms", "end": "rs"}
    for shape in shapes:
        match shape:
            case Line():
                points = [(x * times, y * times) for x, y in shape.points]
                draw.line(points, shape.color, round(shape.width * times), joint="curve")
            case Bar():
                right, bottom = shape.left + shape.width, shape.top + shape.height
                corners = (shape.left, shape.top, right, bottom)
                draw.rectangle([corner * times for corner in corners], shape.color)
            case Words():
                font = ImageFont.load_default(shape.size * times)
                at = (shape.x * times, shape.y * times)
                draw.text(at, shape.text, shape.color, font, anchors[shape.anchor])
    size = (ceil(width * _SCALE), ceil(height * _SCALE))
    image.resize(size, Image.Resampling.LANCZOS).save(path)
