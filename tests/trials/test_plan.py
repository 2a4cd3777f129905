"""Plans: what is searched, in which stages, and what is refused before anything is trained."""

from __future__ import annotations

import json
import math
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubel.errors import FormatError, NetworkError, UsageError
from hubel.notation.ranges import Range
from hubel.train.settings import Settings
from hubel.trials.plan import (
    METHODS,
    budget,
    from_dict,
    grid,
    narrowed,
    plan,
    settings_of,
    stage_epochs,
)
from hubel.trials.searchable import SEARCHABLE

NET = "conv3-{4..8}p1 relu drop{0.1..0.5} fc"


def test_rate_and_decay_are_searched_unless_they_are_given() -> None:
    assert plan("fc", {}).searched == {
        "lr": Range(1e-4, 0.1, log=True),
        "weight_decay": Range(1e-6, 1e-2, log=True),
    }
    made = plan("fc", {"optimizer": "sgd", "weight_decay": 0.0})
    assert made.searched == {"lr": Range(1e-3, 1.0, log=True)}
    for optimizer in ("adamw", "muon"):
        made = plan("fc", {"optimizer": optimizer, "lr": 0.01})
        assert made.searched == {"weight_decay": Range(1e-4, 1.0, log=True)}
    assert list(plan(NET, {"lr": "0.01", "weight_decay": 0}).ranges) == [
        "conv1 filters",
        "drop1 rate",
    ]


def test_choices_may_be_ranges_as_text_or_as_they_are() -> None:
    made = plan("fc", {"lr": 0.1, "weight_decay": 0.0, "batch_size": "32..128", "crop": "0,2"})
    assert made.searched == {
        "batch_size": Range(32, 128, whole=True, log=True),
        "crop": Range(0, 2, whole=True, values=(0, 2)),
    }
    momentum = Range(0.5, 0.9)
    assert plan("fc", {"optimizer": "sgd", "momentum": momentum}).searched["momentum"] == momentum


def test_a_trial_gets_its_numbers_the_choices_and_the_epochs_of_its_stage() -> None:
    made = plan(NET, {"batch_size": "8..64", "flip": True, "epochs": 9}, seed=3)
    numbers = {"lr": 0.01, "weight_decay": 1e-4, "batch_size": 16.0}
    chosen = settings_of(made, 0, numbers)
    assert (chosen.lr, chosen.batch_size, chosen.flip, chosen.seed) == (0.01, 16, True, 3)
    assert isinstance(chosen.batch_size, int)
    assert (chosen.epochs, settings_of(made, 1, numbers).epochs) == (3, 9)


def test_every_number_that_changes_a_training_can_be_searched() -> None:
    # A longer run and other validation images cannot be compared with what they are not.
    same_in_all = {"epochs", "patience", "time", "seed", "val_fraction"}
    types = {name: set(get_args(kind)) or {kind} for name, kind in get_type_hints(Settings).items()}
    numbers = {name for name, kinds in types.items() if {int, float} & kinds}
    assert SEARCHABLE.keys() == numbers - same_in_all
    for name, one in SEARCHABLE.items():
        assert one.whole == (int in types[name])


def test_a_range_is_drawn_on_the_scale_that_is_usual() -> None:
    net, same = "fc", {"lr": 0.01, "weight_decay": 0.0}
    given = {"clip_norm": "0.1..10", "mixup": "0..1", "cutout": "0..8", "average": "0.9..0.999"}
    assert plan(net, {**same, **given}).searched == {
        "cutout": Range(0, 8, whole=True),
        "mixup": Range(0.0, 1.0),
        "average": Range(0.9, 0.999),
        "clip_norm": Range(0.1, 10.0, log=True),
    }


@given(trials=st.integers(1, 60), stages=st.integers(1, 5), epochs=st.integers(1, 100))
def test_stages_share_all_trials_and_grow_longer(trials: int, stages: int, epochs: int) -> None:
    if trials < stages:
        return
    made = plan("fc", {"epochs": epochs}, trials=trials, stages=stages)
    shares = [budget(made, stage) for stage in range(stages)]
    assert sum(shares) == trials
    assert min(shares) >= 1
    lengths = [stage_epochs(made, stage) for stage in range(stages)]
    assert lengths == sorted(lengths)
    assert lengths[-1] == epochs


