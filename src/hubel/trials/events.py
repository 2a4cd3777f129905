"""What happens in a search, as frozen data: the one stream that all readers read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from hubel.notation.ranges import Range
from hubel.train.events import Event
from hubel.train.metrics import wilson

__all__ = [
    "Refused",
    "SearchEnded",
    "SearchEvent",
    "SearchStarted",
    "StageStarted",
    "State",
    "Trial",
    "TrialDone",
    "TrialStarted",
    "TrialTrained",
    "as_dict",
    "ranked",
    "winner",
]

State: TypeAlias = Literal["done", "stopped", "diverged", "unfinished"]

# In a table, trials of a state stand before those of the next.
_ORDER: Mapping[State, int] = MappingProxyType(
    {"done": 0, "stopped": 1, "unfinished": 2, "diverged": 3}
)


@dataclass(frozen=True, slots=True)
class Trial:
    """One training of a search: what it was given by `numbers`, and what came of it.

    Trials and stages count from 1. `accuracy` and `loss` are those of the validation images at the
    best of the `epochs` that were finished, `correct` of `images`; they are None where none was.
    `reason` says why a trial was stopped or diverged. `net` is the text that was trained, `folder`
    lies in that of the search.
    """

    number: int
    stage: int
    numbers: Mapping[str, float]
    net: str
    state: State
    folder: str
    images: int
    reason: str = ""
    epochs: int = 0
    best_epoch: int | None = None
    correct: int | None = None
    loss: float | None = None
    seconds: float = 0.0

    @property
    def accuracy(self) -> float | None:
        """The share of the validation images whose class was found."""
        return None if self.correct is None else self.correct / self.images

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where that share lies on all images of this kind, with 95 % confidence."""
        return None if self.correct is None else wilson(self.correct, self.images)

    def as_dict(self) -> dict[str, Any]:
        """All of it as what JSON can hold."""
        interval = None if self.interval is None else list(self.interval)
        figures = {"accuracy": self.accuracy, "interval": interval}
        return {**asdict(self), "numbers": dict(self.numbers), **figures}


@dataclass(frozen=True, slots=True)
class SearchStarted:
    """A search of so many `trials` in a `folder` begins, or goes on after those `done`."""

    folder: str
    trials: int
    done: int
    stages: int


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage begins: `trials` trainings of `epochs` epochs, with numbers from the `ranges`."""

    stage: int
    trials: int
    epochs: int
    ranges: Mapping[str, Range]


@dataclass(frozen=True, slots=True)
class Refused:
    """Numbers that were drawn and make no trial, and the `reason`.

    `problem` is False where they are only those of an earlier trial.
    """

    stage: int
    numbers: Mapping[str, float]
    reason: str
    problem: bool


@dataclass(frozen=True, slots=True)
class TrialStarted:
    """A trial begins, or goes on where it was cut off."""

    number: int
    stage: int
    numbers: Mapping[str, float]
    net: str


@dataclass(frozen=True, slots=True)
class TrialTrained:
    """Something happened in the training of a trial."""

    number: int
    event: Event


@dataclass(frozen=True, slots=True)
class TrialDone:
    """A trial is over; `best` says whether it leads from now on."""

    trial: Trial
    best: bool


@dataclass(frozen=True, slots=True)
class SearchEnded:
    """A search came to its end: all trials were made, or the time was up, or nothing was left.

    `best` is the number of the winner, None where no trial was done.
    """

    reason: Literal["trials", "time", "exhausted"]
    best: int | None
    seconds: float


SearchEvent: TypeAlias = (
    SearchStarted | StageStarted | Refused | TrialStarted | TrialTrained | TrialDone | SearchEnded
)

_NAMES: Mapping[type[SearchEvent], str] = MappingProxyType(
    {
        SearchStarted: "search started",
        StageStarted: "stage started",
        Refused: "refused",
        TrialStarted: "trial started",
        TrialTrained: "trial trained",
        TrialDone: "trial done",
        SearchEnded: "search ended",
    }
)


def as_dict(event: SearchEvent) -> dict[str, Any]:
    """An event as what JSON can hold, with its name first; ranges as their text.

    >>> as_dict(SearchEnded(reason="trials", best=3, seconds=1.5))
    {'event': 'search ended', 'reason': 'trials', 'best': 3, 'seconds': 1.5}
    """
    named = {field.name: _plain(getattr(event, field.name)) for field in fields(event)}
    return {"event": _NAMES[type(event)], **named}


def ranked(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """Trials with the best first: those that went to their end, then the others.

    The validation accuracy decides, between equals the validation loss, then which came first.
    """

    def key(trial: Trial) -> tuple[float, ...]:
        accuracy = -1.0 if trial.accuracy is None else trial.accuracy
        loss = 0.0 if trial.loss is None else trial.loss
        return _ORDER[trial.state], -accuracy, loss, trial.number

    return tuple(sorted(trials, key=key))


def winner(trials: Iterable[Trial]) -> Trial | None:
    """The best trial that went to its end, None where none did."""
    return next((trial for trial in ranked(trials) if trial.state == "done"), None)


def _plain(value: Any) -> Any:
    if isinstance(value, Trial):
        return value.as_dict()
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return str(value) if isinstance(value, Range) else value
