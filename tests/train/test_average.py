"""The moving average of weights: what it is, who has it, and that a run goes on with it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubel.engine.native import NativeSession
from hubel.model import load
from hubel.train import run
from hubel.train.events import EpochDone, StepDone
from hubel.train.settings import settings
from hubel.train.step import step_graph
from tests.train import toy

X, Y = toy.images()
DECAY = 0.75
RECIPE = {"epochs": 2, "batch_size": 16, "optimizer": "sgd", "lr": 0.05, "val_fraction": 0.2}


def raw(model: Any) -> dict[str, np.ndarray]:
    """What training goes on with."""
    return {name: model.session.read(f"{name}.raw") for name in model.parameters}


def test_a_model_is_the_mean_of_what_it_was_after_every_step() -> None:
    model = toy.model()
    events = model.train(X, Y, **RECIPE, average=DECAY)
    passed = [raw(model) for event in events if isinstance(event, StepDone)]
    counts = DECAY ** np.arange(len(passed))[::-1]
    for name, mean in model.parameters.items():
        exact = sum(c * weights[name] for c, weights in zip(counts, passed, strict=True))
        np.testing.assert_allclose(mean, exact / counts.sum(), rtol=0, atol=1e-12, err_msg=name)
    assert {"bn1.running_mean", "bn1.running_var"} <= model.parameters.keys()


def test_training_itself_is_that_without_an_average() -> None:
    plain, averaged = toy.model(), toy.model()
    losses = [e.loss for e in plain.train(X, Y, **RECIPE) if isinstance(e, StepDone)]
    found = [
        e.loss for e in averaged.train(X, Y, **RECIPE, average=DECAY) if isinstance(e, StepDone)
    ]
    assert found == losses
    for name, array in plain.parameters.items():
        assert np.array_equal(raw(averaged)[name], array), name
    assert toy.bits(averaged) != toy.bits(plain)


def test_validation_is_that_of_the_mean() -> None:
    model = toy.model()
    rows = [e for e in model.train(X, Y, **RECIPE, average=DECAY) if isinstance(e, EpochDone)]
    plain = toy.model().fit(X, Y, **RECIPE)
    assert [row.loss for row in rows] == [row.loss for row in plain]
    assert [row.validation_loss for row in rows] != [row.validation_loss for row in plain]


@pytest.mark.parametrize("stop", [1, 3, 4, 6])
def test_a_run_left_anywhere_and_resumed_ends_with_the_same_bits(tmp_path: Path, stop: int) -> None:
    recipe = {**RECIPE, "average": DECAY, "clip_norm": 0.5, "optimizer": "muon"}
    whole = toy.model()
    whole.fit(X, Y, **recipe)
    model = toy.model()
    events = model.train(X, Y, **recipe)
    list(islice(events, stop))
    events.close()
    model.save(tmp_path / "m.hubel")
    again = load(tmp_path / "m.hubel", engine="reference")
    assert toy.bits(again) == toy.bits(model)
    again.fit(X, Y, resume=True)
    assert toy.bits(again) == toy.bits(whole)
    assert all(np.array_equal(a, raw(whole)[name]) for name, a in raw(again).items())


def test_the_best_file_holds_the_mean_and_nothing_else(tmp_path: Path) -> None:
    model = toy.model()
    recipe = {**RECIPE, "epochs": 1, "average": DECAY}
    list(run.record(model, model.train(X, Y, **recipe), tmp_path))
    best = load(tmp_path / "best.hubel", engine="reference")
    assert toy.bits(best) == toy.bits(model)
    assert (tmp_path / "best.hubel").stat().st_size < (tmp_path / "last.hubel").stat().st_size


def test_a_frozen_layer_has_no_average_of_its_own() -> None:
    graph = toy.model().network.graph
    whole = step_graph(graph, settings(average=DECAY, freeze=("conv1", "bn1")))
    copies = [value.name for value in whole.with_role("slot") if value.of]
    assert copies == ["fc1.weight.raw", "fc1.bias.raw"]


@pytest.mark.requires_torch
def test_it_is_pytorchs_averaged_model() -> None:
    import torch
    from torch.optim.swa_utils import AveragedModel

    def mean(average: Any, weight: Any, seen: Any) -> Any:
        return average + (1 - DECAY) / (1 - DECAY ** (int(seen) + 1)) * (weight - average)

    net = torch.nn.Linear(36, 3, dtype=torch.float64)
    averaged = AveragedModel(net, avg_fn=mean)
    model = toy.model("fc3")
    model.set_parameters(
        {
            "fc1.weight": net.weight.detach().numpy().T,
            "fc1.bias": net.bias.detach().numpy(),
        }
    )
    # What a session keeps of it is rounded, to what both begin with.
    with torch.no_grad():
        net.weight.copy_(torch.tensor(model.parameters["fc1.weight"].T))
        net.bias.copy_(torch.tensor(model.parameters["fc1.bias"]))
    x = X.astype(np.float32) / 255
    choices = {"preprocess": None, "shuffle": False, "schedule": "constant", "momentum": 0.0}
    model.fit(x, Y, epochs=3, batch_size=25, optimizer="sgd", lr=0.3, average=DECAY, **choices)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
    for half in (slice(0, 25), slice(25, 50)) * 3:
        optimizer.zero_grad()
        scores = net(torch.tensor(x[half].reshape(25, -1), dtype=torch.float64))
        torch.nn.functional.cross_entropy(scores, torch.tensor(Y[half])).backward()
        optimizer.step()
        averaged.update_parameters(net)
    weight, bias = (p.detach().numpy() for p in averaged.module.parameters())
    np.testing.assert_allclose(model.parameters["fc1.weight"], weight.T, rtol=0, atol=1e-6)
    np.testing.assert_allclose(model.parameters["fc1.bias"], bias, rtol=0, atol=1e-6)


def of_threads(threads: int) -> Callable[[str], np.ndarray]:
    model = toy.model("conv3-40p1 bn relu conv3-70p1 relu fc", engine="native", threads=threads)
    recipe = {**RECIPE, "optimizer": "muon", "epochs": 1}
    model.fit(X, Y, **recipe, average=DECAY, clip_norm=0.5)
    assert isinstance(model.session, NativeSession)
    return model.session.read


def test_the_compiled_engine_gives_the_same_bits_on_any_number_of_threads() -> None:
    one, three = of_threads(1), of_threads(3)
    for name in ("conv1.weight", "conv2.weight", "conv2.bias", "fc1.weight", "bn1.running_var"):
        for kept in (name, f"{name}.raw"):
            assert one(kept).tobytes() == three(kept).tobytes(), kept


def test_divergence_is_explained_by_the_weights_that_diverged() -> None:
    from hubel.errors import HubelError

    model = toy.model("fc8 fc3")
    choices = {"optimizer": "sgd", "preprocess": None, "schedule": "constant"}
    with pytest.raises(HubelError, match="fc2 is the first layer whose output is not finite"):
        model.fit(X, Y, epochs=50, lr=1e200, average=0.9, **choices)
    assert all(np.isfinite(array).all() for array in model.parameters.values())
