"""What a benchmark hands over: a table on the standard output, and a file of numbers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.machine import facts

__all__ = ["Column", "Row", "arguments", "finish", "markdown_table", "text_table"]

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A column's title, and what it shows of a row."""

    title: str
    text: Callable[[Row], str]


def arguments(description: str | None, rounds: int = 12) -> argparse.ArgumentParser:
    """The command line that all benchmarks share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2, help="of everybody (default 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    if rounds:
        parser.add_argument("--rounds", type=int, default=rounds, help=f"(default {rounds})")
        parser.add_argument(
            "--turn", type=float, default=0.3, help="seconds of a turn, at least a step (0.3)"
        )
        parser.add_argument(
            "--only",
            action="append",
            default=[],
            metavar="WORD",
            help="rivals whose name holds it, such as PyTorch or 'channels last'; may be repeated",
        )
    return parser


def finish(
    name: str, given: argparse.Namespace, columns: Sequence[Column], rows: Sequence[Row]
) -> None:
    """Prints the table, and writes date, machine, arguments and rows where `--json` says."""
    print(text_table(columns, rows))
    if given.json is not None:
        found = {
            "benchmark": name,
            **facts(),
            "arguments": {key: str(value) for key, value in vars(given).items() if key != "json"},
            "rows": list(rows),
        }
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def text_table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Rows in aligned columns."""
    lines = _texts(columns, rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown_table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Rows as a table of Markdown."""
    head, *lines = (
        f"| {' | '.join(text.replace('|', chr(92) + '|') for text in line)} |"
        for line in _texts(columns, rows)
    )
    return "\n".join([head, f"|{'---|' * len(columns)}", *lines])


def _texts(columns: Sequence[Column], rows: Sequence[Row]) -> list[list[str]]:
    return [
        [column.title for column in columns],
        *([column.text(row) for column in columns] for row in rows),
    ]
