"""Hubel's compiled engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from time import perf_counter

from benchmarks.images import Images
from benchmarks.rivals import Run
from benchmarks.task import Task
from hubel import EpochDone, Model, Started
from hubel.speed import step_of
from hubel.train.settings import Settings

__all__ = ["epochs", "inference", "training"]


def training(task: Task) -> Run:
    """A training step as `fit` takes it."""
    return step_of(_model(task), task.images(), task.labels())


def inference(task: Task) -> Run:
    """The scores of a batch."""
    model, images = _model(task), task.images()
    return lambda: model.logits(images, task.case.batch)


def _model(task: Task) -> Model:
    return Model(task.network(), precision=task.precision, threads=task.threads)


def epochs(task: Task, data: Images, chosen: Settings) -> Iterator[tuple[float, float]]:
    """Trains epoch by epoch: the seconds of each, and the accuracy on the test images after it."""
    model = _model(task)
    begun = perf_counter()
    for event in model.train(data.train, data.train_labels, **asdict(chosen)):
        if isinstance(event, Started):  # what is prepared once for all epochs counts for nobody
            begun = perf_counter()
        elif isinstance(event, EpochDone):
            seconds = perf_counter() - begun
            yield seconds, model.evaluate(data.test, data.test_labels)["accuracy"]
            begun = perf_counter()
