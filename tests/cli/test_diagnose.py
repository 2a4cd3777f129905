"""`hubel diagnose` on the command line, and what `hubel train` says of the same at first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import Said

Hubel = Callable[..., Said]
NET = ("--net", "conv3-4p1 relu pool2 fc8 relu fc", "--lr", 0.01, "-b", 16)


def test_a_healthy_run_passes_and_ends_with_0(hubel: Hubel, folder: Path) -> None:
    said = hubel("diagnose", folder, *NET, "--picture", "rates.svg")
    assert said.status == 0
    assert not [line for line in said.out.splitlines() if line.startswith("FAIL")]
    assert "ok    first-loss        " in said.out
    assert "c chosen: 0.01, s suggested: 0." in said.out
    assert said.err.splitlines()[0].startswith("Hubel ")
    assert Path("rates.svg").read_text().startswith("<svg ")
    assert not Path("runs").exists()


def test_mixed_and_weighted_labels_are_looked_at_as_training_has_them(
    hubel: Hubel, folder: Path
) -> None:
    mixing = ("--mixup", 0.2, "--cutmix", 1, "--class-weights", "balanced", "--rotate", 5)
    found = json.loads(hubel("diagnose", folder, *NET, *mixing, "--json", "-q").out)
    right = {check["check"]: check["ok"] for check in found}
    assert right["twenty-images"]
    assert right["first-loss"]
    assert "seconds-an-epoch" in right


def test_a_fault_ends_with_1_and_says_what_to_change(hubel: Hubel, folder: Path) -> None:
    said = hubel("diagnose", folder, *NET, "--init", "zero", "-q")
    assert said.status == 1
    lines = said.out.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("FAIL  weights"))
    assert lines[place + 1].strip().startswith("all filters of conv1.weight are the same")
    assert lines[place + 2].strip() == "→ start from random weights: --init he"
    assert said.err == ""


def test_json_is_a_list_of_checks_and_nothing_else(hubel: Hubel, folder: Path) -> None:
    said = hubel("diagnose", folder, *NET, "--json", "--gradient-check")
    assert said.status == 0
    found = json.loads(said.out)
    fields = {"check", "ok", "value", "expected", "cause", "advice"}
    assert all(set(check) == fields for check in found)
    assert "gradient-check" in [check["check"] for check in found]


def test_training_looks_first_keeps_what_it_found_and_goes_on(hubel: Hubel, folder: Path) -> None:
    said = hubel("train", folder, *NET, "--epochs", 4, "--init", "zero")
    assert said.status == 0
    assert "Preflight: 17 checks in " in said.err
    assert "FAILED; about " in said.err
    assert "→ start from random weights: --init he" in said.err
    kept = json.loads(Path("runs/shapes-net/preflight.json").read_text())["checks"]
    assert {check["check"] for check in kept if not check["ok"]} >= {"weights", "gradients"}
    summary = json.loads(Path("runs/shapes-net/summary.json").read_text())
    assert set(summary["foreseen"]) == {"seconds-an-epoch", "memory", "checkpoint"}
    verdicts = {verdict["code"] for verdict in summary["verdicts"]}
    assert "frozen" in verdicts
    assert "  ! epoch 4, step 1: conv1.weight does not change; no gradient" in said.out


def test_a_run_that_goes_on_says_at_its_end_what_it_said_before(hubel: Hubel, folder: Path) -> None:
    first = hubel("train", folder, *NET, "--epochs", 4, "--init", "zero", "--no-preflight")
    line = "  ! epoch 4, step 1: conv1.weight does not change; no gradient"
    assert first.err.count(line) == first.out.count(line) == 1
    more = hubel("train", "--resume", "runs/shapes-net", "--epochs", 5)
    assert (more.err.count(line), more.out.count(line)) == (0, 1)
    verdicts = json.loads(Path("runs/shapes-net/summary.json").read_text())["verdicts"]
    lines = map(json.loads, Path("runs/shapes-net/events.jsonl").read_text().splitlines())
    assert verdicts == [line for line in lines if line["event"] == "verdict"]


def test_preflight_can_be_left_out(hubel: Hubel, folder: Path) -> None:
    said = hubel("train", folder, *NET, "--epochs", 1, "--no-preflight")
    assert said.status == 0
    assert "Preflight" not in said.err
    assert not Path("runs/shapes-net/preflight.json").exists()
    assert json.loads(Path("runs/shapes-net/summary.json").read_text())["foreseen"] is None


def test_mistakes_are_told_before_anything_runs(hubel: Hubel, folder: Path) -> None:
    said = hubel("diagnose", folder, "--lr", -1)
    assert said.status == 2
    assert "lr (--lr) is -1.0, not a number of at least 0" in said.err
