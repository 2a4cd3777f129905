"""What a rule of the reference engine is given and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from hubel.engine.session import Array
from hubel.graph.op import Shape

__all__ = ["Call", "Rule", "pixels_of"]


@dataclass(frozen=True, slots=True)
class Call:
    """What a rule is given: the node's attributes and input arrays, the full shapes of its outputs,
    and as `state` the arrays that it changes in place.
    """

    attributes: Any
    inputs: tuple[Array, ...]
    shapes: tuple[Shape, ...]
    state: tuple[Array, ...]


Rule: TypeAlias = Callable[[Call], tuple[Array, ...]]


def pixels_of(array: Array) -> Array:
    """The array with one row a pixel, or a vector, and one column a channel."""
    return array.reshape(-1, array.shape[-1])
