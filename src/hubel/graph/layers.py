"""What each layer of the notation becomes: its operation, its parameters, how its window fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from hubel.errors import Problem
from hubel.graph import shape
from hubel.graph.op import Shape
from hubel.graph.ops.conv import Conv, Window
from hubel.graph.ops.norm import BatchNorm, GroupNorm
from hubel.graph.ops.pointwise import FUNCTIONS, Activation, Dropout, Maxout
from hubel.notation.spec import Fit, Layer
from hubel.records import dataclass

__all__ = [
    "LARGEST_SIDE",
    "RULES",
    "Made",
    "NoOutputError",
    "Parameter",
    "Problems",
    "Site",
    "axes_of",
]

LARGEST_SIDE = 1 << 16
"""No image or map, its padding counted, is higher or wider."""

_BOTH = "both ways"
_MOST_PROBLEMS = 200
_MOST_READINGS = 1_000_000


@dataclass(frozen=True, slots=True)
class Parameter:
    """One trained array: `fan_in` numbers of the input meet in one output, one input in `fan_out`.

    `start` says what it begins with: "random" for the weights of dot products, else a number.
    """

    name: str
    shape: Shape
    fan_in: int
    fan_out: int
    start: Literal["random"] | float


class NoOutputError(Exception):
    """A layer whose output cannot exist; its problem has been noted."""


@dataclass(slots=True)
class Problems:
    """The errors noted so far; past very many of them building ends."""

    found: list[Problem]

    def refuse(
        self, code: str, message: str, name: str, span: tuple[int, int], **detail: Any
    ) -> None:
        """Notes an error. Raises NoOutputError past very many."""
        if len(self.found) == _MOST_PROBLEMS:
            what = f"what follows is not checked, after {_MOST_PROBLEMS} problems"
            self.found.append(Problem("too-many", "error", what, name, span))
        if len(self.found) > _MOST_PROBLEMS:
            raise NoOutputError
        self.found.append(Problem(code, "error", message, name, span, **detail))


@dataclass(frozen=True, slots=True)
class Site:
    """Where a layer stands: its name, its token, its input, and its number among its kind."""

    name: str
    layer: Layer
    input: Shape
    number: int
    classes: int | None
    fit: Fit
    problems: Problems

    def refuse(self, code: str, message: str, **detail: Any) -> None:
        """Notes an error past which the layer still has an output."""
        self.problems.refuse(code, message, self.name, self.layer.span, **detail)

    def stop(self, code: str, message: str, **detail: Any) -> NoOutputError:
        """Notes an error past which there is no output, and gives what to raise."""
        self.refuse(code, message, **detail)
        return NoOutputError()


@dataclass(frozen=True, slots=True)
class Made:
    """What a layer's rule decides."""

    op: str
    attributes: Any = None
    parameters: tuple[Parameter, ...] = ()
    statistics: tuple[str, ...] = ()
    scalars: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    window: Window | None = None
    fits: tuple[shape.Window, shape.Window] | None = None


Rule: TypeAlias = Callable[[Site], Made]


def _window(
    site: Site, size: tuple[int, int], stride: tuple[int, int]
) -> tuple[Window, tuple[shape.Window, shape.Window]]:
    """The window of a layer over an image, and how it fits; misfits are noted."""
    layer, x = site.layer, site.input
    if len(x) != 3:
        raise site.stop(
            "no-image",
            f"a window needs an image, but its input is a vector of {x[0]} numbers",
        )
    fit = site.fit if layer.fit == "strict" else layer.fit
    fits = []
    sides = []
    for axis in range(2):
        geometry = (size[axis], stride[axis], layer.dilation[axis])
        if layer.padding == "same":
            before, after = shape.same_padding(x[axis], *geometry)
        else:
            before = after = layer.padding[axis]
        fits.append(
            shape.window(
                x[axis], size[axis], stride[axis], before, after, layer.dilation[axis], fit
            )
        )
        sides.append((before, after))
    vertical, horizontal = fits
    axes = _axes(fits, x)
    for side, found in axes:
        if found.padded > LARGEST_SIDE:
            raise site.stop(
                "too-large",
                f"its padded input is larger than {LARGEST_SIDE}, {side}",
                formula=f"{found.size} + {found.before} + {found.after} = {found.padded}",
            )
    for side, found in axes:
        if found.output < 1:
            raise site.stop(
                "too-small",
                f"the {shape.describe(size)} window is larger than its padded input, {side}",
                formula=found.formula,
            )
    for side, found in axes:
        if not found.exact and fit == "strict":
            site.refuse(
                "misfit",
                f"the window does not fit {side}",
                formula=found.formula,
                unread=_unread(found, side),
            )
    (top, bottom), (left, right) = sides
    made = Window(
        size,
        stride,
        (top, bottom, left, right),
        layer.dilation,
        (vertical.output, horizontal.output),
    )
    return made, (vertical, horizontal)


def axes_of(problem: Problem) -> tuple[str, ...]:
    """The axes that a window's problem speaks of, () for other problems."""
    sides = ("vertically", "horizontally")
    if problem.message.endswith(_BOTH):
        return sides
    return tuple(side for side in sides if problem.message.endswith(side))


def _axes(fits: list[shape.Window], x: Shape) -> list[tuple[str, shape.Window]]:
    """Both axes named, or one for both where they are alike."""
    if x[0] == x[1] and fits[0] == fits[1]:
        return [(_BOTH, fits[0])]
    return [("vertically", fits[0]), ("horizontally", fits[1])]


