"""Fully connected layers: the image laid flat times a matrix."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hubel.engine.reference.call import Call, Rule
from hubel.engine.session import Array

__all__ = ["RULES"]


def _dense(call: Call) -> tuple[Array, ...]:
    x, weight, *bias = call.inputs
    y = x.reshape(len(x), -1) @ weight
    return (y + bias[0] if bias else y,)


def _dense_input_grad(call: Call) -> tuple[Array, ...]:
    dy, weight = call.inputs
    return ((dy @ weight.T).reshape(call.shapes[0]),)


def _dense_weight_grad(call: Call) -> tuple[Array, ...]:
    x, dy = call.inputs
    return (x.reshape(len(x), -1).T @ dy,)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "dense": _dense,
        "dense_input_grad": _dense_input_grad,
        "dense_weight_grad": _dense_weight_grad,
    }
)
