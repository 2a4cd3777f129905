"""Activation functions compared: a table, and a picture of how they look and how they learn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from math import ceil, floor, log10
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubel.engine.reference.pointwise import FORWARD
from hubel.notation.parse import parse
from hubel.notation.spec import Layer
from hubel.study.activations import FLAT, Compared, Learned
from hubel.views.canvas import COLORS, INK, PALE, Line, Shape, Words

__all__ = ["SIZE", "as_dict", "lines", "shapes"]

_HEAD = ("", "mean", "deviation", "> 0", "flat", "dead", "gradient", "loss", "ms/step")
_BARS = "▁▂▃▄▅▆▇█"
_CURVE = 16

# The lowest loss that the picture shows, and the height of a name in it.
_LEAST, _NAME = 1e-3, 13.0

SIZE = (900.0, 640.0)
"""Width and height of the picture in pixels."""


def lines(compared: Compared) -> Iterator[str]:
    """A line for each function, the lowest loss first, and what the columns say."""
    rows = sorted(compared.rows, key=lambda row: _last(row, compared.steps))
    table: list[tuple[str, ...]] = [(*_HEAD, f"loss from step 1 to {compared.steps}")]
    table += [_row(row, compared, _range(compared)) for row in rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(_HEAD))]
    for line in table:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:-1], widths[1:], strict=True)]
        yield "  ".join([*cells, line[-1]]).rstrip()
    for row in compared.rows:
        if row.failed:
            yield f"{row.token} stopped at step {len(row.losses)}: {row.failed}"
    for token, reason in compared.left_out:
        yield f"{token} was left out: {reason}"
    yield (
        f"Of the last function's outputs on {compared.images} images before training: mean, "
        f"deviation, share above 0,"
    )
    yield (
        f"share where the slope is below {FLAT:g} (flat), units where it is so on every image "
        f"(dead), and the"
    )
    yield (
        f"gradient's norm at the first layer's weights by that at the last's. Loss: the mean of "
        f"the steps up to {compared.steps}, at most 10."
    )


def _last(row: Learned, steps: int) -> float:
    return row.loss(steps) if steps and not row.failed else float("inf")


def _range(compared: Compared) -> tuple[float, float]:
    losses = [loss for row in compared.rows for loss in _curve(row, compared.steps)]
    return (min(losses), max(losses)) if losses else (0.0, 1.0)


def _curve(row: Learned, steps: int) -> list[float]:
    """A run's losses up to a step, in at most so many means."""
    parts = np.array_split(np.array(row.losses[:steps]), min(_CURVE, max(1, steps)))
    return [float(part.mean()) for part in parts if part.size]


def _row(row: Learned, compared: Compared, between: tuple[float, float]) -> tuple[str, ...]:
    seen = row.layers[-1]
    low, high = between
    curve = "".join(
        _BARS[min(7, int(8 * (loss - low) / ((high - low) or 1)))]
        for loss in _curve(row, compared.steps)
    )
    taken = len(row.losses)
    return (
        row.token,
        f"{seen.mean:.3f}",
        f"{seen.deviation:.3f}",
        f"{seen.positive:.0%}",
        f"{seen.flat:.0%}",
        f"{seen.dead:.0%}",
        f"{row.first / row.last:.2g}" if row.last else "—",
        f"{row.loss(compared.steps):.3f}" if compared.steps and not row.failed else "—",
        f"{1e3 * row.seconds / taken:.1f}" if taken else "—",
        curve,
    )


def as_dict(compared: Compared) -> dict[str, Any]:
    """The same for programs, with every layer and every step."""
    return {
        "images": compared.images,
        "steps": compared.steps,
        "functions": [asdict(row) for row in compared.rows],
        "left_out": [{"token": token, "reason": reason} for token, reason in compared.left_out],
    }


def shapes(compared: Compared) -> list[Shape]:
    """How each function's loss falls, above; the functions themselves and their slopes, below."""
    made: list[Shape] = [Words(60, 28, "Loss, mean of ten steps", size=14)]
    made += _curves(compared, 60.0, 44.0, 700.0, 296.0)
    width = (SIZE[0] - 40) / 5
    made.append(
        Words(60, 388, "The functions from -4 to 4 (their slopes thin), outputs -2 to 4", size=14)
    )
    for place, row in enumerate(compared.rows):
        left, top = 20 + place % 5 * width, 404 + place // 5 * 116
        made += _function(row.token, COLORS[place % len(COLORS)], left + 12, top, width - 24, 88)
    return made


