"""Taking turns: everybody in a process of their own, round by round, in one run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from time import sleep
from typing import Any

__all__ = ["Contestant", "LeftOutError", "Ratio", "interleave", "ratio"]

# Threads of the one before may go on looking for work for a moment.
_PAUSE = 0.02


class LeftOutError(Exception):
    """A contestant cannot take part, for a reason of its own."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as fast: of the medians, and the middle half of the rounds' own ratios."""

    ratio: float
    low: float
    high: float


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """How many times as fast `ours` are, in seconds round by round, as `theirs` of the same rounds.

    >>> ratio([1.0, 1.0, 2.0], [2.0, 3.0, 5.0])
    Ratio(ratio=3.0, low=2.25, high=2.75)
    """
    paired = [other / mine for mine, other in zip(ours, theirs, strict=True)]
    low, high = paired[0], paired[0]
    if len(paired) > 1:
        low, _, high = quantiles(paired, n=4, method="inclusive")
    return Ratio(median(theirs) / median(ours), low, high)


class Contestant:
    """A process that answers each line of its standard input with a line of JSON."""

    def __init__(self, name: str, module: str, *arguments: str) -> None:
        self.name = name
        self.rounds: list[float] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def answer(self) -> dict[str, Any]:
        """Its next line; raises LeftOutError where it has failed or says that it cannot."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise LeftOutError(f"it failed with status {self.process.wait()}; see above")
        found: dict[str, Any] = json.loads(line)
        if "left_out" in found:
            raise LeftOutError(found["left_out"])
        return found

    def ask(self, line: str) -> dict[str, Any]:
        """What it answers to a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.answer()

    def turn(self, seconds: float) -> dict[str, Any]:
        """Lets it run for some seconds, and keeps the median of its steps."""
        found = self.ask(str(seconds))
        self.rounds.append(found["median"])
        return found

    def close(self) -> None:
        """Ends the process."""
        self.process.communicate()


def interleave(contestants: Sequence[Contestant], rounds: int, seconds: float) -> None:
    """Gives everybody a turn of some seconds in each round; another one begins each time."""
    for number in range(rounds):
        first = number % len(contestants)
        for contestant in (*contestants[first:], *contestants[:first]):
            contestant.turn(seconds)
            sleep(_PAUSE)
