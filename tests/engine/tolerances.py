"""How far an engine may be off the reference: what rounding errors do to the reference itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from math import prod

import numpy as np

from hubel.engine.reference import ReferenceSession
from hubel.engine.session import Array, Feeds
from hubel.graph.op import Graph, Node
from hubel.program.make import make
from hubel.program.program import Precision
from tests.engine.cases import write_all
from tests.engine.winograd import Winograd

__all__ = ["HALF_BFLOAT16", "deviations", "largest", "tolerances"]

HALF_BFLOAT16 = 2.0**-8
"""Half the distance of 1 and the next bfloat16 number."""


def tolerances(
    graph: Graph,
    values: dict[str, Array],
    fed: Feeds,
    eps: float,
    kept: Sequence[str] = (),
    precision: Precision | None = None,
) -> dict[str, float]:
    """How far an engine that rounds to `eps` may be off the reference, for each output and each of
    the `kept` persistent values: eight times the largest of its `deviations`.
    """
    return largest(deviations(graph, values, fed, eps, kept, precision))


def largest(found: Mapping[str, Sequence[Array]]) -> dict[str, float]:
    """Eight times the largest deviation of each output."""
    return {
        name: 8 * max(float(np.max(np.abs(off), initial=0.0)) for off in runs)
        for name, runs in found.items()
    }


def deviations(
    graph: Graph,
    values: dict[str, Array],
    fed: Feeds,
    eps: float,
    kept: Sequence[str] = (),
    precision: Precision | None = None,
    pair_rate: float = 0.0,
) -> dict[str, list[Array]]:
    """What rounding does to each output and each of the `kept` persistent values, in four runs;
    with a `precision` in the compiled engine.

    Monte Carlo arithmetic (Parker 1997): the reference is run again with random rounding errors,
    eps on every number that a node makes and eps·√length, what a sum of that length collects, on
    every number that it adds up. Where the compiled engine's program has Winograd's algorithm, it
    is that one's sums that are off; where it stores maps as bfloat16, each number of a map is off
    by up to half the distance to the next, and where it multiplies pairs, each weight.
    """
    program = make(graph, len(fed["input"]), None, precision, pair_rate) if precision else None
    calls = (*program.first, *program.calls) if program else ()
    transformed = frozenset(call.node for call in calls if "winograd" in call.kernel)
    paired = frozenset(call.node for call in calls if call.kernel == "pair_weights")
    exact = _outcome(ReferenceSession(), graph, values, fed, kept)
    found: dict[str, list[Array]] = {name: [] for name in exact}
    for seed in range(4):
        session = _NoisySession(eps, seed, transformed, paired, precision)
        noisy = _outcome(session, graph, values, fed, kept)
        for name in exact:
            found[name].append(noisy[name] - exact[name])
    return found


def _outcome(
    session: ReferenceSession,
    graph: Graph,
    values: dict[str, Array],
    fed: Feeds,
    kept: Sequence[str],
) -> dict[str, Array]:
    write_all(session, values)
    return {**session.run(graph, fed), **{name: session.read(name) for name in kept}}


class _NoisySession(ReferenceSession):
    """The reference with rounding errors of a chosen size."""

    def __init__(
        self,
        eps: float,
        seed: int,
        transformed: Set[str],
        paired: Set[str],
        precision: Precision | None,
    ) -> None:
        super().__init__()
        self._eps = eps
        self._rng = np.random.default_rng(seed)
        self._winograd = Winograd(eps, self._rng)
        self._transformed = transformed
        self._paired = paired
        self._precision = precision

    def run(self, graph: Graph, feeds: Feeds) -> dict[str, Array]:
        image = np.asarray(feeds["input"], np.float64)
        stored = self._moved(image, HALF_BFLOAT16) if self._precision == "bfloat16" else image
        return super().run(graph, {**feeds, "input": stored})

    def _run_node(self, graph: Graph, node: Node, arrays: dict[str, Array], batch: int) -> None:
        length = _reduction_length(graph, node, batch)
        read = dict(arrays)
        if length > 1:
            # On what is added up, so that terms which cancel leave their errors behind.
            for name in node.inputs:
                if graph[name].dtype == "real":
                    read[name] = self._rounded(arrays[name], length)
                if node.name in self._paired and graph[name].role == "parameter":
                    read[name] = self._moved(read[name], HALF_BFLOAT16)
        super()._run_node(graph, node, read, batch)
        if node.name in self._transformed:
            read[node.outputs[0]] = self._transform(graph, node, arrays)
        for name in node.outputs:
            whole = graph[name].dtype != "real"
            arrays[name] = read[name] if whole else self._rounded(read[name], 1)
            if self._precision == "bfloat16" and _is_map(graph, node, name):
                arrays[name] = self._moved(arrays[name], HALF_BFLOAT16)
        if node.op == "batch_norm_grad":
            # dy less its mean can cancel wholly, and then no error of what is read shows: the terms
            # get their own, the mean one that all places of a channel share.
            _, dy, weight, _, inverse = (arrays[name] for name in node.inputs)
            terms = dy * weight * inverse
            mean = terms.mean(tuple(range(terms.ndim - 1)))
            off = self._rounded(terms, 1) - terms + self._rounded(mean, length) - mean
            arrays[node.outputs[0]] = arrays[node.outputs[0]] + off
        for name in node.updates:
            arrays[name][...] = self._rounded(arrays[name], 1)

    def _transform(self, graph: Graph, node: Node, arrays: dict[str, Array]) -> Array:
        """What Winograd's algorithm makes of the node's inputs."""
        window = node.attributes.window
        top, _, left, _ = window.padding
        given, other, *bias = (arrays[name] for name in node.inputs)
        if node.op == "conv":
            y = self._winograd.forward(given, other, (top, left), window.output)
            return y + bias[0] if bias else y
        if node.op == "conv_input_grad":
            height, width, _ = graph[node.outputs[0]].shape
            return self._winograd.input_grad(given, other, (top, left), (height, width))
        return self._winograd.weight_grad(given, other, (top, left))

    def _rounded(self, array: Array, length: int) -> Array:
        return self._moved(array, self._eps * np.sqrt(length))

    def _moved(self, array: Array, size: float) -> Array:
        moved: Array = array * (1 + self._rng.uniform(-size, size, np.shape(array)))
        return moved


def _is_map(graph: Graph, node: Node, name: str) -> bool:
    """Whether the value lies as maps do; what a loss makes beside gradients does not."""
    value = graph[name]
    if node.op in ("softmax_cross_entropy", "target_cross_entropy", "hinge"):
        return False
    if node.op == "group_norm" and name != node.outputs[0]:
        return False
    return value.batched and value.dtype == "real"


def _reduction_length(graph: Graph, node: Node, batch: int) -> int:
    """How many products or numbers are added up, at most, for one number that the node makes."""
    shapes = [graph[name].shape for name in (*node.inputs, *node.outputs)]
    images = [shape for shape in shapes if len(shape) == 3]
    places = batch * max((prod(shape[:2]) for shape in images), default=1)
    filters = [shape for shape in shapes if len(shape) == 4]
    match node.op:
        case "conv":
            return prod(filters[0][:3])
        case "conv_input_grad":
            return prod(filters[0][:2]) * filters[0][3]
        case "dense":
            return shapes[1][0]
        case "dense_input_grad":
            return shapes[1][1]
        case "average_pool" | "average_pool_grad" | "max_pool_grad":
            return prod(node.attributes.size)
        case "softmax_cross_entropy" | "softmax_cross_entropy_grad" | "hinge" | "hinge_grad":
            return prod(shapes[0])
        case "target_cross_entropy" | "target_cross_entropy_grad":
            return prod(shapes[0])
        case "penalty":
            return sum(map(prod, shapes))
        case "muon":
            # Of Gram matrices, whose sums a part of a number of the gradient reaches by its root.
            return max(prod(shape) for shape in shapes) ** 2
        case "mean_loss":
            return batch
        case "conv_weight_grad" | "dense_weight_grad" | "bias_grad" | "prelu_grad":
            return places
        case "batch_norm" | "batch_norm_apply" | "batch_norm_grad":
            return places
        case "group_norm" | "group_norm_grad":
            return max(places, prod(shapes[0]) // node.attributes.groups)
        case _:
            return 1
