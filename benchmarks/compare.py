"""A task timed for Hubel and all its rivals in one run: do they agree, and who is how fast."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import numpy as np

from benchmarks.results import Column
from benchmarks.rivals import HUBEL, rivals_for
from benchmarks.task import Task
from benchmarks.turns import Contestant, LeftOutError, interleave, ratio
from hubel.graph.shape import describe

__all__ = ["RATIO", "WORK", "compare", "milliseconds", "say", "started"]

# Largest difference of two answers, relative to the largest number of them: float32 adds in
# another order, bfloat16 keeps eight bits a number and rounds at every layer.
_TOLERANCES = {"float32": 1e-3, "bfloat16": 0.1}


def milliseconds(seconds: float) -> str:
    """Seconds as milliseconds, with three digits.

    >>> milliseconds(0.12345), milliseconds(0.00123), milliseconds(0.0000456)
    ('123', '1.23', '0.0456')
    """
    number = 1e3 * seconds
    return f"{number:,.0f}" if number >= 99.95 else f"{number:.3g}"


WORK = (
    Column("net", lambda row: f"`{row['net']}`"),
    Column("images", lambda row: describe(tuple(row["input"]))),
    Column("batch", lambda row: str(row["batch"])),
    Column("precision", lambda row: row["precision"]),
)
RATIO = (
    Column("Hubel", lambda row: f"{milliseconds(row['hubel'])} ms"),
    Column("rival, its best variant", lambda row: row["rival"]),
    Column("rival's time", lambda row: f"{milliseconds(row['seconds'])} ms"),
    Column("times as fast", lambda row: f"{row['ratio']:.2f}"),
    Column("middle half of rounds", lambda row: f"{row['low']:.2f} to {row['high']:.2f}"),
)
"""What every comparison shows: the task, and Hubel against the best variant of each library."""


def say(line: str) -> None:
    """A line on the standard error, at once."""
    print(line, file=sys.stderr, flush=True)


def compare(
    task: Task, rounds: int, seconds: float, only: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """A row for each library that takes part against Hubel; none where Hubel itself does not."""
    one = task.case
    size = "x".join(map(str, one.input))
    say(f"\n{task.work} of {one.net} {size}, batch {one.batch}, {task.precision}")
    contestants = started(task, only)
    try:
        if not contestants or contestants[0].name != HUBEL:
            return []
        interleave(contestants, rounds, seconds)
        return list(_rows(task, contestants))
    finally:
        for contestant in contestants:
            contestant.close()


def started(task: Task, only: tuple[str, ...] = ()) -> list[Contestant]:
    """Everybody who is ready, Hubel first, and whose answer is Hubel's; the others are named."""
    contestants: list[Contestant] = []
    expected: list[float] = []
    for rival in rivals_for(task, only):
        contestant = Contestant(rival.name, "benchmarks.worker", rival.name, task.to_json())
        try:
            answer = contestant.answer()["answer"]
            if rival.library == HUBEL:
                expected = answer
            _agree(answer, expected, task.precision)
        except LeftOutError as reason:
            say(f"  LEFT OUT: {rival.name}: {reason}")
            contestant.close()
            if rival.library == HUBEL:
                return []
            continue
        contestants.append(contestant)
    return contestants


def _agree(answer: Sequence[float], expected: Sequence[float], precision: str) -> None:
    """Raises LeftOutError where answers are not those of the same computation."""
    if len(answer) != len(expected):
        raise LeftOutError(f"it gives {len(answer)} numbers where Hubel gives {len(expected)}")
    got, wanted = np.array(answer), np.array(expected)
    apart = float(np.abs(got - wanted).max() / np.abs(wanted).max())
    if not apart <= _TOLERANCES[precision]:
        raise LeftOutError(
            f"its answer is not Hubel's: they differ by {apart:.2g} of the largest number"
        )


def _rows(task: Task, contestants: Sequence[Contestant]) -> Iterator[dict[str, Any]]:
    ours, *rivals = contestants
    times = {one.name: median(one.rounds) for one in contestants}
    for name, seconds in times.items():
        say(f"  {name:<36}{milliseconds(seconds):>10} ms")
    if not rivals:
        say("  NO RIVAL TOOK PART: install the group `bench` to compare")
    for library in dict.fromkeys(rival.name.split(",")[0] for rival in rivals):
        variants = [rival for rival in rivals if rival.name.split(",")[0] == library]
        best = min(variants, key=lambda one: times[one.name])
        yield {
            **asdict(task.case),
            "work": task.work,
            "precision": task.precision,
            "threads": task.threads,
            "hubel": times[ours.name],
            "rival": best.name,
            "seconds": times[best.name],
            **asdict(ratio(ours.rounds, best.rounds)),
            "rounds": {one.name: one.rounds for one in (ours, *variants)},
        }
