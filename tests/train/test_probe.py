"""A probe says of a network what the network is, and leaves it as it was."""

from __future__ import annotations

import numpy as np
import pytest

from hubel.model import Model
from hubel.train.events import Probe, StepDone
from hubel.train.probe import due
from tests.train import toy

X, Y = toy.images()
NET = "conv3-4p1 relu pool2 fc6 tanh fc"


def steps(model: Model, **choices: object) -> list[StepDone]:
    given = {"epochs": 3, "batch_size": 10, "preprocess": None, **choices}
    return [event for event in model.train(X, Y, **given) if isinstance(event, StepDone)]


def test_the_first_steps_are_looked_at_and_then_every_hundredth() -> None:
    assert [number for number in range(1, 310) if due(number)] == [1, 10, 30, 100, 200, 300]
    looked = [number for number, each in enumerate(steps(toy.model(NET)), 1) if each.probe]
    assert looked == [1, 10]


def test_a_probe_agrees_with_the_model_itself() -> None:
    model = toy.model(NET)
    before = model.parameters
    events = model.train(X, Y, epochs=1, batch_size=50, preprocess=None, shuffle=False, lr=0.1)
    done = next(event for event in events if isinstance(event, StepDone))
    events.close()
    assert isinstance(done.probe, Probe)
    made = model.activations(X[:32].astype(np.float32))
    for layer in done.probe.layers:
        assert layer.mean == pytest.approx(float(made[layer.layer].mean()), rel=1e-6)
        assert layer.deviation == pytest.approx(float(made[layer.layer].std()), rel=1e-6)
        assert sum(layer.histogram) == made[layer.layer].size
    assert [layer.layer for layer in done.probe.layers] == ["conv1", "relu1", "fc1", "tanh1", "fc2"]
    _, gradients = model.gradients(X[:32].astype(np.float32), Y[:32])
    for weight in done.probe.weights:
        slope = gradients[weight.parameter]
        assert weight.gradient == pytest.approx(float(np.sqrt(np.mean(slope**2))), rel=1e-6)
        change = model.parameters[weight.parameter] - before[weight.parameter]
        assert weight.update == pytest.approx(float(np.sqrt(np.mean(change**2))), rel=1e-6)


def test_dead_units_are_those_that_fire_for_no_image() -> None:
    model = toy.model(NET)
    model.set_parameters({"conv1.bias": [-1e6, 0.0, -1e6, -1e6]})
    first = steps(model, lr=1e-9)[0]
    assert first.probe is not None
    relu = next(layer for layer in first.probe.layers if layer.layer == "relu1")
    assert relu.dead == 0.75
    assert relu.maps


@pytest.mark.parametrize("engine", ["reference", "native"])
def test_looking_changes_no_bit(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained() -> str:
        model = toy.model(engine=engine)
        steps(model)
        return toy.bits(model)

    looked = trained()
    monkeypatch.setattr("hubel.train.fit.due", lambda number: False)
    assert trained() == looked
