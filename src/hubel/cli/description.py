"""The facts about a model file, in words and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hubel.graph.shape import describe
from hubel.train.checkpoint import read
from hubel.train.events import TIMINGS, EpochDone
from hubel.views.progress import percent

__all__ = ["described", "lines"]


def described(path: Path) -> dict[str, Any]:
    """All that a model file says of itself, as what JSON can hold."""
    saved = read(path)
    training = saved.training
    best = training.progress.best if training else None
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "net": saved.net,
        "input": saved.input,
        "classes": saved.classes,
        "parameters": sum(
            array.size for name, array in saved.tensors.items() if ".running_" not in name
        ),
        "preprocess": saved.preprocess.to_dict() if saved.preprocess else None,
        "resize": saved.resize,
        "seed": saved.seed,
        "initialisation": saved.initialisation,
        "training": asdict(training.settings) if training else None,
        "epoch": training.progress.epoch if training else 0,
        "resumable": training.resumable if training else False,
        "best": _without_timings(best) if best else None,
    }


def lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """The same facts for people."""
    yield f"{facts['file']}, {facts['bytes']:,} bytes"
    net = " ".join(line.split("#")[0].strip() for line in facts["net"].splitlines()).split()
    yield f"net            {' '.join(net)}"
    yield f"input          {describe(facts['input'])}, other sizes by {facts['resize']}"
    yield f"classes        {len(facts['classes'])}: {', '.join(facts['classes'])}"
    yield f"parameters     {facts['parameters']:,}, begun as {facts['initialisation']}, " + (
        f"seed {facts['seed']}"
    )
    yield f"preprocessing  {_preprocessing(facts['preprocess'])}"
    if facts["training"] is None:
        yield "training       none"
        return
    chosen = {key: value for key, value in facts["training"].items() if value not in (None, False)}
    yield f"training       {', '.join(f'{key} {value}' for key, value in chosen.items())}"
    yield f"epochs         {facts['epoch']} of {chosen['epochs']} done" + (
        ", can be resumed" if facts["resumable"] else ""
    )
    if facts["best"]:
        best = facts["best"]
        shares = f"training accuracy {percent(best['accuracy'])}"
        if best["validation_accuracy"] is not None:
            shares += f", validation accuracy {percent(best['validation_accuracy'])}"
        yield f"best           epoch {best['epoch']}, {shares}"


def _without_timings(row: EpochDone) -> dict[str, Any]:
    return {name: value for name, value in asdict(row).items() if name not in TIMINGS}


def _preprocessing(fields: Mapping[str, Any] | None) -> str:
    if fields is None:
        return "none: numbers are taken as they are"
    mean, deviation = ([round(value, 4) for value in fields[key]] for key in ("mean", "std"))
    return f"{fields['method']}, mean {mean}, deviation {deviation}, in units of 255"
