"""Optuna, which draws the numbers, stops bad trials and keeps everything: the file that knows it.

Each stage of a search is a study of one SQLite file. What a stage draws and decides follows from
the seed and from what the file holds alone, never from the memory of a process, so that a search
that was killed at any moment goes on as if it had not been: a trial enters the file whole, in one
transaction, or not at all.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hubel.errors import FormatError, HubelError, UsageError
from hubel.notation.ranges import Range
from hubel.trials.plan import Plan, budget, grid

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

__all__ = ["FILE", "Drawn", "Record", "Stage", "opened", "required"]

FILE = "optuna.db"
"""The file of a search folder that Optuna keeps, which its own tools open too."""

_NUMBER, _RESULT, _SECONDS, _REFUSED = "trial", "result", "seconds", "refused"
# Trials that go to their end in any case, before one can do worse than half of the others.
_SPARED = 4


@dataclass(frozen=True, slots=True)
class Drawn:
    """Numbers that a stage may try, and what its sampler notes beside them."""

    numbers: Mapping[str, float]
    notes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """What the file holds of a trial: its `key` there, and the `result`, empty while it runs.

    `number` is None for numbers that were refused.
    """

    key: int
    number: int | None
    numbers: Mapping[str, float]
    result: Mapping[str, Any]
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a search: its study and the ranges it draws from."""

    plan: Plan
    place: int
    ranges: Mapping[str, Range]
    study: Study
    storage: BaseStorage

    def records(self) -> list[Record]:
        """Everything that was drawn so far, in order."""
        return [_record(trial) for trial in self.study.get_trials(deepcopy=False)]

    def draw(self) -> Drawn | None:
        """Numbers to try next, None where a grid has no more of them."""
        import optuna

        stored = self.study.get_trials(deepcopy=False)
        seeds = np.random.SeedSequence([self.plan.seed, self.place, len(stored)])
        sampler = self._sampler(int(seeds.generate_state(1)[0]))
        # Drawn in memory: the file's own trial would be there before its numbers are.
        with _silent():
            scratch = optuna.create_study(direction="maximize", sampler=sampler)
        scratch.add_trials(stored)
        if isinstance(sampler, optuna.samplers.GridSampler) and sampler.is_exhausted(scratch):
            return None
        trial = scratch.ask(self._distributions())
        numbers = {name: self.ranges[name].rounded(number) for name, number in trial.params.items()}
        return Drawn(numbers, scratch.trials[-1].system_attrs)

    def begin(self, drawn: Drawn, number: int) -> int:
        """Enter a trial that begins, and return its key."""
        from optuna.trial import TrialState

        return self._add(drawn, TrialState.RUNNING, {_NUMBER: number})

    def refuse(self, drawn: Drawn, reason: str) -> None:
        """Enter numbers that make no trial."""
        from optuna.trial import TrialState

        self._add(drawn, TrialState.FAIL, {_REFUSED: reason})

    def report(self, key: int, accuracies: Mapping[int, float], seconds: float) -> None:
        """Enter the validation accuracy after each epoch, and the seconds that they took."""
        trial = self._id(key)
        for epoch, accuracy in accuracies.items():
            self.storage.set_trial_intermediate_value(trial, epoch, accuracy)
        self.storage.set_trial_user_attr(trial, _SECONDS, seconds)

    def verdict(self, key: int) -> str:
        """Why a trial should be stopped after its last epoch so far, or "" where it should not."""
        trial = self.study.get_trials(deepcopy=False)[key]
        if not self.plan.stop_early or not self.study.pruner.prune(self.study, trial):
            return ""
        epoch = trial.last_step
        assert epoch is not None
        others = self._finished_with(epoch)
        best, half = max(trial.intermediate_values.values()), statistics.median(others)
        return (
            f"after epoch {epoch} at best {100 * best:.2f} %, below {100 * half:.2f} %, "
            f"the median of {len(others)} trials there"
        )

    def finish(self, key: int, result: Mapping[str, Any], value: float | None) -> None:
        """Enter the end of a trial; `value` None where it did not go to its own."""
        from optuna.trial import TrialState

        self.storage.set_trial_user_attr(self._id(key), _RESULT, dict(result))
        with _silent():
            if value is None:
                self.study.tell(key, state=TrialState.PRUNED)
            else:
                self.study.tell(key, value)

    def _finished_with(self, epoch: int) -> list[float]:
        from optuna.trial import TrialState

        others = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [
            trial.intermediate_values[epoch]
            for trial in others
            if epoch in trial.intermediate_values
        ]

    def _add(self, drawn: Drawn, state: Any, attributes: dict[str, Any]) -> int:
        from optuna.trial import create_trial

        trial = create_trial(
            state=state,
            params=dict(drawn.numbers),
            distributions=self._distributions(),
            user_attrs=attributes,
            system_attrs=dict(drawn.notes),
        )
        self.study.add_trial(trial)
        return len(self.study.get_trials(deepcopy=False)) - 1

    def _id(self, key: int) -> int:
        study = self.storage.get_study_id_from_name(self.study.study_name)
        return self.storage.get_trial_id_from_study_id_trial_number(study, key)

    def _distributions(self) -> dict[str, BaseDistribution]:
        return {name: _distribution(one) for name, one in self.ranges.items()}

    def _sampler(self, seed: int) -> BaseSampler:
        return _SAMPLERS[self.plan.method](self, seed)


