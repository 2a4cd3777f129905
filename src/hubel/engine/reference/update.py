"""Optimizers: one step of one parameter, in place, as PyTorch and Muon's author compute it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from hubel.engine.reference.call import Call, Rule
from hubel.engine.session import Array

__all__ = ["RULES", "orthogonalised"]


def _regularised(call: Call) -> tuple[Array, float]:
    """The gradient, clipped, with the penalty's own added, and the rate; the weight is decayed."""
    gradient, given, _, *scale = call.inputs
    weight, rate = call.state[0], float(given) * call.attributes.rate_factor
    if scale:
        gradient = gradient * scale[0]
    gradient = gradient + call.attributes.l2 * weight + call.attributes.l1 * np.sign(weight)
    weight *= 1 - rate * call.attributes.decay
    return gradient, rate


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


def orthogonalised(
    matrix: Array, steps: int, product: Callable[[Array, Array], Array] = np.matmul
) -> Array:
    """The matrix of length 1 with singular values driven towards 1, by Newton and Schulz."""
    tall: Array = matrix.T if matrix.shape[1] > matrix.shape[0] else matrix
    tall = tall / (np.sqrt((tall**2).sum()) + 1e-7)
    for _ in range(steps):
        gram = product(tall.T, tall)
        inner = -4.7750 * gram + 2.0315 * product(gram, gram)
        tall = 3.4445 * tall + product(tall, inner)
    return tall.T if matrix.shape[1] > matrix.shape[0] else tall


def _muon(call: Call) -> tuple[Array, ...]:
    gradient, rate = _regularised(call)
    weight, velocity = call.state
    velocity *= call.attributes.momentum
    velocity += gradient
    columns = weight.shape[-1]
    ahead = (gradient + call.attributes.momentum * velocity).reshape(-1, columns)
    step = orthogonalised(ahead, call.attributes.steps).reshape(weight.shape)
    length = np.sqrt((weight**2).sum())
    if call.attributes.unit and length > 0:
        weight *= np.sqrt(columns) / length
    weight -= rate * np.sqrt(max(1.0, columns / len(ahead))) * step
    return ()


def _gradient_norm(call: Call) -> tuple[Array, ...]:
    norm = np.sqrt(sum((gradient**2).sum() for gradient in call.inputs))
    if call.attributes is None:
        return (norm,)
    return norm, np.minimum(1.0, call.attributes.limit / (norm + 1e-6))


def _average(call: Call) -> tuple[Array, ...]:
    value, number = call.inputs
    (mean,) = call.state
    decay = call.attributes.decay
    mean += (1 - decay) / (1 - decay ** int(number)) * (value - mean)
    return ()


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "gradient_norm": _gradient_norm,
        "sgd": _sgd,
        "rmsprop": _rmsprop,
        "adam": _adam,
        "muon": _muon,
        "average": _average,
    }
)
