"""Optimizers: one step of one parameter, in place, and what goes along with it.

Every rule first regularises, g ← scale·g + l2·w + l1·sign(w), where the scale is that of clipped
gradients; `decay` shrinks the weight itself, as AdamW does. All read the gradient, the learning
rate, which `rate_factor` multiplies, and the number of the step (1 for the first).

sgd      v ← momentum·v + g; w ← w − rate·v, or w − rate·(g + momentum·v) with Nesterov (2013)
rmsprop  s ← alpha·s + (1 − alpha)·g²; w ← w − rate·g/(√s + epsilon), with momentum as for sgd
adam     first and second moments corrected for their start at zero (Kingma and Ba 2015);
         with decay it is AdamW (Loshchilov and Hutter 2019)
muon     v as for sgd, of a matrix of one column a filter; w ← w − rate·√max(1, columns/rows)·O,
         with O the matrix nearest to g + momentum·v, of length 1, that has singular values near 1:
         `steps` of X ← 3.4445·X − 4.775·X·XᵀX + 2.0315·X·(XᵀX)² (Jordan 2024)

`gradient_norm` is √Σg² over all gradients, and what they are to be multiplied by so that it is at
most `limit` (Pascanu 2013). `average` is the mean of what a value was after every step so far,
each step back counting by `decay` less.
"""

from __future__ import annotations

from hubel.graph.op import Op
from hubel.records import dataclass

__all__ = ["OPS", "Adam", "Average", "Clip", "Muon", "RMSProp", "Sgd"]


@dataclass(frozen=True, slots=True)
class Sgd:
    """Gradient descent; with momentum it keeps one slot, the velocity."""

    momentum: float = 0.0
    nesterov: bool = False
    l2: float = 0.0
    l1: float = 0.0
    decay: float = 0.0
    rate_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class RMSProp:
    """Keeps the mean square, and with momentum the velocity."""

    alpha: float = 0.99
    epsilon: float = 1e-8
    momentum: float = 0.0
    l2: float = 0.0
    l1: float = 0.0
    decay: float = 0.0
    rate_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Adam:
    """Keeps the first and the second moment."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    l2: float = 0.0
    l1: float = 0.0
    decay: float = 0.0
    rate_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Muon:
    """Keeps the velocity; a matrix of `unit` length is first brought to the norm √columns."""

    momentum: float = 0.9
    steps: int = 5
    unit: bool = False
    l2: float = 0.0
    l1: float = 0.0
    decay: float = 0.0
    rate_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Clip:
    """The largest norm that the gradients of all parameters together may have."""

    limit: float


@dataclass(frozen=True, slots=True)
class Average:
    """How much less each step back counts, from 0, the last step alone, to below 1."""

    decay: float


def _nothing(*_: object) -> tuple[tuple[int, ...], ...]:
    return ()


def _norm(clip: Clip | None, *_: object) -> tuple[tuple[int, ...], ...]:
    return ((),) if clip is None else ((), ())


OPS = (
    Op("gradient_norm", _norm, batched=(False,)),
    Op("sgd", _nothing),
    Op("rmsprop", _nothing),
    Op("adam", _nothing),
    Op("muon", _nothing),
    Op("average", _nothing),
)
