"""Receptive fields: which pixels of the image each place of a map can see.

Along one axis, with r the size of the field, j the stride between the fields of neighbouring places
and a the first pixel of the first field, a window of extent e, stride s and padding p before gives
r + (e − 1)·j, j·s and a − p·j. Araujo, Norris and Sim, "Computing receptive fields of convolutional
neural networks", Distill, 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from hubel.graph import shape
from hubel.graph.build import Built
from hubel.graph.op import Shape
from hubel.records import dataclass

__all__ = ["Field", "narrowest_fields", "receptive_fields"]


@dataclass(frozen=True, slots=True)
class Field:
    """What the places of one map see of the image; pairs are (vertical, horizontal).

    `size` counts pixels and is not cut at the image's border, `stride` is the distance between the
    fields of neighbouring places, `start` the first pixel that the first place sees (negative in
    the padding).
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    start: tuple[int, int]

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the first place's field, in pixels from the middle of the first pixel."""
        return (
            self.start[0] + (self.size[0] - 1) / 2,
            self.start[1] + (self.size[1] - 1) / 2,
        )


@dataclass(frozen=True, slots=True)
class _Axis:
    size: int = 1
    stride: int = 1
    start: int = 0

    def slid(self, extent: int, stride: int, before: int) -> _Axis:
        """What a window sees that slides over places that see this."""
        return _Axis(
            self.size + (extent - 1) * self.stride,
            self.stride * stride,
            self.start - before * self.stride,
        )


_Join: TypeAlias = Callable[[Sequence[_Axis], int], _Axis]


def receptive_fields(built: Built) -> dict[str, Field]:
    """The field of the input and of every layer, by name.

    Where branches meet it is the union of theirs; if their strides differ, so that the union grows
    or moves from place to place, the largest union and stride. Fully connected layers see all that
    the places before them see together; as for global pooling, their stride is the step to the next
    such whole.

    >>> from hubel.graph.build import build
    >>> from hubel.notation.parse import parse
    >>> receptive_fields(build(parse("conv5-6 pool2 conv5-6"), (32, 32, 3)))["conv2"].size
    (14, 14)
    """
    return _walk(built, _union)


def narrowest_fields(built: Built) -> dict[str, Field]:
    """The same along the path that sees least, as where the skips of a residual net are taken."""
    return _walk(built, _narrowest)


def _walk(built: Built, join: _Join) -> dict[str, Field]:
    axes: dict[str, tuple[_Axis, _Axis]] = {"input": (_Axis(), _Axis())}
    places: dict[str, tuple[int, int]] = {"input": _places(built.graph["input"].shape)}
    for placed in built.layers:
        sources = [axes[source] for source in placed.sources]
        within = places[placed.sources[0]]
        out = _places(placed.output)
        vertical, horizontal = (
            join([source[axis] for source in sources], out[axis]) for axis in range(2)
        )
        if placed.window is not None:
            window = placed.window
            top, _, left, _ = window.padding
            tall, wide = (
                shape.extent_of(size, dilation)
                for size, dilation in zip(window.size, window.dilation, strict=True)
            )
            vertical = vertical.slid(tall, window.stride[0], top)
            horizontal = horizontal.slid(wide, window.stride[1], left)
        elif placed.op == "dense":
            vertical = vertical.slid(within[0], within[0], 0)
            horizontal = horizontal.slid(within[1], within[1], 0)
        axes[placed.name] = vertical, horizontal
        places[placed.name] = out
    return {
        name: Field((v.size, h.size), (v.stride, h.stride), (v.start, h.start))
        for name, (v, h) in axes.items()
    }


def _places(size: Shape) -> tuple[int, int]:
    return (size[0], size[1]) if len(size) == 3 else (1, 1)


def _union(axes: Sequence[_Axis], places: int) -> _Axis:
    """Borders move linearly with the place, so the widest union is at the first or the last."""
    if len(axes) == 1:
        return axes[0]
    widths = []
    for place in (0, places - 1):
        starts = [axis.start + place * axis.stride for axis in axes]
        ends = [start + axis.size for start, axis in zip(starts, axes, strict=True)]
        widths.append(max(ends) - min(starts))
    return _Axis(max(widths), max(axis.stride for axis in axes), min(axis.start for axis in axes))


def _narrowest(axes: Sequence[_Axis], places: int) -> _Axis:
    return min(axes, key=lambda axis: axis.size)
