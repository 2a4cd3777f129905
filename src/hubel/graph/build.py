"""Spec to Graph: every layer's size, parameters and operation, and every problem on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from hubel.errors import Problem
from hubel.graph import shape
from hubel.graph.op import Graph, Node, Shape, Value
from hubel.graph.ops import OPS
from hubel.graph.ops.conv import Conv, Window
from hubel.graph.ops.join import Concat
from hubel.graph.ops.norm import BatchNorm
from hubel.graph.ops.pointwise import FUNCTIONS, Activation, Dropout, Maxout
from hubel.graph.verify import verify
from hubel.notation.spec import Branches, Fit, Item, Layer, Repeat, Spec

__all__ = ["LARGEST_SIDE", "Built", "Parameter", "Placed", "axes_of", "build", "describe"]

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


@dataclass(frozen=True, slots=True)
class Placed:
    """One layer in its place: the sizes around it, the fit of its window, what it learns.

    `fits` is (vertical, horizontal) for a layer with a window; `layer` is None where branches join.
    `sources` names the values it reads.
    """

    name: str
    op: str
    layer: Layer | None
    span: tuple[int, int]
    input: Shape
    output: Shape
    parameters: tuple[Parameter, ...]
    sources: tuple[str, ...]
    window: Window | None = None
    fits: tuple[shape.Window, shape.Window] | None = None
    multiply_adds: int = 0


@dataclass(frozen=True, slots=True)
class Built:
    """What building gave: the graph as far as it went, each layer placed, and all problems.

    `reads` names the values that each layer reads, those of refused layers too.
    """

    graph: Graph
    layers: tuple[Placed, ...]
    problems: tuple[Problem, ...]
    reads: Mapping[str, tuple[str, ...]]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """All parameters, in the order of the layers."""
        return tuple(parameter for placed in self.layers for parameter in placed.parameters)


def describe(size: Shape) -> str:
    """A size as the lecture writes it.

    >>> describe((32, 32, 3))
    '32×32×3'
    """
    return "×".join(map(str, size))


def build(
    spec: Spec,
    input: tuple[int, int, int],  # noqa: A002 - the public API's word
    classes: int | None = None,
    fit: Fit = "strict",
) -> Built:
    """The graph of a network on images of one size, (height, width, depth).

    `fit` is what layers do that say nothing themselves where a window does not divide. Problems are
    collected, not raised: a window that does not fit goes on rounded down, so that one pass finds
    them all; past a layer with no output at all the rest of its branch is left unread.
    """
    builder = _Builder(classes, fit)
    builder.values["input"] = Value("input", input, "input")
    last = builder.walk(spec.items, "input")
    graph = Graph(builder.values, tuple(builder.nodes), (last,) if last else ())
    if not builder.problems:
        verify(graph)
    return Built(graph, tuple(builder.layers), tuple(builder.problems), builder.reads)


class _NoOutputError(Exception):
    """A layer whose output cannot exist; its problem has been noted."""


@dataclass(slots=True)
class _Builder:
    classes: int | None
    fit: Fit
    values: dict[str, Value] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    layers: list[Placed] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    reads: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def walk(self, items: tuple[Item, ...], source: str) -> str | None:
        """The value that the last item makes, or None where a layer on the way has no output."""
        try:
            for item in items:
                source = self._item(item, source)
        except _NoOutputError:
            return None
        return source

    def _item(self, item: Item, source: str) -> str:
        match item:
            case Layer():
                return self._layer(item, source)
            case Repeat():
                for _ in range(item.times):
                    made = self.walk(item.body, source)
                    if made is None:
                        raise _NoOutputError
                    source = made
                return source
            case Branches():
                return self._join(item, source)

    def _layer(self, layer: Layer, source: str) -> str:
        name = self._name(layer.kind)
        self.reads[name] = (source,)
        made = _RULES[layer.kind](self, name, layer, self.values[source].shape)
        return self._place(name, layer, layer.span, (source,), made)

    def _join(self, item: Branches, source: str) -> str:
        ends = [self.walk(branch, source) for branch in item.branches]
        if None in ends:
            raise _NoOutputError
        sources = tuple(end for end in ends if end is not None)
        name = self._name(item.join)
        self.reads[name] = sources
        sizes = [self.values[end].shape for end in sources]
        alike = [size[:-1] if item.join == "concat" else size for size in sizes]
        if len(set(alike)) > 1:
            verb = "added" if item.join == "add" else "laid behind one another"
            self.refuse(
                "branches",
                f"branches of different sizes cannot be {verb}: "
                + " and ".join(f"{end} {describe(self.values[end].shape)}" for end in sources),
                name,
                item.span,
            )
        attributes = Concat(tuple(size[-1] for size in sizes)) if item.join == "concat" else None
        return self._place(name, None, item.span, sources, _Made(item.join, attributes))

    def _name(self, kind: str) -> str:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return f"{kind}{self.counts[kind]}"

    def refuse(
        self, code: str, message: str, name: str, span: tuple[int, int], **detail: Any
    ) -> None:
        """Notes an error; past very many of them building ends."""
        if len(self.problems) == _MOST_PROBLEMS:
            self.problems.append(
                Problem(
                    "too-many",
                    "error",
                    f"what follows is not checked, after {_MOST_PROBLEMS} problems",
                    name,
                    span,
                )
            )
        if len(self.problems) > _MOST_PROBLEMS:
            raise _NoOutputError
        self.problems.append(Problem(code, "error", message, name, span, **detail))

    def stop(
        self, code: str, message: str, name: str, layer: Layer, **detail: Any
    ) -> _NoOutputError:
        """Notes an error past which there is no output, and gives what to raise."""
        self.refuse(code, message, name, layer.span, **detail)
        return _NoOutputError()

    def _place(
        self,
        name: str,
        layer: Layer | None,
        span: tuple[int, int],
        sources: tuple[str, ...],
        made: _Made,
    ) -> str:
        for parameter in made.parameters:
            self.values[parameter.name] = Value(
                parameter.name, parameter.shape, "parameter", batched=False
            )
        for statistic in made.statistics:
            length = made.parameters[0].shape
            self.values[statistic] = Value(statistic, length, "statistic", batched=False)
        for scalar in made.scalars:
            self.values[scalar] = Value(scalar, (), "scalar", batched=False)
        inputs = (*sources, *(parameter.name for parameter in made.parameters), *made.scalars)
        op = OPS[made.op]
        shapes = [self.values[source].shape for source in inputs]
        assert op.shapes is not None
        results = op.shapes(made.attributes, *shapes)
        outputs = (name, *(f"{name}.{suffix}" for suffix in made.extra))
        for place, (output, size) in enumerate(zip(outputs, results, strict=True)):
            batched = op.batched[min(place, len(op.batched) - 1)]
            dtype = op.dtypes[min(place, len(op.dtypes) - 1)]
            self.values[output] = Value(output, size, "activation", batched, dtype)
        self.nodes.append(Node(made.op, name, inputs, outputs, made.attributes, made.statistics))
        self.layers.append(
            Placed(
                name,
                made.op,
                layer,
                span,
                shapes[0],
                results[0],
                made.parameters,
                sources,
                made.window,
                made.fits,
                op.multiply_adds(made.attributes, shapes, results),
            )
        )
        return name


@dataclass(frozen=True, slots=True)
class _Made:
    """What a layer's rule decides."""

    op: str
    attributes: Any = None
    parameters: tuple[Parameter, ...] = ()
    statistics: tuple[str, ...] = ()
    scalars: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    window: Window | None = None
    fits: tuple[shape.Window, shape.Window] | None = None


