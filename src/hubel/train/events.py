"""What happens in a training run, as frozen data: the one stream that all readers read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

__all__ = [
    "TIMINGS",
    "Ended",
    "EpochDone",
    "Event",
    "LayerProbe",
    "Probe",
    "Reason",
    "Started",
    "StepDone",
    "Validating",
    "Verdict",
    "WeightProbe",
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
class LayerProbe:
    """What a layer made of a few images, and the gradient of the loss by it.

    `dead` is the share of a ReLU's units (filters, or outputs of an FC layer) that are above zero
    nowhere, `saturated` that of outputs where sigmoid or tanh are flat; None where it does not
    apply. `maps` tells maps from vectors. `gradient` is a root mean square. Histograms count over
    equal parts of their range.
    """

    layer: str
    function: str
    maps: bool
    mean: float
    deviation: float
    dead: float | None
    saturated: float | None
    gradient: float
    histogram: tuple[int, ...]
    range: tuple[float, float]
    gradient_histogram: tuple[int, ...]
    gradient_range: tuple[float, float]


@dataclass(frozen=True, slots=True)
class WeightProbe:
    """Root mean squares of a parameter, of its gradient, and of what a step added to it."""

    parameter: str
    weight: float
    gradient: float
    update: float

    @property
    def ratio(self) -> float:
        """Update by weight, near 1e-3 in a healthy run (CS231n, "Babysitting"); 0 for no weight."""
        return self.update / self.weight if self.weight else 0.0


@dataclass(frozen=True, slots=True)
class Probe:
    """A look into the network right after a step."""

    layers: tuple[LayerProbe, ...]
    weights: tuple[WeightProbe, ...]


@dataclass(frozen=True, slots=True)
class StepDone:
    """One batch of `count` images was learned from; epochs and steps count from 1.

    `loss` is the batch's mean without the regularisation term, which is `penalty` (0 where the
    optimizer shrinks the weights itself); `mean_loss` and `accuracy` are over the epoch so far.
    `gradient_norm` is that of the gradients of all parameters together, before it is clipped.
    After some of the steps there is a `probe` of the network as it then was.
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
    probe: Probe | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Something is off: what was seen, in which layer if in one, and what would mend it.

    `code` names the rule; each is said once for each layer in a run, however often it is resumed.
    What an epoch shows is said before its EpochDone.
    """

    epoch: int
    step: int
    code: str
    layer: str
    message: str
    advice: str

    def __str__(self) -> str:
        return f"{self.message}: {self.advice}"


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


Event: TypeAlias = Started | StepDone | Verdict | Validating | EpochDone | Ended

_NAMES: Mapping[type[Event], str] = MappingProxyType(
    {
        Started: "started",
        StepDone: "step",
        Verdict: "verdict",
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
    # are plain numbers and texts but for a probe: they need not be copied as `asdict` would.
    named = {field.name: getattr(event, field.name) for field in fields(event)}
    if isinstance(event, StepDone):
        named["probe"] = event.probe and asdict(event.probe)
    return {"event": _NAMES[type(event)], **named}
