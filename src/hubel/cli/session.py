"""A training run on the command line: prepared or taken up again, followed, and summed up."""

from __future__ import annotations

import json
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
from hubel.cli.terminal import has_color, interruptible, is_terminal, say
from hubel.cli.values import image_size, print_json
from hubel.data import load as load_data
from hubel.data.dataset import Dataset
from hubel.errors import FormatError, UsageError, reason
from hubel.model import Model, load
from hubel.network import Network
from hubel.notation.named import Header, find, read_header
from hubel.notation.parse import parse
from hubel.train.events import Event, Verdict, as_dict
from hubel.train.metrics import Evaluation
from hubel.train.preflight import Check, Rates
from hubel.train.preflight.cost import peak_memory
from hubel.train.recipes import CHOICES, default_net
from hubel.train.run import (
    BEST,
    LAST,
    SETTINGS,
    create,
    record,
    write_confusion,
    write_json,
    write_text,
)
from hubel.train.settings import Settings, settings
from hubel.views.preflight import preflight_lines
from hubel.views.progress import shown
from hubel.views.rates import rates_svg

__all__ = [
    "VAL_FRACTION",
    "Prepared",
    "Run",
    "Source",
    "flag",
    "follow",
    "prepared",
    "resumed",
    "source_of",
    "started",
]

_PREFLIGHT, _RATES = "preflight.json", "rates.svg"
_SUMMARY, _CONFUSION, _TEST_CONFUSION = "summary.json", "confusion.csv", "confusion-test.csv"

VAL_FRACTION = 0.1
"""The share of the training images that is set aside where there are no others."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A run about to begin: its events are not yet asked for. `about` is kept in its settings.

    `checks` are those of preflight, None where it was left out.
    """

    model: Model
    engine: str
    data: Dataset
    events: Generator[Event, None, None]
    folder: Path
    about: Mapping[str, Any]
    checks: Sequence[Check] | None = None


