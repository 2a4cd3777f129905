"""Spec to Graph: every layer's size, parameters and operation, and every problem on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from hubel.errors import Problem
from hubel.graph import shape
from hubel.graph.layers import RULES, Made, NoOutputError, Parameter, Problems, Site
from hubel.graph.op import Graph, Node, Shape, Value
from hubel.graph.ops import OPS
from hubel.graph.ops.conv import Window
from hubel.graph.ops.join import Concat
from hubel.graph.verify import verify
from hubel.notation.names import Names
from hubel.notation.spec import Branches, Fit, Item, Layer, Repeat, Spec
from hubel.records import dataclass

__all__ = ["Built", "Placed", "build"]


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


def build(
    spec: Spec,
    input: tuple[int, int, int],
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
    if not builder.problems.found:
        verify(graph)
    return Built(graph, tuple(builder.layers), tuple(builder.problems.found), builder.reads)


@dataclass(slots=True)
class _Builder:
    classes: int | None
    fit: Fit
    values: dict[str, Value] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    layers: list[Placed] = field(default_factory=list)
    problems: Problems = field(default_factory=lambda: Problems([]))
    name: Names = field(default_factory=Names)
    reads: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def walk(self, items: tuple[Item, ...], source: str) -> str | None:
        """The value that the last item makes, or None where a layer on the way has no output."""
        try:
            for item in items:
                source = self._item(item, source)
        except NoOutputError:
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
                        raise NoOutputError
                    source = made
                return source
            case Branches():
                return self._join(item, source)

    def _layer(self, layer: Layer, source: str) -> str:
        name = self.name(layer.kind)
        self.reads[name] = (source,)
        size, number = self.values[source].shape, self.name.counts[layer.kind]
        site = Site(name, layer, size, number, self.classes, self.fit, self.problems)
        made = RULES[layer.kind](site)
        return self._place(name, layer, layer.span, (source,), made)

    def _join(self, item: Branches, source: str) -> str:
        ends = [self.walk(branch, source) for branch in item.branches]
        if None in ends:
            raise NoOutputError
        sources = tuple(end for end in ends if end is not None)
        name = self.name(item.join)
        self.reads[name] = sources
        sizes = [self.values[end].shape for end in sources]
        alike = [size[:-1] if item.join == "concat" else size for size in sizes]
        if len(set(alike)) > 1:
            verb = "added" if item.join == "add" else "laid behind one another"
            self.problems.refuse(
                "branches",
                f"branches of different sizes cannot be {verb}: "
                + " and ".join(
                    f"{end} {shape.describe(self.values[end].shape)}" for end in sources
                ),
                name,
                item.span,
            )
        attributes = Concat(tuple(size[-1] for size in sizes)) if item.join == "concat" else None
        return self._place(name, None, item.span, sources, Made(item.join, attributes))

    def _place(
        self,
        name: str,
        layer: Layer | None,
        span: tuple[int, int],
        sources: tuple[str, ...],
        made: Made,
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
            batched, dtype = op.output(place)
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
