"""Checks that train for a moment: which learning rates work, and whether twenty images can be
learned.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from hubel.data.batches import Batch
from hubel.data.checks import Check
from hubel.engine import Array
from hubel.graph import modes
from hubel.graph.op import Graph
from hubel.graph.ops import OPS
from hubel.train.preflight.subject import Subject, sample
from hubel.train.step import feeds, forget, step_graph

__all__ = ["Rates", "Tried", "probe_rates", "rate", "try_twenty", "twenty"]

# From a rate at which nothing moves to one at which everything bursts.
_LOWEST, _HIGHEST, _STEPS = 1e-6, 10.0, 70
# Batch normalisation over fewer images is noise, and so is the loss of fewer.
_LEAST_IMAGES = 32
# The loss of one batch is noise; a mean that forgets a fifth at each step is smooth enough.
_KEPT = 0.8
_BURST = 2.0
_FALLEN = 0.98

_TWENTY, _MOST_STEPS, _LEAST_STEPS = 20, 400, 60

# What a check may take at the engine's pace, where its fewest images and steps do not take longer.
_SECONDS = 5.0

# The loss is least a little before it bursts; a tenth of that rate lasts (Smith 2017, fastai).
_SUGGESTED = 0.1
# Between these multiples of the suggested rate most runs learn; `twenty` tries the rate itself.
_TOO_LOW, _TOO_HIGH = 1 / 150, 40.0


@dataclass(frozen=True, slots=True)
class Rates:
    """The smoothed loss at each learning rate tried, rising from step to step.

    `suggested` is a tenth of the rate at which it is least, None where it never falls.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggested: float | None


def probe_rates(subject: Subject) -> Rates:
    """Train for some dozens of steps while the learning rate rises from 1e-6 to 10 (Smith 2017).

    Batches are those of training, made smaller where these steps would take long.
    """
    with subject.unchanged():
        return _probe_rates(subject)


def _probe_rates(subject: Subject) -> Rates:
    graph = step_graph(subject.graph, subject.chosen)
    forget(subject.session, graph)
    rates, losses = [], []
    smooth, weight = 0.0, 0.0
    for number, batch in enumerate(_batches(subject), 1):
        rate = _LOWEST * (_HIGHEST / _LOWEST) ** ((number - 1) / (_STEPS - 1))
        loss = float(_step(subject, graph, batch, rate, number)["loss"])
        if not math.isfinite(loss):
            break
        smooth, weight = _KEPT * smooth + (1 - _KEPT) * loss, _KEPT * weight + (1 - _KEPT)
        rates.append(rate)
        losses.append(smooth / weight)
        if number > 10 and losses[-1] > _BURST * max(losses[0], 1e-3):
            break
    return Rates(tuple(rates), tuple(losses), _suggested(rates, losses))


def _batches(subject: Subject) -> Iterator[Batch]:
    chosen = replace(subject.chosen, epochs=_STEPS, batch_size=_affordable(subject))
    return islice(subject.batches(chosen), _STEPS)


def _affordable(subject: Subject) -> int:
    """How many images a step of the probe may see: by counting, so that it is always the same."""
    most = int(_images_in_time(subject) / _STEPS)
    return min(subject.chosen.batch_size, max(_LEAST_IMAGES, most))


def _images_in_time(subject: Subject) -> float:
    """How many images may be trained on: two operations a product, and three passes an image."""
    graph = subject.graph
    products = sum(
        OPS[node.op].multiply_adds(
            node.attributes,
            [graph[name].shape for name in node.inputs],
            [graph[name].shape for name in node.outputs],
        )
        for node in graph.nodes
    )
    return _SECONDS * subject.session.pace / (6 * max(1, products))


def _step(
    subject: Subject, graph: Graph, batch: Batch, rate: float, number: int
) -> dict[str, Array]:
    fed: dict[str, Any] = {
        **feeds(batch),
        "rate": rate,
        "step": number,
        "seed": subject.chosen.seed,
    }
    return subject.session.run(graph, fed)


def _suggested(rates: list[float], losses: list[float]) -> float | None:
    if not losses:
        return None
    least = int(np.argmin(losses))
    if losses[least] > _FALLEN * losses[0]:
        return None
    # To one digit: more of them would claim a precision that there is not.
    return float(f"{_SUGGESTED * rates[least]:.0e}")


def rate(subject: Subject, rates: Rates) -> Check:
    """Whether the chosen learning rate lies where the loss falls, by `probe_rates`."""
    chosen = subject.chosen.rate
    if rates.suggested is None:
        return Check(
            "learning-rate",
            False,
            chosen,
            "some rate at which the loss falls",
            f"the loss falls at no rate from {_LOWEST:g} to {_HIGHEST:g}",
            "mend what the other checks name first",
        )
    low, high = rates.suggested * _TOO_LOW, rates.suggested * _TOO_HIGH
    expected = f"{low:.1g} to {high:.1g}; {rates.suggested:g} suggested"
    if not low <= chosen <= high:
        far = "above" if chosen > high else "below"
        cause = (
            f"the rate {chosen:g} is far {far} {rates.suggested:g}, a tenth of that at which the "
            "loss is least while the rate rises"
        )
        return Check(
            "learning-rate", False, chosen, expected, cause, f"try --lr {rates.suggested:g}"
        )
    return Check("learning-rate", True, chosen, expected)


@dataclass(frozen=True, slots=True)
class Tried:
    """How many of so many images were right after so many steps on them alone."""

    right: int
    images: int
    steps: int


def try_twenty(subject: Subject, rate: float) -> Tried:
    """Train on twenty images alone until all are right, or for some hundred steps.

    Nothing is dropped, augmented or regularised.
    """
    chosen = replace(
        subject.chosen,
        weight_decay=0.0,
        l1=0.0,
        label_smoothing=0.0,
        mixup=0.0,
        cutmix=0.0,
        class_weights=None,
    )
    graph = step_graph(modes.without_dropout(subject.graph), chosen)
    labels = subject.training.labels
    batch = subject.assembled(sample(labels, min(_TWENTY, len(labels)), chosen.seed))
    right, number = 0, 0
    with subject.unchanged():
        forget(subject.session, graph)
        most = int(_images_in_time(subject) / len(batch.labels))
        most = min(_MOST_STEPS, max(_LEAST_STEPS, most))
        while right < len(batch.labels) and number < most:
            number += 1
            results = _step(subject, graph, batch, rate, number)
            right = int(results["correct"])
            if not math.isfinite(float(results["loss"])):
                break
    return Tried(right, len(batch.labels), number)


def twenty(subject: Subject, rates: Rates) -> Check:
    """Whether twenty images can be learned by heart (CS231n, "Babysitting").

    A network that cannot do that has a fault that more images will not mend.
    """
    chosen = subject.chosen.rate
    tried = try_twenty(subject, chosen)
    expected = f"1: all of {tried.images} images"
    share = tried.right / tried.images
    if tried.right == tried.images:
        return Check("twenty-images", True, share, expected)
    cause = f"{tried.right} of {tried.images} images are right after {tried.steps} steps on them"
    if rates.suggested is not None and tried.right < tried.images:
        other = try_twenty(subject, rates.suggested)
        if other.right == other.images:
            cause += f", all of them at the rate {rates.suggested:g} after {other.steps}"
            return Check(
                "twenty-images", False, share, expected, cause, f"try --lr {rates.suggested:g}"
            )
    return Check(
        "twenty-images",
        False,
        share,
        expected,
        cause + ": something keeps the network from learning at all",
        "mend what the other checks name; else give it more filters, or fewer layers",
    )
