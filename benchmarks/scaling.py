"""How the training step grows with threads, batch, image size and depth, beside PyTorch's.

`python -m benchmarks.scaling` goes along all four; `--axis batch` along one. Every point is an
interleaved run of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from benchmarks.compare import RATIO, compare
from benchmarks.results import Column, arguments, finish
from benchmarks.task import Case, Task

__all__ = ["AXES", "COLUMNS", "main", "points"]

AXES = ("threads", "batch", "image size", "depth")

COLUMNS = (
    Column("along", lambda row: row["axis"]),
    Column("at", lambda row: str(row["value"])),
    Column("images/s", lambda row: f"{row['batch'] / row['hubel']:,.0f}"),
    *RATIO,
)

_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SIZES = (16, 32, 64, 128)
_DEPTHS = (1, 2, 4, 8, 16, 32)


def points(axis: str, threads: int, cores: int) -> Iterator[tuple[int, Task]]:
    """The values along an axis, each with its task; all else is `cs231n`, 32×32×3, batch 128."""

    def task(net: str = "cs231n", side: int = 32, batch: int = 128, on: int = threads) -> Task:
        return Task(Case(net, (side, side, 3), 10, batch), "training", "float32", on)

    match axis:
        case "threads":
            yield from ((count, task(on=count)) for count in range(1, cores + 1))
        case "batch":
            yield from ((batch, task(batch=batch)) for batch in _BATCHES)
        case "image size":
            # As many pixels in a batch whatever their size.
            yield from ((side, task(side=side, batch=128 * 32 * 32 // side**2)) for side in _SIZES)
        case "depth":
            for depth in _DEPTHS:
                yield depth, task(f"conv3-32p1 relu (conv3-32p1 relu)x{depth} pool2 fc", batch=32)


def main() -> None:
    """Times every point and prints a table."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--axis", action="append", choices=AXES, help="may be repeated; all")
    given = parser.parse_args()
    only = tuple(given.only or ("channels first", "channels last"))
    rows = [
        {**row, "axis": axis, "value": value}
        for axis in given.axis or AXES
        for value, task in points(axis, given.threads, os.cpu_count() or 1)
        for row in compare(task, given.rounds, given.turn, only)
    ]
    finish("scaling", given, COLUMNS, rows)


if __name__ == "__main__":
    main()
