"""A look into a network at work: what each layer makes of a few images, and of their gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from hubel.data.batches import Batch
from hubel.engine import Array, Session
from hubel.graph import modes
from hubel.graph.op import Graph, Node
from hubel.train.events import LayerProbe, Probe, WeightProbe
from hubel.train.losses import LOSSES
from hubel.train.settings import Settings

__all__ = [
    "IMAGES",
    "dead_share",
    "due",
    "observed",
    "probe",
    "probe_graph",
    "rms",
    "saturated_share",
    "weights_of",
]

IMAGES = 32
"""So many images of a batch are looked at: a fraction of a step's time, once in many steps."""

_EARLY = frozenset({1, 10, 30})
_EVERY = 100

_BINS = 24
# Numbers of a layer that its histogram and moments are taken from, evenly spread over it.
_SAMPLE = 1 << 16

_LOOKED_AT = frozenset({"conv", "dense", "activation", "prelu", "maxout"})

_FLAT = {"sigmoid": (0.02, 0.98), "tanh": (-0.96, 0.96)}
"""Beyond these outputs the slope of a function is below a twelfth of its steepest."""


def due(number: int) -> bool:
    """Whether the step of this number (1 is a run's first) is looked at.

    Often in the beginning, where most faults show, then every hundred steps.
    """
    return number in _EARLY or number % _EVERY == 0


def observed(graph: Graph) -> tuple[Node, ...]:
    """The nodes whose outputs are looked at: dot products and activations."""
    return tuple(node for node in graph.nodes if node.op in _LOOKED_AT)


def probe_graph(graph: Graph, chosen: Settings) -> Graph:
    """The graph that a probe runs: nothing is dropped and nothing is changed.

    Its outputs are "loss", "correct", the outputs of the observed nodes, the gradients of these,
    and those of all parameters.
    """
    loss = LOSSES[chosen.loss]
    settled = modes.without_updates(modes.without_dropout(graph))
    whole = modes.with_loss(settled, loss.op, loss.attributes(chosen))
    made = [node.outputs[0] for node in observed(settled)]
    graded = modes.with_gradients(
        whole, [*made, *(value.name for value in graph.with_role("parameter"))]
    )
    outputs = (*graded.outputs[:2], *made, *graded.outputs[2:])
    return Graph(graded.values, graded.nodes, outputs)


def weights_of(session: Session, graph: Graph, whole: Graph) -> dict[str, Array]:
    """Copies of all parameters by name, as the step `whole` moves them: raw where averaged."""
    moved = {slot.of: slot.name for slot in whole.with_role("slot") if slot.of}
    names = [value.name for value in graph.with_role("parameter")]
    return {name: session.read(moved.get(name, name)) for name in names}


def probe(
    session: Session,
    graph: Graph,
    probing: Graph,
    batch: Batch,
    chosen: Settings,
    before: Mapping[str, Array],
    after: Mapping[str, Array],
) -> Probe | None:
    """Look at the first images of a batch with the graph of `probe_graph`.

    `before` and `after` are the parameters around the step that was just taken. None where numbers
    are not finite, which the next step will explain.
    """
    results = session.run(
        probing,
        {"input": batch.images[:IMAGES], "labels": batch.labels[:IMAGES], "seed": chosen.seed},
    )
    if not all(np.isfinite(each).all() for each in (*results.values(), *after.values())):
        return None
    nodes = observed(graph)
    layers = tuple(
        _layer(node, results[node.outputs[0]], results[gradient])
        for node, gradient in zip(nodes, probing.outputs[2 + len(nodes) :], strict=False)
    )
    names = [value.name for value in graph.with_role("parameter")]
    gradients = probing.outputs[2 + 2 * len(nodes) :]
    weights = tuple(
        WeightProbe(
            name,
            rms(after[name]),
            rms(results[gradient]),
            rms(after[name].astype(np.float64) - before[name]),
        )
        for name, gradient in zip(names, gradients, strict=True)
    )
    return Probe(layers, weights)


def dead_share(node: Node, made: Array) -> float | None:
    """The share of a ReLU's units, maps or numbers of a vector, that fire for none of the images.

    None for what is no ReLU.
    """
    if node.op != "activation" or node.attributes.function != "relu":
        return None
    return float(np.mean(made.reshape(-1, made.shape[-1]).max(axis=0) <= 0.0))


def saturated_share(node: Node, made: Array) -> float | None:
    """The share of outputs where an activation hardly changes any more; None where none can be."""
    limits = _FLAT.get(node.attributes.function) if node.op == "activation" else None
    if limits is None:
        return None
    low, high = limits
    return float(np.mean((made < low) | (made > high)))


def rms(array: Array) -> float:
    """The root of the mean square."""
    return math.sqrt(float(np.mean(np.square(array, dtype=np.float64))))


def _layer(node: Node, made: Array, gradient: Array) -> LayerProbe:
    name = node.outputs[0]
    function = node.attributes.function if node.op == "activation" else node.op
    numbers, slopes = _sample(made), _sample(gradient)
    return LayerProbe(
        name,
        function,
        made.ndim == 4,
        float(numbers.mean()),
        float(numbers.std()),
        dead_share(node, made),
        saturated_share(node, numbers),
        rms(gradient),
        *_histogram(numbers),
        *_histogram(slopes),
    )


def _sample(array: Array) -> Array:
    flat = array.reshape(-1)
    # An odd step falls on all channels and columns, whose numbers are mostly powers of two.
    step = max(1, flat.size // _SAMPLE) | 1
    return flat[::step].astype(np.float64)


def _histogram(numbers: Array) -> tuple[tuple[int, ...], tuple[float, float]]:
    counts, edges = np.histogram(numbers, _BINS)
    return tuple(counts.tolist()), (float(edges[0]), float(edges[-1]))
