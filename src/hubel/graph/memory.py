"""What training a network keeps in memory, estimated from its graph before anything runs."""

from __future__ import annotations

from dataclasses import asdict
from math import prod

from hubel.graph.build import Built
from hubel.graph.modes import with_gradients, with_loss
from hubel.graph.op import Graph, Value
from hubel.records import dataclass

__all__ = ["TrainingMemory", "training_memory"]

_BYTES = {"real": 4, "index": 1, "wide index": 2, "label": 8}


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """Bytes of one training step in float32, part by part.

    `weights` are the parameters and running statistics, `gradients` those of the parameters,
    `optimizer` the arrays an optimizer keeps, `activations` and `activation_gradients` what is
    alive at the fullest moment of the step.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    activation_gradients: int

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(asdict(self).values())


def training_memory(built: Built, batch_size: int, optimizer_slots: int = 1) -> TrainingMemory:
    """What forward, backward and update of a network without problems keep for a batch.

    An optimizer keeps `optimizer_slots` arrays a parameter. Each value is counted from the
    operation that makes it to the last one that reads it, every one in a place of its own: an
    engine that overwrites needs less, and working space comes on top.
    """
    graph = built.graph
    names = [parameter.name for parameter in built.parameters]
    parameters = sum(prod(graph[name].shape) for name in names)
    statistics = sum(prod(value.shape) for value in graph.with_role("statistic"))
    step = with_gradients(with_loss(graph, "softmax_cross_entropy"), names)
    activations, gradients = _fullest(step, batch_size)
    return TrainingMemory(
        4 * (parameters + statistics),
        4 * parameters,
        4 * parameters * optimizer_slots,
        activations,
        gradients,
    )


def _fullest(graph: Graph, batch_size: int) -> tuple[int, int]:
    """Bytes of activations and of their gradients at the fullest moment."""
    last_use = {name: place for place, node in enumerate(graph.nodes) for name in node.inputs}
    dying: dict[int, list[str]] = {}
    for name, place in last_use.items():
        dying.setdefault(place, []).append(name)
    alive = {"activation": 0, "gradient": 0}
    fullest = (0, 0)

    # One byte counts the positions of a window up to 256 of them.
    wide = {
        name
        for node in graph.nodes
        for name in node.outputs
        if graph[name].dtype == "index" and prod(node.attributes.size) > 256
    }

    def count(value: Value, sign: int) -> None:
        if value.batched and not value.persistent:
            part = "gradient" if value.role == "gradient" else "activation"
            size = _BYTES["wide index" if value.name in wide else value.dtype]
            alive[part] += sign * size * prod(value.shape) * batch_size

    for value in graph.values.values():
        if value.fed:
            count(value, 1)
    for place, node in enumerate(graph.nodes):
        for name in node.outputs:
            count(graph[name], 1)
        fullest = max(fullest, (alive["activation"], alive["gradient"]), key=sum)
        for name in dying.get(place, ()):
            count(graph[name], -1)
        for name in node.outputs:
            if name not in last_use:
                count(graph[name], -1)
    return fullest
