"""Optimizers: one step of one parameter, in place, as PyTorch computes it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from hubel.engine.reference.call import Call, Rule
from hubel.engine.session import Array

__all__ = ["RULES"]


def _regularised(call: Call) -> tuple[Array, float]:
    """The gradient with the penalty's own added, and the rate; the weight is decayed."""
    gradient, rate, _ = call.inputs
    weight = call.state[0]
    gradient = gradient + call.attributes.l2 * weight + call.attributes.l1 * np.sign(weight)
    weight *= 1 - float(rate) * call.attributes.decay
    return gradient, float(rate)


def _sgd(call: Call) -> tuple[Array, ...]:
    gradient, rate = _regularised(call)
    weight, *velocity = call.state
    step = gradient
    if velocity:
        velocity[0] *= call.attributes.momentum
        velocity[0] += gradient
        step = velocity[0]
        if call.attributes.nesterov:
            step = gradient + call.attributes.momentum * velocity[0]
    weight -= rate * step
    return ()


def _rmsprop(call: Call) -> tuple[Array, ...]:
    gradient, rate = _regularised(call)
    weight, square, *velocity = call.state
    square *= call.attributes.alpha
    square += (1 - call.attributes.alpha) * gradient**2
    step = gradient / (np.sqrt(square) + call.attributes.epsilon)
    if velocity:
        velocity[0] *= call.attributes.momentum
        velocity[0] += step
        step = velocity[0]
    weight -= rate * step
    return ()


def _adam(call: Call) -> tuple[Array, ...]:
    gradient, rate = _regularised(call)
    weight, first, second = call.state
    number = int(call.inputs[2])
    beta1, beta2 = call.attributes.beta1, call.attributes.beta2
    first *= beta1
    first += (1 - beta1) * gradient
    second *= beta2
    second += (1 - beta2) * gradient**2
    root = np.sqrt(second / (1 - beta2**number)) + call.attributes.epsilon
    weight -= rate * first / (1 - beta1**number) / root
    return ()


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "sgd": _sgd,
        "rmsprop": _rmsprop,
        "adam": _adam,
    }
)
