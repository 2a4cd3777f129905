"""From a cold start: import, first prediction from a saved model, and what is installed for it.

`python -m benchmarks.cold_start` starts fresh processes in turns; `cs231n` predicts one image.
Files are in the system's cache for everybody, as they are from the second start on, and all modules
are compiled to bytecode, as an installation does it and else the first start.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.compare import say
from benchmarks.first_prediction import WAYS
from benchmarks.results import Column, Row, arguments, finish
from benchmarks.turns import ratio

__all__ = ["COLUMNS", "installed_bytes", "main", "requirements"]

_MODULE = "benchmarks.first_prediction"

COLUMNS = (
    Column("from a saved `cs231n`", lambda row: row["way"]),
    Column("import", lambda row: f"{row['import']:.2f} s"),
    Column("import to first prediction", lambda row: f"{row['prediction']:.2f} s"),
    Column("whole process", lambda row: f"{row['process']:.2f} s"),
    Column("of Hubel's time", lambda row: f"{row['ratio']:.1f}×"),
    Column("middle half of rounds", lambda row: f"{row['low']:.1f} to {row['high']:.1f}"),
    Column("installed", lambda row: f"{row['installed'] / 1e6:,.0f} MB"),
)


def requirements(lines: list[str]) -> Iterator[str]:
    """The names of packages that a package needs whatever its extras.

    >>> list(requirements(["numpy>=1.26", "torch==2.13; extra == 'torch'", "typing_extensions"]))
    ['numpy', 'typing_extensions']
    """
    for line in lines:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        if name and "extra ==" not in line:
            yield name[0]


def installed_bytes(package: str) -> int:
    """Bytes of a package's files and of all that it needs; without a wheel, of its folder."""
    found: dict[str, int] = {}
    waiting = [package]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            one = distribution(name)
        except PackageNotFoundError:
            if name != "hubel":  # needed on other systems or versions only
                continue
            found[name] = _folder_bytes()
            waiting += ["numpy", "pillow", "rich", "typer"]
            continue
        files = [Path(str(file.locate())) for file in one.files or ()]
        found[name] = sum(file.stat().st_size for file in files if file.is_file())
        waiting += requirements(one.requires or [])
    return sum(found.values())


def _folder_bytes() -> int:
    spec = importlib.util.find_spec("hubel")
    assert spec is not None
    assert spec.origin is not None
    files = Path(spec.origin).parent.rglob("*")
    return sum(one.stat().st_size for one in files if one.is_file() and one.suffix != ".pyc")


def main() -> None:
    """Starts everybody in turns and prints a table."""
    parser = arguments(__doc__, rounds=0)
    parser.add_argument("--rounds", type=int, default=12, help="(default 12)")
    given = parser.parse_args()
    times: dict[str, list[tuple[float, float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = {way: str(Path(folder) / f"{number}.pt2") for number, way in enumerate(WAYS)}
        for way, file in files.items():
            saved = subprocess.run([sys.executable, "-m", _MODULE, way, file, "w"], check=False)
            if saved.returncode == 0:
                times[way] = []
                _start(way, file)
            elif way == "Hubel":
                raise SystemExit("Hubel's own model could not be saved; see above")
            else:
                say(f"LEFT OUT: {way}: its model could not be saved; see above")
        for _ in range(given.rounds):
            for way, measured in times.items():
                measured.append(_start(way, files[way]))
    finish("cold_start", given, COLUMNS, list(_rows(times)))


def _start(way: str, file: str) -> tuple[float, float, float]:
    """Seconds of the import, to the prediction, and of the whole process."""
    command = [sys.executable, "-m", _MODULE, way, file]
    # The first start, which is not measured, writes the bytecode that is not there yet.
    keeping = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    begun = perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=keeping)
    whole = perf_counter() - begun
    imported, predicted = (float(number) for number in done.stdout.split())
    return imported, predicted, whole


def _rows(times: dict[str, list[tuple[float, float, float]]]) -> Iterator[Row]:
    ours = [prediction for _, prediction, _ in times["Hubel"]]
    for way, measured in times.items():
        imports, predictions, wholes = zip(*measured, strict=True)
        found = ratio(ours, predictions)
        yield {
            "way": way,
            "import": median(imports),
            "prediction": median(predictions),
            "process": median(wholes),
            "ratio": found.ratio,
            "low": found.low,
            "high": found.high,
            "installed": installed_bytes("hubel" if way == "Hubel" else "torch"),
            "rounds": measured,
        }


if __name__ == "__main__":
    main()
