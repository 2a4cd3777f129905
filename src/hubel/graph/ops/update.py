"""Optimizers: one step of one parameter, in place.

Every rule first regularises, g ← g + l2·w + l1·sign(w); `decay` shrinks the weight itself, as AdamW
does. All read the gradient, the learning rate and the number of the step (1 for the first).

sgd      v ← momentum·v + g; w ← w − rate·v, or w − rate·(g + momentum·v) with Nesterov (2013)
rmsprop  s ← alpha·s + (1 − alpha)·g²; w ← w − rate·g/(√s + epsilon), with momentum as for sgd
adam     first and second moments corrected for their start at zero (Kingma and Ba 2015);
         with decay it is AdamW (Loshchilov and Hutter 2019)
"""

from __future__ import annotations

from hubel.graph.op import Op
from hubel.records import dataclass

__all__ = ["OPS", "Adam", "RMSProp", "Sgd"]


@dataclass(frozen=True, slots=True)
class Sgd:
    """Gradient descent; with momentum it keeps one slot, the velocity."""

    momentum: float = 0.0
    nesterov: bool = False
    l2: float = 0.0
    l1: float = 0.0
    decay: float = 0.0


@dataclass(frozen=True, slots=True)
class RMSProp:
    """Keeps the mean square, and with momentum the velocity."""

    alpha: float = 0.99
    epsilon: float = 1e-8
    momentum: float = 0.0
    l2: float = 0.0
    l1: float = 0.0
    decay: float = 0.0


@dataclass(frozen=True, slots=True)
class Adam:
    """Keeps the first and the second moment."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    l2: float = 0.0
    l1: float = 0.0
    decay: float = 0.0


def _nothing(*_: object) -> tuple[tuple[int, ...], ...]:
    return ()


OPS = (Op("sgd", _nothing), Op("rmsprop", _nothing), Op("adam", _nothing))
