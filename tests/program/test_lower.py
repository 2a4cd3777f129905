"""How large buffers are in either precision, and which calls read images as they are fed."""

from __future__ import annotations

from math import prod

import pytest

from hubel.graph.build import build
from hubel.graph.modes import for_inference, with_gradients, with_loss
from hubel.graph.op import Graph
from hubel.graph.ops.loss import CrossEntropy
from hubel.notation.parse import parse
from hubel.program.kernels import KERNELS
from hubel.program.lower import Lowered, lower
from hubel.program.make import lay_out
from hubel.program.program import ALIGNMENT, Precision

IMAGE = (8, 8, 3)
TEXT = "conv3-5p1 bn relu pool2 [conv3-5p1 prelu | ] drop0.5 fc7 tanh fc"


def graph_of(text: str) -> Graph:
    built = build(parse(text), IMAGE, 5).graph
    lossy = with_loss(built, "softmax_cross_entropy", CrossEntropy())
    lossy = Graph(lossy.values, lossy.nodes, (*built.outputs, *lossy.outputs))
    return with_gradients(lossy, [value.name for value in built.with_role("parameter")])


def lowered(graph: Graph, precision: Precision, batch: int = 16) -> Lowered:
    return lower(graph, batch, lay_out(graph), precision)


def room(numbers: int, width: int) -> int:
    return -(-numbers * width // ALIGNMENT) * ALIGNMENT


@pytest.mark.parametrize(("precision", "width"), [("float32", 4), ("bfloat16", 2)])
def test_maps_and_their_gradients_take_two_or_four_bytes(precision: Precision, width: int) -> None:
    graph = graph_of(TEXT)
    made = lowered(graph, precision)
    maps = [
        value
        for value in graph.values.values()
        if value.batched and value.dtype == "real" and value.name in made.buffers
    ]
    by_loss = {"losses", "probabilities"}
    names = {value.name for value in maps}
    assert names > by_loss | {"conv1", "relu1", "grad(relu1)", "fc1", "grad(fc1)", "fc2"}
    for value in maps:
        numbers = prod(value.shape) * 16
        expected = room(numbers, 4 if value.name in by_loss else width)
        assert made.buffers[value.name].bytes == expected, value.name


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_all_else_stays_as_wide(precision: Precision) -> None:
    graph = graph_of(TEXT)
    made = lowered(graph, precision)
    for value in graph.values.values():
        if value.name not in made.buffers:
            continue
        bytes_given = made.buffers[value.name].bytes
        if value.role == "parameter" or (value.of in made.buffers and not value.batched):
            assert bytes_given == room(prod(value.shape), 4), value.name
        if value.role == "result":
            assert bytes_given == room(1, 8), value.name
        if value.dtype == "index":
            assert bytes_given == room(prod(value.shape) * 16, 1), value.name
    assert made.buffers["input:fed"].bytes == 16 * prod(IMAGE) * 4


def test_every_call_on_maps_is_that_for_the_precision() -> None:
    for precision in ("float32", "bfloat16"):
        for call in lowered(graph_of(TEXT), precision).calls:
            maps = KERNELS[call.kernel].maps
            assert call.precision == (precision if maps else "float32")
            assert call.compiled == call.kernel + "_bf16" * (maps and precision == "bfloat16")


def test_scores_come_back_as_float32() -> None:
    for batch in (1, 16):
        made = lowered(graph_of(TEXT), "bfloat16", batch)
        (name, shape, kind), *_ = made.results
        assert (shape, kind) == ((batch, 5), "float32")
        assert made.buffers[name].memory == "results"
        assert made.buffers[name].bytes == room(batch * 5, 4)
        assert [call.kernel for call in made.calls if name in call.writes()] == ["widen"]


def test_scores_are_widened_once() -> None:
    made = lowered(graph_of(TEXT), "bfloat16")
    assert sum("fc2:float32" in call.writes() for call in made.calls) == 1


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_images_that_only_a_first_convolution_reads_are_not_laid_out(precision: Precision) -> None:
    def kernels(text: str) -> list[str]:
        graph = for_inference(build(parse(text), IMAGE, 5).graph)
        return [call.kernel for call in lowered(graph, precision).calls]

    assert "pack_maps" not in kernels("conv7-64p3 fc")
    assert kernels("[conv7-64p3 | conv7-64p3] fc").count("stem") == 2
    assert "pack_maps" in kernels("[conv3-3p1 | ] fc")
    for other in ("conv1-16 fc", "conv3-6g3 fc", "conv3-16d2 fc", "pool2 fc", "fc"):
        assert "stem" not in kernels(other), other
        plain = other == "fc" and precision == "float32"  # read as vectors
        assert ("pack_maps" in kernels(other)) == (not plain), other


def test_a_first_layer_that_covers_the_images_reads_them_as_vectors() -> None:
    for text in ("fc17 relu fc", "conv8-17 relu fc"):
        calls = lowered(graph_of(text), "float32").calls
        layer = next(call for call in calls if call.kernel == "conv")
        gradient = [call for call in calls if call.kernel == "conv_weight_grad"][-1]
        assert layer.operand("x") == gradient.operand("x") == "input:fed"
        for call in (layer, gradient):
            given = call.parameters.convolution
            assert (given.height, given.width, given.depth, given.rows) == (1, 1, prod(IMAGE), 1)


def test_a_single_image_is_read_where_it_was_fed() -> None:
    # Its own order is that of maps.
    for text in ("fc17 relu fc", "conv5-16p2 relu fc"):
        made = lowered(graph_of(text), "float32", 1)
        assert made.buffers["input"].memory == "input"
        assert "input:fed" not in made.buffers
        first = next(call for call in made.calls if call.kernel in ("conv", "stem"))
        assert first.operand("x") == "input"
