"""The search: what it finds, that it is the same every time, and however often it is cut off."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from hubel.data.arrays import split_arrays
from hubel.data.dataset import Dataset
from hubel.errors import DataError, FormatError, HubelError, UsageError
from hubel.model import load
from hubel.train.events import EpochDone, StepDone
from hubel.trials import loop
from hubel.trials.events import (
    Refused,
    SearchEnded,
    SearchEvent,
    SearchStarted,
    StageStarted,
    Trial,
    TrialDone,
    TrialStarted,
    TrialTrained,
    as_dict,
    ranked,
    winner,
)
from hubel.trials.search import prepare_search, resume_search, search, trials_in
from hubel.trials.study import FILE, Stage
from tests.train import toy

NET = "conv3-{2..6}p1 bn relu pool2 drop{0.0..0.5} fc"
OPTIONS: dict[str, Any] = {"trials": 5, "epochs": 3, "batch_size": 16, "engine": "reference"}


def data(count: int = 60, **options: Any) -> Dataset:
    x, y = toy.images(count)
    return split_arrays(x, [toy.NAMES[label] for label in y], name="toy", **options)


def searched(place: Path, net: str = NET, **options: Any) -> list[SearchEvent]:
    return list(search(data(), net, out=place, **{**OPTIONS, **options}))


def table(folder: Path) -> list[Trial]:
    """What a search found, without what differs between equal ones."""
    return [replace(trial, seconds=0.0) for trial in trials_in(folder)]


def events_of(events: list[SearchEvent], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that nothing disturbed."""
    place = tmp_path_factory.mktemp("whole")
    searched(place)
    return place / "toy-search"


def test_a_search_goes_from_coarse_to_fine(tmp_path: Path) -> None:
    events = searched(tmp_path)
    assert events[0] == SearchStarted(str(tmp_path / "toy-search"), 5, 0, 2)
    coarse, fine = events_of(events, StageStarted)
    assert (coarse.trials, coarse.epochs, fine.trials, fine.epochs) == (3, 1, 2, 3)
    assert str(coarse.ranges["lr"]) == "0.0001..0.1 log"
    assert all(
        coarse.ranges[name].low <= one.low <= one.high <= coarse.ranges[name].high
        for name, one in fine.ranges.items()
    )
    assert fine.ranges["lr"] != coarse.ranges["lr"]
    trials = [event.trial for event in events_of(events, TrialDone)]
    assert [trial.number for trial in trials] == list(range(1, 6))
    assert trials[3].numbers == winner(trials[:3]).numbers
    assert all(fine.ranges[name].low <= value <= fine.ranges[name].high
               for name, value in trials[4].numbers.items())  # fmt: skip
    ended = events[-1]
    assert isinstance(ended, SearchEnded)
    assert (ended.reason, ended.best) == ("trials", ranked(trials)[0].number)
    steps = [e for e in events_of(events, TrialTrained) if isinstance(e.event, StepDone)]
    assert len(steps) >= 5


def test_a_folder_keeps_the_winner_and_no_other_model(whole: Path) -> None:
    best = trials_in(whole)[0]
    assert best.state == "done"
    assert sorted(path.name for path in whole.rglob("*.hubel")) == ["best.hubel"]
    model = load(whole / "best.hubel", engine="reference")
    assert model.network.text == best.net
    split = data().validation
    assert model.measure(split.images, split.labels).correct == best.correct
    assert best.images == len(split)
    low, high = best.interval or (1, 0)
    assert low <= (best.accuracy or 0) <= high
    lines = [json.loads(line) for line in (whole / "events.jsonl").read_text().splitlines()]
    assert lines[0]["event"] == "search started"
    assert lines[-1]["event"] == "search ended"
    assert sum(line["event"] == "trial done" for line in lines) == 5


def test_the_winner_can_be_trained_again_to_the_same_bits(whole: Path) -> None:
    best = trials_in(whole)[0]
    kept = json.loads((whole / best.folder / "settings.json").read_text())["training"]
    again = toy.model(best.net, classes=toy.NAMES)
    epochs = [
        dict(again.parameters)
        for event in again.train(data(), **kept)
        if isinstance(event, EpochDone) and event.best
    ]
    winning = load(whole / "best.hubel", engine="reference").parameters
    assert all((winning[name] == epochs[-1][name]).all() for name in winning)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["random", "grid", "tpe"])