def _unread(found: shape.Window, side: str) -> str:
    what = {"vertically": "rows", "horizontally": "columns"}.get(side, "rows and columns")
    gaps = found.dilation > 1 or found.stride > found.filter
    if gaps and found.filter * found.output > _MOST_READINGS:
        return f"{what} between the readings would never be read"
    runs = [str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in found.unread]
    if not runs:
        return ""
    if len(runs) > 7:
        runs[3:-3] = ["…"]
    if sum(map(len, found.unread)) == 1:
        what = what.replace("rows", "row").replace("columns", "column")
    return f"{what} {', '.join(runs)} (counted from 0) would never be read"


def _conv(site: Site) -> Made:
    layer, x = site.layer, site.input
    assert layer.size is not None
    assert layer.count is not None
    window, fits = _window(site, layer.size, layer.stride)
    depth, filters, groups = x[2], layer.count, layer.groups
    for what, number in (("input depth", depth), ("filters", filters)):
        if number % groups:
            site.refuse(
                "groups",
                f"{groups} groups do not divide its {what} {number}",
                formula=f"{number}/{groups} = {number / groups:.2f}",
            )
    area = layer.size[0] * layer.size[1]
    weight = Parameter(
        f"{site.name}.weight",
        (*layer.size, depth // groups, filters),
        area * depth // groups,
        area * filters // groups,
        "random",
    )
    return Made(
        "conv",
        Conv(window, filters, groups),
        _with_bias(weight, layer, filters),
        window=window,
        fits=fits,
    )


def _fc(site: Site) -> Made:
    layer, x = site.layer, site.input
    outputs = layer.count or site.classes
    if outputs is None:
        raise site.stop(
            "classes",
            "fc without a number has as many outputs as there are classes, and their number is "
            "not known: write fc10, or give it: --classes 10, or classes=10 in Python",
        )
    length = 1
    for side in x:
        length *= side
    weight = Parameter(f"{site.name}.weight", (length, outputs), length, outputs, "random")
    return Made("dense", None, _with_bias(weight, layer, outputs))


def _with_bias(weight: Parameter, layer: Layer, count: int) -> tuple[Parameter, ...]:
    if not layer.bias:
        return (weight,)
    return (
        weight,
        replace(weight, name=weight.name.replace(".weight", ".bias"), shape=(count,), start=0.0),
    )


def _pool(site: Site) -> Made:
    layer = site.layer
    assert layer.size is not None
    window, fits = _window(site, layer.size, layer.stride)
    for axis, length in enumerate(layer.size):
        padding = max(window.padding[2 * axis : 2 * axis + 2])
        if padding >= length:
            site.refuse(
                "padding",
                f"padding {padding} puts whole windows of {length} outside the image; "
                f"pad less than {length}",
            )
            break
    if layer.kind == "avgpool":
        return Made("average_pool", window, window=window, fits=fits)
    return Made("max_pool", window, extra=("index",), window=window, fits=fits)


def _gap(site: Site) -> Made:
    x = site.input
    if len(x) != 3:
        raise site.stop(
            "no-image",
            f"the average needs an image, but its input is a vector of {x[0]} numbers",
        )
    size = (x[0], x[1])
    window, fits = _window(site, size, size)
    return Made("average_pool", window, window=window, fits=fits)


def _activation(site: Site) -> Made:
    layer = site.layer
    return Made("activation", Activation(layer.kind, layer.value or 0.0))


def _prelu(site: Site) -> Made:
    x = site.input
    slope = Parameter(f"{site.name}.weight", (x[-1],), 1, 1, 0.25)
    return Made("prelu", None, (slope,))


def _maxout(site: Site) -> Made:
    layer, x = site.layer, site.input
    assert layer.count is not None
    if x[-1] % layer.count:
        site.refuse(
            "maxout",
            f"{layer.count} pieces do not divide its input depth {x[-1]}",
            formula=f"{x[-1]}/{layer.count} = {x[-1] / layer.count:.2f}",
        )
        if x[-1] < layer.count:
            raise NoOutputError
    return Made("maxout", Maxout(layer.count))


def _scale_and_shift(site: Site) -> tuple[Parameter, Parameter]:
    scale = Parameter(f"{site.name}.weight", (site.input[-1],), 1, 1, 1.0)
    return scale, replace(scale, name=f"{site.name}.bias", start=0.0)


def _bn(site: Site) -> Made:
    return Made(
        "batch_norm",
        BatchNorm(),
        _scale_and_shift(site),
        statistics=(f"{site.name}.running_mean", f"{site.name}.running_var"),
        extra=("mean", "inverse_deviation"),
    )


def _gn(site: Site) -> Made:
    x, groups = site.input, site.layer.count or 1
    if x[-1] % groups:
        site.refuse(
            "norm-groups",
            f"{groups} groups do not divide its input depth {x[-1]}",
            formula=f"{x[-1]}/{groups} = {x[-1] / groups:.2f}",
        )
        groups = 1
    elif prod(x) == groups:
        site.refuse(
            "lone",
            "each of its groups is a single number, which is normalised to zero: take fewer groups",
            formula=f"{'·'.join(map(str, x))}/{groups} = 1",
        )
    statistics = ("mean", "inverse_deviation")
    return Made("group_norm", GroupNorm(groups), _scale_and_shift(site), extra=statistics)


def _drop(site: Site) -> Made:
    layer = site.layer
    assert layer.value is not None
    stream = site.number
    return Made("dropout", Dropout(layer.value, stream), scalars=("seed", "step"))


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "conv": _conv,
        "pool": _pool,
        "avgpool": _pool,
        "gap": _gap,
        "fc": _fc,
        "prelu": _prelu,
        "maxout": _maxout,
        "bn": _bn,
        "ln": _gn,
        "gn": _gn,
        "drop": _drop,
        **dict.fromkeys(FUNCTIONS, _activation),
    }
)
