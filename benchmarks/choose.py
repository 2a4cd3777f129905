"""The command line's choice of nets, batches and precisions."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from benchmarks.task import PRECISIONS, Case, Task, case

__all__ = ["add_choices", "tasks"]


def add_choices(parser: argparse.ArgumentParser, cases: Sequence[Case]) -> None:
    """Options that leave some of the cases, or add one's own."""
    nets = list(dict.fromkeys(one.net for one in cases))
    parser.add_argument("--net", action="append", choices=nets, help="may be repeated; all")
    parser.add_argument("--batch", action="append", type=int, help="may be repeated; all")
    parser.add_argument(
        "--precision", action="append", choices=PRECISIONS, help="may be repeated; both"
    )
    parser.add_argument(
        "--case",
        action="append",
        type=case,
        metavar="NET@32x32x3@CLASSES@BATCH",
        help="a case of one's own instead of the table's; may be repeated",
    )


def tasks(given: argparse.Namespace, cases: Sequence[Case], work: str) -> Iterator[Task]:
    """Every case that was chosen, in every precision that was."""
    for one in given.case or cases:
        if given.net and one.net not in given.net:
            continue
        if given.batch and one.batch not in given.batch:
            continue
        for precision in given.precision or PRECISIONS:
            yield Task(one, work, precision, given.threads)