def test_same_seed_same_trials(tmp_path: Path, method: str) -> None:
    options = {"method": method, "weight_decay": 0.0, "trials": 6, "epochs": 1, "stages": 1}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        searched(tmp_path, "drop{0.0..0.5} fc", name=name, seed=seed, **options)
    one, two, other = (table(tmp_path / name) for name in "abc")
    assert one == two
    assert [trial.numbers for trial in one] != [trial.numbers for trial in other]
    if method == "grid":
        assert len({tuple(trial.numbers.values()) for trial in one}) == len(one) == 6


def in_sittings(folder: Path, events: Iterator[int]) -> int:
    """Go on with a search that is left after so many events again and again; how often it was."""
    for count, most in enumerate(events, start=1):
        stream = resume_search(data(), folder)
        seen = list(islice(stream, most))
        stream.close()
        if isinstance(seen[-1], SearchEnded):
            return count
    raise AssertionError("the search never ended")


@pytest.mark.slow
def test_left_and_taken_up_again_it_ends_as_if_it_had_never_stopped(
    tmp_path: Path, whole: Path
) -> None:
    folder = prepare_search(data(), NET, out=tmp_path, **OPTIONS)
    # The first events of a sitting are what was known before.
    sittings = in_sittings(folder, iter([1, 2, 5, 4, 9, 7, 12, 16, *[25] * 9, 999]))
    assert sittings > 5
    assert table(folder) == table(whole)
    assert (folder / "best.hubel").read_bytes() == (whole / "best.hubel").read_bytes()
    assert not list(folder.glob("trials/*/*.hubel"))


class Killed(BaseException):
    """The process ends here, for all that the search knows."""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", ["begin", "report", "verdict", "finish"])
