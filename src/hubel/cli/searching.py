"""A search on the command line: prepared or taken up again, followed, and summed up."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hubel import __version__
from hubel.cli import report
from hubel.cli.command import nearby, train_command
from hubel.cli.preparing import Source, source_of
from hubel.cli.terminal import has_color, interruptible, is_terminal, say
from hubel.cli.values import VAL_FRACTION, print_json
from hubel.data.dataset import Dataset
from hubel.errors import FormatError, UsageError
from hubel.model import load
from hubel.notation.named import find, read_header
from hubel.train.metrics import Evaluation
from hubel.train.run import BEST, write_json, write_text, writing
from hubel.train.settings import flag, settings
from hubel.trials.events import SearchEnded, SearchEvent, Trial, winner
from hubel.trials.plan import Plan, from_dict, settings_of
from hubel.trials.search import kept_settings, prepare_search, resume_search, trials_in
from hubel.views.progress import accuracy_line, evaluation_line
from hubel.views.scatter import scatter
from hubel.views.trials import edges, shown, table

__all__ = ["Search", "follow", "resumed", "started"]

_SUMMARY, _PICTURE, _NET = "search.json", "search.svg", "net.hub"
# A network of more characters is put into a file of its own, which the command then names.
_LONGEST_NET = 300
_PLACE = ("name", "out")
_MODEL = ("engine", "precision", "initialisation")


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """A search about to begin: its events are not yet asked for."""

    data: Dataset
    source: Source
    plan: Plan
    events: Generator[SearchEvent, None, None]
    folder: Path
    threads: int | None


def started(
    choices: Mapping[str, Any],
    plan: Mapping[str, Any],
    fixed: Mapping[str, Any],
    limit: float | None,
    threads: int | None,
    quiet: bool,
) -> Search:
    """Load the data, check everything, make the folder. Raises HubelError before there is one."""
    if "data" not in fixed:
        raise UsageError(
            "there is nothing to search on",
            hint="name a folder of class folders, or try: hubel search digits --trials 8",
        )
    text, _ = find(fixed["net"]) if "net" in fixed else ("", "")
    held_out = settings(
        val_fraction=choices.get("val_fraction", VAL_FRACTION), seed=choices.get("seed", 0)
    )
    source = source_of(fixed, read_header(text), held_out)
    data = source.load(quiet)
    others = {name: fixed[name] for name in _MODEL if name in fixed}
    given = {"val_fraction": held_out.val_fraction, **choices, **plan, **others}
    about = {
        "hubel": __version__,
        "data": asdict(source.anywhere()),
        "left_out": [str(problem) for problem in data.problems],
        "classes": data.classes,
    }
    place = {name: fixed[name] for name in _PLACE if name in fixed}
    folder = prepare_search(data, text, resize=source.resize, about=about, **given, **place)
    return _search(data, source.anywhere(), folder, limit, threads, quiet)


def resumed(
    folder: Path,
    given: Mapping[str, Any],
    limit: float | None,
    threads: int | None,
    quiet: bool,
) -> Search:
    """Take up the search in a folder. Raises UsageError for anything given that it has already."""
    if given:
        flags = ", ".join("DATA" if key == "data" else flag(key) for key in given)
        raise UsageError(
            f"a resumed search keeps its choices, but {flags} was given",
            hint="only --time and --threads may be given; or start a new search",
        )
    kept = kept_settings(folder)
    try:
        source = Source(**kept["data"])
    except (KeyError, TypeError) as error:
        raise FormatError(
            f"it does not say where its images come from: {error!r}",
            where=str(folder),
            hint="a search that began in Python goes on there: hubel.resume_search",
        ) from None
    return _search(source.load(quiet), source, folder, limit, threads, quiet)


def _search(
    data: Dataset,
    source: Source,
    folder: Path,
    limit: float | None,
    threads: int | None,
    quiet: bool,
) -> Search:
    plan = from_dict(kept_settings(folder)["search"])
    events = resume_search(data, folder, time=limit, threads=threads)
    if not quiet:
        say(
            f"Hubel {__version__}, engine {plan.engine} ({plan.precision})",
            *report.data_lines(data),
            report.run_line(folder),
        )
    return Search(data, source, plan, events, folder, threads)


def follow(run: Search, as_json: bool, quiet: bool) -> int:
    """Search to the end or to Ctrl-C, print all trials, and return the exit status."""
    stream = run.events
    if not quiet:
        bar, color = is_terminal(sys.stderr), has_color(sys.stderr)
        stream = shown(stream, sys.stderr, bar=bar, color=color)
    ended: SearchEnded | None = None
    with interruptible() as stop, closing(stream):
        for event in stream:
            if isinstance(event, SearchEnded):
                ended = event
            if stop.status is not None:
                break
    trials = trials_in(run.folder)
    best = winner(trials)
    test = _tested(run) if best and ended else None
    command = _command(run, best) if best else None
    ranges = run.plan.ranges
    with writing(run.folder):
        picture = scatter(trials, ranges, f"{run.data.name}: {len(trials)} trials")
        write_text(run.folder / _PICTURE, picture)
        summary = _summary(run, trials, best, test, command, ended)
        write_json(run.folder / _SUMMARY, summary)
    if as_json:
        print_json(summary)
    else:
        # Whatever reads a pipe wants a trial a line, however long.
        wrapped = sys.stdout.isatty() or "COLUMNS" in os.environ
        width = shutil.get_terminal_size((100, 24)).columns if wrapped else None
        print(table(trials, width, has_color(sys.stdout)))
        if best is not None and command is not None:
            print("", *_result_lines(run, best, test, command), sep="\n")
    if ended is None or ended.reason == "time":
        cut = "Interrupted" if ended is None else "Stopped"
        begun = sum(trial.state == "unfinished" for trial in trials)
        within = " and within another" if begun else ""
        say(
            f"{cut} after {len(trials) - begun} of {run.plan.trials} trials{within}.",
            f"Go on with: hubel search --resume {shlex.quote(str(run.folder))}",
        )
    if ended is None:
        return stop.status or 1
    if best is None:
        say("No trial went to its end: try lower learning rates, or give it more time.")
        return 1
    return 0


def _tested(run: Search) -> Evaluation | None:
    """The winner on the test images, which chose nothing."""
    test = run.data.test
    if test is None or not len(test):
        return None
    plan = run.plan
    path = run.folder / BEST
    best = load(path, engine=plan.engine, precision=plan.precision, threads=run.threads)
    return best.measure(test.images, test.labels)


def _summary(
    run: Search,
    trials: Sequence[Trial],
    best: Trial | None,
    test: Evaluation | None,
    command: str | None,
    ended: SearchEnded | None,
) -> dict[str, Any]:
    return {
        "run": str(run.folder.resolve()),
        "interrupted": ended is None,
        "ended": ended.reason if ended else None,
        "best": best.number if best else None,
        "command": command,
        "test": test.as_dict() if test else None,
        "edges": list(edges(best, run.plan.ranges)) if best else [],
        "trials": [trial.as_dict() for trial in trials],
    }


def _result_lines(run: Search, best: Trial, test: Evaluation | None, command: str) -> Iterator[str]:
    assert best.correct is not None
    labels = run.data.validation.labels
    baseline = np.bincount(labels).max() / len(labels)
    accuracy = accuracy_line(best.correct, len(labels), baseline, "validation images")
    yield f"Best: trial {best.number}, epoch {best.best_epoch}, {accuracy}"
    if test is not None:
        yield f"Test: {evaluation_line(test, 'test')}"
    for edge in edges(best, run.plan.ranges):
        yield f"Note: {edge}"
    yield f"Saved in {run.folder.resolve()}"
    yield "Train the best anew with:"
    yield command


def _command(run: Search, best: Trial) -> str:
    """The command line that trains a trial's model again, to the same bits."""
    chosen = settings_of(run.plan, best.stage - 1, best.numbers)
    plan = run.plan
    return train_command(
        run.source, _net(run, best), chosen, plan.engine, plan.precision, plan.initialisation
    )


def _net(run: Search, best: Trial) -> str:
    """The network of a trial as one line, or where comments or length forbid it as a file."""
    line = " ".join(best.net.split())
    if "#" not in line and len(line) <= _LONGEST_NET:
        return line
    path = run.folder / _NET
    with writing(run.folder):
        write_text(path, best.net)
    return nearby(str(path))
