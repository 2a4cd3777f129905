"""The reference engine: NumPy in float64, as plain as the lecture, which all engines must match."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from hubel.engine.feeds import check_feeds
from hubel.engine.reference import conv, dense, join, loss, norm, pointwise, pool, update
from hubel.engine.reference.assemble import assemble
from hubel.engine.reference.call import Call, Rule
from hubel.engine.session import Array, Factors, Feeds
from hubel.errors import UsageError
from hubel.graph.op import Graph, Node, Value
from hubel.variation import Variation

__all__ = ["RULES", "ReferenceSession"]


class ReferenceSession:
    """A session that computes each node by its rule in RULES, one after the other.

    >>> import numpy as np
    >>> session = ReferenceSession()
    >>> session.write("fc1.bias", np.ones(3, np.float32))
    >>> session.read("fc1.bias")
    array([1., 1., 1.])
    """

    pace: ClassVar[float] = 3e9

    def __init__(self) -> None:
        self._kept: dict[str, Array] = {}

    def write(self, name: str, array: Array) -> None:
        """Keeps a copy of a persistent value."""
        self._kept[name] = np.array(array, np.float64)

    def read(self, name: str) -> Array:
        """A copy of a persistent value; raises UsageError for one that was never written."""
        if name not in self._kept:
            known = ", ".join(self._kept) or "nothing yet"
            raise UsageError(f"the session keeps no {name!r}", hint=f"it keeps {known}")
        return self._kept[name].copy()

    def assemble(
        self, images: Array, indices: Array, variation: Variation | None, factors: Factors
    ) -> Array:
        """The chosen images as a batch; raises UsageError for what they do not have."""
        return assemble(images, indices, variation, factors)

    def run(self, graph: Graph, feeds: Feeds) -> dict[str, Array]:
        """Runs every node once and gives the graph's outputs by name.

        Raises UsageError for what is missing or has the wrong shape, DataError for a label that is
        no class.
        """
        arrays = check_feeds(graph, feeds)
        batch = 1
        for value in graph.values.values():
            if value.persistent:
                arrays[value.name] = self._persistent(value)
            elif value.role in ("input", "target"):
                arrays[value.name] = arrays[value.name].astype(np.float64)
                batch = len(arrays[value.name])
        # Training that diverges overflows: its infinities and NaN are the result, not an accident.
        with np.errstate(all="ignore"):
            for node in graph.nodes:
                self._run_node(graph, node, arrays, batch)
        return {name: np.array(arrays[name]) for name in graph.outputs}

    def _run_node(self, graph: Graph, node: Node, arrays: dict[str, Array], batch: int) -> None:
        made = RULES[node.op](_call(graph, node, arrays, batch))
        arrays.update(zip(node.outputs, made, strict=True))

    def _persistent(self, value: Value) -> Array:
        if value.name not in self._kept and value.role == "slot":
            self._kept[value.name] = np.zeros(value.shape)
        if value.name not in self._kept:
            raise UsageError(
                f"the {value.role} {value.name!r} was never written",
                hint=f"write an array of shape {value.shape} first",
            )
        array = self._kept[value.name]
        if array.shape != value.shape:
            raise UsageError(
                f"the {value.role} {value.name!r} has shape {array.shape}, "
                f"but the graph needs {value.shape}"
            )
        return array


def _call(graph: Graph, node: Node, arrays: dict[str, Array], batch: int) -> Call:
    values = (graph[name] for name in node.outputs)
    return Call(
        node.attributes,
        tuple(arrays[name] for name in node.inputs),
        tuple((batch, *value.shape) if value.batched else value.shape for value in values),
        tuple(arrays[name] for name in node.updates),
    )


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        name: rule
        for family in (conv, dense, pool, pointwise, norm, join, loss, update)
        for name, rule in family.RULES.items()
    }
)
"""How each operation of OPS is computed."""
