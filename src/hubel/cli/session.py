"""A training run on the command line: begun or taken up again, followed, and summed up."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from hubel import __version__
from hubel.cli import report
from hubel.cli.honest import Comparison, compared
from hubel.cli.preparing import Prepared, Source, kept, prepared
from hubel.cli.terminal import has_color, interruptible, is_terminal, say
from hubel.cli.values import print_json
from hubel.data.audit import Audit, audit
from hubel.data.dataset import Dataset
from hubel.errors import UsageError
from hubel.model import Model, load
from hubel.train.events import Event, as_dict
from hubel.train.metrics import Evaluation
from hubel.train.preflight import Check, Rates
from hubel.train.preflight.cost import peak_memory
from hubel.train.run import (
    BEST,
    LAST,
    create,
    record,
    write_confusion,
    write_json,
    write_text,
)
from hubel.train.settings import flag
from hubel.views.audit import note_lines
from hubel.views.preflight import preflight_lines
from hubel.views.progress import shown
from hubel.views.rates import rates_svg

__all__ = ["Run", "follow", "resumed", "started"]

_PREFLIGHT, _RATES = "preflight.json", "rates.svg"
_SUMMARY, _CONFUSION, _TEST_CONFUSION = "summary.json", "confusion.csv", "confusion-test.csv"


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A run about to begin: its events are not yet asked for. `about` is kept in its settings.

    `checks` are those of preflight, None where it was left out. Without an `audit` nothing is
    compared at its end.
    """

    model: Model
    engine: str
    data: Dataset
    events: Generator[Event, None, None]
    folder: Path
    about: Mapping[str, Any]
    audit: Audit | None
    checks: Sequence[Check] | None = None


def started(
    choices: Mapping[str, Any],
    fixed: Mapping[str, Any],
    threads: int | None,
    quiet: bool,
    audited: bool,
    with_preflight: bool,
) -> Run:
    """Load the data, check everything, make the folder. Raises HubelError before there is one."""
    made = prepared(choices, fixed, threads, quiet)
    model, data = made.model, made.data
    events = model.train(data, **asdict(made.chosen))
    title = Path(data.name).name
    if made.name != report.DEFAULT:
        title = f"{title}-{made.name}"
    folder = create(fixed.get("out", Path("runs")), fixed.get("name", title))
    if not quiet:
        made.announce()
        say(report.run_line(folder))
    found = _audit(data, audited, quiet)
    checks = _look_first(made, folder, quiet) if with_preflight else None
    about = _about(model, made.engine, data, made.name, made.source)
    return Run(model, made.engine, data, events, folder, about, found, checks)


def _audit(data: Dataset, wanted: bool, quiet: bool) -> Audit | None:
    """What is wrong with the images, said unless `quiet`, where that is wanted."""
    if not wanted:
        return None
    found = audit(data)
    if not quiet:
        say(*note_lines(found))
    return found


def _look_first(made: Prepared, folder: Path, quiet: bool) -> Sequence[Check]:
    """Preflight: what it finds is said, kept in the folder, and left to the user."""
    begun = time.monotonic()
    checks = []
    for found in made.model.diagnose(made.data, **asdict(made.chosen)):
        if isinstance(found, Rates):
            write_text(folder / _RATES, rates_svg(found, made.chosen.rate))
        else:
            checks.append(found)
    write_json(folder / _PREFLIGHT, {"checks": [check.as_dict() for check in checks]})
    if not quiet:
        say(*preflight_lines(checks, time.monotonic() - begun))
    return checks


def _about(
    model: Model, engine: str, data: Dataset, name: str, source: Source
) -> Mapping[str, Any]:
    """What the settings of a run say beside the choices of its training."""
    return {
        "hubel": __version__,
        "engine": engine,
        "precision": model.precision,
        "data": asdict(source.anywhere()),
        "images": {
            "training": len(data.train),
            "validation": len(data.validation),
            "test": len(data.test) if data.test else 0,
        },
        "left_out": [str(problem) for problem in data.problems],
        "classes": data.classes,
        "net": {"name": name, "text": model.network.text, "input": model.network.input},
        "initialisation": model.initialisation,
    }


def resumed(
    path: Path,
    choices: Mapping[str, Any],
    fixed: Mapping[str, Any],
    threads: int | None,
    quiet: bool,
    audited: bool,
) -> Run:
    """Take up the run in a folder where it was left. Raises UsageError for choices that changed."""
    if fixed:
        flags = ", ".join("DATA" if key == "data" else flag(key) for key in fixed)
        raise UsageError(
            f"a resumed run keeps its data, net, engine and precision, but {flags} was given",
            hint="only --epochs, --patience, --time and --threads may change",
        )
    folder = path.parent if path.suffix == ".hubel" else path
    settled, source = kept(folder)
    engine = str(settled["engine"])
    precision = str(settled.get("precision", "float32"))
    model = load(folder / LAST, engine=engine, precision=precision, threads=threads)
    data = source.load(quiet)
    events = model.train(data, resume=True, **choices)
    if not quiet:
        say(
            report.engine_line(model, engine, ""),
            *report.data_lines(data),
            *report.net_lines(model.network, str(settled["net"]["name"])),
            report.run_line(folder),
        )
    return Run(model, engine, data, events, folder, settled, _audit(data, audited, quiet))