def started(
    choices: Mapping[str, Any],
    fixed: Mapping[str, Any],
    threads: int | None,
    quiet: bool,
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
    checks = _look_first(made, folder, quiet) if with_preflight else None
    about = _about(model, made.engine, data, made.name, made.source)
    return Run(model, made.engine, data, events, folder, about, checks)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A model as the command line describes it, and the images it is to be trained on."""

    model: Model
    engine: str
    precision: str
    data: Dataset
    name: str
    chosen: Settings
    source: Source

    def announce(self) -> None:
        """Say what machine, data and net there are."""
        say(
            report.engine_line(self.model, self.engine, self.precision),
            *report.data_lines(self.data),
            *report.net_lines(self.model.network, self.name),
        )


def prepared(
    choices: Mapping[str, Any], fixed: Mapping[str, Any], threads: int | None, quiet: bool
) -> Prepared:
    """Load the data and make the model. Raises HubelError for what does not fit."""
    if "data" not in fixed:
        raise UsageError(
            "there is nothing to train on",
            hint="name a folder of class folders, or try: hubel train digits",
        )
    usual: Mapping[str, Any] = {}
    if "net" not in fixed and not {"optimizer", "lr"} & choices.keys():
        usual = CHOICES
    chosen = settings(**{"val_fraction": VAL_FRACTION, **usual, **choices})
    text, name = "", report.DEFAULT
    if "net" in fixed:
        text, name = find(fixed["net"])
        name = Path(name).stem or "net"
        parse(text)
    source = source_of(fixed, read_header(text), chosen)
    data = source.load(quiet)
    height, width, depth = data.train.images.shape[1:]
    network = Network(text or default_net(height, width), (height, width, depth), len(data.classes))
    engine, precision = fixed.get("engine", "native"), fixed.get("precision")
    model = Model(
        network,
        seed=chosen.seed,
        engine=engine,
        precision=precision or "float32",
        threads=threads,
        initialisation=fixed.get("initialisation", "he"),
        classes=data.classes,
        resize=source.resize,
    )
    return Prepared(model, engine, precision or "", data, name, chosen, source)


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


def source_of(fixed: Mapping[str, Any], header: Header, chosen: Settings) -> Source:
    """Where the images come from, in the size and depth that is asked for or that the net names."""
    size, channels = None, fixed.get("channels")
    if "size" in fixed:
        size = image_size(fixed["size"])
    elif header.input is not None:
        size = header.input[:2]
    if channels is None and header.input is not None and header.input[2] in (1, 3):
        channels = header.input[2]
    return Source(
        fixed["data"],
        size,
        channels,
        fixed.get("resize", "squash"),
        None if "data_dir" not in fixed else str(fixed["data_dir"].resolve()),
        chosen.val_fraction,
        chosen.seed,
    )


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
) -> Run:
    """Take up the run in a folder where it was left. Raises UsageError for choices that changed."""
    if fixed:
        flags = ", ".join("DATA" if key == "data" else flag(key) for key in fixed)
        raise UsageError(
            f"a resumed run keeps its data, net, engine and precision, but {flags} was given",
            hint="only --epochs, --patience, --time and --threads may change",
        )
    folder = path.parent if path.suffix == ".hubel" else path
    kept, source = _kept(folder)
    engine = str(kept["engine"])
    precision = str(kept.get("precision", "float32"))
    model = load(folder / LAST, engine=engine, precision=precision, threads=threads)
    data = source.load(quiet)
    events = model.train(data, resume=True, **choices)
    if not quiet:
        say(
            report.engine_line(model, engine, ""),
            *report.data_lines(data),
            *report.net_lines(model.network, str(kept["net"]["name"])),
            report.run_line(folder),
        )
    return Run(model, engine, data, events, folder, kept)


def follow(run: Run, as_json: bool, quiet: bool) -> int:
    """Train to the end or to Ctrl-C, print the result, and return the exit status."""
    stream = record(run.model, run.events, run.folder, run.about)
    if not quiet:
        bar, color = is_terminal(sys.stderr), has_color(sys.stderr)
        stream = shown(stream, sys.stderr, bar=bar, color=color)
    verdicts = []
    with interruptible() as stop, closing(stream):
        for event in stream:
            if isinstance(event, Verdict):
                verdicts.append(event)
            if stop.status is not None:
                break
    if stop.status is not None:
        _report_interrupted(run, as_json)
        return stop.status
    measured = _measured(run)
    foreseen = None if run.checks is None else _foreseen(run, run.checks)
    summary = {
        **report.result(run.model, measured, run.folder, interrupted=False),
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
        print(*report.result_lines(run.model, measured, validated, remarks, run.folder), sep="\n")
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


def _measured(run: Run) -> dict[str, Evaluation]:
    """The best and the last model on the validation images, the best once on the test images."""
    best = load(
        run.folder / BEST,
        engine=run.engine,
        precision=run.model.precision,
        threads=_threads(run.model),
    )
    split = run.data.validation if len(run.data.validation) else run.data.train
    measured = {
        "best": best.measure(split.images, split.labels),
        "last": run.model.measure(split.images, split.labels),
    }
    write_confusion(run.folder / _CONFUSION, run.data.classes, measured["best"])
    test = run.data.test
    if test is not None and len(test):
        measured["test"] = best.measure(test.images, test.labels)
        write_confusion(run.folder / _TEST_CONFUSION, run.data.classes, measured["test"])
    return measured


def _report_interrupted(run: Run, as_json: bool) -> None:
    progress = run.model.progress
    assert progress is not None
    if as_json:
        print_json(report.result(run.model, {}, run.folder, interrupted=True))
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


@dataclass(frozen=True, slots=True)
class Source:
    """Where the images come from and how they are read: what a resumed run must do again."""

    source: str
    size: tuple[int, int] | None
    channels: int | None
    resize: Any
    data_dir: str | None
    val_fraction: float
    seed: int

    def load(self, quiet: bool) -> Dataset:
        return load_data(
            self.source,
            size=None if self.size is None else (self.size[0], self.size[1]),
            channels=self.channels,
            resize=self.resize,
            val_fraction=self.val_fraction,
            seed=self.seed,
            data_dir=self.data_dir,
            progress=None if quiet or not is_terminal(sys.stderr) else _reading,
        )

    def anywhere(self) -> Source:
        """The same from any working folder."""
        path = Path(self.source)
        if not path.is_dir():
            return self
        return Source(
            str(path.resolve()),
            self.size,
            self.channels,
            self.resize,
            self.data_dir,
            self.val_fraction,
            self.seed,
        )


def _reading(done: int, total: int) -> None:
    end = "\r\x1b[K" if done >= total else ""
    print(f"\rReading images: {done:,} of {total:,}", end=end, file=sys.stderr, flush=True)


def _kept(folder: Path) -> tuple[dict[str, Any], Source]:
    """The settings of a run as they were written, and where its images come from."""
    path = folder / SETTINGS
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(kept, dict) or not {"engine", "data", "net"} <= kept.keys():
            raise ValueError("there is no engine, data or net")
        source = Source(**kept["data"])
    except OSError as error:
        raise UsageError(
            f"there is no run here: {reason(error)}",
            where=str(path),
            hint="give the folder of a run, such as runs/digits",
        ) from error
    except (TypeError, ValueError) as error:
        raise FormatError(f"these are no settings of a run: {error}", where=str(path)) from error
    return kept, source


def flag(key: str) -> str:
    """The option of the command line that sets a choice."""
    return f"--{key.replace('_', '-')}"


def _threads(model: Model) -> int | None:
    return getattr(model.session, "threads", None)
