"""Hubel's compiled engine."""

from __future__ import annotations

from benchmarks.rivals import Run
from benchmarks.task import Task
from hubel import Model
from hubel.speed import step_of

__all__ = ["inference", "training"]


def training(task: Task) -> Run:
    """A training step as `fit` takes it."""
    return step_of(_model(task), task.images(), task.labels())


def inference(task: Task) -> Run:
    """The scores of a batch."""
    model, images = _model(task), task.images()
    return lambda: model.logits(images, task.case.batch)


def _model(task: Task) -> Model:
    return Model(task.network(), precision=task.precision, threads=task.threads)
