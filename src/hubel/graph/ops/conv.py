"""Convolution: a filter slides over the image; at each place one dot product plus bias.

Shapes: x (H, W, C), weight (F, F, C/groups, K), bias (K,), y (P, Q, K). With A the input patch laid
flat and B the filter laid flat, y = A·B; so dA = dy·Bᵀ (`conv_input_grad`) and dB = Aᵀ·dy
(`conv_weight_grad`), summed over all places. CS231n lecture 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from hubel.graph.op import Emit, Node, Op, Shape
from hubel.records import dataclass

__all__ = ["OPS", "Conv", "Window"]


@dataclass(frozen=True, slots=True)
class Window:
    """How a window lies and moves.

    Pairs are (vertical, horizontal), padding is (top, bottom, left, right) and `output` the number
    of places (P, Q) it takes.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    output: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution's window, its number of filters and its groups."""

    window: Window
    filters: int
    groups: int = 1


def _shapes(conv: Conv, x: Shape, weight: Shape, bias: Shape | None = None) -> tuple[Shape, ...]:
    return ((*conv.window.output, conv.filters),)


def _gradient(node: Node, dy: str, emit: Emit) -> tuple[str, ...]:
    x, weight, *bias = node.inputs
    return (
        *emit("conv_input_grad", (dy, weight), node.attributes, of=(x,)),
        *emit("conv_weight_grad", (x, dy), node.attributes, of=(weight,)),
        *(grad for name in bias for grad in emit("bias_grad", (dy,), of=(name,))),
    )


def _multiply_adds(conv: Conv, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    (weight,) = (shape for shape in (*inputs, *outputs) if len(shape) == 4)
    return prod(weight) * prod(conv.window.output)


OPS = (
    Op("conv", _shapes, _gradient, _multiply_adds),
    Op("conv_input_grad", None, None, _multiply_adds),
    Op("conv_weight_grad", None, None, _multiply_adds, batched=(False,)),
    Op("bias_grad", None, batched=(False,)),
)
