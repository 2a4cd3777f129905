"""Where branches meet, and where their gradients part."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from hubel.engine.reference.call import Call, Rule
from hubel.engine.session import Array

__all__ = ["RULES"]


def _add(call: Call) -> tuple[Array, ...]:
    total = call.inputs[0]
    for other in call.inputs[1:]:
        total = total + other
    return (total,)


def _concat(call: Call) -> tuple[Array, ...]:
    return (np.concatenate(call.inputs, -1),)


def _split(call: Call) -> tuple[Array, ...]:
    ends = np.cumsum(call.attributes.depths)[:-1]
    return tuple(np.split(call.inputs[0], ends, -1))


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "add": _add,
        "concat": _concat,
        "split": _split,
    }
)
