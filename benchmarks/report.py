"""Puts the tables of results into the pages that tell of them, from the benchmarks' own files.

`python -m benchmarks.report FILE...` takes what `--json` wrote and replaces what stands between the
marks of each benchmark in the page that tells of it, so that no figure is ever copied by hand.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import (
    cold_start,
    doctor,
    inference,
    kernels,
    memory,
    scaling,
    time_to_accuracy,
    train_step,
)
from benchmarks.results import Column, markdown_table

__all__ = ["PAGES", "TABLES", "filled", "main", "rendered"]

TABLES: Mapping[str, tuple[Column, ...]] = {
    "train_step": train_step.COLUMNS,
    "inference": inference.COLUMNS,
    "kernels": kernels.COLUMNS,
    "cold_start": cold_start.COLUMNS,
    "memory": memory.COLUMNS,
    "scaling": scaling.COLUMNS,
    "time_to_accuracy": time_to_accuracy.COLUMNS,
    "doctor": doctor.COLUMNS,
}
"""The columns of every benchmark's table."""

_PAGE = Path("docs/performance.md")

PAGES: Mapping[str, Path] = dict.fromkeys(TABLES, _PAGE) | {"doctor": Path("docs/doctor.md")}
"""The page that tells of each benchmark."""


def rendered(found: Mapping[str, Any]) -> str:
    """One file's table, below a line that says when and where it was measured."""
    machine = found["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    threads = found["arguments"].get("threads", machine["cores"])
    isa = machine["instruction_sets"][0]
    where = (
        f"{found['date']}, {machine['processor']}, {machine['cores']} cores, "
        f"{threads} threads each, {isa}, {machine['system']}; {versions}."
    )
    return f"{where}\n\n{markdown_table(TABLES[found['benchmark']], found['rows'])}"


def filled(page: str, files: Iterable[Mapping[str, Any]]) -> str:
    """The page with new tables; raises ValueError for a benchmark that has no marks in it."""
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for found in files:
        by_name.setdefault(found["benchmark"], []).append(found)
    for name, several in by_name.items():
        if name not in TABLES:
            raise ValueError(f"there is no benchmark {name}, only {', '.join(TABLES)}")
        begin, end = f"<!-- results of {name} -->", f"<!-- end of {name} -->"
        if page.count(begin) != 1 or page.count(end) != 1:
            raise ValueError(f"the page must hold {begin} and {end} once each")
        tables = "\n\n".join(rendered(found) for found in several)
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f"{before}{begin}\n{tables}\n{end}{after}"
    return page


def main(arguments: Sequence[str] | None = None) -> None:
    """Fills the page's tables from the files of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--page", type=Path, help="another page than a benchmark's own")
    given = parser.parse_args(arguments)
    files = [json.loads(file.read_text(encoding="utf-8")) for file in given.files]
    by_page: dict[Path, list[Mapping[str, Any]]] = {}
    for found in files:
        page = given.page or PAGES.get(found["benchmark"], _PAGE)
        by_page.setdefault(page, []).append(found)
    for page, several in by_page.items():
        try:
            text = filled(page.read_text(encoding="utf-8"), several)
        except ValueError as error:
            raise SystemExit(f"{page}: {error}") from None
        page.write_text(text, encoding="utf-8")
        print(f"{page}: {', '.join(sorted({found['benchmark'] for found in several}))}")


if __name__ == "__main__":
    main()
