"""All the way from a graph to a checked program."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from hubel.graph.op import Graph
from hubel.program.fold import fold
from hubel.program.fuse import fuse
from hubel.program.join import join
from hubel.program.lower import lower
from hubel.program.plan import plan
from hubel.program.prepare import prepare
from hubel.program.program import ALIGNMENT, Buffer, Precision, Program
from hubel.program.verify import verify

__all__ = ["lay_out", "make"]


def make(
    graph: Graph,
    batch: int,
    store: Mapping[str, Buffer] | None = None,
    precision: Precision = "float32",
    pair_rate: float = 0.0,
) -> Program:
    """The program that runs a graph on `batch` images.

    `store` is where the persistent values lie already; without it they are laid one after another.
    `pair_rate` is how fast the processor multiplies pairs of bfloat16 numbers, by floats.
    """
    places = lay_out(graph) if store is None else store
    lowered = lower(graph, batch, places, precision, pair_rate)
    return verify(plan(prepare(join(fuse(fold(lowered))))))


def lay_out(graph: Graph) -> dict[str, Buffer]:
    """A place in the store for every persistent value, one after another."""
    found: dict[str, Buffer] = {}
    used = 0
    for value in graph.values.values():
        if value.persistent:
            size = -(-prod(value.shape) * 4 // ALIGNMENT) * ALIGNMENT
            found[value.name] = Buffer(value.name, size, "store", used)
            used += size
    return found
