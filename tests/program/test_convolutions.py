"""How the work of convolutions is cut: by the sizes alone, so that every thread has some."""

from __future__ import annotations

import pytest

from hubel.graph.build import build
from hubel.graph.modes import for_inference, with_gradients, with_loss
from hubel.graph.ops.loss import CrossEntropy
from hubel.notation.parse import parse
from hubel.program.choose import tiles_of
from hubel.program.convolutions import FEW_TASKS, NEAR_WEIGHTS, TASKS, TILE_ROWS
from hubel.program.kernels import PANEL
from hubel.program.lower import lower
from hubel.program.make import lay_out
from hubel.program.program import Call

Size = tuple[int, int, int]


def calls(text: str, image: Size, batch: int, kernel: str, classes: int = 10) -> list[Call]:
    """Those of this kernel in a pass forward and backward."""
    built = build(parse(text), image, classes).graph
    lossy = with_loss(built, "softmax_cross_entropy", CrossEntropy())
    graph = with_gradients(lossy, [value.name for value in built.with_role("parameter")])
    return [call for call in lower(graph, batch, lay_out(graph)).calls if call.kernel == kernel]


@pytest.mark.parametrize(
    ("image", "batch", "rows", "parts"),
    [
        ((32, 32, 64), 32, 64, 1),  # 2048 rows
        ((16, 16, 64), 16, 64, 2),  # 4 times 64 rows: two panels make 8 tasks
        ((14, 14, 256), 1, 64, 8),  # 16 rows, 8 panels
        ((28, 28, 64), 1, 16, 2),  # 49 rows, 2 panels: 4 times 16 rows make 8 tasks
    ],
)
def test_winograds_tiles_are_cut_by_filters_first(
    image: Size, batch: int, rows: int, parts: int
) -> None:
    text = f"conv3-{image[2]}p1 fc"
    graph = for_inference(build(parse(text), image, 10).graph)
    (call,) = (c for c in lower(graph, batch, lay_out(graph)).calls if c.kernel == "winograd")
    given = call.parameters
    tiles = tiles_of(given.convolution) * given.convolution.block
    panels = -(-image[2] // PANEL)
    finer = [each for each in TILE_ROWS if each > given.rows]
    assert given.rows in TILE_ROWS
    assert all(-(-tiles // each) * panels < FEW_TASKS for each in finer)
    assert -(-tiles // given.rows) * given.parts >= FEW_TASKS
    assert (given.rows, given.parts) == (rows, parts)


def test_weights_of_one_place_are_cut_without_partial_sums() -> None:
    (gradient,) = calls("fc", (4, 4, 64), 128, "conv_weight_grad", classes=300)
    given = gradient.parameters
    assert (given.chunks, given.parts) == (1, min(10, TASKS))  # panels of 32 filters


def test_few_weights_of_one_place_are_cut_by_images() -> None:
    (gradient,) = calls("fc", (4, 4, 64), 128, "conv_weight_grad", classes=100)
    given = gradient.parameters
    assert given.chunks == 128 // 16
    assert given.parts == 4


def test_large_weights_are_shared_out() -> None:
    (small,) = calls("conv1-64", (4, 4, 128), 32, "conv", classes=64)
    (large,) = calls("fc", (4, 4, 128), 32, "conv", classes=1000)
    assert small.parameters.parts == 1
    assert NEAR_WEIGHTS < 4 * 4 * 128 * 1000
    assert large.parameters.parts >= FEW_TASKS
    assert large.parameters.chunks * large.parameters.parts <= 2 * TASKS