def _record(trial: FrozenTrial) -> Record:
    kept = trial.user_attrs
    return Record(
        trial.number,
        kept.get(_NUMBER),
        dict(trial.params),
        # A kill just before its end leaves a result with a trial that is still to be ended.
        kept[_RESULT] if trial.state.is_finished() and _RESULT in kept else {},
        kept.get(_SECONDS, 0.0),
        kept.get(_REFUSED, ""),
    )


def _random(stage: Stage, seed: int) -> BaseSampler:
    from optuna.samplers import RandomSampler

    return RandomSampler(seed)


def _grid(stage: Stage, seed: int) -> BaseSampler:
    from optuna.samplers import GridSampler

    points = grid(stage.ranges, budget(stage.plan, stage.place))
    # Its numbers name the points, so that all of a stage must shuffle them alike.
    return GridSampler(points, stage.plan.seed % 2**32)


def _tpe(stage: Stage, seed: int) -> BaseSampler:
    from optuna.samplers import TPESampler

    return TPESampler(n_startup_trials=_SPARED, seed=seed)


_SAMPLERS: Mapping[str, Callable[[Stage, int], BaseSampler]] = {
    "random": _random,
    "grid": _grid,
    "tpe": _tpe,
}


def required() -> None:
    """Raise UsageError where Optuna is not installed."""
    if find_spec("optuna") is None:
        raise UsageError(
            "a search needs Optuna, which is not installed",
            hint="install it: pip install optuna",
        )


@contextmanager
def opened(
    folder: Path,
) -> Iterator[Callable[[Plan, int, Mapping[str, Range], bool], Stage | None]]:
    """Open the file of a search, which gives its stages.

    A stage that is not there yet is made only where that is asked for. Raises UsageError where
    Optuna is not installed, FormatError where the file is none of Optuna's.
    """
    required()
    import optuna
    from sqlalchemy import URL
    from sqlalchemy.exc import DatabaseError

    path = folder / FILE
    try:
        with _silent():
            kept = optuna.storages.RDBStorage(
                URL.create("sqlite", database=str(path.resolve())).render_as_string()
            )
    except DatabaseError as error:
        raise FormatError(
            f"this is no record of a search: {error.orig}", where=str(path), hint="start a new one"
        ) from error
    storage = optuna.storages.get_storage(kept)

    def stage(plan: Plan, place: int, ranges: Mapping[str, Range], make: bool) -> Stage | None:
        name = f"stage-{place + 1}"
        there = {study.study_name for study in storage.get_all_studies()}
        if name not in there and not make:
            return None
        with _silent():
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                direction="maximize",
                pruner=optuna.pruners.MedianPruner(n_startup_trials=_SPARED),
                load_if_exists=True,
            )
        return Stage(plan, place, ranges, study, storage)

    try:
        yield stage
    except DatabaseError as error:
        raise HubelError(
            f"the record of the search cannot be written: {error.orig}",
            where=str(path),
            hint="free some space, or give another folder with --out",
        ) from error
    finally:
        kept.remove_session()
        kept.engine.dispose()


def _distribution(one: Range) -> BaseDistribution:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if one.values:
        return CategoricalDistribution(one.values)
    if one.whole:
        return IntDistribution(int(one.low), int(one.high), log=one.log)
    return FloatDistribution(one.low, one.high, log=one.log)


@contextmanager
def _silent() -> Iterator[None]:
    """Within the block, Optuna says nothing of what it does as it should."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
