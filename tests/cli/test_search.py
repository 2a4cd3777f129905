"""`hubel search`: what it says, what it leaves, and how it is taken up again."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hubel.model import load
from hubel.train.optimizers import OPTIMIZERS
from hubel.trials.search import trials_in
from hubel.trials.searchable import SEARCHABLE
from tests.cli.conftest import Said
from tests.train import toy

Hubel = Callable[..., Said]
NET = "conv3-{2..6}p1 bn relu pool2 drop{0.0..0.5} fc"
FLAGS = ("--engine", "reference", "--net", NET, "--trials", 4, "--epochs", 2, "-b", 16)


def command_in(out: str) -> list[str]:
    """The arguments of the command that the last line is."""
    program, *arguments = shlex.split(out.splitlines()[-1])
    assert program == "hubel"
    return arguments


@pytest.mark.slow
def test_it_says_what_it_does_and_what_came_out(hubel: Hubel, folder: Path) -> None:
    said = hubel("search", folder, *FLAGS)
    assert said.status == 0
    assert "Data: shapes, " in said.err
    assert f"Run:  {Path.cwd() / 'runs' / 'shapes-search'}" in said.err
    assert re.search(
        r"^Stage 1 of 2: 3 trials of 1 epoch, lr 0\.0001\.\.0\.1 log, ", said.err, re.M
    )
    assert len(re.findall(r"^trial \d/4  accuracy +\d+\.\d\d %", said.err, re.M)) == 4
    lines = said.out.splitlines()
    assert len([line for line in lines if line.rstrip()[:5].strip().isdigit()]) == 4
    figures = r"\d+\.\d\d % of \d+ {} images \(95 % interval .*; the most frequent class alone .*\)"
    assert re.search(r"^Best: trial \d, epoch \d, " + figures.format("validation"), said.out, re.M)
    assert re.search(r"^Test: " + figures.format("test") + "$", said.out, re.M)
    names = {path.name for path in Path("runs/shapes-search").iterdir()}
    assert names == {
        *("settings.json", "events.jsonl", "optuna.db", "trials"),
        *("best.hubel", "search.json", "search.svg"),
    }


def test_the_command_it_prints_trains_the_winner_to_the_same_bits(
    hubel: Hubel, folder: Path
) -> None:
    more = ("--seed", 5, "--flip", "--crop", "0,1", "--mixup", "0..1", "--clip-norm", "0.5..5",
            "--init", "xavier", "--schedule", "constant",
            "--val-fraction", 0.25, "--batch-size", "8,16", "--size", "6x8")  # fmt: skip
    said = hubel("search", folder, *FLAGS[:-2], *more, "-q")
    arguments = command_in(said.out)
    assert Path(arguments[1]) == Path("shapes")
    assert hubel(*arguments, "-q", "--name", "again").status == 0
    bits = [
        toy.bits(load(f"runs/{name}/best.hubel", engine="reference"))
        for name in ("shapes-search", "again")
    ]
    assert bits[0] == bits[1]


def test_a_network_with_comments_goes_into_a_file_of_its_own(hubel: Hubel, folder: Path) -> None:
    Path("mine.hub").write_text("# input: 6x6x1\nconv3-{2..4}p1 relu # few\nfc\n")
    said = hubel("search", folder, "--net", "mine.hub", *FLAGS[:2], "--trials", 2, "-e", 1, "-q")
    arguments = command_in(said.out)
    assert Path(arguments[3]) == Path("runs/shapes-search/net.hub")
    assert "# few" in Path(arguments[3]).read_text()
    assert hubel(*arguments, "-q", "--name", "again").status == 0


def test_json_is_all_of_it(hubel: Hubel, folder: Path) -> None:
    said = hubel("search", folder, *FLAGS, "--json", "--quiet", "--name", "mine", "--out", "there")
    assert said.err == ""
    found = json.loads(said.out)
    assert json.loads(Path("there/mine/search.json").read_text()) == found
    assert (found["interrupted"], found["ended"], len(found["trials"])) == (False, "trials", 4)
    best = found["trials"][0]
    assert best["number"] == found["best"]
    assert best["interval"][0] <= best["accuracy"] <= best["interval"][1]
    assert set(best["numbers"]) == {"lr", "weight_decay", "conv1 filters", "drop1 rate"}
    assert found["test"]["images"] == 12


@pytest.mark.parametrize("columns", ["80", "120"])
def test_the_table_fits_the_terminal(
    hubel: Hubel, folder: Path, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    said = hubel("search", folder, *FLAGS[:-6], "--trials", 2, "-e", 1, "-q")
    head, _ = said.out.split("\nBest: ")
    assert max(map(len, head.splitlines())) <= int(columns)


def test_its_options_are_those_of_train_with_ranges_for_numbers(hubel: Hubel) -> None:
    said = " ".join(hubel("search", "--help").out.split())
    ranged = re.findall(r"--([a-z0-9-]+)(?:, --[a-z]+)? RANGE ", said)
    assert {name.replace("-", "_") for name in ranged} == SEARCHABLE.keys()
    assert "--lr RANGE Highest learning rate. [a tenth to 100 times the optimizer's usual] " in said
    decoupled = " and ".join(name for name, row in OPTIMIZERS.items() if row.decoupled)
    assert f"L2 regularisation. [1e-6..1e-2; {decoupled} 1e-4..1] " in said
    assert (
        "--mixup RANGE Blend images and their labels by Beta(alpha, alpha); give alpha. [0]" in said
    )
    assert "--flip / --no-flip Mirror training images" in said


@pytest.mark.slow
def test_time_ends_a_sitting_and_resume_goes_on(hubel: Hubel, folder: Path) -> None:
    hubel("search", folder, *FLAGS, "-q", "--name", "whole")
    said = hubel("search", folder, *FLAGS, "--name", "short", "--time", "0.001s")
    assert said.status == 1
    assert "Stopped after 0 of 4 trials" in said.err
    assert "Go on with: hubel search --resume runs/short" in said.err
    assert hubel("search", "--resume", "runs/short", "-q").status == 0
    one, two = (
        [replace(trial, seconds=0.0) for trial in trials_in(f"runs/{name}")]
        for name in ("whole", "short")
    )
    assert one == two


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "hubel: there is nothing to search on. Hint: name a folder of class folders"),
        (("digits", "--lr", "1..1e-3"), "--lr: 1..1e-3 ends before it begins. Hint: write 1e-3..1"),
        (("digits", "--net", "conv3-{8,8}"), "{8,8}: 8,8 names a number twice"),
        (("digits", "--method", "guess"), "is 'guess', not one of random, grid, tpe"),
        (("digits", "--trials", "1"), "1 trials are fewer than 2 stages"),
        (("digits", "--val-fraction", "0"), "a search chooses by validation images"),
        (("digits", "--time", "soon"), "--time soon is no time"),
        (("--resume", "runs/none"), "there is no search here: no such file or directory"),
    ],
)
def test_mistakes_are_a_paragraph_and_exit_2(
    hubel: Hubel, arguments: tuple[str, ...], message: str
) -> None:
    said = hubel("search", *arguments)
    assert (said.status, said.out) == (2, "")
    assert message in said.err
    assert "Traceback" not in said.err
    assert not Path("runs").exists()


def test_a_resumed_search_keeps_its_choices(hubel: Hubel, folder: Path) -> None:
    hubel("search", folder, *FLAGS[:-6], "--trials", 2, "-e", 1, "-q")
    for flags, named in (
        (("--lr", "0.1..1"), "--lr"),
        (("--trials", 9), "--trials"),
        (("--net", "fc"), "--net"),
    ):
        said = hubel("search", "--resume", "runs/shapes-search", *flags)
        assert said.status == 2
        assert f"a resumed search keeps its choices, but {named} was given" in said.err
    hubel("train", folder, "--engine", "reference", "--net", "fc", "-e", 1, "-q", "--name", "plain")
    said = hubel("search", "--resume", "runs/plain")
    assert "these are no settings of a search. Hint: a training run goes on by: " in said.err


def start(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "hubel", "search", *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_trials(process: subprocess.Popen[str], run: Path, count: int) -> None:
    """Wait until so many trials have begun to be trained."""
    while len(list(run.glob("trials/*/last.hubel"))) + len(list(run.glob("trials/*"))) < count + 1:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_killed_again_and_again_it_ends_with_the_same_table(tmp_path: Path) -> None:
    flags = ("digits", "--net", NET, "--trials", 6, "--epochs", 3, "--threads", 1)
    _, said = (process := start(tmp_path, *flags, "--name", "whole")).communicate()
    assert process.returncode == 0, said
    cut = tmp_path / "runs" / "cut"
    process = start(tmp_path, *flags, "--name", "cut")
    for count in (1, 2, 4):
        wait_for_trials(process, cut, count)
        process.kill()
        process.communicate()
        process = start(tmp_path, "--resume", "runs/cut")
    wait_for_trials(process, cut, 5)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate()
    assert process.returncode == 130, said
    assert "Finishing the step; Ctrl-C again stops at once." in said
    assert re.search(r"Interrupted after [45] of 6 trials", said)
    assert "unfinished" in out or "after 5 of" in said
    _, said = (process := start(tmp_path, "--resume", "runs/cut")).communicate()
    assert process.returncode == 0, said
    one, two = (
        [replace(trial, seconds=0.0) for trial in trials_in(tmp_path / "runs" / name)]
        for name in ("whole", "cut")
    )
    assert one == two
    assert (cut / "best.hubel").read_bytes() == (cut.parent / "whole" / "best.hubel").read_bytes()
