"""Every kernel of a layer on its own: GFLOP/s and its share of the machine's measured peak.

`python -m benchmarks.kernels` runs a convolution and both its gradients for each shape of the
table, checks the results against the reference engine in float64, and only then times them. The
numbers are small and whole: whatever adds their products one by one must give the exact result.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.compare import milliseconds, say
from benchmarks.results import Column, Row, arguments, finish
from benchmarks.task import PRECISIONS
from hubel import HubelError, Network
from hubel.engine import start
from hubel.engine.native import NativeSession
from hubel.graph.op import Graph, Node, Value
from hubel.graph.shape import describe
from hubel.graph.verify import verify
from hubel.program import choose
from hubel.program.choose import Algorithm
from hubel.program.cost import operations

__all__ = ["COLUMNS", "IMAGE_DEPTHS", "LAYERS", "Layer", "layer_graph", "main", "measured"]

# Largest error relative to the largest number of the result: a fast algorithm rounds otherwise than
# the sum that defines it, and bfloat16 keeps eight bits of what is multiplied and of the result.
_TOLERANCES = {"float32": 1e-4, "bfloat16": 2e-2}


_PASSES = {
    "conv": "outputs",
    "conv_input_grad": "gradient by inputs",
    "conv_weight_grad": "gradient by weights",
}

# What brings a result to the caller; within a net it stays as and where it lies.
_DELIVERY = ("unpack_maps", "widen")

IMAGE_DEPTHS = (1, 3)
"""Grey and colour: layers of such a depth are the first of a net."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution's token, the size of its images, and a batch.

    `algorithm` is one to take instead of that which is chosen.
    """

    token: str
    input: tuple[int, int, int]
    batch: int
    algorithm: Algorithm | None = None


LAYERS = (
    Layer("conv3-32p1b0", (32, 32, 3), 128),
    Layer("conv3-32p1b0", (32, 32, 32), 128),
    Layer("conv3-64p1b0", (16, 16, 32), 128),
    Layer("conv3-64p1b0", (16, 16, 64), 128),
    Layer("conv3-64p1b0", (16, 16, 64), 128, "direct"),
    Layer("conv3-128p1b0", (8, 8, 64), 128),
    Layer("conv3-128p1b0", (8, 8, 128), 128),
    Layer("conv3-16p1b0", (32, 32, 16), 128),
    Layer("conv5-16b0", (14, 14, 6), 64),
    Layer("conv7-64s2p3b0~", (224, 224, 3), 16),
    Layer("conv3-64p1b0", (56, 56, 64), 16),
    Layer("conv3-128s2p1b0~", (56, 56, 64), 16),
    Layer("conv3-256p1b0", (14, 14, 256), 16),
    Layer("conv3-512p1b0", (7, 7, 512), 16),
    Layer("conv1-128b0", (28, 28, 128), 16),
    Layer("conv3-128p1g128b0", (24, 24, 128), 32),
    Layer("conv3-128p1g32b0", (28, 28, 128), 16),
    Layer("conv1-256b0", (12, 12, 128), 32),
    Layer("conv3-64p1b0", (16, 16, 64), 1),
    Layer("conv3-64p1b0", (56, 56, 64), 1),
)
"""The shapes of the nets that the results are about."""

COLUMNS = (
    Column("layer", lambda row: f"`{row['token']}`"),
    Column("images", lambda row: describe(tuple(row["input"]))),
    Column("batch", lambda row: str(row["batch"])),
    Column("precision", lambda row: row["precision"]),
    Column("what", lambda row: row["what"]),
    Column("kernels", lambda row: ", ".join(f"`{kernel}`" for kernel in row["kernels"])),
    Column("time", lambda row: f"{milliseconds(row['seconds'])} ms"),
    Column("GFLOP/s", lambda row: f"{row['operations'] / row['seconds'] / 1e9:.3g}"),
    Column(
        "of peak", lambda row: f"{100 * row['operations'] / row['seconds'] / row['peak']:.0f} %"
    ),
    Column("largest error", lambda row: "none" if not row["error"] else f"{row['error']:.0e}"),
)


def layer_graph(layer: Layer) -> Graph:
    """A layer and both its gradients, for which its own output stands in as that behind it."""
    # Behind a ReLU a layer reads maps as inside of a net; what reads images is a net's first.
    first = layer.input[2] in IMAGE_DEPTHS
    graph = Network(layer.token if first else f"relu {layer.token}", layer.input).graph
    conv = graph.nodes[-1]
    x, weight = conv.inputs
    (y,) = conv.outputs
    values = {
        **graph.values,
        "dx": Value("dx", graph[x].shape, "gradient", of=x),
        "dweight": Value("dweight", graph[weight].shape, "gradient", batched=False, of=weight),
    }
    nodes = (
        *graph.nodes,
        Node("conv_input_grad", "dx", (y, weight), ("dx",), conv.attributes),
        Node("conv_weight_grad", "dweight", (x, y), ("dweight",), conv.attributes),
    )
    return verify(Graph(values, nodes, (y, "dx", "dweight")))


def measured(
    layer: Layer, precision: str, threads: int, repeats: int, peak: float
) -> Iterator[Row]:
    """A row for the layer and for each gradient.

    Raises RuntimeError where a result is wrong, HubelError where there is no such precision.
    """
    with _forced(layer.algorithm):
        yield from _measured(layer, precision, threads, repeats, peak)


@contextmanager
def _forced(algorithm: Algorithm | None) -> Iterator[None]:
    """Programs that are made meanwhile have no other algorithm to choose."""
    every = choose.ALGORITHMS
    if algorithm is not None:
        choose.ALGORITHMS = {algorithm: every[algorithm]}
    try:
        yield
    finally:
        choose.ALGORITHMS = every


def _measured(
    layer: Layer, precision: str, threads: int, repeats: int, peak: float
) -> Iterator[Row]:
    graph = layer_graph(layer)
    session, reference = start("native", threads, precision), start("reference")
    assert isinstance(session, NativeSession)
    numbers = np.random.default_rng(0)
    feeds = {"input": numbers.integers(-2, 3, (layer.batch, *layer.input)).astype(np.float32)}
    for value in graph.with_role("parameter"):
        weights = numbers.integers(-1, 2, value.shape).astype(np.float32)
        for one in (session, reference):
            one.write(value.name, weights)
    errors = _errors(session.run(graph, feeds), reference.run(graph, feeds))
    worst = max(errors.values())
    if not worst <= _TOLERANCES[precision]:
        raise RuntimeError(f"{layer}: the result is wrong by {worst:.2g} of its largest number")
    timed = session.time_calls(graph, feeds, repeats)
    for node in graph.nodes:
        if node.outputs[0] not in errors:
            continue
        calls = [
            one for one in timed if one.call.node == node.name and one.call.kernel not in _DELIVERY
        ]
        yield {
            "token": layer.token,
            "input": layer.input,
            "batch": layer.batch,
            "precision": precision,
            "threads": threads,
            "isa": session.isa,
            "what": _PASSES[node.op],
            "kernels": [one.call.compiled for one in calls],
            "seconds": sum(one.seconds for one in calls),
            "operations": max(operations(one.call) for one in calls),
            "peak": peak,
            "error": errors[node.outputs[0]],
        }


def _errors(got: dict[str, Any], wanted: dict[str, Any]) -> dict[str, float]:
    """The largest error of each result, by its largest number."""
    return {
        name: float(np.abs(got[name] - truth).max() / np.abs(truth).max())
        for name, truth in wanted.items()
    }


def main() -> None:
    """Checks and times every layer, and prints a table."""
    parser = arguments(__doc__, rounds=0)
    parser.add_argument("--repeats", type=int, default=15, help="runs of which the median counts")
    parser.add_argument("--precision", action="append", choices=PRECISIONS, help="both")
    parser.add_argument("--layer", type=int, action="append", help="its number in the table; all")
    given = parser.parse_args()
    finish("kernels", given, COLUMNS, list(_all(given)))


def _all(given: argparse.Namespace) -> Iterator[Row]:
    session = NativeSession(given.threads)
    peak = session.peak()
    say(f"peak {peak / 1e9:,.0f} GFLOP/s, multiply-adds on registers ({session.isa})")
    for precision in given.precision or PRECISIONS:
        for number, layer in enumerate(LAYERS):
            if given.layer and number not in given.layer:
                continue
            try:
                yield from measured(layer, precision, given.threads, given.repeats, peak)
            except HubelError as error:
                say(f"SKIPPED {precision}: {error}")
                break


if __name__ == "__main__":
    main()
