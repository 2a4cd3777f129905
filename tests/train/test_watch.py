"""What a run is told while it goes on: each rule on a run that shows just that."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from hubel.train.events import EpochDone, LayerProbe, Probe, StepDone, Verdict, WeightProbe
from hubel.train.metrics import Evaluation
from hubel.train.settings import settings
from hubel.train.watch import Watch, chance_loss
from tests.train import toy

CHOSEN = settings(lr=0.01, epochs=10)
STEPS = 50


def watch() -> Watch:
    return Watch(CHOSEN, math.log(10), STEPS)


def done(number: int, loss: float, probe: Probe | None = None) -> StepDone:
    return StepDone(
        1 + number // STEPS, 1 + number % STEPS, 8, loss, 1, 0.0, loss, 0.1, 0.01, 1.5, probe
    )


def over(losses: list[float]) -> list[Verdict]:
    watched = watch()
    return [
        verdict
        for number, loss in enumerate(losses)
        for verdict in watched.step(done(number, loss), number + 1)
    ]


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


def probed(*probes: Probe, first: int = 30) -> list[Verdict]:
    watched = watch()
    return [
        verdict
        for number, each in enumerate(probes, first)
        for verdict in watched.step(done(number, 1.0, each), number)
    ]


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
    watched = watch()
    steps = [done(number, 1.0) for number in range(41)]
    steps.append(replace(steps[-1], gradient_norm=400.0))
    told = [each for number, step in enumerate(steps, 1) for each in watched.step(step, number)]
    (verdict,) = told
    assert str(verdict) == (
        "the gradient's norm was 4e+02 in one step, and 1.5 before: try --clip-norm 3"
    )
    clipped = Watch(settings(lr=0.01, clip_norm=1.0), math.log(10), STEPS)
    assert not [e for number, step in enumerate(steps, 1) for e in clipped.step(step, number)]


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
    for number in (10, 30):
        assert list(meant.step(done(number, 1.0, probe(frozen=True)), number)) == []


@pytest.mark.parametrize(
    ("ratio", "code"), [(1e-6, "rate-too-low"), (1e-3, None), (0.02, None), (0.8, "rate-too-high")]
)
def test_update_by_weight_tells_rates_apart(ratio: float, code: str | None) -> None:
    assert [verdict.code for verdict in probed(probe(ratio=ratio))] == ([code] if code else [])


def row(epoch: int, accuracy: float, loss: float, validation: float) -> EpochDone:
    return EpochDone(epoch, 0.1, accuracy, loss, validation, 0.01, 1.0, 1.0, False)


def evaluation(confusion: list[list[int]]) -> Evaluation:
    counts = np.array(confusion)
    rows = tuple(tuple(int(number) for number in each) for each in counts)
    return Evaluation(int(counts.sum()), int(np.trace(counts)), 1.0, rows)


def test_classes_in_another_order_are_recognised() -> None:
    turned = evaluation([[5, 90, 5], [5, 5, 90], [90, 5, 5]])
    (verdict,) = watch().epoch(row(1, 0.9, 3.0, 0.05), turned)
    assert verdict.code == "class-order"
    assert verdict.message == (
        "5 % of the validation images are right, and 90 % would be if 3 classes stood in another "
        "order there"
    )
    right = evaluation([[90, 5, 5], [5, 90, 5], [5, 5, 90]])
    assert list(watch().epoch(row(1, 0.9, 0.3, 0.9), right)) == []


def test_learning_by_heart_is_recognised() -> None:
    chance = evaluation([[340, 330, 330], [330, 340, 330], [330, 330, 340]])
    (verdict,) = watch().epoch(row(5, 0.99, 5.0, 0.34), chance)
    assert verdict.code == "unrelated"
    assert verdict.message.startswith("99 % of the training images are right, but only 34 %")


def test_overfitting_needs_a_gap_and_a_rising_validation_loss() -> None:
    watched = watch()
    fair = evaluation([[80, 10, 10], [10, 80, 10], [10, 10, 80]])
    told = [
        verdict
        for epoch, loss in enumerate([1.0, 0.8, 0.9, 1.0, 1.2], 1)
        for verdict in watched.epoch(row(epoch, 0.98, loss, 0.8), fair)
    ]
    (verdict,) = told
    assert (verdict.code, verdict.epoch) == ("overfitting", 5)
    assert "has risen from 0.8 to 1.2 in 3 epochs" in verdict.message


def test_chance_is_the_entropy_of_the_classes() -> None:
    assert chance_loss(CHOSEN, np.array([0, 1, 2, 3]), 4) == pytest.approx(math.log(4))
    uneven = np.array([0] * 9 + [1])
    assert chance_loss(CHOSEN, uneven, 2) == pytest.approx(0.325, abs=1e-3)
    assert chance_loss(settings(loss="hinge"), uneven, 5) == 4.0


def test_a_run_yields_verdicts_between_its_steps() -> None:
    x, y = toy.images()
    events = list(toy.model().train(x, y, epochs=2, batch_size=16, lr=30.0, optimizer="sgd"))
    told = [event for event in events if isinstance(event, Verdict)]
    assert "rate-too-high" in {verdict.code for verdict in told}
    assert len({(verdict.code, verdict.layer) for verdict in told}) == len(told)