def follow(run: Run, as_json: bool, quiet: bool) -> int:
    """Train to the end or to Ctrl-C, print the result, and return the exit status."""
    stream = record(run.model, run.events, run.folder, run.about)
    if not quiet:
        bar, color = is_terminal(sys.stderr), has_color(sys.stderr)
        stream = shown(stream, sys.stderr, bar=bar, color=color)
    with interruptible() as stop, closing(stream):
        for _ in stream:
            if stop.status is not None:
                break
    if stop.status is not None:
        _report_interrupted(run, as_json)
        return stop.status
    assert run.model.progress is not None
    verdicts = run.model.progress.shown.verdicts
    foreseen = None if run.checks is None else _foreseen(run, run.checks)
    measured, comparisons = _measured(run)
    summary = {
        **report.result(run.model, measured, run.folder, comparisons, interrupted=False),
        "verdicts": [as_dict(verdict) for verdict in verdicts],
        "foreseen": foreseen,
    }
    write_json(run.folder / _SUMMARY, summary)
    if as_json:
        print_json(summary)
    else:
        validated = "validation" if len(run.data.validation) else "training"
        remarks = [*report.watched_lines(verdicts)]
        if foreseen is not None:
            remarks += report.foreseen_lines(foreseen)
        lines = report.result_lines(
            run.model, measured, validated, comparisons, remarks, run.folder
        )
        print(*lines, sep="\n")
    return 0


def _foreseen(run: Run, checks: Sequence[Check]) -> dict[str, dict[str, float | None]]:
    """What preflight foretold of the run's cost, beside what it came to."""
    foretold = {check.check: check.value for check in checks}
    assert run.model.progress is not None
    seconds = [row.seconds for row in run.model.progress.history if row.seconds is not None]
    came_to = {
        "seconds-an-epoch": median(seconds) if seconds else None,
        "memory": peak_memory(),
        "checkpoint": (run.folder / LAST).stat().st_size,
    }
    return {name: {"foreseen": foretold[name], "truth": truth} for name, truth in came_to.items()}


def _measured(run: Run) -> tuple[dict[str, Evaluation], dict[str, Comparison]]:
    """The best and the last model on the validation images, the best once on the test images.

    And what the best one's scores compare with, where there is an audit.
    """
    best = load(
        run.folder / BEST,
        engine=run.engine,
        precision=run.model.precision,
        threads=_threads(run.model),
    )
    split = run.data.validation if len(run.data.validation) else run.data.train
    measured = {"best": best.measure(split.images, split.labels)}
    # Images are seen in several views, so that measuring twice would take its time.
    last = measured["best"] if _last_is_best(run.model) else None
    measured["last"] = last or run.model.measure(split.images, split.labels)
    write_confusion(run.folder / _CONFUSION, run.data.classes, measured["best"])
    test = run.data.test
    if test is not None and len(test):
        measured["test"] = best.measure(test.images, test.labels)
        write_confusion(run.folder / _TEST_CONFUSION, run.data.classes, measured["test"])
    if run.audit is None:
        return measured, {}
    scored = {"best": run.data.validation, "test": run.data.test}
    comparisons = compared(
        best,
        run.data.train,
        {name: (part, measured[name]) for name, part in scored.items() if part},
        {"best": run.audit.leaked["validation"], "test": run.audit.leaked.get("test", ())},
        run.model.seed,
    )
    return measured, comparisons


def _last_is_best(model: Model) -> bool:
    """Whether training ended with the very model that is the best."""
    progress = model.progress
    assert progress is not None
    return progress.best is not None and (progress.best.epoch, 0) == (progress.epoch, progress.step)


def _report_interrupted(run: Run, as_json: bool) -> None:
    progress = run.model.progress
    assert progress is not None
    if as_json:
        print_json(report.result(run.model, {}, run.folder, {}, interrupted=True))
    finished = ["No epoch was finished."]
    if progress.best is not None:
        finished = [
            f"Best: {report.epoch_place(progress.best, run.data)}",
            f"Last: {report.epoch_place(progress.history[-1], run.data)}",
        ]
    say(
        f"Interrupted after epoch {progress.epoch} and step {progress.step} of the next.",
        *finished,
        f"Saved in {run.folder.resolve()}",
        f"Go on with: hubel train --resume {run.folder}",
    )


def _threads(model: Model) -> int | None:
    return getattr(model.session, "threads", None)
