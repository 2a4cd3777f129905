"""Operations and bytes of a call, counted by hand."""

from __future__ import annotations

from collections import Counter

import pytest

from hubel import Network
from hubel.graph.modes import for_inference
from hubel.program.cost import operations, traffic
from hubel.program.make import make
from hubel.train.settings import Settings
from hubel.train.step import step_graph


def test_a_convolution_counts_two_a_multiply_add_of_its_formula() -> None:
    graph = for_inference(Network("conv3-6s2p1g2 relu fc3", (9, 9, 4)).graph)
    program = make(graph, 16)
    counts = {call.node: operations(call) for call in program.calls if operations(call)}
    assert counts == {
        "conv1": 2 * 16 * 5 * 5 * 6 * 3 * 3 * 2,
        "fc1": 2 * 16 * 5 * 5 * 6 * 3,
    }


@pytest.mark.parametrize(
    ("token", "places"),
    [("conv3-64b0", (14, 12)), ("conv3-64p1b0", (16, 16)), ("conv3-64p2b0", (18, 20))],
)
def test_every_algorithm_counts_as_the_layer_does(token: str, places: tuple[int, int]) -> None:
    network = Network(f"{token} relu {token} fc2", (16, 16, 64))
    program = make(step_graph(network.graph, Settings()), 32)
    counts = Counter(map(operations, program.calls))
    wanted = Counter(
        2 * 32 * side * side * 64 * 64 * 9
        # The gradient by the images themselves is not asked for.
        for side, times in zip(places, (2, 3), strict=True)
        for _ in range(times)
    )
    assert {count: counts[count] for count in wanted} == dict(wanted)


def test_pooling_that_joined_a_convolution_adds_no_operations() -> None:
    program = make(for_inference(Network("conv3-64p1 relu pool2 fc2", (16, 16, 64)).graph), 32)
    (joined,) = (call for call in program.calls if call.kernel == "winograd_pool")
    assert operations(joined) == 2 * 32 * 16 * 16 * 64 * 64 * 9
    maps, pooled = 32 * 16 * 16 * 64 * 4, 32 * 8 * 8 * 64 * 4
    weights = program.buffers[joined.operand("weights")].bytes
    assert traffic(program, joined) == maps + pooled + weights + 64 * 4


def test_other_calls_have_no_operations_and_move_their_buffers() -> None:
    program = make(for_inference(Network("pool2 fc2", (4, 4, 16)).graph), 16)
    (pool,) = (call for call in program.calls if call.kernel == "max_pool")
    assert operations(pool) == 0
    indices = program.buffers[pool.operand("index")].bytes if pool.operand("index") else 0
    assert traffic(program, pool) == 16 * 16 * (16 + 4) * 4 + indices
