"""Preflight: what is wrong with a run, found in the seconds before its first epoch."""

from __future__ import annotations

from collections.abc import Iterator

from hubel.data.checks import Check
from hubel.train.preflight import data, learning, start
from hubel.train.preflight.cost import costs
from hubel.train.preflight.gradient import gradients_right
from hubel.train.preflight.learning import Rates, probe_rates
from hubel.train.preflight.subject import Subject
from hubel.train.whiten import write_whitened

__all__ = ["Check", "Rates", "Subject", "preflight"]

_BEFORE_TRAINING = (
    data.inputs,
    data.labels_learnable,
    data.batches_mixed,
    data.splits_apart,
    start.weights_differ,
    start.first_loss,
    start.scores_free,
    start.regularisation,
    start.activations,
    start.gradients,
    start.dead_units,
    start.independence,
)


def preflight(subject: Subject, gradient_check: bool = False) -> Iterator[Check | Rates]:
    """Every check in turn, and after that of the learning rate the rates it has tried.

    The subject's parameters and statistics are in the end what they were.
    """
    with subject.unchanged():
        if subject.chosen.whiten:
            write_whitened(
                subject.session, subject.graph, subject.training.images, subject.preprocess
            )
        yield from _checks(subject, gradient_check)


def _checks(subject: Subject, gradient_check: bool) -> Iterator[Check | Rates]:
    for check in _BEFORE_TRAINING:
        yield check(subject)
    if gradient_check:
        yield gradients_right(subject)
    rates = probe_rates(subject)
    yield learning.rate(subject, rates)
    yield rates
    yield learning.twenty(subject, rates)
    yield from costs(subject)