def test_a_finer_range_holds_the_best_and_never_grows() -> None:
    ranges = {
        "lr": Range(1e-4, 1.0, log=True),
        "w": Range(4, 64, whole=True, log=True),
        "size": Range(3, 7, whole=True, values=(3, 5, 7)),
    }
    trials = [
        {"lr": 0.01, "w": 4, "size": 5},
        {"lr": 0.02, "w": 8, "size": 3},
        {"lr": 0.005, "w": 6, "size": 5},
        *({"lr": 0.9, "w": 60, "size": 7} for _ in range(5)),
    ]
    fine = narrowed(ranges, trials)
    assert fine["lr"].low < 0.005 < 0.02 < fine["lr"].high < 0.1
    assert (fine["w"].low, fine["w"].whole) == (4, True)
    assert 8 < fine["w"].high < 20
    assert fine["size"].values == (3, 5)
    assert narrowed(ranges, []) == narrowed(ranges, trials[:2]) == ranges


def test_a_grid_has_as_many_points_as_there_are_trials_for() -> None:
    points = grid({"lr": Range(1e-3, 1e-1, log=True), "n": Range(3, 5, True, values=(3, 5))}, 7)
    assert points == {"lr": (0.001, 0.01, 0.1), "n": (3, 5)}
    assert grid({"n": Range(1, 3, whole=True)}, 50) == {"n": (1, 2, 3)}
    sizes = [math.prod(map(len, grid({"a": Range(0.0, 1.0), "b": Range(0.0, 1.0)}, count).values()))
             for count in (4, 8, 9, 20)]  # fmt: skip
    assert sizes == [4, 8, 9, 20]


def test_a_plan_survives_json() -> None:
    made = plan(NET, {"batch_size": "8..64", "flip": True}, method="random", stages=3, seed=2**63)
    assert from_dict(json.loads(json.dumps(made.as_dict()))) == made


@pytest.mark.parametrize(
    "change",
    [
        {"searched": None},
        {"searched": {"lr": "fast"}},
        {"method": "guess"},
        {"trials": 0},
        {"net": "conv3-{"},
        {"colour": "red"},
    ],
)
def test_a_plan_that_was_changed_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="its plan of a search does not hold"):
        from_dict({**plan(NET, {}).as_dict(), **change})


@pytest.mark.parametrize(
    ("net", "options", "message"),
    [
        ("fc", {"trials": 0}, r"trials \(--trials\) is 0, not a whole number of at least 1"),
        ("fc", {"stages": 0}, r"stages \(--stages\) is 0"),
        ("fc", {"trials": 1}, "1 trials are fewer than 2 stages. Hint: give more --trials"),
        ("fc", {"method": "best"}, rf"is 'best', not one of {', '.join(METHODS)}"),
        ("fc", {"lr": 0.1, "weight_decay": 0.0}, "there is nothing to search. Hint: give a range"),
        ("fc", {"time": 3.0}, "a trial has no limit of time"),
        ("fc", {"lr": "1..0.1"}, "--lr: 1..0.1 ends before it begins"),
        ("fc", {"momentum": "0.5..1.5"}, r"momentum \(--momentum\) is 1.5"),
        ("fc", {"batch_size": "0..8 linear"}, r"batch_size \(--batch-size\) is 0"),
        (
            "fc",
            {"average": "0.9..1.0"},
            r"average \(--average\) is 1.0, not a number of at least 0",
        ),
        ("fc", {"mixup": "0..1", "loss": "hinge"}, r"mixup \(--mixup\) needs the loss cross-ent"),
        ("fc", {"cutout": "0.5..2"}, "--cutout: 0.5..2 is not of whole numbers"),
        ("fc", {"epochs": Range(1, 3)}, "epochs cannot be searched. Hint: ranges are for lr, "),
        ("fc", {"optimiser": "sgd"}, "did you mean optimizer"),
        ("conv3-{lr=4..8}", {}, "range lr is called like a choice of training"),
        ("conv3-{4..8}", {"method": "grid", "trials": 8}, "a grid over .* has 8 points at least"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(
    net: str, options: dict[str, Any], message: str
) -> None:
    choices = {key: options.pop(key) for key in list(options) if key not in _PLAN}
    with pytest.raises(UsageError, match=message):
        plan(net, choices, **options)


_PLAN = ("trials", "stages", "method")


def test_a_network_is_checked_with_its_ranges() -> None:
    with pytest.raises(NetworkError, match=r"drop\{0.5..2.0\}"):
        plan("drop{0.5..2.0} fc", {})
