"""The loss at each learning rate tried, as a picture and as text."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hubel.train.preflight import Rates

__all__ = ["rates_chart", "rates_svg"]

_ROWS, _EIGHTHS = 6, " ▁▂▃▄▅▆▇█"

_WIDTH, _HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 24, 44


def rates_chart(rates: Rates, chosen: float) -> Iterator[str]:
    """A bar chart of the losses over the rates, with marks at the suggested and the chosen one."""
    losses = rates.losses
    if not losses:
        return
    low, high = _limits(rates)
    height = (high - low) or 1.0
    eighths = [round((min(loss, high) - low) / height * (8 * _ROWS - 1)) + 1 for loss in losses]
    for row in reversed(range(_ROWS)):
        label = f"{high:.2f}" if row == _ROWS - 1 else f"{low:.2f}" if row == 0 else ""
        bars = "".join(_EIGHTHS[max(0, min(8, each - 8 * row))] for each in eighths)
        yield f"      {label:>8} {bars}".rstrip()
    marks = [" "] * len(losses)
    for rate, mark in ((chosen, "c"), (rates.suggested, "s")):
        if rate is not None and rates.rates[0] <= rate <= rates.rates[-1]:
            marks[min(range(len(losses)), key=lambda k: abs(math.log(rates.rates[k] / rate)))] = (
                mark
            )
    yield f"      {'rate':>8} {''.join(marks)}".rstrip()
    first, last = f"{rates.rates[0]:.0e}", f"{rates.rates[-1]:.1g}"
    gap = " " * max(1, len(losses) - len(first) - len(last))
    suggested = "none" if rates.suggested is None else f"{rates.suggested:g}"
    yield f"      {'':>8} {first}{gap}{last}   c chosen: {chosen:g}, s suggested: {suggested}"


def rates_svg(rates: Rates, chosen: float) -> str:
    """The same as an SVG picture: a curve over a logarithmic axis."""
    points = list(zip(rates.rates, rates.losses, strict=True))
    low, high = _limits(rates) if points else (0.0, 1.0)
    first, last = (rates.rates[0], rates.rates[-1]) if len(points) > 1 else (1e-6, 1.0)

    def x(rate: float) -> float:
        share = math.log(rate / first) / math.log(last / first)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(loss: float) -> float:
        share = (min(loss, high) - low) / ((high - low) or 1.0)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        "<title>Loss at each learning rate tried</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    bottom = _HEIGHT - _BOTTOM
    for power in range(math.ceil(math.log10(first)), math.floor(math.log10(last)) + 1):
        at = x(10.0**power)
        parts.append(f'<path d="M{at:.1f} {_TOP}V{bottom}" stroke="#e4e4e4"/>')
        parts.append(
            f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{10.0**power:g}</text>'
        )
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        loss = low + share * (high - low)
        parts.append(f'<path d="M{_LEFT} {y(loss):.1f}H{_WIDTH - _RIGHT}" stroke="#e4e4e4"/>')
        parts.append(
            f'<text x="{_LEFT - 6}" y="{y(loss) + 4:.1f}" text-anchor="end">{loss:.2f}</text>'
        )
    for rate, name, color, line in (
        (chosen, "chosen", "#b3541e", 0),
        (rates.suggested, "suggested", "#1e7d4f", 1),
    ):
        if rate is not None and first <= rate <= last:
            at = x(rate)
            side, anchor = (-4, "end") if at > _WIDTH / 2 else (4, "start")
            parts.append(
                f'<path d="M{at:.1f} {_TOP}V{bottom}" stroke="{color}" stroke-dasharray="4 3"/>'
                f'<text x="{at + side:.1f}" y="{_TOP + 12 + 16 * line}" fill="{color}" '
                f'text-anchor="{anchor}">{name} {rate:g}</text>'
            )
    if points:
        curve = "L".join(f"{x(rate):.1f} {y(loss):.1f}" for rate, loss in points)
        parts.append(f'<path d="M{curve}" fill="none" stroke="#2457a6" stroke-width="2"/>')
    parts.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">'
        "learning rate</text>"
        f'<text x="14" y="{_HEIGHT / 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {_HEIGHT / 2})">loss, smoothed</text></svg>\n'
    )
    return "\n".join(parts)


def _limits(rates: Rates) -> tuple[float, float]:
    """The least loss, and the highest worth drawing: where a run bursts it has no end."""
    low = min(rates.losses)
    return low, min(max(rates.losses), max(rates.losses[0] * 1.3, low * 1.5))
