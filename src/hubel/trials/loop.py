"""The loop of a search: draw numbers, train with them, compare, stage after stage."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from hubel.data.dataset import Dataset
from hubel.errors import HubelError, UsageError
from hubel.files import replacing
from hubel.graph.check import check
from hubel.model import Model, load
from hubel.network import Network
from hubel.notation.ranges import Range
from hubel.train.diverged import DivergedError
from hubel.train.events import Ended, EpochDone
from hubel.train.progress import Progress
from hubel.train.run import BEST, LAST, record, writing
from hubel.trials.events import (
    Refused,
    SearchEnded,
    SearchEvent,
    SearchStarted,
    StageStarted,
    State,
    Trial,
    TrialDone,
    TrialStarted,
    TrialTrained,
    ranked,
    winner,
)
from hubel.trials.plan import Plan, budget, narrowed, settings_of, stage_epochs
from hubel.trials.study import Drawn, Record, Stage

__all__ = ["Stages", "run", "trials_of"]

Stages: TypeAlias = Callable[[Plan, int, Mapping[str, Range], bool], Stage | None]
"""What gives a stage by its place from 0, with its ranges; made where it is not there if asked."""

# Candidates in a row that make no trial, after which a stage has seen all it can.
_MOST_REFUSED = 100

_Why: TypeAlias = Literal["trials", "time", "exhausted"]


def run(
    data: Dataset,
    plan: Plan,
    folder: Path,
    stages: Stages,
    threads: int | None,
    limit: float | None,
) -> Generator[SearchEvent, None, None]:
    """Make the trials of a plan that its stages still lack, for at most `limit` seconds."""
    deadline = None if limit is None else time.monotonic() + limit
    return _Search(data, plan, folder, threads, stages, deadline).events()


def trials_of(plan: Plan, stages: Stages) -> list[Trial]:
    """The trials that were begun so far, in order."""
    there = [stages(plan, place, {}, False) for place in range(plan.stages)]
    return [trial for stage in there if stage for trial in _trials(stage)]


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    data: Dataset
    plan: Plan
    folder: Path
    threads: int | None
    stage_of: Stages
    deadline: float | None

    def events(self) -> Generator[SearchEvent, None, None]:
        begun = time.monotonic()
        found = list(trials_of(self.plan, self.stage_of))
        finished = [trial for trial in found if trial.state != "unfinished"]
        for trial in finished:
            _remove_models(self.folder / trial.folder)
        yield SearchStarted(str(self.folder), self.plan.trials, len(finished), self.plan.stages)
        ranges, before = self.plan.ranges, list[Trial]()
        why: _Why = "trials"
        for place in range(self.plan.stages):
            stage = self.stage_of(self.plan, place, ranges, True)
            assert stage is not None
            why = yield from self._stage(stage, before)
            before += _trials(stage)
            if why == "time":
                break
            useful = ranked(trial for trial in _trials(stage) if trial.state in ("done", "stopped"))
            ranges = narrowed(ranges, [trial.numbers for trial in useful])
        best = winner(before)
        yield SearchEnded(why, best.number if best else None, time.monotonic() - begun)

    def _stage(self, stage: Stage, before: Sequence[Trial]) -> Generator[SearchEvent, None, _Why]:
        """Make the trials that a stage still lacks, and tell why there are no more."""
        epochs = stage_epochs(self.plan, stage.place)
        most = budget(self.plan, stage.place)
        closed = self.stage_of(self.plan, stage.place + 1, {}, False) is not None
        share = self._share(stage.place)
        yield StageStarted(stage.place + 1, most, epochs, stage.ranges)
        while True:
            records = stage.records()
            running = next((one for one in records if one.number and not one.result), None)
            if running is None:
                made = [one for one in records if one.number]
                if closed or len(made) >= most:
                    return "trials"
                if _late(self.deadline):
                    return "time"
                if made and _late(share):
                    return "trials"
                known = [*before, *_trials(stage)]
                drawn = self._carried(stage, before) if not records else None
                drawn = drawn or stage.draw()
                if drawn is None or _refused_last(records) >= _MOST_REFUSED:
                    if not made:
                        raise _nothing(records)
                    return "exhausted"
                repeated = self._repeated(drawn, known, stage.place)
                refusal = repeated or self._refusal(drawn, stage.place)
                if refusal:
                    stage.refuse(drawn, refusal)
                    yield Refused(stage.place + 1, drawn.numbers, refusal, not repeated)
                    continue
                key = stage.begin(drawn, len(known) + 1)
                running = stage.records()[key]
            trial = yield from self._trained(stage, running)
            if trial is None:
                return "time"
            yield trial

    def _share(self, place: int) -> float | None:
        """When a stage must leave what is left of the time to the finer ones."""
        if self.deadline is None:
            return None
        now = time.monotonic()
        return now + (self.deadline - now) / (self.plan.stages - place)

    def _carried(self, stage: Stage, before: Sequence[Trial]) -> Drawn | None:
        """The best numbers so far, which a finer stage trains longer before any others."""
        best = winner(before)
        if best is None or stage_epochs(self.plan, best.stage - 1) == stage_epochs(
            self.plan, stage.place
        ):
            return None
        return Drawn(best.numbers, {})

    def _repeated(self, drawn: Drawn, known: Sequence[Trial], place: int) -> str:
        """Which trial was just the same, "" where none was."""
        epochs = stage_epochs(self.plan, place)
        for trial in known:
            same = stage_epochs(self.plan, trial.stage - 1) == epochs
            if same and trial.numbers == drawn.numbers:
                return f"the same as trial {trial.number}"
        return ""

    def _refusal(self, drawn: Drawn, place: int) -> str:
        """Why training or the network does not take the numbers, "" where they do."""
        try:
            settings_of(self.plan, place, drawn.numbers)
        except UsageError as error:
            return error.what
        report = check(
            self.plan.ranged.chosen(drawn.numbers),
            self.data.train.images.shape[1:],
            classes=len(self.data.classes),
        )
        return "; ".join(str(replace(problem, fixes=())) for problem in report.problems)

    def _trained(
        self, stage: Stage, running: Record
    ) -> Generator[SearchEvent, None, TrialDone | None]:
        """Train a trial to its end, its stop or its divergence; None where the time is up first."""
        assert running.number is not None
        trial = _trial(stage, running)
        folder = self.folder / trial.folder
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        chosen = settings_of(self.plan, stage.place, running.numbers)
        yield TrialStarted(trial.number, trial.stage, trial.numbers, trial.net)
        begun = time.monotonic()

        def seconds() -> float:
            return running.seconds + time.monotonic() - begun

        def stopped(epoch: int) -> str:
            return stage.verdict(running.key) if epoch < chosen.epochs else ""

        cut_off = (folder / LAST).exists()
        model = self._model(folder / LAST if cut_off else None, trial.net)
        events = model.train(self.data, **({"resume": True} if cut_off else asdict(chosen)))
        history = model.progress.history if cut_off and model.progress else ()
        if history:
            stage.report(running.key, _accuracies(history), seconds())
        # It may have been cut off between the end of an epoch and what that decides.
        why = stopped(history[-1].epoch) if history else ""
        state: State = "stopped" if why else "done"
        try:
            with closing(record(model, events, folder)) as stream:
                for event in () if why else stream:
                    yield TrialTrained(trial.number, event)
                    if isinstance(event, EpochDone):
                        stage.report(running.key, _accuracies([event]), seconds())
                        why = stopped(event.epoch)
                        if why:
                            state = "stopped"
                            break
                    if not isinstance(event, Ended) and _late(self.deadline):
                        return None
        except DivergedError as error:
            state, why = "diverged", f"{error.where}: {error.what}" if error.where else error.what
        assert model.progress is not None
        result: dict[str, Any] = {"state": state, "reason": why, "seconds": seconds()}
        result |= _figures(model.progress, len(self.data.validation))
        trial = replace(trial, **result)
        all_trials = trials_of(self.plan, self.stage_of)
        others = [one for one in all_trials if one.number != trial.number]
        leads = winner([*others, trial]) == trial
        if leads:
            with writing(self.folder):
                _copy(folder / BEST, self.folder / BEST)
        stage.finish(running.key, result, trial.accuracy if state == "done" else None)
        _remove_models(folder)
        return TrialDone(trial, leads)

    def _model(self, path: Path | None, net: str) -> Model:
        """A fresh model, or the one that a trial was cut off with."""
        plan = self.plan
        if path is not None:
            return load(path, engine=plan.engine, precision=plan.precision, threads=self.threads)
        return Model(
            Network(net, self.data.train.images.shape[1:], len(self.data.classes)),
            seed=plan.seed,
            engine=plan.engine,
            precision=plan.precision,
            threads=self.threads,
            initialisation=plan.initialisation,
            classes=self.data.classes,
            resize=plan.resize,
        )


def _trials(stage: Stage) -> list[Trial]:
    return [_trial(stage, one) for one in stage.records() if one.number is not None]


def _trial(stage: Stage, record: Record) -> Trial:
    assert record.number is not None
    begun = Trial(
        number=record.number,
        stage=stage.place + 1,
        numbers=record.numbers,
        net=stage.plan.ranged.chosen(record.numbers),
        state="unfinished",
        folder=f"trials/{record.number:03}",
        images=0,
        seconds=record.seconds,
    )
    return replace(begun, **record.result)


def _figures(progress: Progress, images: int) -> dict[str, Any]:
    """How far a training came, and how well its best epoch does on the validation images."""
    reached = {"epochs": progress.epoch, "images": images}
    best = progress.best
    if best is None or best.validation_accuracy is None:
        return reached
    correct = round(best.validation_accuracy * images)
    return {
        **reached,
        "best_epoch": best.epoch,
        "correct": correct,
        "loss": best.validation_loss,
    }


def _accuracies(rows: Iterable[EpochDone]) -> dict[int, float]:
    return {
        row.epoch: row.validation_accuracy for row in rows if row.validation_accuracy is not None
    }


def _late(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


def _refused_last(records: Sequence[Record]) -> int:
    """How many candidates in a row were refused at the end."""
    accepted = [place for place, one in enumerate(records) if one.number is not None]
    return len(records) - (accepted[-1] + 1 if accepted else 0)


def _nothing(records: Sequence[Record]) -> HubelError:
    """No candidate at all made a trial."""
    last = records[-1]
    return HubelError(
        f"none of {len(records)} candidates makes a trial; the last one: {last.reason}",
        where=", ".join(f"{name} {value:g}" for name, value in last.numbers.items()),
        hint="mend the network with `hubel check`, or narrow its ranges",
    )


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as old, replacing(target) as new:
        shutil.copyfileobj(old, new)


def _remove_models(folder: Path) -> None:
    """Delete the models of a trial that is over: the search keeps the winner's."""
    for name in (BEST, LAST):
        (folder / name).unlink(missing_ok=True)
