"""How a graph's arrays lie in memory for one batch size, and the calls gathered so far.

Activation maps lie as [N/b][H][W][b][C], b images side by side: every pixel is a b × C matrix, so a
filter tap is one GEMM whatever the stride, padding or dilation, neighbouring pixels follow one
another, and b = 1 is plain (N, H, W, C). b is the largest of 16, 8, 4, 2, 1 that divides the batch:
no image is made up to fill a block.
"""

from __future__ import annotations

from dataclasses import field
from functools import cached_property
from math import prod
from typing import Any

from hubel.graph.op import Graph, Shape, Value
from hubel.program import kernels, structs
from hubel.program.program import ALIGNMENT, Buffer, Call, Memory, Precision
from hubel.records import dataclass

__all__ = ["Lowering", "as_map", "block_of"]

BLOCKS = (16, 8, 4, 2, 1)


def block_of(batch: int) -> int:
    """How many images lie side by side.

    >>> [block_of(batch) for batch in (128, 80, 72, 6, 1)]
    [16, 16, 8, 2, 1]
    """
    return next(block for block in BLOCKS if batch % block == 0)


def as_map(shape: Shape) -> tuple[int, int, int]:
    """A shape as (height, width, depth); a vector is a map of one pixel."""
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    return 1, 1, prod(shape)


@dataclass()
class Lowering:
    graph: Graph
    batch: int
    block: int
    precision: Precision
    pair_rate: float
    buffers: dict[str, Buffer]
    calls: list[Call] = field(default_factory=list)
    node: str = ""

    def call(self, kernel: str, operands: tuple[str, ...], parameters: Any) -> None:
        precision = self.precision if kernels.KERNELS[kernel].maps else "float32"
        self.calls.append(Call(kernel, operands, parameters, self.node, precision))

    def buffer(self, name: str, size: int, memory: Memory = "arena") -> str:
        """A buffer of so many bytes, in whole cache lines unless the caller brings it."""
        given = memory in ("input", "labels", "targets")
        room = size if given else -(-size // ALIGNMENT) * ALIGNMENT
        self.buffers[name] = Buffer(name, room, memory)
        return name

    def scratch(self, suffix: str, size: int) -> str:
        return self.buffer(f"{self.node}:{suffix}", size)

    def make(self, name: str) -> str:
        """The buffer of a value that the current node makes."""
        value = self.graph[name]
        if value.name in self.buffers:
            return name
        memory: Memory = "arena"
        if name in self.graph.outputs and not self.in_blocks(value) and not self.is_short(value):
            memory = "results"
        return self.buffer(name, self.numbers(name) * self.width(value), memory)

    def width(self, value: Value) -> int:
        """Bytes that one number of a value takes."""
        if value.role == "result":
            return 8
        if value.dtype == "index":
            return 2 if self.is_wide(value.name) else 1
        return 2 if self.is_short(value) else 4

    def is_short(self, value: Value) -> bool:
        """Whether the value is stored as bfloat16: maps are, what a loss makes is not."""
        if self.precision == "float32" or not value.batched or value.dtype != "real":
            return False
        if value.role == "target":
            return False
        return value.name not in self.exact

    @cached_property
    def prepared(self) -> bool:
        """Whether parameters stay as they are, so that weights are laid out once."""
        return not any(node.updates for node in self.graph.nodes)

    @cached_property
    def exact(self) -> frozenset[str]:
        """What is no map though every image has it: what losses make, and statistics of groups."""
        first = {
            "softmax_cross_entropy": 0,
            "target_cross_entropy": 0,
            "hinge": 0,
            "group_norm": 1,
        }
        return frozenset(
            name
            for node in self.graph.nodes
            if node.op in first
            for name in node.outputs[first[node.op] :]
        )

    def floats(self, name: str) -> str:
        """A buffer that holds the value's numbers as float32, in the same order."""
        if not self.is_short(self.graph[name]):
            return name
        made = f"{name}:float32"
        if made not in self.buffers:
            self.buffer(made, self.numbers(name) * 4)
            self.call("widen", (name, made), structs.Size(self.numbers(name)))
        return made

    def is_wide(self, name: str) -> bool:
        """Whether the positions in a window that this value holds take two bytes each."""
        made_by = next(node for node in self.graph.nodes if name in node.outputs)
        size: tuple[int, int] = made_by.attributes.size
        return prod(size) > 256

    def numbers(self, name: str) -> int:
        value = self.graph[name]
        return prod(value.shape) * (self.batch if value.batched else 1)

    def rows(self, name: str) -> int:
        return self.numbers(name) // self.depth(name)

    def depth(self, name: str) -> int:
        return self.graph[name].shape[-1]

    def maps(self, name: str) -> structs.Layout:
        height, width, depth = as_map(self.graph[name].shape)
        return structs.Layout(self.batch, self.block, height, width, depth)

    def in_blocks(self, value: Value) -> bool:
        """Whether the layout differs from plain (N, H, W, C)."""
        return (
            value.batched
            and self.block > 1
            and len(value.shape) == 3
            and value.shape[0] * value.shape[1] > 1
        )

    def feed(self, value: Value) -> None:
        if value.role == "input":
            self.node = "input"
            laid = self.in_blocks(value) or self.is_short(value)
            size = self.numbers(value.name)
            plain = self.buffer("input:fed" if laid else value.name, size * 4, "input")
            if laid:
                packed = self.buffer(value.name, size * self.width(value))
                self.call("pack_maps", (plain, packed), self.maps(value.name))
        elif value.role == "label":
            self.buffer(value.name, self.batch * 8, "labels")
        elif value.role == "target":
            self.buffer(value.name, self.numbers(value.name) * 4, "targets")
        elif value.role == "scalar":
            self.buffer(value.name, 8, "scalars")

    def plain(self, name: str) -> str:
        """The buffer that holds the images as they were fed, (N, H, W, C) float32."""
        return "input:fed" if "input:fed" in self.buffers else name

    def result(self, name: str) -> tuple[str, tuple[int, ...], str]:
        """Where an output can be read in its plain shape after a run."""
        value = self.graph[name]
        shape = (self.batch, *value.shape) if value.batched else value.shape
        if value.role == "result":
            return name, shape, "float64"
        if value.dtype == "index":
            return name, shape, "uint16" if self.is_wide(name) else "uint8"
        if self.buffers[name].memory == "results":
            return name, shape, "float32"
        self.node = name
        plain = self.buffer(f"{name}:plain", self.numbers(name) * 4, "results")
        if self.in_blocks(value):
            self.call("unpack_maps", (name, plain), self.maps(name))
        elif self.is_short(value):
            self.call("widen", (name, plain), structs.Size(self.numbers(name)))
        else:
            rows = structs.CopyChannels(
                1, self.numbers(name), self.numbers(name), 0, self.numbers(name), 0
            )
            self.call("copy_channels", (name, plain), rows)
        return plain, shape, "float32"
