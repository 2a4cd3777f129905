"""What happens in a training run, as frozen data: the one stream that all readers read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

__all__ = [
    "TIMINGS",
    "Ended",
    "EpochDone",
    "Event",
    "Reason",
    "Started",
    "StepDone",
    "Validating",
    "as_dict",
]

Reason: TypeAlias = Literal["epochs", "patience", "time"]

TIMINGS = ("seconds", "images_per_second")
"""The figures of an epoch that differ between equal runs."""


@dataclass(frozen=True, slots=True)
class Started:
    """A run begins, or goes on, after `epoch` whole epochs and `step` steps of the next one."""

    epochs: int
    steps: int
    images: int
    validation_images: int
    epoch: int
    step: int


@dataclass(frozen=True, slots=True)
class StepDone:
    """One batch of `count` images was learned from; epochs and steps count from 1.

    `loss` is the batch's mean without the regularisation term, which is `penalty` (0 where the
    optimizer shrinks the weights itself); `mean_loss` and `accuracy` are over the epoch so far.
    `gradient_norm` is that of the gradients of all parameters together, before it is clipped.
    """

    epoch: int
    step: int
    count: int
    loss: float
    correct: int
    penalty: float
    mean_loss: float
    accuracy: float
    learning_rate: float
    gradient_norm: float


@dataclass(frozen=True, slots=True)
class Validating:
    """`done` of `total` validation images have been scored at the end of an epoch."""

    epoch: int
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class EpochDone:
    """An epoch is over: one row of a run's history.

    `loss` and `accuracy` were gathered while the weights changed; without validation images the
    validation figures are None. `best` is whether it is the best. `seconds` is what the epoch took;
    a model file keeps neither that nor what follows from it: rows read from one have None there.
    """

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    learning_rate: float
    seconds: float | None
    images_per_second: float | None
    best: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """A run came to its end after `epoch` whole epochs, the best of which was `best_epoch`.

    It is None where no epoch was finished.
    """

    reason: Reason
    epoch: int
    best_epoch: int | None
    seconds: float


Event: TypeAlias = Started | StepDone | Validating | EpochDone | Ended

_NAMES: Mapping[type[Event], str] = MappingProxyType(
    {
        Started: "started",
        StepDone: "step",
        Validating: "validating",
        EpochDone: "epoch",
        Ended: "ended",
    }
)


def as_dict(event: Event) -> dict[str, Any]:
    """An event as what JSON can hold, with its name first.

    >>> as_dict(Validating(epoch=1, done=64, total=100))
    {'event': 'validating', 'epoch': 1, 'done': 64, 'total': 100}
    """
    # StepDone and EpochDone both have a field "epoch"; the name of the event stands apart. Fields
    # are plain numbers and texts, so that nothing need be copied as `asdict` would.
    named = {field.name: getattr(event, field.name) for field in fields(event)}
    return {"event": _NAMES[type(event)], **named}
