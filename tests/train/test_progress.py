"""Progress as a fold of events, through JSON and back with every bit."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hubel.errors import FormatError
from hubel.train.events import Ended, EpochDone, StepDone, as_dict
from hubel.train.progress import Progress, from_dict


def step(number: int, loss: float, count: int = 2) -> StepDone:
    return StepDone(1, number, count, loss, 1, 0.0, loss, 0.5, 0.1, 1.5)


def epoch(number: int, accuracy: float | None, loss: float | None, best: bool) -> EpochDone:
    return EpochDone(number, 0.1, 0.9, loss, accuracy, 0.1, 1.0, 10.0, best)


def test_steps_add_up_and_an_epoch_clears_them() -> None:
    progress = Progress().after(step(1, 0.1)).after(step(2, 0.2, count=1))
    assert (progress.step, progress.seen, progress.correct) == (2, 3, 2)
    assert progress.loss_sum == 0.1 * 2 + 0.2
    row = epoch(1, 0.5, 1.0, best=True)
    assert progress.after(row) == Progress(1, history=(row,))
    assert progress.after(Ended("time", 0, None, 1.0)) == progress


def test_json_keeps_every_bit() -> None:
    row = replace(epoch(1, 1 / 3, 2 / 3, best=True), seconds=None, images_per_second=None)
    progress = Progress().after(row).after(step(1, 0.1 + 0.2))
    assert from_dict(json.loads(json.dumps(progress.as_dict()))) == progress


def test_timings_are_not_kept() -> None:
    row = epoch(1, 0.5, 1.0, best=True)
    slower = replace(row, seconds=99.0, images_per_second=0.1)
    assert Progress().after(row).as_dict() == Progress().after(slower).as_dict()


def test_the_best_is_decided_by_accuracy_then_by_loss() -> None:
    progress = Progress().after(epoch(1, 0.5, 1.0, best=True)).after(epoch(2, 0.4, 0.1, best=False))
    assert progress.best is not None
    assert progress.best.epoch == 1
    assert progress.since_best == 1
    assert progress.improves(9.0, 2.0, 0.6)
    assert progress.improves(9.0, 0.9, 0.5)
    assert not progress.improves(0.0, 1.0, 0.5)
    assert not progress.improves(0.0, 0.0, 0.4)


def test_without_validation_the_training_loss_decides() -> None:
    progress = Progress().after(epoch(1, None, None, best=True))
    assert progress.improves(0.09, None, None)
    assert not progress.improves(0.1, None, None)


def test_progress_that_cannot_be_is_refused() -> None:
    with pytest.raises(FormatError, match="training progress does not hold"):
        from_dict({"epoch": 1})


def test_events_are_what_json_can_hold() -> None:
    fields = as_dict(step(3, 0.5))
    assert next(iter(fields)) == "event"
    assert json.loads(json.dumps(fields)) == fields
    assert fields["event"] == "step"
    assert fields["epoch"] == 1
