"""The run folder: never overwritten, never half written, and told in full."""

from __future__ import annotations

import csv
import hashlib
import json
import multiprocessing
from collections.abc import Generator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from hubel.errors import HubelError, UsageError
from hubel.model import load
from hubel.train import run
from hubel.train.events import Event
from hubel.train.metrics import Evaluation
from tests.train import toy

X, Y = toy.images()
RECIPE = {"epochs": 2, "batch_size": 16, "val_fraction": 0.2}


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def test_folders_are_numbered_and_named_so_that_any_system_takes_them(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "runs"
    names = [run.create(root, name).name for name in ("a b/../c", "a b/../c", "…", "-x.")]
    assert names == ["a-b-..-c", "a-b-..-c-2", "run", "x"]


def _create(root: str) -> str:
    return run.create(root, "same").name


def test_processes_that_ask_at_once_get_folders_of_their_own(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        names = pool.map(_create, [str(tmp_path)] * 12, chunksize=1)
    assert len(set(names)) == 12


def test_a_run_leaves_its_history_events_best_and_last(tmp_path: Path) -> None:
    model = toy.model()
    list(run.record(model, model.train(X, Y, **RECIPE), tmp_path))
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert model.progress is not None
    assert [float(row["loss"]) for row in rows] == [row.loss for row in model.progress.history]
    kinds = [line["event"] for line in lines(tmp_path)]
    assert kinds[0] == "started"
    assert kinds[-1] == "ended"
    assert kinds.count("epoch") == 2
    assert "validating" not in kinds
    last = load(tmp_path / "last.hubel", engine="reference")
    assert toy.bits(last) == toy.bits(model)
    best = load(tmp_path / "best.hubel", engine="reference")
    assert best.progress is not None
    assert model.progress.best is not None
    assert best.progress.epoch == model.progress.best.epoch


@pytest.mark.parametrize("engine", ["reference", "native"])
def test_equal_runs_leave_equal_bytes(tmp_path: Path, engine: str) -> None:
    def leave(name: str, steps: int | None, **choices: int) -> list[str]:
        folder = tmp_path / name
        folder.mkdir()
        model = toy.model(engine=engine, **choices)
        stream = run.record(model, model.train(X, Y, **RECIPE), folder)
        list(islice(stream, steps))
        stream.close()
        if steps is not None:
            model = load(folder / "last.hubel", engine=engine, **choices)
            list(run.record(model, model.train(X, Y, resume=True), folder))
        return [
            hashlib.sha256((folder / file).read_bytes()).hexdigest()
            for file in ("last.hubel", "best.hubel")
        ]

    once = leave("once", None)
    assert leave("again", None) == once
    # After two steps, and after all of the first epoch.
    assert leave("early", 3) == once
    assert leave("late", 7) == once
    if engine == "native":
        assert leave("one", None, threads=1) == leave("two", None, threads=2) == once


def test_a_resumed_run_keeps_the_timings_of_its_earlier_epochs(tmp_path: Path) -> None:
    def timed() -> list[dict[str, str]]:
        with (tmp_path / "history.csv").open() as file:
            return list(csv.DictReader(file))

    model = toy.model()
    list(run.record(model, model.train(X, Y, **RECIPE), tmp_path))
    before = timed()
    again = load(tmp_path / "last.hubel", engine="reference")
    list(run.record(again, again.train(X, Y, resume=True, epochs=3), tmp_path))
    assert timed()[:2] == before
    assert all(float(row["seconds"]) > 0 for row in timed())
    (tmp_path / "history.csv").unlink()
    last = load(tmp_path / "last.hubel", engine="reference")
    list(run.record(last, last.train(X, Y, resume=True, epochs=4), tmp_path))
    assert [row["seconds"] == "" for row in timed()] == [True, True, True, False]
    assert [row["loss"] for row in timed()[:2]] == [row["loss"] for row in before]


def test_a_run_that_is_left_saves_where_it_was(tmp_path: Path) -> None:
    whole = toy.model()
    whole.fit(X, Y, **RECIPE)
    model = toy.model()
    stream = run.record(model, model.train(X, Y, **RECIPE), tmp_path)
    list(islice(stream, 3))
    stream.close()
    assert lines(tmp_path)[-1] == {"event": "interrupted"}
    again = load(tmp_path / "last.hubel", engine="reference")
    assert again.progress is not None
    assert again.progress.step == 2
    list(run.record(again, again.train(X, Y, resume=True), tmp_path))
    assert toy.bits(again) == toy.bits(whole)
    assert lines(tmp_path)[-1]["event"] == "ended"


def test_an_interruption_within_a_step_keeps_the_last_good_file(tmp_path: Path) -> None:
    whole = toy.model()
    whole.fit(X, Y, **RECIPE)
    model = toy.model()

    def interrupted() -> Generator[Event, None, None]:
        yield from islice(model.train(X, Y, **RECIPE), 3)
        model.set_parameters({"fc1.bias": [9.0, 9.0, 9.0]})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run.record(model, interrupted(), tmp_path))
    assert lines(tmp_path)[-1] == {"event": "interrupted"}
    again = load(tmp_path / "last.hubel", engine="reference")
    list(run.record(again, again.train(X, Y, resume=True), tmp_path))
    assert toy.bits(again) == toy.bits(whole)


def test_a_run_that_goes_on_logs_where(tmp_path: Path) -> None:
    model = toy.model()
    stream = run.record(model, model.train(X, Y, **RECIPE), tmp_path)
    list(islice(stream, 3))
    stream.close()
    again = load(tmp_path / "last.hubel", engine="reference")
    list(run.record(again, again.train(X, Y, resume=True), tmp_path))
    begun = [line for line in lines(tmp_path) if line["event"] == "started"]
    assert [(line["epoch"], line["step"]) for line in begun] == [(0, 0), (0, 2)]
    kept = json.loads((tmp_path / "settings.json").read_text())
    assert kept["training"]["batch_size"] == 16


def test_what_the_events_raise_is_not_taken_for_the_folders_fault(tmp_path: Path) -> None:
    model = toy.model()

    def unreadable() -> Generator[Event, None, None]:
        yield from islice(model.train(X, Y, **RECIPE), 2)
        raise OSError(5, "Input/output error", "cats/1.jpg")

    with pytest.raises(OSError, match="Input/output error"):
        list(run.record(model, unreadable(), tmp_path))


def test_a_run_that_fails_keeps_its_last_good_files_and_says_why(tmp_path: Path) -> None:
    model = toy.model("fc8 fc3")
    choices = {"optimizer": "sgd", "lr": 1e200, "schedule": "constant", "preprocess": None}
    with pytest.raises(HubelError, match="first layer whose output is not finite"):
        list(run.record(model, model.train(X, Y, epochs=9, batch_size=16, **choices), tmp_path))
    assert lines(tmp_path)[-1]["event"] == "failed"
    kept = load(tmp_path / "last.hubel", engine="reference")
    assert kept.progress is not None
    assert kept.progress.epoch == 0
    assert all(np.isfinite(array).all() for array in kept.parameters.values())


def test_a_run_too_short_for_an_epoch_still_has_a_best_model(tmp_path: Path) -> None:
    model = toy.model()
    recipe = {**RECIPE, "epochs": 10**6, "time": 0.001}
    list(run.record(model, model.train(X, Y, **recipe), tmp_path))
    load(tmp_path / "best.hubel", engine="reference")


def test_what_a_killed_save_left_is_swept_up(tmp_path: Path) -> None:
    (tmp_path / ".last.hubel.0123456789ab.tmp").write_bytes(b"half")
    model = toy.model()
    list(run.record(model, model.train(X, Y, **RECIPE), tmp_path))
    assert not list(tmp_path.glob(".*"))


def test_a_line_that_a_kill_tore_is_closed(tmp_path: Path) -> None:
    model = toy.model()
    (tmp_path / "events.jsonl").write_text('{"event": "started"}\n{"event": "st')
    list(run.record(model, model.train(X, Y, **RECIPE), tmp_path))
    found = (tmp_path / "events.jsonl").read_text().splitlines()
    assert found[1] == '{"event": "st'
    assert json.loads(found[2])["event"] == "started"


def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="this system does not lock files")
    first, second = toy.model(), toy.model()
    stream = run.record(first, first.train(X, Y, **RECIPE), tmp_path)
    next(stream)
    with pytest.raises(UsageError, match="another process is training in this run folder"):
        next(run.record(second, second.train(X, Y, **RECIPE), tmp_path))
    assert not [line for line in lines(tmp_path) if line["event"] != "started"]
    stream.close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HubelError, match="the run folder cannot be written: "):
        run.create(tmp_path / "file" / "runs", "x")
    model = toy.model()
    with pytest.raises(HubelError, match="the run folder cannot be written: no such file"):
        list(run.record(model, model.train(X, Y, **RECIPE), tmp_path / "gone"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").symlink_to("/dev/full")
    model = toy.model()
    with pytest.raises(HubelError, match="cannot be written: no space left on device"):
        list(run.record(model, model.train(X, Y, **RECIPE), tmp_path))


def test_confusion_has_a_row_a_class(tmp_path: Path) -> None:
    measured = Evaluation(3, 2, 0.5, ((1, 1, 0), (0, 1, 0), (0, 0, 0)))
    run.write_confusion(tmp_path / "c.csv", ["a", "b,c", "d"], measured)
    assert (tmp_path / "c.csv").read_text() == (
        'true class,a,"b,c",d,accuracy\na,1,1,0,0.5000\n"b,c",0,1,0,1.0000\nd,0,0,0,\n'
    )
