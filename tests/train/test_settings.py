"""Choices of training: the usual ones, and that all wrong ones are named at once."""

from __future__ import annotations

import pytest

from hubel.data.augment import Augmentation
from hubel.errors import FormatError, UsageError
from hubel.train.settings import Settings, from_dict, settings


def test_the_learning_rate_is_the_optimizers_usual_one() -> None:
    assert settings(optimizer="sgd").rate == 0.01
    assert settings(optimizer="adam").rate == 0.001
    assert settings(optimizer="adam", lr=0.5).rate == 0.5


def test_augmentation_does_by_default_what_training_does() -> None:
    assert Settings().augmentation == Augmentation()


def test_a_learning_rate_that_nobody_chose_is_recorded() -> None:
    assert settings(optimizer="sgd").lr == 0.01
    assert from_dict({"optimizer": "adam", "lr": None}).lr == 0.001


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        settings(optimizer="sdg", epochs=0, lr=-1.0, momentum=1.0, flip="yes")
    assert caught.value.what.split("; ") == [
        "optimizer (--optimizer) is 'sdg', not one of sgd, rmsprop, adam, adamw, muon",
        "epochs (--epochs) is 0, not a whole number of at least 1",
        "momentum (--momentum) is 1.0, not a number of at least 0 and below 1",
        "lr (--lr) is -1.0, not a number of at least 0",
        "flip (--flip) is 'yes', not True or False",
    ]


@pytest.mark.parametrize(
    ("choices", "what"),
    [
        ({"lr": float("nan")}, "lr (--lr) is nan"),
        ({"time": float("inf")}, "time (--time) is inf"),
        ({"epochs": True}, "epochs (--epochs) is True"),
        ({"epochs": 2.5}, "epochs (--epochs) is 2.5"),
        ({"seed": 2**64}, f"seed (--seed) is {2**64}, not below 2**64"),
        ({"patience": 0}, "patience (--patience) is 0, not a whole number of at least 1"),
        (
            {"nesterov": True},
            "nesterov (--nesterov) needs the optimizer sgd with a momentum above 0",
        ),
        ({"border": "wrap"}, "border (--border) is 'wrap', not one of zero, reflect"),
        ({"scale": 1.0}, "scale (--scale) is 1.0, not a number of at least 0 and below 1"),
        ({"rotate": -5.0}, "rotate (--rotate) is -5.0, not a number of at least 0 and below 360"),
        ({"cutout": 2.5}, "cutout (--cutout) is 2.5, not a whole number of at least 0"),
        ({"mixup": float("nan")}, "mixup (--mixup) is nan, not a number of at least 0"),
        (
            {"class_weights": "even"},
            "class_weights (--class-weights) is 'even', not one of None, balanced",
        ),
        (
            {"loss": "hinge", "class_weights": "balanced"},
            "class_weights (--class-weights) needs the loss cross-entropy, not hinge",
        ),
        (
            {"loss": "hinge", "mixup": 0.2},
            "mixup (--mixup) needs the loss cross-entropy, not hinge",
        ),
        (
            {"loss": "hinge", "label_smoothing": 0.1},
            "label_smoothing (--label-smoothing) needs the loss cross-entropy",
        ),
        ({"average": 1.0}, "average (--average) is 1.0, not a number of at least 0 and below 1"),
        ({"clip_norm": 0.0}, "clip_norm (--clip-norm) is 0, which leaves nothing of any gradient"),
        ({"clip_norm": -1}, "clip_norm (--clip-norm) is -1, not a number of at least 0"),
        ({"freeze": 3}, "freeze (--freeze) is 3, not names of layers"),
        (
            {"whiten": True, "preprocess": "pca"},
            "whiten (--whiten) makes filters of the images' patches, which preprocess pca mixes up",
        ),
        ({"preprocess": "zca"}, "not one of None, none, centre, mean-image, normalise"),
    ],
)
def test_what_makes_no_sense_is_refused(choices: dict[str, object], what: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings(**choices)
    assert what in str(caught.value)


@pytest.mark.parametrize("given", ["conv1, bn1", ["conv1", "bn1"], ("conv1", "bn1")])
def test_layers_are_named_in_a_list_or_with_commas_between_them(given: object) -> None:
    assert settings(freeze=given).freeze == ("conv1", "bn1")


def test_an_unknown_choice_is_met_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        settings(learning=0.1, batchsize=3)
    assert str(caught.value) == (
        "training has no choice named learning, batchsize. Hint: did you mean batch_size?."
    )


def test_a_file_with_settings_that_cannot_be_is_refused() -> None:
    with pytest.raises(FormatError, match="do not hold"):
        from_dict({"epochs": "ten"})