_Rule: TypeAlias = Callable[[_Builder, str, Layer, Shape], _Made]


def _window(
    builder: _Builder, name: str, layer: Layer, x: Shape, size: tuple[int, int]
) -> tuple[Window, tuple[shape.Window, shape.Window]]:
    """The window of a layer over an image, and how it fits; misfits are noted."""
    if len(x) != 3:
        raise builder.stop(
            "no-image",
            f"a window needs an image, but its input is a vector of {x[0]} numbers",
            name,
            layer,
        )
    fit = builder.fit if layer.fit == "strict" else layer.fit
    fits = []
    sides = []
    for axis in range(2):
        geometry = (size[axis], layer.stride[axis], layer.dilation[axis])
        if layer.padding == "same":
            before, after = shape.same_padding(x[axis], *geometry)
        else:
            before = after = layer.padding[axis]
        fits.append(
            shape.window(
                x[axis], size[axis], layer.stride[axis], before, after, layer.dilation[axis], fit
            )
        )
        sides.append((before, after))
    vertical, horizontal = fits
    axes = _axes(fits, x)
    for side, found in axes:
        if found.padded > LARGEST_SIDE:
            raise builder.stop(
                "too-large",
                f"its padded input is larger than {LARGEST_SIDE}, {side}",
                name,
                layer,
                formula=f"{found.size} + {found.before} + {found.after} = {found.padded}",
            )
    for side, found in axes:
        if found.output < 1:
            raise builder.stop(
                "too-small",
                f"the {describe(size)} window is larger than its padded input, {side}",
                name,
                layer,
                formula=found.formula,
            )
    for side, found in axes:
        if not found.exact and fit == "strict":
            builder.refuse(
                "misfit",
                f"the window does not fit {side}",
                name,
                layer.span,
                formula=found.formula,
                unread=_unread(found, side),
            )
    (top, bottom), (left, right) = sides
    made = Window(
        size,
        layer.stride,
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
    return f"{what} {', '.join(runs)} (counted from 0) would never be read"


def _conv(builder: _Builder, name: str, layer: Layer, x: Shape) -> _Made:
    assert layer.size is not None
    assert layer.count is not None
    window, fits = _window(builder, name, layer, x, layer.size)
    depth, filters, groups = x[2], layer.count, layer.groups
    for what, number in (("input depth", depth), ("filters", filters)):
        if number % groups:
            builder.refuse(
                "groups",
                f"{groups} groups do not divide its {what} {number}",
                name,
                layer.span,
                formula=f"{number}/{groups} = {number / groups:.2f}",
            )
    area = layer.size[0] * layer.size[1]
    weight = Parameter(
        f"{name}.weight",
        (*layer.size, depth // groups, filters),
        area * depth // groups,
        area * filters // groups,
        "random",
    )
    return _Made(
        "conv",
        Conv(window, filters, groups),
        _with_bias(weight, name, layer, filters),
        window=window,
        fits=fits,
    )


def _fc(builder: _Builder, name: str, layer: Layer, x: Shape) -> _Made:
    outputs = layer.count or builder.classes
    if outputs is None:
        raise builder.stop(
            "classes",
            "fc without a number has as many outputs as there are classes, and their number is "
            "not known: write fc10 or give classes",
            name,
            layer,
        )
    length = 1
    for side in x:
        length *= side
    weight = Parameter(f"{name}.weight", (length, outputs), length, outputs, "random")
    return _Made("dense", None, _with_bias(weight, name, layer, outputs))


def _with_bias(weight: Parameter, name: str, layer: Layer, count: int) -> tuple[Parameter, ...]:
    if not layer.bias:
        return (weight,)
    return (weight, replace(weight, name=f"{name}.bias", shape=(count,), start=0.0))


def _pool(builder: _Builder, name: str, layer: Layer, x: Shape) -> _Made:
    assert layer.size is not None
    window, fits = _window(builder, name, layer, x, layer.size)
    for axis, length in enumerate(layer.size):
        padding = max(window.padding[2 * axis : 2 * axis + 2])
        if padding >= length:
            builder.refuse(
                "padding",
                f"padding {padding} puts whole windows of {length} outside the image; "
                f"pad less than {length}",
                name,
                layer.span,
            )
            break
    if layer.kind == "avgpool":
        return _Made("average_pool", window, window=window, fits=fits)
    return _Made("max_pool", window, extra=("index",), window=window, fits=fits)


def _gap(builder: _Builder, name: str, layer: Layer, x: Shape) -> _Made:
    if len(x) != 3:
        raise builder.stop(
            "no-image",
            f"the average needs an image, but its input is a vector of {x[0]} numbers",
            name,
            layer,
        )
    size = (x[0], x[1])
    window, fits = _window(builder, name, replace(layer, size=size, stride=size), x, size)
    return _Made("average_pool", window, window=window, fits=fits)


def _activation(builder: _Builder, name: str, layer: Layer, x: Shape) -> _Made:
    return _Made("activation", Activation(layer.kind, layer.value or 0.0))


def _prelu(builder: _Builder, name: str, layer: Layer, x: Shape) -> _Made:
    slope = Parameter(f"{name}.weight", (x[-1],), 1, 1, 0.25)
    return _Made("prelu", None, (slope,))


def _maxout(builder: _Builder, name: str, layer: Layer, x: Shape) -> _Made:
    assert layer.count is not None
    if x[-1] % layer.count:
        builder.refuse(
            "maxout",
            f"{layer.count} pieces do not divide its input depth {x[-1]}",
            name,
            layer.span,
            formula=f"{x[-1]}/{layer.count} = {x[-1] / layer.count:.2f}",
        )
        if x[-1] < layer.count:
            raise _NoOutputError
    return _Made("maxout", Maxout(layer.count))


def _bn(builder: _Builder, name: str, layer: Layer, x: Shape) -> _Made:
    scale = Parameter(f"{name}.weight", (x[-1],), 1, 1, 1.0)
    shift = replace(scale, name=f"{name}.bias", start=0.0)
    return _Made(
        "batch_norm",
        BatchNorm(),
        (scale, shift),
        statistics=(f"{name}.running_mean", f"{name}.running_var"),
        extra=("mean", "inverse_deviation"),
    )


def _drop(builder: _Builder, name: str, layer: Layer, x: Shape) -> _Made:
    assert layer.value is not None
    stream = builder.counts[layer.kind]
    return _Made("dropout", Dropout(layer.value, stream), scalars=("seed", "step"))


_RULES: Mapping[str, _Rule] = MappingProxyType(
    {
        "conv": _conv,
        "pool": _pool,
        "avgpool": _pool,
        "gap": _gap,
        "fc": _fc,
        "prelu": _prelu,
        "maxout": _maxout,
        "bn": _bn,
        "drop": _drop,
        **dict.fromkeys(FUNCTIONS, _activation),
    }
)
