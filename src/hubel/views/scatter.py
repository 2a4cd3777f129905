"""A search as a picture: the accuracy of every trial against each number that was searched."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from hubel.notation.ranges import Range
from hubel.trials.events import Trial, winner
from hubel.views.trials import called

__all__ = ["scatter"]

# Pixels: a panel, what is around its frame, and what stands above and below all panels.
_WIDTH, _HEIGHT = 300, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 46
_HEAD, _FOOT = 34, 30
_ACROSS = 3
# Accuracies below this share of all trials are shown at the lower edge: one that learned nothing
# would press all others together at the upper one.
_LOW = 1 / 4
_COARSE, _FINE, _BEST, _INK, _GRID = "#8a94a6", "#1f6fb2", "#d1495b", "#222", "#ddd"


def scatter(trials: Sequence[Trial], ranges: Mapping[str, Range], title: str) -> str:
    """An SVG drawing with a panel for each range, its numbers across on their scale.

    A dot is a trial that went to its end with its 95 % interval, a ring one that was stopped, a
    cross one that diverged; a triangle at the lower edge lies below it. The last stage and the
    winner have colours of their own.
    """
    across = 2 if len(ranges) == 4 else min(_ACROSS, len(ranges))
    down = math.ceil(len(ranges) / across)
    width = across * (_LEFT + _WIDTH + _RIGHT)
    height = _HEAD + down * (_TOP + _HEIGHT + _BOTTOM) + _FOOT
    low, high = _bounds(trials)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" fill="{_INK}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="15">{escape(title)}</text>',
    ]
    for place, (name, one) in enumerate(ranges.items()):
        x = _LEFT + place % across * (_LEFT + _WIDTH + _RIGHT)
        y = _HEAD + _TOP + place // across * (_TOP + _HEIGHT + _BOTTOM)
        parts.append(f'<g transform="translate({x} {y})">')
        parts += _frame(name, one, low, high)
        parts += _marks(trials, name, one, low, high)
        parts.append("</g>")
    return "\n".join([*parts, *_legend(height - 12), "</svg>"]) + "\n"


def _bounds(trials: Sequence[Trial]) -> tuple[float, float]:
    """The accuracies at the lower and the upper edge, in percent."""
    shares = sorted(100 * trial.accuracy for trial in trials if trial.accuracy is not None)
    if not shares:
        return 0.0, 100.0
    low, high = shares[int(len(shares) * _LOW)], shares[-1]
    room = max(high - low, 1.0) / 4
    return max(low - room, 0.0), min(high + room, 100.0)


def _frame(name: str, one: Range, low: float, high: float) -> Iterator[str]:
    for tick in _round_ticks(low, high):
        y = _HEIGHT * (high - tick) / (high - low)
        yield f'<path d="M0 {y:.1f}H{_WIDTH}" stroke="{_GRID}"/>'
        yield f'<text x="-6" y="{y + 4:.1f}" text-anchor="end">{tick:g} %</text>'
    for tick in _ticks(one):
        x = _across(one, tick)
        yield f'<path d="M{x:.1f} {_HEIGHT}v5" stroke="{_INK}"/>'
        yield f'<text x="{x:.1f}" y="{_HEIGHT + 18}" text-anchor="middle">{tick:g}</text>'
    yield f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="{_INK}"/>'
    scale = " (logarithmic)" if one.log else ""
    yield (
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT + 36}" text-anchor="middle">'
        f"{escape(called(name))}{scale}</text>"
    )


def _marks(
    trials: Sequence[Trial], name: str, one: Range, low: float, high: float
) -> Iterator[str]:
    best, last = winner(trials), max((trial.stage for trial in trials), default=1)
    # The best ones come first, and are drawn last, over the others.
    for trial in reversed(trials):
        x = _across(one, trial.numbers[name])
        color = _BEST if trial is best else _FINE if trial.stage == last else _COARSE
        if trial.state == "diverged":
            cross = f"M{x - 4:.1f} {_HEIGHT - 9}l8 8m0 -8l-8 8"
            yield f'<path d="{cross}" stroke="{color}" stroke-width="2"/>'
            continue
        if trial.accuracy is None or trial.interval is None:
            continue
        if 100 * trial.accuracy < low:
            hollow = (
                f'fill="none" stroke="{color}"' if trial.state == "stopped" else f'fill="{color}"'
            )
            yield f'<path d="M{x - 5:.1f} {_HEIGHT - 9}h10l-5 8z" {hollow}/>'
            continue

        def down(share: float) -> float:
            return min(max(_HEIGHT * (high - 100 * share) / (high - low), 0.0), float(_HEIGHT))

        y = down(trial.accuracy)
        if trial.state == "done":
            bottom, top = map(down, trial.interval)
            yield f'<path d="M{x:.1f} {bottom:.1f}V{top:.1f}" stroke="{color}" opacity="0.35"/>'
        hollow = "white" if trial.state != "done" else color
        radius = 5.5 if trial is best else 4
        yield (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{hollow}" stroke="{color}">'
            f"<title>trial {trial.number}: {100 * trial.accuracy:.2f} %</title></circle>"
        )


def _legend(y: float) -> Iterator[str]:
    x = _LEFT
    for color, text in ((_BEST, "winner"), (_FINE, "last stage"), (_COARSE, "earlier stages")):
        yield f'<circle cx="{x}" cy="{y - 4}" r="4" fill="{color}"/>'
        yield f'<text x="{x + 9}" y="{y}">{text}</text>'
        x += 24 + 7 * len(text)
    yield f'<circle cx="{x}" cy="{y - 4}" r="4" fill="white" stroke="{_INK}"/>'
    yield f'<text x="{x + 9}" y="{y}">stopped</text>'
    yield f'<path d="M{x + 71} {y - 8}h10l-5 8z" fill="{_INK}"/>'
    yield f'<text x="{x + 86}" y="{y}">lower than shown</text>'


def _across(one: Range, number: float) -> float:
    """Where a number lies between the left and the right edge; listed ones at equal distances."""
    share = one.share(number)
    if one.values:
        share = one.values.index(number) / max(len(one.values) - 1, 1)
    return _WIDTH * (0.05 + 0.9 * share)


def _ticks(one: Range) -> list[float]:
    if one.values:
        return list(one.values)
    if not one.log:
        return [
            tick for tick in _round_ticks(one.low, one.high) if tick == int(tick) or not one.whole
        ]
    decades = range(math.floor(math.log10(one.low)), math.ceil(math.log10(one.high)) + 1)
    steps = (1,) if one.high / one.low > 1e2 else (1, 2, 5)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    # Rounding may put an end a last bit beyond itself.
    return [tick for tick in ticks if one.low / 1.001 <= tick <= one.high * 1.001] or [
        one.low,
        one.high,
    ]


def _round_ticks(low: float, high: float) -> list[float]:
    """A few round numbers from the low to the high one."""
    span = max(high - low, 1e-9) / 6
    power = 10.0 ** math.floor(math.log10(span))
    step = next(one * power for one in (1, 2, 5, 10) if one * power >= span)
    first = math.ceil(low / step - 1e-9)
    return [
        float(f"{place * step:.6g}") for place in range(first, math.floor(high / step + 1e-9) + 1)
    ]
