"""What a run is told while it goes on: each rule on a run that shows just that."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubel.errors import HubelError
from hubel.formats import weights
from hubel.model import load
from hubel.train.events import (
    EpochDone,
    Event,
    LayerProbe,
    Probe,
    Started,
    StepDone,
    Verdict,
    WeightProbe,
)
from hubel.train.metrics import Evaluation
from hubel.train.progress import Progress, from_dict
from hubel.train.settings import settings
from hubel.train.watch import Watch, chance_loss
from tests.train import toy

CHOSEN = settings(lr=0.01, epochs=10)
STEPS = 50


WATCH = Watch(CHOSEN, math.log(10), STEPS)


def done(number: int, loss: float, probe: Probe | None = None, norm: float = 1.5) -> StepDone:
    epoch, step = divmod(number - 1, STEPS)
    return StepDone(epoch + 1, step + 1, 8, loss, 1, 0.0, loss, 0.1, 0.01, norm, probe)


def watched(
    steps: Iterable[StepDone], watch: Watch = WATCH, progress: Progress | None = None
) -> list[Verdict]:
    """What a run of these steps is told, the last of an epoch followed by its row."""
    progress = progress or Progress()
    for step in steps:
        progress = told(watch.step(progress.after(step)))
        if step.step == STEPS:
            progress = progress.after(row(step.epoch, 0.1, 2.3, 0.1))
    return list(progress.shown.verdicts)


def told(verdicts: Generator[Verdict, None, Progress]) -> Progress:
    """The progress that a generator of verdicts returns, all of which are in it."""
    found = []
    while True:
        try:
            found.append(next(verdicts))
        except StopIteration as end:
            progress: Progress = end.value
            assert list(progress.shown.verdicts[-len(found) :] if found else ()) == found
            return progress


def over(losses: list[float]) -> list[Verdict]:
    return watched(done(number, loss) for number, loss in enumerate(losses, 1))


def layer(name: str = "relu3", dead: float | None = 0.0, **changes: object) -> LayerProbe:
    fields = {"maps": True, "mean": 0.5, "deviation": 1.0, "saturated": None, "gradient": 0.1}
    counts = {"histogram": (1,), "range": (0.0, 1.0)}
    slopes = {"gradient_histogram": (1,), "gradient_range": (0.0, 1.0)}
    given = {**fields, **counts, **slopes, **changes}
    return LayerProbe(layer=name, function="relu", dead=dead, **given)  # type: ignore[arg-type]


def probe(*layers: LayerProbe, ratio: float = 1e-3, frozen: bool = False) -> Probe:
    weights = (
        WeightProbe("conv1.weight", 0.1, 0.2, 0.0 if frozen else 0.1 * ratio),
        WeightProbe("fc1.weight", 0.1, 0.2, 0.1 * ratio),
    )
    return Probe(layers, weights)


def probed(*probes: Probe, first: int = 30, watch: Watch = WATCH) -> list[Verdict]:
    return watched((done(number, 1.0, each) for number, each in enumerate(probes, first)), watch)


def test_a_healthy_run_is_told_nothing() -> None:
    falling = [2.3 * 0.99**number + 0.1 for number in range(500)]
    assert over(falling) == []
    assert probed(probe(layer()), probe(layer())) == []


def test_a_rising_loss_blames_the_rate_once() -> None:
    (verdict,) = over([2.0 + 0.05 * number for number in range(300)])[:1]
    assert verdict.code == "rate-too-high"
    assert str(verdict) == (
        "learning rate too high: the loss rose from 2 to 4.97, the mean of 40 steps: try --lr 0.001"
    )
    codes = [each.code for each in over([2.0 + 0.05 * number for number in range(300)])]
    assert codes.count("rate-too-high") == 1


def test_a_burst_of_the_gradient_is_told_where_it_is_not_clipped() -> None:
    steps = [*(done(number, 1.0) for number in range(1, 42)), done(42, 1.0, norm=400.0)]
    (verdict,) = watched(steps)
    assert str(verdict) == (
        "the gradient's norm was 4e+02 in one step, and 1.5 before: try --clip-norm 3"
    )
    assert not watched(steps, Watch(settings(lr=0.01, clip_norm=1.0), math.log(10), STEPS))


def test_a_loss_that_stays_at_chance_is_stuck() -> None:
    (verdict,) = over([2.31] * 250)
    assert verdict.code == "stuck"
    assert verdict.message == (
        "nothing learned in 200 steps: the loss is 2.31, and knowing nothing costs 2.3"
    )
    assert "each label belongs to its image" in verdict.advice


def test_units_that_never_fire_are_named_when_two_probes_agree() -> None:
    dead = probe(layer("relu3", 0.41))
    assert probed(dead) == []
    (verdict,) = probed(dead, dead, dead)
    assert (verdict.code, verdict.layer) == ("dead-units", "relu3")
    assert verdict.message == "41 % of relu3 never fires"


def test_an_output_of_an_fc_layer_may_be_there_for_few_images() -> None:
    rare = probe(layer("relu3", 0.6, maps=False))
    assert probed(rare, rare) == []
    gone = probe(layer("relu3", 0.95, maps=False))
    assert [verdict.code for verdict in probed(gone, gone)] == ["dead-units"]


def test_saturation_is_named() -> None:
    (verdict,) = probed(probe(layer("tanh1", None, saturated=0.8)))
    assert verdict.message == "80 % of tanh1's outputs lie where relu is flat"


def test_a_parameter_that_does_not_change_is_named_when_two_probes_agree_unless_meant() -> None:
    assert probed(probe(frozen=True), probe(), probe(frozen=True)) == []
    (verdict,) = probed(probe(frozen=True), probe(frozen=True))
    assert (verdict.code, verdict.layer) == ("frozen", "conv1")
    assert verdict.advice.startswith("its gradient is not zero")
    meant = Watch(CHOSEN, 2.3, STEPS, frozenset({"conv1.weight"}))
    assert probed(probe(frozen=True), probe(frozen=True), watch=meant) == []


@pytest.mark.parametrize(
    ("ratio", "code"), [(1e-6, "rate-too-low"), (1e-3, None), (0.02, None), (0.8, "rate-too-high")]
)
def test_update_by_weight_tells_rates_apart(ratio: float, code: str | None) -> None:
    assert [verdict.code for verdict in probed(probe(ratio=ratio))] == ([code] if code else [])


def test_a_rate_of_zero_is_what_was_asked_for() -> None:
    nothing = Watch(settings(lr=0.0), math.log(10), STEPS)
    assert probed(probe(ratio=0.0, frozen=True), watch=nothing) == []


def row(epoch: int, accuracy: float, loss: float, validation: float) -> EpochDone:
    return EpochDone(epoch, 0.1, accuracy, loss, validation, 0.01, 1.0, 1.0, False)


def evaluation(confusion: list[list[int]]) -> Evaluation:
    counts = np.array(confusion)
    rows = tuple(tuple(int(number) for number in each) for each in counts)
    return Evaluation(int(counts.sum()), int(np.trace(counts)), 1.0, rows)


def test_classes_in_another_order_are_recognised() -> None:
    turned = evaluation([[5, 90, 5], [5, 5, 90], [90, 5, 5]])
    (verdict,) = WATCH.epoch(Progress(), row(1, 0.9, 3.0, 0.05), turned)
    assert verdict.code == "class-order"
    assert verdict.message == (
        "5 % of the validation images are right, and 90 % would be if 3 classes stood in another "
        "order there"
    )
    right = evaluation([[90, 5, 5], [5, 90, 5], [5, 5, 90]])
    assert list(WATCH.epoch(Progress(), row(1, 0.9, 0.3, 0.9), right)) == []


def test_learning_by_heart_is_recognised() -> None:
    chance = evaluation([[340, 330, 330], [330, 340, 330], [330, 330, 340]])
    (verdict,) = WATCH.epoch(Progress(4), row(5, 0.99, 5.0, 0.34), chance)
    assert verdict.code == "unrelated"
    assert verdict.message.startswith("99 % of the training images are right, but only 34 %")


def test_overfitting_needs_a_gap_and_a_rising_validation_loss() -> None:
    fair = evaluation([[80, 10, 10], [10, 80, 10], [10, 10, 80]])
    progress = Progress()
    for epoch, loss in enumerate([1.0, 0.8, 0.9, 1.0, 1.2], 1):
        one = row(epoch, 0.98, loss, 0.8)
        progress = told(WATCH.epoch(progress, one, fair)).after(one)
    (verdict,) = progress.shown.verdicts
    assert (verdict.code, verdict.epoch) == ("overfitting", 5)
    assert "has risen from 0.8 to 1.2 in 3 epochs" in verdict.message


def test_a_run_that_goes_on_from_a_file_is_told_what_one_that_never_stopped_is() -> None:
    dead, frozen = probe(layer("relu3", 0.9)), probe(layer(), frozen=True)
    looks = {1: probe(layer()), 10: dead, 30: dead, 100: frozen, 200: frozen}
    steps = [
        done(number, 2.0 + 0.01 * number, looks.get(number), 900.0 if number == 150 else 1.5)
        for number in range(1, 221)
    ]
    whole = watched(steps)
    assert [verdict.code for verdict in whole] == [
        "dead-units", "rate-too-high", "gradient-bursts", "stuck", "frozen"
    ]  # fmt: skip
    told_at = [(verdict.epoch - 1) * STEPS + verdict.step for verdict in whole]
    for stop in (0, 1, 9, 10, 49, 50, 199, *told_at, *(number - 1 for number in told_at)):
        progress = Progress()
        for step in steps[:stop]:
            # Left before anything was said of the last one, which is then said first.
            progress = told(WATCH.step(progress)).after(step)
            if step.step == STEPS:
                progress = told(WATCH.step(progress)).after(row(step.epoch, 0.1, 2.3, 0.1))
        progress = from_dict(json.loads(json.dumps(progress.as_dict())))
        assert watched(steps[stop:], progress=told(WATCH.step(progress))) == whole


def test_chance_is_the_entropy_of_the_classes() -> None:
    assert chance_loss(CHOSEN, np.array([0, 1, 2, 3]), 4) == pytest.approx(math.log(4))
    uneven = np.array([0] * 9 + [1])
    assert chance_loss(CHOSEN, uneven, 2) == pytest.approx(0.325, abs=1e-3)
    assert chance_loss(settings(loss="hinge"), uneven, 5) == 4.0


X, Y = toy.images()
# The classes of validation in another order, rates at which units die, are flat and burst.
MOVED = (X, (Y + 1) % 3)
FAULTY = {"epochs": 6, "batch_size": 2, "optimizer": "sgd"}
DEAD: tuple[str, dict[str, Any]] = ("conv3-4p1 relu fc8 relu fc", {"lr": 1.0})
FLAT: tuple[str, dict[str, Any]] = ("conv3-4p1 relu fc8 tanh fc", {"lr": 10.0, "validation": MOVED})


@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        (DEAD, ["rate-too-high", "dead-units", "rate-too-low", "stuck"]),
        (
            FLAT,
            ["saturated", "rate-too-high", "class-order", "gradient-bursts", "rate-too-low"],
        ),
    ],
)
def test_a_run_left_anywhere_and_resumed_is_told_everything_once(
    tmp_path: Path, fault: tuple[str, dict[str, Any]], codes: list[str]
) -> None:
    net, choices = fault
    model = toy.model(net)
    events = list(model.train(X, Y, **FAULTY, **choices))
    verdicts = [event for event in events if isinstance(event, Verdict)]
    assert [verdict.code for verdict in verdicts] == codes
    assert model.progress is not None
    assert model.progress.shown.verdicts == tuple(verdicts)
    places = [place for place, event in enumerate(events) if isinstance(event, Verdict)]
    # Right before and right after each of them, and where there is none.
    for stop in sorted({1, 20, 90, *places, *(place + 1 for place in places)}):
        part = toy.model(net)
        stream = part.train(X, Y, **FAULTY, **choices)
        before = [event for event in islice(stream, stop) if isinstance(event, Verdict)]
        stream.close()
        part.save(tmp_path / "part.hubel")
        again = load(tmp_path / "part.hubel", engine="reference")
        more = again.train(X, Y, resume=True, validation=choices.get("validation"))
        after = [event for event in more if isinstance(event, Verdict)]
        assert before + after == verdicts, stop
        assert again.progress is not None
        assert again.progress.as_dict() == model.progress.as_dict()


def test_what_was_said_before_a_run_diverged_is_not_said_again() -> None:
    model = toy.model("conv3-4p1 relu fc")
    before: list[Event] = []
    with pytest.raises(HubelError, match="epoch 1, step 9: "):
        before.extend(model.train(X, Y, **FAULTY, lr=1e20))
    verdicts = [event for event in before if isinstance(event, Verdict)]
    # Within the first epoch, so that the steps since are taken again to find the fault.
    assert [(verdict.epoch, verdict.code) for verdict in verdicts] == [(1, "rate-too-high")]
    assert model.progress is not None
    assert model.progress.shown.verdicts == tuple(verdicts)
    after: list[Event] = []
    with pytest.raises(HubelError, match="epoch 1, step 9: "):
        after.extend(model.train(X, Y, resume=True))
    assert [type(event) for event in after] == [Started]


def test_a_file_from_before_it_kept_what_was_shown_goes_on(tmp_path: Path) -> None:
    model = toy.model(DEAD[0])
    stream = model.train(X, Y, **FAULTY, **DEAD[1])
    list(islice(stream, 60))
    stream.close()
    model.save(tmp_path / "old.hubel")
    tensors, metadata = weights.read(tmp_path / "old.hubel")
    training = json.loads(metadata["hubel.training"])
    assert training["progress"].pop("shown")
    old = {**metadata, "hubel.training": json.dumps(training)}
    weights.write(tmp_path / "old.hubel", tensors, old)
    again = load(tmp_path / "old.hubel", engine="reference")
    whole = toy.model(DEAD[0])
    whole.fit(X, Y, **FAULTY, **DEAD[1])
    again.fit(X, Y, resume=True)
    assert toy.bits(again) == toy.bits(whole)
    assert again.progress is not None
    assert "rate-too-low" in {verdict.code for verdict in again.progress.shown.verdicts}
