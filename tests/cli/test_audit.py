"""`hubel audit`, and what the audit adds to `hubel train` and `hubel evaluate`."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Said, write_folder
from tests.train import toy

Hubel = Callable[..., Said]
NET = ("--net", "conv3-4p1 relu pool2 fc", "--epochs", 2, "-b", 8, "--out", "runs")


@pytest.fixture
def leaky(folder: Path) -> Path:
    """A dataset with two of its twelve test images in training, one of them in another class."""
    (folder / "train/left/broken.png").unlink()
    shutil.copy(folder / "train/left/000.png", folder / "test/left/a.png")
    shutil.copy(folder / "train/left/003.png", folder / "test/right/b.png")
    return folder


def test_the_report_counts_all_and_shows_the_first_few(hubel: Hubel, folder: Path) -> None:
    for number in range(5):
        shutil.copy(folder / "train/left/000.png", folder / f"test/left/x{number}.png")
    said = hubel("audit", folder, "--out", "all.csv")
    assert said.status == 1
    lines = said.out.splitlines()
    assert lines[0].startswith("Audit of shapes, 65 images: ")
    place = next(i for i, line in enumerate(lines) if line.startswith("FAILED  leaks"))
    assert lines[place : place + 7] == [
        "FAILED  leaks       5 (expected: no exact copy, near copies of at most 1 % of 23 held-out "
        "images)",
        "        validation or test images are in the training images too: their score flatters",
        "          test/left/x0.png = train/left/000.png: exact copy",
        "          test/left/x1.png = train/left/000.png: exact copy",
        "          test/left/x2.png = train/left/000.png: exact copy",
        "          … and 2 more; --out FILE.csv lists all",
        "        To do: remove either image of each pair, or believe the score without them",
    ]
    assert any(line.startswith("FAILED  unreadable  1 (expected: 0)") for line in lines)
    with Path("all.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["check", "state", "file", "other file", "what"]
    assert ["leaks", "failed", "test/left/x4.png", "train/left/000.png", "exact copy"] in rows
    assert sum(row[0] == "leaks" for row in rows) == 5


def test_json_lists_the_checks_and_the_status_tells_whether_one_failed(hubel: Hubel) -> None:
    said = hubel("audit", "digits", "--json")
    assert said.status == 0
    checks = json.loads(said.out)
    assert [sorted(check) for check in checks] == [
        ["advice", "cause", "check", "expected", "files", "ok", "value"]
    ] * len(checks)
    assert all(check["ok"] for check in checks)


def test_what_cannot_be_loaded_is_an_error_of_its_own(hubel: Hubel, tmp_path: Path) -> None:
    said = hubel("audit", tmp_path / "nowhere")
    assert (said.status, said.out) == (2, "")
    assert "there is no such folder or dataset" in said.err


def test_training_names_leaks_and_scores_once_more_without_them(hubel: Hubel, leaky: Path) -> None:
    said = hubel("train", leaky, *NET)
    assert (
        "audit: leaks 2: validation or test images are in the training images too: their score "
        "flatters (test/left/a.png = train/left/000.png: exact copy)" in said.err
    )
    assert "exact copy, right and left" in said.err
    lines = said.out.splitlines()
    test = next(i for i, line in enumerate(lines) if line.startswith("Test: "))
    assert lines[test + 1].startswith("      a linear classifier ")
    assert lines[test + 1].endswith(" training images of 6×6")
    assert lines[test + 2].startswith("      without 2 test images that are in training too: ")
    assert " % of 12 (95 % interval " in lines[test + 2]
    summary = json.loads(Path("runs/shapes-net/summary.json").read_text(encoding="utf-8"))
    assert summary["test"]["leaked"] == 2
    assert summary["test"]["images"] == 14
    assert summary["test"]["without_leaked"]["images"] == 12
    assert 0 < summary["test"]["linear"]["accuracy"] <= 1
    assert summary["best"]["leaked"] == 0
    assert summary["best"]["without_leaked"] is None


def test_without_an_audit_nothing_is_compared(hubel: Hubel, leaky: Path) -> None:
    said = hubel("train", leaky, *NET, "--no-audit", "--json")
    assert "audit: " not in said.err
    assert "linear" not in json.loads(said.out)["test"]
    said = hubel("evaluate", "runs/shapes-net", leaky, "--no-audit")
    assert "linear" not in said.out


class TestEvaluate:
    @pytest.fixture
    def run(self, hubel: Hubel, leaky: Path) -> Path:
        hubel("train", leaky, *NET, "-q", "--no-audit")
        return Path("runs/shapes-net")

    def test_the_data_of_the_run_is_compared_with_its_training_images(
        self, hubel: Hubel, run: Path, leaky: Path
    ) -> None:
        made = json.loads(hubel("evaluate", run, leaky, "--json").out)
        assert (made["images"], made["leaked"], made["without_leaked"]["images"]) == (14, 2, 12)
        assert "without 2 test images that are" in hubel("evaluate", run, leaky).out

    def test_a_folder_of_other_images_is_too(
        self, hubel: Hubel, run: Path, leaky: Path, tmp_path: Path
    ) -> None:
        other = write_folder(tmp_path / "other", 12, toy.NAMES, seed=5)
        shutil.copy(leaky / "train/left/000.png", other / "left/again.png")
        flags = ("--split", "val", "--json")
        found = [json.loads(hubel("evaluate", run, other, *flags).out)["leaked"]]
        for split in ("train", "test"):
            shutil.copytree(other, tmp_path / "both" / split)
        found.append(json.loads(hubel("evaluate", run, tmp_path / "both", "--json").out)["leaked"])
        assert found[1] == 1
        assert found[0] in (0, 1)  # the copy may not be set aside

    def test_all_images_include_those_of_training_and_are_not_compared(
        self, hubel: Hubel, run: Path, leaky: Path
    ) -> None:
        assert "linear" not in hubel("evaluate", run, leaky, "--split", "all").out

    def test_where_the_training_images_are_not_at_hand_it_says_so(
        self, hubel: Hubel, run: Path, leaky: Path, tmp_path: Path
    ) -> None:
        other = tmp_path / "elsewhere"
        shutil.copytree(leaky, other)
        (other / "train/left/000.png").unlink()
        shutil.copy(run / "best.hubel", tmp_path / "alone.hubel")
        said = hubel("evaluate", tmp_path / "alone.hubel", other).out
        assert "not compared with the training images: " in said
        assert "there is no run here: no such file or directory" in said
        (leaky / "train/left/000.png").unlink()
        said = hubel("evaluate", run, other)
        assert "these are not the images of its training any more" in said.out
        assert "linear" not in hubel("evaluate", run, other, "--json").out