def _curves(
    compared: Compared, left: float, top: float, width: float, height: float
) -> list[Shape]:
    smooth = {row.token: _smoothed(row.losses[: compared.steps]) for row in compared.rows}
    every = np.concatenate([[_LEAST], *smooth.values()])
    every = every[np.isfinite(every)][1:]
    low, high = (float(every.min()), float(every.max())) if every.size else (_LEAST, 1.0)
    span = log10(high / low) or 1.0

    def at(loss: float) -> float:
        return top + height * (1 - min(1.0, max(0.0, log10(loss / low) / span)))

    made: list[Shape] = []
    for tick in _ticks(low, high):
        made.append(Line(((left, at(tick)), (left + width, at(tick))), PALE, 0.8))
        made.append(Words(left - 6, at(tick) + 4, f"{tick:g}", anchor="end", size=11))
    steps = compared.steps
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, step = left + width * share, 1 + round((steps - 1) * share)
        made.append(Words(x, top + height + 16, f"{step}", anchor="middle", size=11))
    made.append(Words(left + width / 2, top + height + 32, "step", anchor="middle", size=11))
    ends = []
    for place, row in enumerate(compared.rows):
        losses, color = smooth[row.token], COLORS[place % len(COLORS)]
        if len(losses) < 2:
            continue
        across = width / max(1, steps - 1)
        points = tuple((left + across * i, at(float(loss))) for i, loss in enumerate(losses))
        made.append(Line(points, color, 1.6))
        ends.append((points[-1][1], row.token, color))
    # Names beside the ends of their lines, pushed apart where these lie close, but not below.
    ends.sort()
    places: list[float] = []
    for number, (y, _, _) in enumerate(ends):
        lowest = top + height + 4 - _NAME * (len(ends) - 1 - number)
        places.append(min(lowest, max(y + 4, places[-1] + _NAME if places else 0.0)))
    for y, (_, token, color) in zip(places, ends, strict=True):
        made.append(Words(left + width + 8, y, token, color, 12))
    return made


def _smoothed(losses: tuple[float, ...]) -> NDArray[np.float64]:
    """The mean of each loss and up to nine before it."""
    sums = np.concatenate([[0.0], np.cumsum(losses)])
    ends = np.arange(1, len(losses) + 1)
    begins = np.maximum(0, ends - 10)
    smooth: NDArray[np.float64] = (sums[ends] - sums[begins]) / (ends - begins)
    return smooth.clip(_LEAST)


def _ticks(low: float, high: float) -> list[float]:
    """The round numbers between two others, by powers of ten."""
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    found = [times * 10.0**power for power in powers for times in (1, 2, 5)]
    return [float(f"{tick:.6g}") for tick in found if low <= tick <= high]


def _function(
    text: str, color: str, left: float, top: float, width: float, height: float
) -> list[Shape]:
    (layer,) = parse(text).items
    assert isinstance(layer, Layer)
    x = np.linspace(-4, 4, 161)
    y = _value(layer, x)
    slope = np.gradient(y, x)

    def curve(values: NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
        inside = values.clip(-2, 4)
        return tuple(
            (left + width * (float(a) + 4) / 8, top + height * (4 - float(b)) / 6)
            for a, b in zip(x, inside, strict=True)
        )

    zero = top + height * 4 / 6
    return [
        Line(((left, zero), (left + width, zero)), PALE, 0.8),
        Line(((left + width / 2, top), (left + width / 2, top + height)), PALE, 0.8),
        Line(curve(slope), color, 0.7),
        Line(curve(y), color, 2.2),
        Words(left, top + 12, text, INK, 12),
    ]


def _value(layer: Layer, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The function; PReLU as it begins, maxout as the larger of two lines."""
    if layer.kind == "maxout":
        return np.maximum(x, -0.5 * x - 0.5)
    if layer.kind == "prelu":
        return np.where(x > 0, x, 0.25 * x)
    made: NDArray[np.float64] = FORWARD[layer.kind](x, layer.value or 0.0)
    return made
