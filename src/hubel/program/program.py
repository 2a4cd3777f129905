"""Program: the calls of one whole step, in order, and where in memory their operands lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from hubel.program.choose import Choice
from hubel.program.kernels import BFLOAT16, KERNELS
from hubel.records import dataclass

__all__ = ["ALIGNMENT", "Buffer", "Call", "Memory", "Precision", "Program"]

ALIGNMENT = 64
"""Bytes; a cache line, and the widest vector."""

Precision: TypeAlias = Literal["float32", "bfloat16"]
"""How activation maps and their gradients are stored; sums are float32 in either."""

Memory: TypeAlias = Literal[
    "arena", "store", "prepared", "scalars", "results", "input", "labels", "targets"
]
"""Where a buffer lies: "arena" is planned by lifetime, "store" outlives a step, "prepared" is made
anew when the store has changed, the rest is handed over at each run."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """So many bytes of a memory; `offset` is -1 until the plan has placed it."""

    name: str
    bytes: int
    memory: Memory
    offset: int = -1


@dataclass(frozen=True, slots=True)
class Call:
    """One kernel and the buffers it works on ("" for an operand left out); `node` it came from.

    `precision` is that of the maps, for a kernel that there is for both. Where a kernel repeats,
    `parameters` may be a tuple, of the parameters of each part. `choice` tells from which
    algorithms a convolution's was taken.
    """

    kernel: str
    operands: tuple[str, ...]
    parameters: Any
    node: str = ""
    precision: Precision = "float32"
    choice: Choice | None = None

    @property
    def compiled(self) -> str:
        """The kernel's name in the compiled table."""
        return self.kernel if self.precision == "float32" else self.kernel + BFLOAT16

    @property
    def parts(self) -> tuple[tuple[str, ...], ...]:
        """The operands of each part; one part, unless the kernel repeats."""
        if not isinstance(self.parameters, tuple):
            return (self.operands,)
        each = len(KERNELS[self.kernel].operands)
        starts = range(0, len(self.operands), each)
        return tuple(self.operands[start : start + each] for start in starts)

    def reads(self) -> tuple[str, ...]:
        """Names of the buffers whose content the kernel uses."""
        return self._marked(lambda mark: mark[-1] != ">")

    def writes(self) -> tuple[str, ...]:
        """Names of the buffers that the kernel changes."""
        return self._marked(lambda mark: mark[-1] in ">!")

    def _marked(self, wanted: Callable[[str], bool]) -> tuple[str, ...]:
        marks = KERNELS[self.kernel].operands
        return tuple(
            name
            for part in self.parts
            for name, mark in zip(part, marks, strict=True)
            if name and wanted(mark)
        )

    def operand(self, name: str) -> str:
        """The buffer in the place that the kernel's signature calls `name`."""
        return self.operands[self.place(name)]

    def place(self, name: str) -> int:
        """The number of the operand that the kernel's signature calls `name`."""
        return self.places().index(name)

    def places(self) -> tuple[str, ...]:
        """What the kernel's signature calls its operands, in order."""
        return tuple(mark.rstrip("?>!") for mark in KERNELS[self.kernel].operands)


@dataclass(frozen=True, slots=True)
class Program:
    """One static step for one batch size.

    `first` are the calls to be run before it when the store has changed. `sizes` are the bytes of
    each memory; `results` tells which buffer holds each output of the graph, as (name, shape,
    number type).
    """

    batch: int
    first: tuple[Call, ...]
    calls: tuple[Call, ...]
    buffers: Mapping[str, Buffer]
    results: tuple[tuple[str, tuple[int, ...], str], ...]
    sizes: Mapping[Memory, int]
