"""Results as text, as JSON, and in the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import PAGES, TABLES, filled, main, rendered
from benchmarks.results import Column, arguments, finish, markdown_table, text_table

ROOT = Path(__file__).parents[2]
COLUMNS = (
    Column("net", lambda row: row["net"]),
    Column("time", lambda row: f"{row['time']:.1f} s"),
)
ROWS = [{"net": "a|b", "time": 1.25}, {"net": "longer", "time": 10.0}]
STEP = {
    "net": "cs231n",
    "input": [32, 32, 3],
    "batch": 128,
    "precision": "float32",
    "hubel": 0.0615,
    "rival": "PyTorch, channels last",
    "seconds": 0.174,
    "ratio": 2.829,
    "low": 2.7,
    "high": 2.91,
}


def results(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "benchmark": name,
        "date": "2026-11-22",
        "machine": {
            "processor": "A processor",
            "instruction_sets": ["avx512", "generic"],
            "cores": 2,
            "system": "Linux 6",
        },
        "versions": {"python": "3.11", "hubel": "0.1.0"},
        "arguments": {"threads": "2"},
        "rows": rows,
    }


def test_tables_line_up_and_escape() -> None:
    assert text_table(COLUMNS, ROWS).splitlines() == [
        "net     time",
        "a|b     1.2 s",
        "longer  10.0 s",
    ]
    assert markdown_table(COLUMNS, ROWS).splitlines() == [
        "| net | time |",
        "|---|---|",
        "| a\\|b | 1.2 s |",
        "| longer | 10.0 s |",
    ]


def test_a_file_is_rendered_with_date_machine_and_versions() -> None:
    where, _, head, _, row = rendered(results("train_step", [STEP])).splitlines()
    assert where == (
        "2026-11-22, A processor, 2 cores, 2 threads each, avx512, Linux 6; "
        "python 3.11, hubel 0.1.0."
    )
    assert head.startswith("| net | images | batch | precision | Hubel |")
    assert row == (
        "| `cs231n` | 32×32×3 | 128 | float32 | 61.5 ms | PyTorch, channels last | 174 ms | "
        "2.83 | 2.70 to 2.91 |"
    )


def test_a_page_is_filled_between_its_marks_and_again() -> None:
    page = "before\n<!-- results of memory -->\nold\n<!-- end of memory -->\nafter\n"
    row = {
        "net": "cs231n",
        "input": [32, 32, 3],
        "batch": 128,
        "precision": "float32",
        "name": "Hubel",
        "above": 100e6,
        "peak": 150e6,
        "share": 1.0,
    }
    once = filled(page, [results("memory", [row])])
    assert "old" not in once
    assert once.startswith("before\n<!-- results of memory -->\n2026-11-22, ")
    assert once.endswith("| Hubel | 100 MB | 150 MB | 1.00× |\n<!-- end of memory -->\nafter\n")
    assert filled(once, [results("memory", [row])]) == once


def test_a_page_without_marks_and_a_strange_file_are_refused() -> None:
    with pytest.raises(ValueError, match="the page must hold <!-- results of memory -->"):
        filled("", [results("memory", [])])
    with pytest.raises(ValueError, match="there is no benchmark speed, only train_step, "):
        filled("", [results("speed", [])])


def test_a_page_has_marks_for_every_benchmark_and_tells_how_to_run_it() -> None:
    for name in TABLES:
        page = (ROOT / PAGES[name]).read_text("utf-8")
        assert filled(page, [results(name, [])])
        assert f"python -m benchmarks.{name} " in page
        assert (ROOT / "benchmarks" / f"{name}.py").exists()


def test_the_command_fills_a_page_from_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments("").parse_args(["--json", str(tmp_path / "r.json"), "--rounds", "2"])
    finish("train_step", given, TABLES["train_step"], [STEP])
    assert "61.5 ms" in capsys.readouterr().out
    found = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert found["rows"] == [STEP]
    assert found["arguments"]["rounds"] == "2"
    assert found["versions"]["numpy"]
    assert found["machine"]["cores"] >= 1
    page = tmp_path / "page.md"
    page.write_text("<!-- results of train_step --><!-- end of train_step -->", "utf-8")
    main([str(tmp_path / "r.json"), "--page", str(page)])
    assert "| 2.83 |" in page.read_text("utf-8")
    page.write_text("nothing", "utf-8")
    with pytest.raises(SystemExit, match="the page must hold"):
        main([str(tmp_path / "r.json"), "--page", str(page)])
