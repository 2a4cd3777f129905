"""A training step of Hubel against every rival's best, same threads, interleaved in one run.

`python -m benchmarks.train_step` times the nets of the results in both precisions, which takes
about half an hour; `--net cs231n --precision float32` leaves one of them.
"""

from __future__ import annotations

from benchmarks.choose import add_choices, tasks
from benchmarks.compare import RATIO, WORK, compare
from benchmarks.results import arguments, finish
from benchmarks.task import TRAINING

__all__ = ["COLUMNS", "main"]

COLUMNS = (*WORK, *RATIO)


def main() -> None:
    """Times everybody and prints a table."""
    parser = arguments(__doc__)
    add_choices(parser, TRAINING)
    given = parser.parse_args()
    rows = [
        row
        for task in tasks(given, TRAINING, "training")
        for row in compare(task, given.rounds, given.turn, tuple(given.only))
    ]
    finish("train_step", given, COLUMNS, rows)


if __name__ == "__main__":
    main()
