"""Runs that are interrupted or killed, as real processes: nothing is lost, no bit changes."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hubel.model import load
from tests.train import toy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's"),
]

NET = "conv3-4p1 bn relu pool2 drop0.1 fc"
RECIPE = ("digits", "--net", NET, "--epochs", "2", "-b", "32", "--flip")
REFERENCE = (*RECIPE, "--engine", "reference")

# The command, with steps that take far longer than a test waits.
ENDLESS = """
import sys, time
from hubel.cli import main
from hubel.train import fit
fit.run_step = lambda *_: time.sleep(20)
sys.exit(main())
"""

# Sends itself both signals within the block.
HEEDS = """
import signal
from hubel.cli.terminal import interruptible
with interruptible() as stop:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.raise_signal(number)
        print(stop.status)
print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)
"""


def start(
    folder: Path, *arguments: str, program: tuple[str, ...] = ("-m", "hubel")
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", *program, "train", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def steps(events: Path) -> int:
    return events.read_text().count('"event": "step"') if events.exists() else 0


def wait_for_steps(process: subprocess.Popen[str], events: Path, count: int) -> None:
    """Wait until a run has taken so many steps more."""
    wanted = steps(events) + count
    while steps(events) < wanted:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


def undisturbed_bits(folder: Path, engine: str) -> str:
    """The end of the same run when nothing disturbs it."""
    _, said = (process := start(folder, *RECIPE, "--engine", engine, "--name", "run")).communicate()
    assert process.returncode == 0, said
    return toy.bits(load(folder / "runs" / "run" / "last.hubel", engine="reference"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {
        engine: undisturbed_bits(tmp_path_factory.mktemp(engine), engine)
        for engine in ("reference", "native")
    }


@pytest.mark.parametrize("engine", ["reference", "native"])
def test_a_run_killed_at_random_moments_ends_with_the_same_bits(
    tmp_path: Path, undisturbed: dict[str, str], engine: str
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    random.seed(seed)
    run = tmp_path / "runs" / "run"
    process = start(tmp_path, *RECIPE, "--engine", engine, "--name", "run")
    for _ in range(2):
        # The native engine may take all the steps that are left while this process looks away.
        wait_for_steps(process, run / "events.jsonl", random.randint(1, 20))
        time.sleep(random.uniform(0, 0.01))
        process.kill()
        process.communicate()
        process = start(tmp_path, "--resume", "runs/run")
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert toy.bits(load(run / "last.hubel", engine="reference")) == undisturbed[engine], (
        f"seed {seed}"
    )
    assert len((run / "history.csv").read_text().splitlines()) == 3


def test_ctrl_c_finishes_the_step_saves_reports_and_exits_130(
    tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    run = tmp_path / "runs" / "run"
    process = start(tmp_path, *REFERENCE, "--name", "run")
    wait_for_steps(process, run / "events.jsonl", 50)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate()
    assert process.returncode == 130
    assert "Finishing the step; Ctrl-C again stops at once." in said
    assert re.search(r"Interrupted after epoch \d and step \d+ of the next\.", said)
    for which in ("Best", "Last"):
        figures = r"epoch \d, [\d.]+ % of \d+ validation images \(95 % interval [\d.]+ to [\d.]+; "
        assert re.search(rf"^{which}: {figures}the most frequent class", said, re.MULTILINE)
    assert f"Saved in {run}" in said
    assert "Go on with: hubel train --resume runs/run" in said
    assert "Traceback" not in said
    assert out == ""
    left = load(run / "last.hubel", engine="reference")
    assert left.progress is not None
    assert left.progress.epoch * 41 + left.progress.step >= 50
    resumed = start(tmp_path, "--resume", "runs/run")
    _, said = resumed.communicate()
    assert resumed.returncode == 0, said
    assert toy.bits(load(run / "last.hubel", engine="reference")) == undisturbed["reference"]


def test_a_request_to_terminate_saves_too_and_exits_143(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "run"
    process = start(tmp_path, *REFERENCE, "--name", "run")
    wait_for_steps(process, run / "events.jsonl", 5)
    process.terminate()
    _, said = process.communicate()
    assert process.returncode == 143
    assert "Interrupted after epoch 0" in said


def test_a_second_ctrl_c_stops_at_once_and_harms_nothing(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "run"
    process = start(tmp_path, *REFERENCE, "--name", "run", program=("-c", ENDLESS))
    assert process.stderr is not None
    while not (run / "last.hubel").exists():  # it is written right before the first step
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    while "Ctrl-C again stops at once" not in (line := process.stderr.readline()):
        assert line, "it ended at the first signal"
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert time.monotonic() - begun < 5
    assert process.returncode == -signal.SIGINT
    assert "Traceback" not in said
    assert load(run / "last.hubel", engine="reference")


@pytest.mark.parametrize(
    ("ignored", "printed"), [("", "130\n143\nFalse\n"), ("trap '' INT; ", "None\n143\nTrue\n")]
)
def test_a_signal_that_was_ignored_from_the_start_stays_ignored(ignored: str, printed: str) -> None:
    command = ["sh", "-c", f'{ignored}exec "$@"', "sh", sys.executable, "-c", HEEDS]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, printed), done.stderr
