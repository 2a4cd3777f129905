"""Speeds as text: a line a network, or a line a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from hubel.graph.shape import describe
from hubel.program.choose import Choice
from hubel.program.structs import Convolution
from hubel.speed import CallSpeed, Speed
from hubel.views.progress import thousands

__all__ = ["call_table", "gigaflops", "rather_than", "shape_of", "speed_table"]

_SPEED_HEAD = (
    "net",
    "images",
    "batch",
    "training step",
    "images/s",
    "GFLOP/s",
    "of peak",
    "one image",
    "inference",
    "images/s",
)
_CALL_HEAD = (
    "",
    "kernel",
    "node",
    "shape",
    "ms",
    "of step",
    "GFLOP/s",
    "of peak",
    "GB/s",
    "rather than",
)


def gigaflops(operations: int, seconds: float) -> float:
    """Billions of floating-point operations a second."""
    return operations / seconds / 1e9


def speed_table(rows: Sequence[tuple[str, tuple[int, int, int], Speed]], peak: float) -> str:
    """A line a network: name, size of its images, what was measured; `peak` in operations/s."""
    lines = [_SPEED_HEAD]
    for name, size, speed in rows:
        lines.append(
            (
                name,
                describe(size),
                str(speed.batch),
                f"{1e3 * speed.step:.2f} ms",
                thousands(speed.batch / speed.step),
                f"{gigaflops(speed.operations, speed.step):.0f}",
                f"{100 * speed.operations / speed.step / peak:.0f} %",
                f"{1e3 * speed.single:.3f} ms",
                f"{1e3 * speed.inference:.2f} ms",
                thousands(speed.batch / speed.inference),
            )
        )
    return _aligned(lines, left=2)


def call_table(rows: Sequence[CallSpeed], peak: float) -> str:
    """A line a call in order, and their sum; `peak` in operations a second.

    GB/s are the call's buffers by its time, wherever they lie: in a cache it may be more than
    the memory gives.
    """
    total = sum(row.seconds for row in rows)
    lines = [_CALL_HEAD]
    for number, row in enumerate(rows):
        counted = ("", "")
        if row.operations:
            rate = row.operations / row.seconds
            counted = (f"{rate / 1e9:.0f}", f"{100 * rate / peak:.0f} %")
        lines.append(
            (
                str(number),
                row.kernel,
                row.node,
                shape_of(row.parameters),
                f"{1e3 * row.seconds:.3f}",
                f"{100 * row.seconds / total:.1f} %",
                *counted,
                f"{row.bytes / row.seconds / 1e9:.0f}",
                rather_than(row.choice),
            )
        )
    done = sum(row.operations for row in rows)
    lines.append(
        (
            "",
            "all",
            "",
            "",
            f"{1e3 * total:.3f}",
            "100.0 %",
            f"{done / total / 1e9:.0f}",
            f"{100 * done / total / peak:.0f} %",
            f"{sum(row.bytes for row in rows) / total / 1e9:.0f}",
            "",
        )
    )
    return _aligned(lines, left=4)


def rather_than(choice: Choice | None) -> str:
    """The algorithms that were not taken, with their estimated cost in that of the one that was.

    >>> from hubel.program.choose import Problem, choose
    >>> conv = Convolution(1, 1, 8, 8, 64, 8, 8, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1)
    >>> rather_than(choose(Problem(conv, "weights")))
    'direct 2.5'
    """
    if choice is None:
        return ""
    least = choice.costs[choice.algorithm]
    others = {name: cost for name, cost in choice.costs.items() if name != choice.algorithm}
    return ", ".join(f"{name} {others[name] / least:.1f}" for name in sorted(others))


def shape_of(parameters: Any) -> str:
    """A kernel's sizes in few signs: maps as height×width×depth, what has no maps as a count.

    >>> from hubel.program.kernels import Rows
    >>> shape_of(Rows(rows=4096, depth=16))
    '4096×16'
    """
    if isinstance(parameters, tuple):  # one call for several arrays
        return f"{len(parameters)} arrays"
    parts = (getattr(parameters, name, None) for name in ("convolution", "pooling", "maps"))
    given = next((part for part in parts if part is not None), parameters)
    if isinstance(given, Convolution):
        marks = "".join(
            f" {mark}{size}"
            for mark, size, usual in (
                ("s", given.stride_y, 1),
                ("d", given.dilation_y, 1),
                ("g", given.groups, 1),
            )
            if size != usual
        )
        return (
            f"{describe((given.height, given.width, given.depth))} → "
            f"{describe((given.out_height, given.out_width, given.filters))} "
            f"{given.rows}×{given.columns}{marks}"
        )
    names = {field.name for field in fields(given)}
    for wanted in (
        ("height", "width", "depth"),
        ("rows", "depth"),
        ("taps", "depth", "filters"),
        ("images", "classes"),
        ("size",),
        ("rows", "from_depth"),
    ):
        if names.issuperset(wanted):
            return describe(tuple(getattr(given, name) for name in wanted))
    return ""


def _aligned(lines: Sequence[Sequence[str]], left: int) -> str:
    """Columns two spaces apart, the first `left` of them flush left, the others right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) if place < left else text.rjust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
