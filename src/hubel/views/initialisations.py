"""Initialisations ten layers deep: a table with a verdict each, and a picture of histograms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from hubel.study.initialisations import BINS, DEPTH, Begun
from hubel.views.canvas import COLORS, INK, PALE, Bar, Line, Shape, Words

__all__ = ["as_dict", "lines", "shapes", "size"]

_LEFT, _TOP, _CELL, _ROW = 120.0, 52.0, 84.0, 108.0


def lines(rows: Sequence[Begun]) -> Iterator[str]:
    """The deviation and the mean of every layer's outputs, and a verdict for each method."""
    width = max(len(row.method) for row in rows)
    numbers = "".join(f"{number:>9}" for number in range(1, DEPTH + 1))
    yield f"{'layer':<{width}}           {numbers}"
    for row in rows:
        deviations = "".join(f"{each.deviation:>9.2g}" for each in row.layers)
        means = "".join(f"{each.mean:>9.1g}" for each in row.layers)
        yield f"{row.method:<{width}}  deviation{deviations}"
        yield f"{'':<{width}}  mean     {means}"
        yield f"{'':<{width}}  {row.verdict}"


def as_dict(rows: Sequence[Begun]) -> list[dict[str, Any]]:
    """The same for programs, with the histograms."""
    return [asdict(row) for row in rows]


def size(rows: Sequence[Begun]) -> tuple[float, float]:
    """Width and height of the picture in pixels."""
    return _LEFT + DEPTH * _CELL + 16, _TOP + len(rows) * _ROW + 12


def shapes(rows: Sequence[Begun]) -> list[Shape]:
    """A histogram for each layer in its column, one initialisation a row."""
    made: list[Shape] = [Words(16, 24, f"Outputs of each layer of {rows[0].net}", size=14)]
    for number in range(DEPTH):
        x = _LEFT + (number + 0.5) * _CELL
        made.append(Words(x, _TOP - 8, f"layer {number + 1}", anchor="middle", size=11))
    for place, row in enumerate(rows):
        made += _row(row, _TOP + place * _ROW, COLORS[place % len(COLORS)])
    return made


def _row(row: Begun, top: float, color: str) -> list[Shape]:
    height = _ROW - 52
    made: list[Shape] = [
        Words(16, top + 30, row.method, size=13),
        Words(16, top + 46, f"{row.low:.2g} to {row.high:.2g}", "#777777", 10),
        Words(_LEFT, top + height + 34, row.verdict, INK, 11),
    ]
    for number, layer in enumerate(row.layers):
        left, width = _LEFT + number * _CELL + 4, _CELL - 8
        base, tallest = top + height, max(layer.shares)
        made.append(Line(((left, base), (left + width, base)), PALE, 0.8))
        for bar, share in enumerate(layer.shares):
            if share:
                tall = height * share / tallest
                across = width / BINS
                made.append(Bar(left + bar * across, base - tall, across, tall, color))
        said = f"{layer.deviation:.2g}"
        made.append(Words(left + width / 2, base + 14, said, "#777777", 10, "middle"))
    return made
