"""How far a run has come: a fold of its events, and all that is needed to go on from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from hubel.errors import FormatError
from hubel.train.events import TIMINGS, EpochDone, Event, StepDone
from hubel.train.shown import Shown
from hubel.train.shown import from_dict as shown_of

__all__ = ["Progress", "from_dict"]


@dataclass(frozen=True, slots=True)
class Progress:
    """`epoch` whole epochs and `step` steps of the next one, over `seen` images of it.

    `loss_sum` and `correct` are added over those images, and over those alone. `shown` is what the
    run has shown to those who watch it.
    """

    epoch: int = 0
    step: int = 0
    seen: int = 0
    correct: int = 0
    loss_sum: float = 0.0
    history: tuple[EpochDone, ...] = ()
    shown: Shown = field(default_factory=Shown)

    def after(self, event: Event) -> Progress:
        """The progress once an event has happened."""
        shown = self.shown.after(event)
        if isinstance(event, StepDone):
            return replace(
                self,
                step=event.step,
                seen=self.seen + event.count,
                correct=self.correct + event.correct,
                loss_sum=self.loss_sum + event.loss * event.count,
                shown=shown,
            )
        if isinstance(event, EpochDone):
            return Progress(event.epoch, history=(*self.history, event), shown=shown)
        return replace(self, shown=shown)

    @property
    def best(self) -> EpochDone | None:
        """The row of the best epoch so far, None before the first."""
        return next((row for row in reversed(self.history) if row.best), None)

    @property
    def since_best(self) -> int:
        """How many epochs have passed without a new best."""
        return self.epoch - self.best.epoch if self.best else 0

    def improves(
        self, loss: float, validation_loss: float | None, validation_accuracy: float | None
    ) -> bool:
        """Whether an epoch with these figures is better than the best so far.

        The validation accuracy decides, between equals the validation loss, and where there are no
        validation images the training loss.
        """
        if self.best is None:
            return True
        if validation_accuracy is None or validation_loss is None:
            return loss < self.best.loss
        assert self.best.validation_accuracy is not None
        assert self.best.validation_loss is not None
        return (validation_accuracy, -validation_loss) > (
            self.best.validation_accuracy,
            -self.best.validation_loss,
        )

    def as_dict(self) -> dict[str, Any]:
        """All of it but timings, so that equal runs give equal dicts, as what JSON can hold.

        JSON keeps every bit of a float64.
        """
        fields = asdict(self)
        for row in fields["history"]:
            for name in TIMINGS:
                del row[name]
        return fields


def from_dict(fields: Mapping[str, Any]) -> Progress:
    """The progress that `as_dict` was made of; raises FormatError where it cannot be."""
    try:
        unknown = dict.fromkeys(TIMINGS)
        rows = tuple(EpochDone(**{**unknown, **row}) for row in fields["history"])
        shown = shown_of(fields.get("shown", {}))
        return Progress(**{**fields, "history": rows, "shown": shown})
    except (AttributeError, KeyError, TypeError) as error:
        raise FormatError(f"its training progress does not hold: {error}") from None
