"""What `hubel train` says before and after: machine, data, net, place, and the result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hubel import __version__
from hubel.cli.honest import Comparison, comparison_lines
from hubel.data.dataset import Dataset
from hubel.engine import AUTO
from hubel.graph.shape import describe
from hubel.model import Model
from hubel.network import Network
from hubel.train.events import EpochDone, Verdict
from hubel.train.metrics import Evaluation
from hubel.train.tta import views_of
from hubel.views.preflight import quantity
from hubel.views.progress import accuracy_line, evaluation_line, thousands, verdict_line

__all__ = [
    "DEFAULT",
    "data_lines",
    "engine_line",
    "epoch_place",
    "foreseen_lines",
    "net_lines",
    "result",
    "result_lines",
    "run_line",
    "watched_lines",
]

_SHOWN_PROBLEMS = 5

DEFAULT = "default"
"""The name of a network that nobody named."""


def engine_line(model: Model, engine: str, wanted: str) -> str:
    """The version, the engine with its instruction set, the threads; `wanted` is the precision."""
    isa = getattr(model.session, "isa", None)
    arithmetic = f"{isa}, {model.precision}" if isa else "NumPy, float64"
    if isa and wanted == AUTO:
        faster = model.precision == "bfloat16"
        arithmetic += f", since bfloat16 is multiplied {'' if faster else 'no '}faster here"
    threads = getattr(model.session, "threads", 1)
    return (
        f"Hubel {__version__}, engine {engine} ({arithmetic}), "
        f"{threads} thread{'s' if threads > 1 else ''}"
    )


def data_lines(data: Dataset) -> Iterator[str]:
    """How many images there are of how many classes, and all that was odd about them."""
    counts = [f"{len(data.train):,} training", f"{len(data.validation):,} validation"]
    if data.test is not None:
        counts.append(f"{len(data.test):,} test")
    size = describe(data.train.images.shape[1:])
    yield (
        f"Data: {data.name}, {' + '.join(counts)} images of {size} in {len(data.classes)} classes, "
        f"{len(data.problems)} unreadable or left out"
    )
    if data.conversions:
        done = ", ".join(f"{count:,} {what}" for what, count in data.conversions.items())
        yield f"      converted: {done}"
    for problem in data.problems[:_SHOWN_PROBLEMS]:
        yield f"      left out: {problem}"
    if len(data.problems) > _SHOWN_PROBLEMS:
        yield f"      left out: {len(data.problems) - _SHOWN_PROBLEMS} more, all in settings.json"
    for note in data.notes:
        yield f"      {note}"


def net_lines(net: Network, name: str) -> Iterator[str]:
    """The network in one line, and what `check` warns of where the user has chosen it."""
    report = net.report
    yield (
        f"Net:  {name}, {len(report.rows)} layers, {report.parameters:,} parameters, "
        f"{thousands(report.macs)} multiply-adds an image"
    )
    if name != DEFAULT:
        for warning in report.warnings:
            yield f"      warning: {warning}"


def epoch_place(row: EpochDone, data: Dataset) -> str:
    """A finished epoch and its accuracy on the validation images, else its training loss."""
    labels = data.validation.labels
    if row.validation_accuracy is None:
        return f"epoch {row.epoch}, training loss {row.loss:.4f}"
    correct, baseline = round(row.validation_accuracy * len(labels)), np.bincount(labels).max()
    accuracy = accuracy_line(correct, len(labels), baseline / len(labels), "validation images")
    return f"epoch {row.epoch}, {accuracy}"


def run_line(folder: Path) -> str:
    """Where the run goes."""
    return f"Run:  {folder.resolve()}"


def result(
    model: Model,
    measured: dict[str, Evaluation],
    folder: Path,
    comparisons: dict[str, Comparison],
    *,
    interrupted: bool,
) -> dict[str, Any]:
    """The end of a run as what JSON can hold; `measured` is by "best", "last" and "test"."""
    compared = {name: made.as_dict() for name, made in comparisons.items()}
    assert model.progress is not None
    best = model.progress.best
    return {
        "run": str(folder.resolve()),
        "interrupted": interrupted,
        "epoch": model.progress.epoch,
        "step": model.progress.step,
        "best_epoch": best.epoch if best else None,
        **{
            name: {**evaluation.as_dict(), **compared.get(name, {})}
            for name, evaluation in measured.items()
        },
    }


def watched_lines(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """What was off during the run, again and together."""
    if not verdicts:
        yield "Watched: nothing was off"
        return
    yield f"Watched: {len(verdicts)} thing{'s' if len(verdicts) > 1 else ''} off"
    for verdict in verdicts:
        yield verdict_line(verdict)


def foreseen_lines(foreseen: Mapping[str, Mapping[str, float | None]]) -> Iterator[str]:
    """What the run was foretold to cost, and what it did."""
    parts = []
    for name, of in (
        ("seconds-an-epoch", "an epoch"),
        ("memory", "memory"),
        ("checkpoint", "file"),
    ):
        before, after = foreseen[name]["foreseen"], foreseen[name]["truth"]
        if before is not None and after is not None:
            parts.append(f"{quantity(name, before)} {of}, was {quantity(name, after)}")
    if parts:
        yield f"Foreseen: {'; '.join(parts)}"


def result_lines(
    model: Model,
    measured: dict[str, Evaluation],
    validated: str,
    comparisons: dict[str, Comparison],
    remarks: Iterable[str],
    folder: Path,
) -> Iterator[str]:
    """The end of a run in words; `validated` says which images the first two were measured on."""
    assert model.progress is not None
    best = model.progress.best
    place = f"epoch {best.epoch}" if best else "no whole epoch"
    yield f"Best: {place}, {evaluation_line(measured['best'], validated)}"
    if "best" in comparisons:
        yield from comparison_lines(comparisons["best"], validated)
    yield f"Last: epoch {model.progress.epoch}, {evaluation_line(measured['last'], validated)}"
    if "test" in measured:
        yield f"Test: {evaluation_line(measured['test'], 'test')}, by the best model"
    if "test" in comparisons:
        yield from comparison_lines(comparisons["test"], "test")
    if model.tta != "none":
        count = len(views_of(model.tta))
        yield f"Scores are the mean over {count} views of each image (--tta {model.tta})"
    yield from remarks
    yield f"Saved in {folder.resolve()}"
