"""Activation functions and dropout: each number on its own.

The lecture's activations (CS231n lecture 6) and today's: ReLU, Leaky ReLU, ELU (Clevert 2015), SELU
(Klambauer 2017), GELU with the exact erf (Hendrycks 2016), SiLU, sigmoid, tanh; PReLU with one
slope a channel (He 2015); maxout over neighbouring channels (Goodfellow 2013). And no function
at all but a factor, which tempers the scores it stands behind: `scale`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from hubel.graph.op import Emit, Node, Op, Shape
from hubel.records import dataclass

__all__ = ["FUNCTIONS", "OPS", "Activation", "Dropout", "Maxout"]

FUNCTIONS: Mapping[str, Literal["input", "output"]] = MappingProxyType(
    {
        "relu": "output",
        "leaky": "output",
        "elu": "output",
        "selu": "output",
        "sigmoid": "output",
        "tanh": "output",
        "gelu": "input",
        "silu": "input",
        "scale": "output",
    }
)
"""Every activation function, and which side of it its gradient is computed from."""


@dataclass(frozen=True, slots=True)
class Activation:
    """A function of FUNCTIONS; `alpha` is the slope of leaky, the scale of elu and of scale."""

    function: str
    alpha: float = 0.0


@dataclass(frozen=True, slots=True)
class Maxout:
    """The largest of each `pieces` neighbouring channels."""

    pieces: int


@dataclass(frozen=True, slots=True)
class Dropout:
    """Zeroes each number with probability `rate` and scales the rest by 1/(1 − rate).

    `stream` tells the dropout layers of a net apart, so that each draws its own numbers. Whether
    number i of a batch, counted in (N, H, W, C) order, is kept depends on (seed, step, stream, i)
    alone: with h the SplitMix64 finaliser (Steele 2014) and all arithmetic modulo 2⁶⁴, it is where
    h(h(h(seed) + step) + stream) + i hashes by h to a top 24 bits of at least ⌈rate·2²⁴⌉.
    """

    rate: float
    stream: int


def _same(_: object, x: Shape, *rest: Shape) -> tuple[Shape, ...]:
    return (x,)


def _activation_gradient(node: Node, dy: str, emit: Emit) -> tuple[str, ...]:
    (x,) = node.inputs
    kept = x if FUNCTIONS[node.attributes.function] == "input" else node.outputs[0]
    return emit("activation_grad", (kept, dy), node.attributes, of=(x,))


def _prelu_gradient(node: Node, dy: str, emit: Emit) -> tuple[str, ...]:
    return emit("prelu_grad", (*node.inputs, dy), of=node.inputs)


def _maxout_shapes(maxout: Maxout, x: Shape) -> tuple[Shape, ...]:
    return ((*x[:-1], x[-1] // maxout.pieces),)


def _maxout_gradient(node: Node, dy: str, emit: Emit) -> tuple[str, ...]:
    return emit("maxout_grad", (*node.inputs, dy), node.attributes, of=node.inputs)


def _dropout_gradient(node: Node, dy: str, emit: Emit) -> tuple[str | None, ...]:
    x, seed, step = node.inputs
    return (*emit("dropout", (dy, seed, step), node.attributes, of=(x,)), None, None)


OPS = (
    Op("activation", _same, _activation_gradient),
    Op("activation_grad", None),
    Op("prelu", _same, _prelu_gradient),
    Op("prelu_grad", None, batched=(True, False)),
    Op("maxout", _maxout_shapes, _maxout_gradient),
    Op("maxout_grad", None),
    Op("dropout", _same, _dropout_gradient),
)
