"""Progress as a fold of events, through JSON and back with every bit."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hubel.errors import FormatError
from hubel.train.events import (
    Ended,
    EpochDone,
    LayerProbe,
    Probe,
    StepDone,
    Verdict,
    WeightProbe,
    as_dict,
)
from hubel.train.progress import Progress, from_dict
from hubel.train.shown import WINDOW, Shown


def step(number: int, loss: float, count: int = 2) -> StepDone:
    return StepDone(1, number, count, loss, 1, 0.0, loss, 0.5, 0.1, 1.5)


def epoch(number: int, accuracy: float | None, loss: float | None, best: bool) -> EpochDone:
    return EpochDone(number, 0.1, 0.9, loss, accuracy, 0.1, 1.0, 10.0, best)


def test_steps_add_up_and_an_epoch_clears_them() -> None:
    progress = Progress().after(step(1, 0.1)).after(step(2, 0.2, count=1))
    assert (progress.step, progress.seen, progress.correct) == (2, 3, 2)
    assert progress.loss_sum == 0.1 * 2 + 0.2
    row = epoch(1, 0.5, 1.0, best=True)
    assert progress.after(row) == Progress(1, history=(row,), shown=progress.shown)
    assert progress.after(Ended("time", 0, None, 1.0)) == progress


def test_json_keeps_every_bit() -> None:
    row = replace(epoch(1, 1 / 3, 2 / 3, best=True), seconds=None, images_per_second=None)
    probe = Probe((LayerProbe("relu1", "relu", True, 0.1, 1 / 3, 0.5, None, 0.1,
                              (1, 2), (0.0, 1 / 3), (3,), (0.0, 1.0)),),
                  (WeightProbe("conv1.weight", 1 / 3, 0.1, 0.0),))  # fmt: skip
    first = replace(step(1, 0.1 + 0.2), probe=probe)
    verdict = Verdict(1, 1, "frozen", "conv1", "conv1.weight does not change", "look")
    progress = Progress().after(row).after(first).after(verdict).after(step(2, 0.5))
    assert progress.shown.earlier is not None
    assert progress.shown.verdicts == (verdict,)
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
    good = Progress().after(step(1, 0.5)).as_dict()
    for wrong in (
        {"epoch": 1},
        {**good, "shown": {"losses": []}},
        {**good, "shown": 3},
        {**good, "shown": {**good["shown"], "probe": []}},
        {**good, "shown": {**good["shown"], "verdicts": [{"code": "stuck"}]}},
    ):
        with pytest.raises(FormatError, match="training progress does not hold"):
            from_dict(wrong)


def test_a_file_from_before_it_was_kept_has_shown_nothing() -> None:
    old = Progress().after(step(1, 0.5)).as_dict()
    del old["shown"]
    assert from_dict(old) == replace(Progress().after(step(1, 0.5)), shown=Shown())


def test_what_was_shown_stays_small_however_long_the_run() -> None:
    progress = Progress()
    for number in range(1, 300):
        progress = progress.after(step(number, 1.0 / number))
    shown = progress.shown
    assert (shown.first, len(shown.losses), len(shown.norms)) == (1.0, 2 * WINDOW, WINDOW + 1)
    assert shown.losses[-1] == 1.0 / 299


def test_events_are_what_json_can_hold() -> None:
    fields = as_dict(step(3, 0.5))
    assert next(iter(fields)) == "event"
    assert json.loads(json.dumps(fields)) == fields
    assert fields["event"] == "step"
    assert fields["epoch"] == 1
