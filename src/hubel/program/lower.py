"""Graph to calls of kernels, for one batch size."""

from __future__ import annotations

from collections.abc import Mapping

from hubel.graph.op import Graph
from hubel.program.lowering import Lowering, block_of
from hubel.program.program import Buffer, Call, Precision
from hubel.program.rules import RULES
from hubel.records import dataclass

__all__ = ["Lowered", "lower"]


@dataclass(frozen=True, slots=True)
class Lowered:
    """Calls in order, their buffers, and the name, shape and number type of each output."""

    batch: int
    calls: tuple[Call, ...]
    buffers: Mapping[str, Buffer]
    results: tuple[tuple[str, tuple[int, ...], str], ...]


def lower(
    graph: Graph,
    batch: int,
    store: Mapping[str, Buffer],
    precision: Precision = "float32",
    pair_rate: float = 0.0,
) -> Lowered:
    """The calls that run a graph on `batch` images; `store` is where its persistent values lie.

    `pair_rate` is how fast the processor multiplies pairs of bfloat16 numbers; see Problem.
    """
    pairs = pair_rate if precision == "bfloat16" else 0.0
    made = Lowering(graph, batch, block_of(batch), precision, pairs, dict(store))
    for value in graph.values.values():
        made.feed(value)
    for node in graph.nodes:
        made.node = node.name
        RULES[node.op](made, node)
    results = tuple(made.result(name) for name in graph.outputs)
    return Lowered(batch, _used(made.calls), made.buffers, results)


def _used(calls: list[Call]) -> tuple[Call, ...]:
    """The calls without the layout of the images, where all who read them take them as fed."""
    read = {name for call in calls for name in call.reads()}
    return tuple(
        call for call in calls if call.kernel != "pack_maps" or call.operand("maps") in read
    )
