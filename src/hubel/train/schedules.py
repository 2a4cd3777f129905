"""How the learning rate changes: a pure function of the step, so that resumed runs go on exactly.

Each schedule gives the share of the highest learning rate at a moment of the run, from 0 at its
first step to 1 at its end. Warm-up comes before it: the rate rises in equal steps, and the schedule
has the rest of the run. A run that is made longer on resuming follows the schedule of the longer
run from there on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hubel.train.settings import Settings

__all__ = ["SCHEDULES", "learning_rate"]


def _constant(moment: float) -> float:
    return 1.0


def _step(moment: float) -> float:
    """A tenth from the middle of the run on, a hundredth in its last quarter (He 2016)."""
    if moment < 0.5:
        return 1.0
    return 0.1 if moment < 0.75 else 0.01


def _cosine(moment: float) -> float:
    """Loshchilov and Hutter, "SGDR", 2017, without restarts."""
    return 0.5 * (1.0 + math.cos(math.pi * moment))


def _linear(moment: float) -> float:
    """Evenly to 0."""
    return 1.0 - moment


def _triangle(moment: float) -> float:
    """Jordan 2024: evenly up from 0.2 for 23 % of the run, then evenly down to 0.07."""
    return 0.2 + 0.8 * moment / 0.23 if moment < 0.23 else 1.0 - 0.93 * (moment - 0.23) / 0.77


_START, _PEAK = 1 / 25, 0.3


def _one_cycle(moment: float) -> float:
    """Smith and Topin, "Super-Convergence", 2018: up from 1/25 for 30 % of the run, then to 0."""
    if moment < _PEAK:
        return _START + (1.0 - _START) * _cosine(1.0 - moment / _PEAK)
    return _cosine((moment - _PEAK) / (1.0 - _PEAK))


SCHEDULES: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {
        "constant": _constant,
        "step": _step,
        "cosine": _cosine,
        "one-cycle": _one_cycle,
        "linear": _linear,
        "triangle": _triangle,
    }
)


def learning_rate(chosen: Settings, step: int, steps: int) -> float:
    """The learning rate of step `step` (0 is the run's first) where an epoch has `steps` of them.

    >>> from hubel.train.settings import settings
    >>> plan = settings(lr=1.0, epochs=4, schedule="step", warmup_epochs=1)
    >>> [learning_rate(plan, step, 2) for step in range(8)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.01]
    """
    warmup = min(round(chosen.warmup_epochs * steps), chosen.epochs * steps)
    if step < warmup:
        return chosen.rate * (step + 1) / warmup
    moment = (step - warmup) / (chosen.epochs * steps - warmup)
    return chosen.rate * SCHEDULES[chosen.schedule](moment)
