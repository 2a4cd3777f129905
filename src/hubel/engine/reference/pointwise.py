"""Activation functions and dropout: each number on its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from hubel.engine.reference.call import Call, Rule, pixels_of
from hubel.engine.session import Array

__all__ = ["FORWARD", "RULES", "SLOPES"]

SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717
_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: Array) -> Array:
    # exp of a negative number only, so that it cannot overflow.
    small: Array = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _normal_share(x: Array) -> Array:
    """The share of a normal distribution that lies below x."""
    share: Array = (1 + _erf(x / math.sqrt(2))) / 2
    return share


FORWARD: Mapping[str, Callable[[Array, float], Array]] = MappingProxyType(
    {
        "relu": lambda x, _: np.maximum(x, 0),
        "leaky": lambda x, alpha: np.where(x > 0, x, alpha * x),
        "elu": _elu,
        "selu": lambda x, _: SELU_SCALE * _elu(x, SELU_ALPHA),
        "sigmoid": lambda x, _: _sigmoid(x),
        "tanh": lambda x, _: np.tanh(x),
        "gelu": lambda x, _: x * _normal_share(x),
        "silu": lambda x, _: x * _sigmoid(x),
        "scale": lambda x, alpha: alpha * x,
    }
)
"""Each activation function, of its input and alpha."""

SLOPES: Mapping[str, Callable[[Array, float], Array]] = MappingProxyType(
    {
        "relu": lambda y, _: np.where(y > 0, 1.0, 0.0),
        "leaky": lambda y, alpha: np.where(y > 0, 1.0, alpha),
        "elu": lambda y, alpha: np.where(y > 0, 1.0, y + alpha),
        "selu": lambda y, _: np.where(y > 0, SELU_SCALE, y + SELU_SCALE * SELU_ALPHA),
        "sigmoid": lambda y, _: y * (1 - y),
        "tanh": lambda y, _: 1 - y * y,
        "gelu": lambda x, _: _normal_share(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi),
        "silu": lambda x, _: _sigmoid(x) * (1 + x * (1 - _sigmoid(x))),
        "scale": lambda y, alpha: np.full(np.shape(y), alpha),
    }
)
"""Each activation function's derivative, of the side of it that FUNCTIONS names, and alpha."""


def _activation(call: Call) -> tuple[Array, ...]:
    (x,) = call.inputs
    return (FORWARD[call.attributes.function](x, call.attributes.alpha),)


def _activation_grad(call: Call) -> tuple[Array, ...]:
    kept, dy = call.inputs
    return (dy * SLOPES[call.attributes.function](kept, call.attributes.alpha),)


def _prelu(call: Call) -> tuple[Array, ...]:
    x, slope = call.inputs
    return (np.where(x > 0, x, slope * x),)


def _prelu_grad(call: Call) -> tuple[Array, ...]:
    x, slope, dy = call.inputs
    d_slope = pixels_of(np.where(x > 0, 0.0, x * dy)).sum(0)
    return dy * np.where(x > 0, 1.0, slope), d_slope


def _pieces(x: Array, pieces: int) -> Array:
    return x.reshape(*x.shape[:-1], -1, pieces)


def _maxout(call: Call) -> tuple[Array, ...]:
    (x,) = call.inputs
    return (_pieces(x, call.attributes.pieces).max(-1),)


def _maxout_grad(call: Call) -> tuple[Array, ...]:
    x, dy = call.inputs
    pieces = call.attributes.pieces
    chosen = _pieces(x, pieces).argmax(-1)[..., None] == np.arange(pieces)
    return ((dy[..., None] * chosen).reshape(x.shape),)


def _mix(z: Array) -> Array:
    """The SplitMix64 finaliser (Steele 2014), on uint64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = z ^ (z >> np.uint64(31))
    return mixed


def _dropout(call: Call) -> tuple[Array, ...]:
    x, seed, step = call.inputs
    rate = call.attributes.rate
    key: Array = np.zeros(1, np.uint64)
    for part in (seed, step, call.attributes.stream):
        key = _mix(key + np.uint64(int(part) % 2**64))
    drawn = _mix(key + np.arange(x.size, dtype=np.uint64)) >> np.uint64(40)
    kept = (drawn >= math.ceil(rate * 2**24)).reshape(x.shape)
    return (np.where(kept, x / (1 - rate), 0.0),)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "activation": _activation,
        "activation_grad": _activation_grad,
        "prelu": _prelu,
        "prelu_grad": _prelu_grad,
        "maxout": _maxout,
        "maxout_grad": _maxout_grad,
        "dropout": _dropout,
    }
)