def test_cut_off_around_any_entry_it_ends_as_if_it_had_never_stopped(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, verb: str, when: str
) -> None:
    folder = prepare_search(data(), NET, out=tmp_path, **OPTIONS)
    entry: Callable[..., Any] = getattr(Stage, verb)
    calls = 0

    def cut_off(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls in (2, 4) and when == "before":
            raise Killed
        made = entry(*arguments)
        if calls in (2, 4):
            raise Killed
        return made

    monkeypatch.setattr(Stage, verb, cut_off)
    for _ in range(2):
        with pytest.raises(Killed):
            list(resume_search(data(), folder))
    list(resume_search(data(), folder))
    assert table(folder) == table(whole)
    assert (folder / "best.hubel").read_bytes() == (whole / "best.hubel").read_bytes()


@pytest.mark.slow
def test_a_bad_trial_is_stopped_and_says_why(tmp_path: Path) -> None:
    # Where learning rates are far too low, trials after four sound ones fall behind.
    events = searched(tmp_path, "fc", trials=9, stages=1, lr="1e-7..1", method="random")
    stopped = [trial for trial in trials_in(tmp_path / "toy-search") if trial.state == "stopped"]
    assert stopped
    for trial in stopped:
        assert trial.epochs < 3
        assert "%, the median of " in trial.reason
        assert trial.reason.startswith(f"after epoch {trial.epochs} at best ")
    searched(tmp_path, "fc", trials=6, stages=1, lr="1e-7..1", stop_early=False, name="all")
    assert {trial.state for trial in trials_in(tmp_path / "all")} == {"done"}
    assert [event.trial.state for event in events_of(events, TrialDone)].count("stopped") == len(
        stopped
    )


def test_a_trial_that_diverges_is_one_of_the_table(tmp_path: Path) -> None:
    events = searched(
        tmp_path, "fc8 fc", optimizer="sgd", lr="1e-2,1e200", weight_decay=0.0, stages=1, trials=2
    )
    good, bad = trials_in(tmp_path / "toy-search")
    assert (good.state, bad.state) == ("done", "diverged")
    assert "is the first layer whose output is not finite" in bad.reason
    assert events[-1] == replace(events[-1], reason="trials", best=good.number)
    assert load(tmp_path / "toy-search" / "best.hubel", engine="reference").network.text == "fc8 fc"


def test_numbers_that_do_not_fit_are_no_trial_and_others_are_drawn(tmp_path: Path) -> None:
    events = searched(tmp_path, "conv{3,9}-{2..6} fc", trials=4, stages=1, epochs=1)
    refused = events_of(events, Refused)
    assert refused
    assert all("window is larger than its padded input" in event.reason for event in refused)
    assert all(event.problem and event.numbers["conv1 size"] == 9 for event in refused)
    trials = trials_in(tmp_path / "toy-search")
    assert sorted(trial.number for trial in trials) == [1, 2, 3, 4]
    assert all(trial.net.startswith("conv3-") for trial in trials)


def test_where_nothing_fits_the_search_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_MOST_REFUSED", 5)
    with pytest.raises(HubelError, match="none of 5 candidates makes a trial; the last one: conv1"):
        searched(tmp_path, "conv{9,11}-{2..6} fc")


@pytest.mark.slow
def test_a_small_space_is_tried_whole_and_never_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_MOST_REFUSED", 30)
    options = {"lr": "0.01,0.02", "weight_decay": 0.0, "trials": 20, "stages": 1, "epochs": 1}
    for method in ("tpe", "grid"):
        events = searched(tmp_path, "conv{1,3}-2same fc", name=method, method=method, **options)
        ended = events[-1]
        assert isinstance(ended, SearchEnded)
        assert ended.reason == "exhausted"
        trials = trials_in(tmp_path / method)
        assert len({tuple(trial.numbers.items()) for trial in trials}) == len(trials) == 4
        assert not any(event.problem for event in events_of(events, Refused))


def test_time_ends_a_sitting_and_not_the_search(tmp_path: Path, whole: Path) -> None:
    folder = prepare_search(data(), NET, out=tmp_path, **OPTIONS)
    ended = list(resume_search(data(), folder, time=0.0))[-1]
    assert isinstance(ended, SearchEnded)
    assert (ended.reason, ended.best) == ("time", None)
    stream = resume_search(data(), folder)
    begun = next(event for event in stream if isinstance(event, TrialStarted))
    next(stream)
    stream.close()
    assert [trial.state for trial in trials_in(folder)] == ["unfinished"]
    assert begun.number == 1
    list(resume_search(data(), folder))
    assert table(folder) == table(whole)


def test_a_limit_of_time_leaves_half_of_it_to_the_finer_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(100_000))
    monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(clock)))
    events = searched(tmp_path, trials=100, time=150.0)
    stages = [event.trial.stage for event in events_of(events, TrialDone)]
    assert stages.count(1) > 1
    assert stages.count(2) >= 1
    assert stages.count(1) < 67


def test_mistakes_leave_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        DataError, match=r"a search chooses by validation images, and there are none"
    ):
        search(data(val_fraction=0.0), NET, out=tmp_path)
    with pytest.raises(HubelError, match="conv1"):
        search(data(), "conv9-3 fc", out=tmp_path)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r"which is not installed.* pip install optuna"):
        search(data(), NET, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_search_is_resumed_with_its_own_data_and_file(tmp_path: Path) -> None:
    folder = prepare_search(data(), NET, out=tmp_path, **OPTIONS)
    with pytest.raises(DataError, match="are not those of the search"):
        resume_search(data(57), folder)
    with pytest.raises(UsageError, match="there is no search here: no such file"):
        resume_search(data(), tmp_path / "none")
    (folder / FILE).write_bytes(b"not a database, but long enough to be looked at" * 50)
    with pytest.raises(FormatError, match="this is no record of a search"):
        list(resume_search(data(), folder))
    (folder / "settings.json").write_text("{}")
    with pytest.raises(FormatError, match="these are no settings of a search"):
        resume_search(data(), folder)


def test_two_processes_do_not_share_a_search(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl", reason="this system does not lock files")
    folder = prepare_search(data(), NET, out=tmp_path, **OPTIONS)
    with (folder / "events.jsonl").open("a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another process is"):
            list(resume_search(data(), folder))


def test_events_are_what_json_can_hold(tmp_path: Path) -> None:
    for event in searched(tmp_path, trials=2, epochs=1):
        if not isinstance(event, TrialTrained):
            json.dumps(as_dict(event), allow_nan=False)
