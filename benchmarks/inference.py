"""Inference against every rival's best: one image for its latency, 128 for the throughput.

`python -m benchmarks.inference` times the nets of the results in both precisions; `--net cs231n
--batch 1` leaves one of them.
"""

from __future__ import annotations

from benchmarks.choose import add_choices, tasks
from benchmarks.compare import RATIO, WORK, compare
from benchmarks.results import arguments, finish
from benchmarks.task import INFERENCE

__all__ = ["COLUMNS", "main"]

COLUMNS = (*WORK, *RATIO)


def main() -> None:
    """Times everybody and prints a table."""
    parser = arguments(__doc__)
    add_choices(parser, INFERENCE)
    given = parser.parse_args()
    rows = [
        row
        for task in tasks(given, INFERENCE, "inference")
        for row in compare(task, given.rounds, given.turn, tuple(given.only))
    ]
    finish("inference", given, COLUMNS, rows)


if __name__ == "__main__":
    main()
