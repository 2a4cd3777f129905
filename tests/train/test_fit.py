"""The training loop: its events, its bits, and what stops it."""

from __future__ import annotations

import threading
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from hubel.errors import DataError, HubelError, UsageError
from hubel.model import load
from hubel.train.events import Ended, EpochDone, Started, StepDone, Validating
from tests.train import toy

X, Y = toy.images()
RECIPE = {"epochs": 3, "batch_size": 16, "optimizer": "sgd", "lr": 0.05, "val_fraction": 0.2}


def test_a_run_is_a_stream_of_events() -> None:
    events = list(toy.model().train(X, Y, **RECIPE))
    started, ended = events[0], events[-1]
    assert isinstance(started, Started)
    assert started.images + started.validation_images == 50
    assert started.steps == -(-started.images // 16)
    assert isinstance(ended, Ended)
    assert (ended.reason, ended.epoch) == ("epochs", 3)
    epoch = [type(event) for event in events[1 : 1 + len(events[1:-1]) // 3]]
    assert epoch == [StepDone] * started.steps + [Validating, EpochDone]


def test_the_last_batch_holds_what_is_left_and_all_is_counted() -> None:
    steps = [
        event
        for event in toy.model().train(X, Y, epochs=1, batch_size=16)
        if isinstance(event, StepDone)
    ]
    assert [step.count for step in steps] == [16, 16, 16, 2]
    assert steps[-1].mean_loss == pytest.approx(
        sum(step.loss * step.count for step in steps) / 50, rel=1e-12
    )
    assert steps[-1].accuracy == sum(step.correct for step in steps) / 50


def test_it_learns() -> None:
    model = toy.model("conv3-4p1 bn relu pool2 fc")
    history = model.fit(X, Y, epochs=15, batch_size=10, lr=0.02, val_fraction=0.2)
    assert history[-1].accuracy > 0.95
    assert history[-1].validation_accuracy is not None
    assert history[-1].validation_accuracy > 0.9
    x, y = toy.images(30, seed=1)
    assert model.evaluate(x, y)["accuracy"] > 0.9


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not() -> None:
    def run(seed: int) -> str:
        model = toy.model(seed=seed)
        model.fit(X, Y, **RECIPE, flip=True, crop=1)
        return toy.bits(model)

    assert run(1) == run(1)
    assert run(1) != run(2)


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adam", "adamw"])
@pytest.mark.parametrize("stop", [1, 4, 5, 7])
def test_a_run_left_anywhere_and_resumed_ends_with_the_same_bits(
    tmp_path: Path, optimizer: str, stop: int
) -> None:
    recipe = {**RECIPE, "optimizer": optimizer, "epochs": 2, "flip": True, "weight_decay": 1e-3}
    whole = toy.model()
    whole.fit(X, Y, **recipe)
    model = toy.model()
    with_events = model.train(X, Y, **recipe)
    list(islice(with_events, stop))
    with_events.close()
    model.save(tmp_path / "m.hubel")
    again = load(tmp_path / "m.hubel", engine="reference")
    history = again.fit(X, Y, resume=True)
    assert toy.bits(again) == toy.bits(whole)
    assert whole.progress is not None
    assert [row.loss for row in history] == [row.loss for row in whole.progress.history]


MIXED = {
    "flip": True,
    "crop": 1,
    "border": "reflect",
    "rotate": 10.0,
    "scale": 0.1,
    "colour": 0.2,
    "cutout": 2,
    "mixup": 0.3,
    "cutmix": 1.0,
    "class_weights": "balanced",
    "label_smoothing": 0.1,
}


@pytest.mark.parametrize("stop", [2, 5])
def test_everything_that_varies_and_mixes_images_is_resumed_with_the_same_bits(stop: int) -> None:
    recipe = {**RECIPE, **MIXED, "epochs": 2}
    whole = toy.model(engine="native", threads=2)
    whole.fit(X, Y, **recipe)
    model = toy.model(engine="native", threads=1)
    events = model.train(X, Y, **recipe)
    list(islice(events, stop))
    events.close()
    model.fit(X, Y, resume=True)
    assert toy.bits(model) == toy.bits(whole)
    plain = toy.model(engine="native")
    plain.fit(X, Y, **RECIPE, label_smoothing=0.1)
    assert toy.bits(plain) != toy.bits(whole)


def test_engines_learn_the_same_from_mixed_and_weighted_images() -> None:
    recipe = {**RECIPE, **MIXED, "epochs": 1}
    rows = [
        toy.model("conv3-4p1 relu pool2 fc", engine=engine).fit(X, Y, **recipe)[0]
        for engine in ("native", "reference")
    ]
    assert rows[0].loss == pytest.approx(rows[1].loss, rel=1e-4)


def test_balanced_classes_weigh_the_same_in_the_loss() -> None:
    few = np.concatenate([np.flatnonzero(Y == 0), np.flatnonzero(Y == 1)[:2]])
    few = np.append(few, np.flatnonzero(Y == 2)[:2])
    recipe = {"epochs": 1, "batch_size": 64, "class_weights": "balanced"}
    events = toy.model("fc3").train(X[few], Y[few], **recipe)
    first = next(event for event in events if isinstance(event, StepDone))
    model = toy.model("fc3")
    model.fit(X[few], Y[few], epochs=1, lr=0.0)
    losses = [model.evaluate(X[few][Y[few] == k], Y[few][Y[few] == k])["loss"] for k in range(3)]
    assert first.loss == pytest.approx(np.mean(losses))


def test_what_batches_cannot_be_made_of_is_refused_before_the_run() -> None:
    model = toy.model("fc3")
    with pytest.raises(DataError, match="1 of 3 classes have no training image and so no weight"):
        model.train(X[Y > 0], Y[Y > 0], class_weights="balanced")
    with pytest.raises(UsageError, match="images of 6×6 cannot be reflected by 6 pixels"):
        model.train(X, Y, crop=6, border="reflect")
    assert model.settings is None


def test_a_finished_run_can_be_made_longer(tmp_path: Path) -> None:
    constant = {**RECIPE, "schedule": "constant"}
    whole = toy.model()
    whole.fit(X, Y, **constant)
    short = toy.model()
    short.fit(X, Y, **{**constant, "epochs": 2})
    history = short.fit(X, Y, resume=True, epochs=3)
    assert toy.bits(short) == toy.bits(whole)
    assert [row.epoch for row in history] == [1, 2, 3]


def test_resuming_refuses_what_would_change_the_run() -> None:
    model = toy.model()
    with pytest.raises(UsageError, match="there is no run to resume: this model was never trained"):
        model.train(X, Y, resume=True)
    model.fit(X, Y, **RECIPE)
    with pytest.raises(UsageError) as caught:
        model.train(X, Y, resume=True, lr=0.1, epochs=4)
    assert str(caught.value) == (
        "a resumed run keeps its choices: it began with lr 0.05, not lr 0.1. "
        "Hint: only epochs, patience, time may change; else start a new run."
    )
    other = X.copy()
    other[7, 3, 3] += 1
    with pytest.raises(DataError, match="are not those of the run"):
        model.train(other, Y, resume=True)
    with pytest.raises(DataError, match="are not those of the run"):
        model.train(X, np.roll(Y, 1), resume=True)
    with pytest.raises(UsageError, match="the run has 3 epochs behind it already"):
        model.train(X, Y, resume=True, epochs=2)


def test_patience_stops_after_so_many_epochs_without_a_new_best() -> None:
    events = list(toy.model("fc3").train(X, Y, epochs=50, lr=0.0, patience=2, val_fraction=0.2))
    assert isinstance(events[-1], Ended)
    rows = [event for event in events if isinstance(event, EpochDone)]
    best = max(row.epoch for row in rows if row.best)
    assert (events[-1].reason, len(rows)) == ("patience", best + 2)
    assert events[-1].best_epoch == best


def test_time_stops_between_two_steps() -> None:
    model = toy.model()
    events = list(model.train(X, Y, epochs=10**6, batch_size=5, time=0.2))
    assert isinstance(events[-1], Ended)
    assert events[-1].reason == "time"
    assert 0.2 <= events[-1].seconds < 2


def test_closing_a_run_ends_its_thread() -> None:
    before = threading.active_count()
    events = toy.model().train(X, Y, **RECIPE)
    list(islice(events, 3))
    assert threading.active_count() > before
    events.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("optimizer", "reported"), [("sgd", True), ("adam", True), ("adamw", False)]
)
def test_the_regularisation_term_is_told_where_it_is_part_of_the_loss(
    optimizer: str, reported: bool
) -> None:
    events = toy.model().train(
        X, Y, optimizer=optimizer, weight_decay=0.1, epochs=1, preprocess=None
    )
    first = next(event for event in events if isinstance(event, StepDone))
    weights = [w for name, w in toy.model().parameters.items() if np.ndim(w) > 1]
    expected = 0.05 * sum(np.square(w).sum() for w in weights) if reported else 0.0
    assert first.penalty == pytest.approx(expected)


@pytest.mark.parametrize("loss", ["cross-entropy", "hinge"])
def test_zero_weights_begin_at_the_known_loss(loss: str) -> None:
    events = toy.model("fc3", initialisation="zero").train(X, Y, loss=loss, epochs=1)
    first = next(event for event in events if isinstance(event, StepDone))
    assert first.loss == pytest.approx({"cross-entropy": np.log(3), "hinge": 2.0}[loss])


def test_divergence_names_the_step_and_the_layer_and_leaves_sound_weights() -> None:
    model = toy.model("fc8 fc3")
    with pytest.raises(HubelError) as caught:
        model.fit(X, Y, epochs=50, lr=1e200, optimizer="sgd", preprocess=None, schedule="constant")
    error = caught.value
    assert error.where.startswith("epoch ")
    assert error.what == "the loss is nan: fc2 is the first layer whose output is not finite"
    assert "lower the learning rate (it was 1e+200; a tenth is 1e+199)" in error.hint
    assert all(np.isfinite(array).all() for array in model.parameters.values())
    assert model.progress is not None
    assert f"step {model.progress.step + 1}" in error.where


def test_divergence_is_traced_over_many_steps_within_an_epoch() -> None:
    x, y = toy.images(300)
    x = x.astype(np.float32)
    x[160] = 3e38
    model = toy.model("fc8 fc8 fc3")
    choices = {"batch_size": 2, "optimizer": "sgd", "preprocess": None, "shuffle": False}
    with pytest.raises(HubelError) as caught:
        model.fit(x, y, lr=1e-7, epochs=2, **choices)
    assert model.progress is not None
    taken = model.progress.step
    assert taken >= 81
    assert caught.value.where == f"epoch 1, step {taken + 1}"
    assert all(np.isfinite(array).all() for array in model.parameters.values())


def test_gradients_that_are_not_finite_stop_the_run_before_the_weights_have_them() -> None:
    model = toy.model("fc8 fc3", engine="native")
    # Scores that are equal have a loss, and gradients of what is before them that overflow.
    model.set_parameters(
        {"fc1.weight": np.zeros((36, 8)), "fc2.weight": np.full((8, 3), 3e38) * [1, -1, 1]}
    )
    with pytest.raises(HubelError, match=r"the norm of the gradients is (inf|nan) at a loss of 1"):
        model.fit(X.astype(np.float32) * 1e6, Y, epochs=1, preprocess=None, optimizer="sgd")
    assert all(np.isfinite(array).all() for array in model.parameters.values())


def test_a_weight_that_is_changed_from_outside_is_not_blamed_on_training() -> None:
    x, y = toy.images(300)
    model = toy.model("fc3")
    weights = model.parameters["fc1.weight"]
    events = model.train(x, y, batch_size=2, optimizer="sgd", lr=1e-3, preprocess=None, epochs=2)
    list(islice(events, 101))
    # What a user must not do, and a broken machine may: spoil a weight in mid-run.
    model.session.write("fc1.weight", np.full_like(weights, np.nan))
    with pytest.raises(HubelError) as caught:
        list(events)
    assert "something other than training changed it" in caught.value.what


def test_an_image_that_is_not_finite_is_named() -> None:
    x = X.astype(np.float32)
    x[17, 2, 2, 0] = np.nan
    with pytest.raises(DataError) as caught:
        toy.model().fit(x, Y, epochs=1, preprocess=None)
    assert caught.value.where == "training image 17 (from 0)"


def test_weights_that_are_not_finite_are_refused_before_the_first_step() -> None:
    model = toy.model()
    model.set_parameters({"fc1.bias": [0, np.inf, 0]})
    with pytest.raises(HubelError, match=r"fc1\.bias holds numbers that are not finite"):
        model.fit(X, Y)


def test_fitting_twice_starts_the_optimizer_afresh() -> None:
    model = toy.model("fc3")
    model.fit(X, Y, epochs=1, optimizer="sgd")
    middle = {name: array.copy() for name, array in model.parameters.items()}
    model.fit(X, Y, epochs=1, optimizer="sgd")
    other = toy.model("fc3")
    other.set_parameters(middle)
    other.fit(X, Y, epochs=1, optimizer="sgd")
    assert toy.bits(model) == toy.bits(other)
