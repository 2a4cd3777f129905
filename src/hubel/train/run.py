"""The run folder: what a training run leaves behind, written while its events pass through."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, fields
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TextIO

from hubel.errors import HubelError, UsageError, reason
from hubel.files import replacing
from hubel.train.events import Ended, EpochDone, Event, Started, StepDone, Validating, as_dict
from hubel.train.metrics import Evaluation
from hubel.train.progress import Progress
from hubel.train.settings import Settings

__all__ = [
    "BEST",
    "LAST",
    "SETTINGS",
    "Savable",
    "append_line",
    "create",
    "open_log",
    "record",
    "write_confusion",
    "write_json",
    "write_text",
    "writing",
]

BEST, LAST, SETTINGS = "best.hubel", "last.hubel", "settings.json"
_EVENTS, _HISTORY = "events.jsonl", "history.csv"

# Seconds between two saves within an epoch: what a killed run loses at most.
_SAVE_EVERY = 60.0


class Savable(Protocol):
    """A model, as far as a run folder sees it."""

    settings: Settings | None
    progress: Progress | None

    def save(self, path: str | os.PathLike[str], *, resumable: bool = True) -> None:
        """Writes the model to one file, whole or not at all."""
        ...


def create(root: str | os.PathLike[str], name: str) -> Path:
    """A new folder `root`/`name`, or `name`-2, `name`-3 … where there is one already.

    Two processes that ask at once get two folders.

    >>> import tempfile
    >>> root = tempfile.mkdtemp()
    >>> [create(root, "cats").name for _ in range(3)]
    ['cats', 'cats-2', 'cats-3']
    """
    safe = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"
    try:
        Path(root).mkdir(parents=True, exist_ok=True)
        for number in count(1):
            folder = Path(root) / (safe if number == 1 else f"{safe}-{number}")
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        raise _unwritable(error, Path(root)) from error
    raise AssertionError("count ends")


def record(
    model: Savable,
    events: Generator[Event, None, None],
    folder: Path,
    about: Mapping[str, Any] = MappingProxyType({}),
) -> Generator[Event, None, None]:
    """Pass the events of a run on, and keep them in its folder on the way.

    `settings.json` is what is said `about` the run, and the choices of its training. `events.jsonl`
    gets a line for each event but Validating, `history.csv` a row an epoch. `last.hubel` is the
    model at the last epoch, within long ones every minute, and where the run ends or is left
    between two events; `best.hubel` is the best epoch's. A run that fails or is interrupted in the
    middle of a step leaves the last good files. Raises HubelError where the folder cannot be
    written, or another process is writing it, and passes on what the events raise.
    """
    with closing(events), open_log(folder) as log:
        saved_at = time.monotonic()
        try:
            for event in events:
                late = isinstance(event, StepDone) and time.monotonic() - saved_at >= _SAVE_EVERY
                with writing(folder):
                    if _keep(model, event, folder, about, log, late):
                        saved_at = time.monotonic()
                yield event
        except GeneratorExit:
            with writing(folder):
                model.save(folder / LAST)
                append_line(log, {"event": "interrupted"})
            raise
        except KeyboardInterrupt:
            # It may have fallen into the middle of a step, with half of the weights updated: a
            # file of them would not go on to the same bits, the last one does.
            with writing(folder):
                append_line(log, {"event": "interrupted"})
            raise
        except HubelError as error:
            with writing(folder):
                append_line(log, {"event": "failed", "error": str(error)})
            raise


def _keep(
    model: Savable, event: Event, folder: Path, about: Mapping[str, Any], log: TextIO, late: bool
) -> bool:
    """Write what an event is to leave, and tell whether the last model was saved."""
    if not isinstance(event, Validating):
        append_line(log, as_dict(event))
    if isinstance(event, Started):
        assert model.settings is not None
        write_json(folder / SETTINGS, {**about, "training": asdict(model.settings)})
    if isinstance(event, EpochDone):
        if event.best:
            model.save(folder / BEST, resumable=False)
        _write_history(folder / _HISTORY, model)
    if isinstance(event, Ended) and not (folder / BEST).exists():
        model.save(folder / BEST, resumable=False)
    # A file that cannot be written is better known before the first epoch than after it.
    first = isinstance(event, Started) and not (folder / LAST).exists()
    if not (first or late or isinstance(event, EpochDone | Ended)):
        return False
    model.save(folder / LAST)
    return True


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON for people to read: indented, in the order given."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file of text, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def write_confusion(path: Path, classes: Sequence[str], measured: Evaluation) -> None:
    """Write a row for each class: what its images were taken for, and the share that was right."""
    rows = [
        [name, *counts, "" if share is None else f"{share:.4f}"]
        for name, counts, share in zip(classes, measured.confusion, measured.per_class, strict=True)
    ]
    _write_csv(path, [["true class", *classes, "accuracy"], *rows])


def _write_history(path: Path, model: Savable) -> None:
    """Write a row an epoch; what a resumed model does not know is taken from the file as it was."""
    names = [field.name for field in fields(EpochDone)]
    assert model.progress is not None
    before = _history(path)
    rows = []
    for row in model.progress.history:
        known = {name: value for name, value in asdict(row).items() if value is not None}
        whole = {**before.get(str(row.epoch), {}), **known}
        rows.append([whole.get(name, "") for name in names])
    _write_csv(path, [names, *rows])


def _history(path: Path) -> dict[str, dict[str, str]]:
    """The rows of an earlier sitting by epoch, as far as there are any."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        return {row.get("epoch") or "": row for row in csv.DictReader(file)}


def _write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    with replacing(path) as file:
        file.write(text.getvalue().encode("utf-8", "backslashreplace"))


def append_line(log: TextIO, content: Mapping[str, Any]) -> None:
    """Write one line of JSON to a log, at once."""
    log.write(json.dumps(content, ensure_ascii=False) + "\n")
    log.flush()


@contextmanager
def open_log(folder: Path) -> Iterator[TextIO]:
    """The log open for appending, by this process alone, from the beginning of a line."""
    path = folder / _EVENTS
    with writing(folder):
        log = path.open("a+", encoding="utf-8", errors="backslashreplace")
    try:
        with writing(folder):
            _lock(log, path)
            if path.stat().st_size:
                with path.open("rb") as written:
                    written.seek(-1, os.SEEK_END)
                    torn = written.read() != b"\n"
                # A kill in the middle of a line leaves half of one.
                log.write("\n" if torn else "")
            # What a kill in the middle of a save has left; the lock says that nobody else saves.
            for stale in folder.glob(".*.tmp"):
                stale.unlink()
        yield log
    finally:
        # What a full disk did not take is tried once more here, and refused once more.
        with writing(folder):
            log.close()


def _lock(log: TextIO, path: Path) -> None:
    """Hold the folder as long as the file is open; the system lets go of it when a process dies."""
    try:
        import fcntl
    except ImportError:  # Windows, where nothing keeps two processes apart
        return
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            "another process is training in this run folder",
            where=os.fspath(path.parent),
            hint="wait for it, stop it, or start a run of another name",
        ) from None


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Within the block, what the system refuses is told as a HubelError."""
    try:
        yield
    except OSError as error:
        raise _unwritable(error, folder) from error


def _unwritable(error: OSError, folder: Path) -> HubelError:
    return HubelError(
        f"the run folder cannot be written: {reason(error)}",
        where=os.fspath(error.filename or folder),
        hint="free some space, or give another folder with --out",
    )
