"""Each check of preflight passes on a healthy run, and fails with its words on one fault."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hubel.engine.reference import ReferenceSession
from hubel.errors import UsageError
from hubel.model import Model
from hubel.train.preflight import Check, Rates
from hubel.train.preflight.subject import sample
from tests.train import toy

X, Y = toy.images(120)
NET = "conv3-4p1 relu pool2 fc8 relu fc"


def checks(model: Model, x: Any = X, y: Any = Y, **choices: Any) -> dict[str, Check]:
    given = {"epochs": 2, "batch_size": 16, "lr": 0.01, "val_fraction": 0.2, **choices}
    found = [each for each in model.diagnose(x, y, **given) if isinstance(each, Check)]
    return {check.check: check for check in found}


@pytest.fixture(scope="module")
def healthy() -> dict[str, Check]:
    return checks(toy.model(NET, engine="native"), gradient_check=True)


def failing(found: dict[str, Check]) -> set[str]:
    return {name for name, check in found.items() if not check.ok}


def test_a_healthy_run_passes_every_check(healthy: dict[str, Check]) -> None:
    assert failing(healthy) == set()
    assert list(healthy) == [
        *("inputs", "labels", "batches", "leak", "weights", "first-loss", "scores"),
        *("regularisation", "activations", "gradients", "dead-units", "independence"),
        *("gradient-check", "learning-rate", "twenty-images"),
        *("seconds-an-epoch", "memory", "checkpoint"),
    ]
    assert all(check.cause == check.advice == "" for check in healthy.values())


def test_a_check_is_what_json_can_hold(healthy: dict[str, Check]) -> None:
    fields = ["check", "ok", "value", "expected", "cause", "advice"]
    assert list(healthy["first-loss"].as_dict()) == fields


def test_all_zero_weights_are_told() -> None:
    found = checks(toy.model(NET, initialisation="zero"))
    assert {"weights", "regularisation", "gradients", "activations"} <= failing(found)
    assert found["weights"].cause.startswith("all filters of conv1.weight are the same")
    assert "--init he" in found["weights"].advice


def test_gradients_that_do_not_arrive_are_told_unless_their_layers_are_frozen() -> None:
    model = toy.model(NET)
    model.session.write("fc2.weight", model.parameters["fc2.weight"] * 1e-6)
    found = checks(model)["gradients"]
    assert not found.ok
    assert "that of one behind it" in found.cause
    assert checks(model, freeze="conv1,fc1")["gradients"].ok


def test_raw_pixels_are_told() -> None:
    found = checks(toy.model(NET), preprocess=None)
    assert "inputs" in failing(found)
    assert "--preprocess normalise" in found["inputs"].advice
    off_centre = checks(toy.model(NET), preprocess="none")["inputs"]
    assert "all gradients of a filter then tend to have one sign" in off_centre.cause


def test_shuffled_labels_are_told() -> None:
    mixed = np.random.default_rng(0).permutation(Y)
    found = checks(toy.model(NET), y=mixed)
    assert "labels" in failing(found)
    assert found["labels"].cause.startswith("images that look alike do not have the same class")


def test_sorted_batches_are_told() -> None:
    order = np.argsort(Y, kind="stable")
    found = checks(toy.model(NET), X[order], Y[order], shuffle=False)
    assert "batches" in failing(found)


def test_a_leak_names_an_image_on_both_sides() -> None:
    found = checks(toy.model(NET), val_fraction=0.0, validation=(X[:5], Y[:5]))
    assert "leak" in failing(found)
    assert found["leak"].value == 1.0
    assert "such as image 0 (from 0) and image 0 (from 0)" in found["leak"].cause


def test_an_activation_at_the_end_is_told() -> None:
    found = checks(toy.model("conv3-4p1 relu fc3 sigmoid"))
    assert found["scores"].cause.startswith("the scores lie between 0 and 1: a softmax or sigmoid")
    found = checks(toy.model("conv3-4p1 relu fc3 relu"))
    assert found["scores"].cause.startswith("the scores are never negative: a relu")


def test_vanishing_activations_name_the_layer() -> None:
    deep = "fc20 tanh " * 8 + "fc"
    found = checks(toy.model(deep, initialisation="small-random"))
    assert "activations" in failing(found)
    assert "the outputs vanish: fc" in found["activations"].cause


def test_dead_units_name_the_layer() -> None:
    model = toy.model(NET)
    model.set_parameters({"conv1.bias": np.full(4, -1e3, np.float32)})
    found = checks(model)
    assert found["dead-units"].cause.startswith("100% of relu1 never fires")


@pytest.mark.parametrize("rate", [1e-7, 1e4])
def test_a_rate_out_of_all_bounds_is_told_and_another_suggested(rate: float) -> None:
    found = checks(toy.model(NET), optimizer="sgd", lr=rate)
    assert {"learning-rate", "twenty-images"} & failing(found)
    told = found["learning-rate"]
    assert not told.ok
    assert told.advice.startswith("try --lr 0.")


def test_twenty_images_need_a_network_that_can_learn_them() -> None:
    found = checks(toy.model("avgpool6 fc"), lr=1e-3)
    assert found["twenty-images"].value is not None
    assert found["twenty-images"].value < 1
    assert "of 20 images are right after" in found["twenty-images"].cause


@pytest.mark.parametrize(("pace", "images"), [(1e12, 64), (1e3, 32)])
def test_the_rates_are_tried_on_fewer_images_where_the_engine_is_slow(
    pace: float, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    run = ReferenceSession.run

    def counted(session: ReferenceSession, graph: Any, feeds: Any) -> Any:
        if "rate" in feeds:
            sizes.append(len(feeds["input"]))
        return run(session, graph, feeds)

    monkeypatch.setattr(ReferenceSession, "run", counted)
    monkeypatch.setattr(ReferenceSession, "pace", pace)
    found = checks(toy.model(NET), batch_size=64)
    assert sizes[0] == images
    assert found["learning-rate"].ok


def test_the_rates_tried_come_with_the_check() -> None:
    found = list(toy.model(NET).diagnose(X, Y, epochs=1))
    (rates,) = [each for each in found if isinstance(each, Rates)]
    assert len(rates.rates) == len(rates.losses) > 20
    assert rates.suggested is not None
    assert rates.rates[0] < rates.suggested < rates.rates[-1]


def test_a_model_stays_as_it_was_and_goes_on_to_the_same_bits() -> None:
    def trained(look: bool) -> str:
        model = toy.model()
        events = model.train(X, Y, epochs=2, batch_size=16)
        for _, _event in zip(range(5), events, strict=False):
            pass
        events.close()
        if look:
            checks(model)
        model.fit(X, Y, resume=True)
        return toy.bits(model)

    assert trained(look=True) == trained(look=False)


def test_choices_are_checked_before_anything_runs() -> None:
    with pytest.raises(UsageError, match="training has no choice named learning_rate"):
        toy.model(NET).diagnose(X, Y, learning_rate=0.1)


def test_a_sample_takes_as_many_of_each_class_as_there_can_be() -> None:
    labels = np.array([0] * 90 + [1] * 7 + [2] * 3)
    chosen = sample(labels, 15, seed=3)
    assert np.bincount(labels[chosen]).tolist() == [6, 6, 3]
    assert len(set(chosen.tolist())) == 15
    assert sample(labels, 15, seed=3).tolist() == chosen.tolist()
