"""What a graph is made of: values, nodes, and the record that says all about one operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Any, Literal, Protocol, TypeAlias

from hubel.records import dataclass

__all__ = ["Dtype", "Emit", "Graph", "Node", "Op", "Role", "Shape", "Value"]

Shape: TypeAlias = tuple[int, ...]
Role: TypeAlias = Literal[
    "input",
    "label",
    "target",
    "scalar",
    "parameter",
    "statistic",
    "slot",
    "activation",
    "gradient",
    "result",
]
Dtype: TypeAlias = Literal["real", "index", "label"]

PERSISTENT: frozenset[str] = frozenset({"parameter", "statistic", "slot"})
FED: frozenset[str] = frozenset({"input", "label", "target", "scalar"})


@dataclass(frozen=True, slots=True)
class Value:
    """One array of a graph: `shape` is that of one image where `batched`, of the whole otherwise.

    A "target" is the share of each class that a loss aims at. A "parameter" is trained, a
    "statistic" kept by batch normalisation, a "slot" by an optimizer; these outlive a step. "index"
    values hold positions inside a window. `of` names the value that a gradient belongs to, and the
    one that a slot begins as a copy of; other slots begin at zero.
    """

    name: str
    shape: Shape
    role: Role
    batched: bool = True
    dtype: Dtype = "real"
    of: str = ""

    @property
    def persistent(self) -> bool:
        """Whether the value outlives a step."""
        return self.role in PERSISTENT

    @property
    def fed(self) -> bool:
        """Whether the caller supplies the value at every step."""
        return self.role in FED


@dataclass(frozen=True, slots=True)
class Node:
    """One operation: reads `inputs`, makes `outputs`, changes the persistent `updates` in place."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Any = None
    updates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graph:
    """Nodes in the order they run, the values they pass on, and the names that are the result.

    Nothing in it depends on a batch size, a number type or a machine.
    """

    values: Mapping[str, Value]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    def __getitem__(self, name: str) -> Value:
        return self.values[name]

    @cached_property
    def fed(self) -> tuple[Value, ...]:
        """The values that a caller supplies at every step, in order of appearance."""
        return tuple(value for value in self.values.values() if value.fed)

    @cached_property
    def labels(self) -> tuple[tuple[str, int], ...]:
        """Each label value that a loss reads, and how many classes it has scores of."""
        found = (
            (name, prod(self[node.inputs[0]].shape))
            for node in self.nodes
            for name in node.inputs
            if self[name].role == "label"
        )
        return tuple(dict.fromkeys(found))

    def with_role(self, role: Role) -> tuple[Value, ...]:
        """The values of one role, in order of appearance."""
        return tuple(value for value in self.values.values() if value.role == role)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        for value in self.values.values():
            if value.fed or value.persistent:
                yield f"{value.role:<10} {value.name}: {_dimensions(value)}"
        for node in self.nodes:
            made = ", ".join(f"{name}: {_dimensions(self[name])}" for name in node.outputs)
            changed = f" updates {', '.join(node.updates)}" if node.updates else ""
            attributes = "" if node.attributes is None else f" {node.attributes}"
            yield f"{made or node.name} = {node.op}({', '.join(node.inputs)}){changed}{attributes}"
        yield f"return {', '.join(self.outputs)}"


def _dimensions(value: Value) -> str:
    return "×".join(map(str, ("N", *value.shape) if value.batched else value.shape)) or "scalar"


class Emit(Protocol):
    """Adds a node while a graph is differentiated and names what it makes."""

    def __call__(
        self, op: str, inputs: Sequence[str], attributes: Any = None, *, of: Sequence[str]
    ) -> tuple[str, ...]:
        """The names of the node's outputs: gradients of the values `of`, and shaped like them."""
        ...


ShapeRule: TypeAlias = Callable[..., tuple[Shape, ...]]
GradientRule: TypeAlias = Callable[[Node, str, Emit], tuple[str | None, ...]]
CostRule: TypeAlias = Callable[[Any, Sequence[Shape], Sequence[Shape]], int]


def _no_multiply_adds(attributes: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Op:
    """One row of the table of operations.

    `shapes(attributes, *input shapes)` gives the output shapes (None: the outputs are gradients and
    shaped like the values they belong to); `gradient(node, gradient of its first output, emit)`
    emits nodes and names the gradient of each input, None where there is none (no rule: the
    operation is not differentiated); `multiply_adds` counts them for one image. `batched` tells for
    each output whether it has one entry an image, `dtypes` what it holds; the last entry serves all
    that follow.
    """

    name: str
    shapes: ShapeRule | None
    gradient: GradientRule | None = None
    multiply_adds: CostRule = _no_multiply_adds
    batched: tuple[bool, ...] = (True,)
    dtypes: tuple[Dtype, ...] = ("real",)

    def output(self, place: int) -> tuple[bool, Dtype]:
        """Whether the output in that place has one entry an image, and what it holds."""
        return (
            self.batched[min(place, len(self.batched) - 1)],
            self.dtypes[min(place, len(self.dtypes) - 1)],
        )
