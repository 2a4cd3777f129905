"""A training step of Hubel against PyTorch's best, same threads, interleaved in one run.

`python -m benchmarks.train_step` times `cs231n` at 32×32×3, batch 128, float32. Every contestant
has a process of its own; in each round each is asked for a few steps in turn. The ratio compares
medians of all steps; the middle half of the rounds' own ratios tells how far to trust it.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from statistics import median, quantiles

from benchmarks.worker import CONTESTANTS, Task
from hubel import check

__all__ = ["main"]


class Contestant:
    """A worker process, and the times that it has given."""

    def __init__(self, name: str, task: Task) -> None:
        self.name = name
        self.rounds: list[list[float]] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", name, json.dumps(asdict(task))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> dict[str, object]:
        """The worker's next line. Raises RuntimeError where the worker has failed."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} failed; its own words stand above")
        found: dict[str, object] = json.loads(line)
        return found

    def run(self, steps: int) -> None:
        """Times some steps."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        times = self.answer()["times"]
        assert isinstance(times, list)
        self.rounds.append(times)

    @property
    def milliseconds(self) -> float:
        """The median of all steps."""
        return 1000 * median(time for times in self.rounds for time in times)


def main() -> None:
    """Times everyone and prints a table and the ratio."""
    given = _arguments()
    height, width, depth = (int(side) for side in given.input.split("x"))
    task = Task(given.net, (height, width, depth), given.classes, given.batch, given.threads)
    report = check(given.net, input=task.input, classes=task.classes)
    print(f"{given.net} {given.input}, batch {task.batch}, float32, {task.threads} threads")
    print(f"{datetime.now(UTC):%Y-%m-%d} {platform.platform()} Python {platform.python_version()}")
    contestants = []
    for name in CONTESTANTS:
        contestant = Contestant(name, task)
        try:
            contestant.answer()
        except RuntimeError as error:
            if name == "hubel":
                raise
            print(f"left out: {error}")
            continue
        contestants.append(contestant)
    for _ in range(given.rounds):
        for contestant in contestants:
            contestant.run(given.steps)
    _print(contestants, operations=6 * report.macs * task.batch)


def _print(contestants: list[Contestant], operations: int) -> None:
    ours, *rivals = contestants
    print(f"\n{'':<30}{'median ms':>10}{'GFLOP/s':>10}")
    for contestant in contestants:
        speed = operations / contestant.milliseconds / 1e6
        print(f"{contestant.name:<30}{contestant.milliseconds:>10.1f}{speed:>10.0f}")
    if not rivals:
        print("no rival took part: install torch to compare")
        return
    best = min(rivals, key=lambda rival: rival.milliseconds)
    paired = [
        median(theirs) / median(mine) for theirs, mine in zip(best.rounds, ours.rounds, strict=True)
    ]
    low, _, high = quantiles(paired, n=4)
    ratio = best.milliseconds / ours.milliseconds
    print(
        f"\nhubel runs {ratio:.2f} steps in the time of one of {best.name} "
        f"(middle half of the rounds: {low:.2f} to {high:.2f})"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", default="cs231n", help="a shipped net, or the text of one")
    parser.add_argument("--input", default="32x32x3")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=3, help="steps of one turn")
    return parser.parse_args()


if __name__ == "__main__":
    main()
