"""What a run has shown so far, as far as verdicts need it: a fold of its events, and small."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hubel.train.events import Event, LayerProbe, Probe, StepDone, Verdict, WeightProbe

__all__ = ["WINDOW", "Shown", "from_dict"]

WINDOW = 40
"""Steps that a mean of losses is taken over: fewer are noise, more are late."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The `first` loss, the last losses and norms of gradients, and what was said of the run.

    `losses` are those of two windows, `norms` those of one and of the step after it. `probe` is the
    last step's, None where it had none, and `earlier` the last one before it; of either only what
    verdicts are found by.
    """

    first: float | None = None
    losses: tuple[float, ...] = ()
    norms: tuple[float, ...] = ()
    probe: Probe | None = None
    earlier: Probe | None = None
    verdicts: tuple[Verdict, ...] = ()

    def after(self, event: Event) -> Shown:
        """What was shown once an event has happened."""
        if isinstance(event, StepDone):
            return Shown(
                event.loss if self.first is None else self.first,
                (*self.losses[1 - 2 * WINDOW :], event.loss),
                (*self.norms[-WINDOW:], event.gradient_norm),
                None if event.probe is None else _essence(event.probe),
                self.probe or self.earlier,
                self.verdicts,
            )
        if isinstance(event, Verdict):
            return replace(self, verdicts=(*self.verdicts, event))
        return self

    def has_said(self, code: str, layer: str = "") -> bool:
        """Whether there was a verdict of this code on this layer."""
        return any((each.code, each.layer) == (code, layer) for each in self.verdicts)


def _essence(probe: Probe) -> Probe:
    """A probe without its histograms, and without layers whose units cannot be dead or flat."""
    layers = tuple(
        replace(layer, histogram=(), gradient_histogram=())
        for layer in probe.layers
        if layer.dead is not None or layer.saturated is not None
    )
    return replace(probe, layers=layers)


def from_dict(fields: Mapping[str, Any]) -> Shown:
    """What `dataclasses.asdict` made a dict of; raises KeyError and TypeError where it cannot be.

    No dict at all, which a file from before there was one has, is a run that has shown nothing.
    """
    if not fields:
        return Shown()
    read = {
        "losses": tuple(fields["losses"]),
        "norms": tuple(fields["norms"]),
        "probe": _probe(fields["probe"]),
        "earlier": _probe(fields["earlier"]),
        "verdicts": tuple(Verdict(**each) for each in fields["verdicts"]),
    }
    return Shown(**{**fields, **read})


def _probe(fields: Mapping[str, Any] | None) -> Probe | None:
    if fields is None:
        return None
    layers = tuple(
        LayerProbe(**{key: _frozen(value) for key, value in each.items()})
        for each in fields["layers"]
    )
    return Probe(layers, tuple(WeightProbe(**each) for each in fields["weights"]))


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
