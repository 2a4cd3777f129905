"""Peak memory of a training step, above what the process holds after its imports, and in all.

`python -m benchmarks.memory` runs everybody alone, one after another, `cs231n` with 128 images.
Every process also holds what this benchmark itself imports: NumPy and Hubel's Python.
"""

from __future__ import annotations

from typing import Any

from benchmarks.compare import WORK, say
from benchmarks.results import Column, Row, arguments, finish
from benchmarks.rivals import HUBEL, rivals_for
from benchmarks.task import PRECISIONS, TRAINING, Case, Task, case
from benchmarks.turns import Contestant, LeftOutError

__all__ = ["COLUMNS", "main", "rows_of"]

_SECONDS = 1.0

COLUMNS = (
    *WORK,
    Column("library", lambda row: row["name"]),
    Column("above imports", lambda row: f"{row['above'] / 1e6:,.0f} MB"),
    Column("whole process", lambda row: f"{row['peak'] / 1e6:,.0f} MB"),
    Column("of Hubel's, above imports", lambda row: f"{row['share']:.2f}×"),
)


def main() -> None:
    """Runs everybody and prints a table."""
    parser = arguments(__doc__, rounds=0)
    parser.add_argument("--precision", action="append", choices=PRECISIONS, help="both")
    parser.add_argument(
        "--case", type=case, default=TRAINING[0], metavar="NET@32x32x3@CLASSES@BATCH"
    )
    parser.add_argument("--only", action="append", default=[], metavar="WORD")
    given = parser.parse_args()
    rows: list[Row] = []
    for precision in given.precision or PRECISIONS:
        task = Task(given.case, "training", precision, given.threads)
        peaks: dict[str, dict[str, int]] = {}
        for rival in rivals_for(task, tuple(given.only)):
            contestant = Contestant(rival.name, "benchmarks.worker", rival.name, task.to_json())
            try:
                imported = contestant.answer()["imported"]
                peaks[rival.name] = {
                    "imported": imported,
                    "peak": contestant.turn(_SECONDS)["peak"],
                }
            except LeftOutError as reason:
                say(f"LEFT OUT: {rival.name}, {precision}: {reason}")
                if rival.library == HUBEL:
                    break
            finally:
                contestant.close()
        rows += rows_of(task.case, precision, peaks)
    finish("memory", given, COLUMNS, rows)


def rows_of(one: Case, precision: str, peaks: dict[str, dict[str, int]]) -> list[dict[str, Any]]:
    """A row for everybody, each with its share of Hubel's peak above the imports."""
    return [
        {
            "net": one.net,
            "input": one.input,
            "batch": one.batch,
            "precision": precision,
            "name": name,
            "above": found["peak"] - found["imported"],
            "peak": found["peak"],
            "share": (found["peak"] - found["imported"])
            / (peaks[HUBEL]["peak"] - peaks[HUBEL]["imported"]),
        }
        for name, found in peaks.items()
    ]


if __name__ == "__main__":
    main()
