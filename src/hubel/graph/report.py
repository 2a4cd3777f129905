"""What checking a network found: a row a layer, totals, problems and warnings, as plain data."""

from __future__ import annotations

from dataclasses import asdict, field
from math import prod
from typing import Any

from hubel.errors import Problem
from hubel.graph.build import Built, Placed
from hubel.graph.memory import TrainingMemory, training_memory
from hubel.graph.op import Shape
from hubel.graph.receptive import receptive_fields
from hubel.notation.spec import Fit
from hubel.records import dataclass

__all__ = ["Report", "Row", "rows_of"]


@dataclass(frozen=True, slots=True)
class Row:
    """One layer with its arithmetic; `text` is its token as written.

    Sizes are (height, width, depth) or (numbers,), `macs` are multiply-adds for one image,
    `activation_bytes` those of its output for one image in float32. The receptive field and its
    stride, in pixels of the image, are one number where both axes agree and a (vertical,
    horizontal) pair where they do not.
    """

    name: str
    kind: str
    text: str
    input: Shape
    output: Shape
    formula: str
    parameters: int
    parameter_formula: str
    macs: int
    receptive_field: int | tuple[int, int]
    receptive_stride: int | tuple[int, int]
    receptive_start: int | tuple[int, int]
    activation_bytes: int


@dataclass(frozen=True)
class Report:
    """What `check` found. Totals cover the layers that could be placed.

    `batch_size` and `optimizer_slots` are what training memory is told for unless asked otherwise.
    """

    text: str
    name: str
    input: tuple[int, int, int]
    classes: int | None
    fit: Fit
    batch_size: int
    optimizer_slots: int
    rows: tuple[Row, ...] = ()
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    built: Built | None = field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """Whether the network can run: it may have warnings but no problems."""
        return not self.problems

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-adds of all layers for one image."""
        return sum(row.macs for row in self.rows)

    @property
    def activation_bytes(self) -> int:
        """Bytes of all layers' outputs for one image in float32."""
        return sum(row.activation_bytes for row in self.rows)

    @property
    def parameter_bytes(self) -> int:
        """Bytes of the parameters in float32."""
        return 4 * self.parameters

    def training_memory(self, batch_size: int | None = None) -> TrainingMemory:
        """The memory that one training step needs, part by part; at the report's batch size.

        All parts are 0 where the network has problems, for then it cannot be trained.
        """
        if self.built is None or not self.ok:
            return TrainingMemory(0, 0, 0, 0, 0)
        return training_memory(
            self.built, self.batch_size if batch_size is None else batch_size, self.optimizer_slots
        )

    def training_bytes(self, batch_size: int | None = None) -> int:
        """All bytes that one training step needs, by default at the report's batch size."""
        return self.training_memory(batch_size).total

    def __str__(self) -> str:
        from hubel.graph.summary import render  # which reads reports, and so imports this module

        return render(self)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain dicts, lists, strings and numbers, ready for JSON.

        "training" is None for a network with problems.
        """
        memory = self.training_memory()
        training = {
            "batch_size": self.batch_size,
            "optimizer_slots": self.optimizer_slots,
            **asdict(memory),
            "total": memory.total,
        }
        return {
            "ok": self.ok,
            "name": self.name,
            "text": self.text,
            "input": list(self.input),
            "classes": self.classes,
            "fit": self.fit,
            "rows": [_plain(asdict(row)) for row in self.rows],
            "parameters": self.parameters,
            "parameter_bytes": self.parameter_bytes,
            "macs": self.macs,
            "activation_bytes": self.activation_bytes,
            "training": training if self.ok else None,
            "problems": [_plain(asdict(problem)) for problem in self.problems],
            "warnings": [_plain(asdict(problem)) for problem in self.warnings],
        }


def rows_of(built: Built, text: str) -> tuple[Row, ...]:
    """A row for each layer that was placed."""
    fields = receptive_fields(built)
    return tuple(
        Row(
            name=placed.name,
            kind=placed.layer.kind if placed.layer else placed.op,
            text=text[slice(*placed.span)],
            input=placed.input,
            output=placed.output,
            formula=_formula(placed, built),
            parameters=sum(prod(parameter.shape) for parameter in placed.parameters),
            parameter_formula=_parameter_formula(placed),
            macs=placed.multiply_adds,
            receptive_field=_one_or_pair(fields[placed.name].size),
            receptive_stride=_one_or_pair(fields[placed.name].stride),
            receptive_start=_one_or_pair(fields[placed.name].start),
            activation_bytes=4 * prod(placed.output),
        )
        for placed in built.layers
    )


def _formula(placed: Placed, built: Built) -> str:
    """How the output size follows from the input size."""
    kind = placed.layer.kind if placed.layer else placed.op
    if kind == "fc":
        factors = "·".join(map(str, placed.input))
        flat = f"{factors} = {prod(placed.input)}" if len(placed.input) > 1 else factors
        return f"{flat} → {placed.output[0]}"
    if kind == "gap":
        height, width, _ = placed.input
        return f"{height}·{width} = {height * width} → 1"
    if placed.fits is not None:
        vertical, horizontal = (fit.formula for fit in placed.fits)
        return vertical if vertical == horizontal else f"{vertical}, {horizontal}"
    if kind == "concat":
        depths = [str(built.graph[source].shape[-1]) for source in placed.sources]
        return f"{' + '.join(depths)} = {placed.output[-1]}"
    if kind == "maxout":
        pieces = placed.layer.count if placed.layer else None
        return f"{placed.input[-1]}/{pieces} = {placed.output[-1]}"
    if kind == "gn":
        groups = (placed.layer.count if placed.layer else None) or 1
        return f"{placed.input[-1]}/{groups} = {placed.input[-1] // groups}"
    return ""


def _parameter_formula(placed: Placed) -> str:
    """How the number of parameters comes about."""
    if not placed.parameters:
        return ""
    first = placed.parameters[0].shape
    total = sum(prod(parameter.shape) for parameter in placed.parameters)
    layer = placed.layer
    if layer is None or layer.kind not in ("conv", "fc"):
        return f"{len(placed.parameters)}·{first[0]} = {total}"
    *factors, count = map(str, first)
    if layer.groups > 1:
        factors[-1] = f"{placed.input[-1]}/{layer.groups}"
    each = "·".join(factors)
    if layer.bias:
        each = f"({each} + 1)"
    return f"{each}·{count} = {total}"


def _one_or_pair(pair: tuple[int, int]) -> int | tuple[int, int]:
    return pair[0] if pair[0] == pair[1] else pair


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
