"""Winograd's algorithm where it applies and pays, by the sizes alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from hubel.program.choose import FEW_CHANNELS, POINTS, Direction, Problem, choose, tiles_of
from hubel.program.structs import Convolution

DIRECTIONS: tuple[Direction, ...] = ("forward", "backward", "weights")


def conv(images: int = 32, side: int = 16, depth: int = 64, filters: int = 64) -> Convolution:
    """A 3×3 convolution that keeps the size of its maps."""
    maps = (images, 16 if images % 16 == 0 else 1, side, side, depth, side, side, filters)
    return Convolution(*maps, 3, 3, 1, 1, 1, 1, 1, 1, 1)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_deep_maps_and_many_places_are_transformed(direction: Direction) -> None:
    made = choose(Problem(conv(), direction, False))
    assert made.algorithm == "winograd"
    assert made.costs["winograd"] < made.costs["direct"]


@pytest.mark.parametrize("direction", DIRECTIONS[:2])
def test_few_channels_are_not(direction: Direction) -> None:
    made = choose(Problem(conv(depth=2, filters=2), direction, False))
    assert made.algorithm != "winograd"


def test_transforming_filters_at_every_step_pays_only_for_many_images() -> None:
    one = conv(images=1, side=4, depth=256, filters=256)
    assert choose(Problem(one, "forward", False)).algorithm == "direct"
    assert (
        choose(Problem(replace(one, images=512, block=16), "forward", False)).algorithm
        == "winograd"
    )
    costs = [choose(Problem(one, "forward", prepared)).costs for prepared in (False, True)]
    assert costs[0]["winograd"] > costs[1]["winograd"]
    assert costs[0]["direct"] == costs[1]["direct"]


def test_the_gradient_of_weights_has_no_filters_to_prepare() -> None:
    once, anew = (choose(Problem(conv(), "weights", prepared)) for prepared in (True, False))
    assert once.costs == anew.costs


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": 5, "columns": 5},
        {"rows": 1, "columns": 3},
        {"stride_y": 2},
        {"stride_x": 2},
        {"dilation_y": 2},
        {"dilation_x": 2},
        {"groups": 2},
        {"top": 3},  # its gradient would need padding of -1
        {"left": 3},
    ],
)
def test_what_winograd_cannot_do_is_direct(changes: dict[str, int]) -> None:
    other = replace(conv(), **changes)
    for direction in DIRECTIONS:
        made = choose(Problem(other, direction, True))
        assert made.algorithm == "direct"
        assert "winograd" not in made.costs


def test_the_cost_grows_with_the_work() -> None:
    for direction in DIRECTIONS:
        for smaller, larger in pairwise(conv(images=16 * n) for n in (1, 2, 4, 8)):
            one, two = (choose(Problem(each, direction, False)).costs for each in (smaller, larger))
            assert one["direct"] < two["direct"]
            assert one["winograd"] < two["winograd"]


def test_tiles_are_counted_up_to_the_edge() -> None:
    assert tiles_of(conv(images=32, side=16)) == 2 * 16
    assert tiles_of(conv(images=3, side=9)) == 3 * 9
    assert tiles_of(conv(images=1, side=1)) == 1


def test_sizes_are_the_compiled_kernels_own() -> None:
    native = Path(__file__).parents[2] / "native" / "kernels" / "winograd.h"
    text = native.read_text("utf-8")
    assert "kTileReach = 6;" in text
    assert "kPoints = kTileReach * kTileReach;" in text
    assert POINTS == 36
    turns = (native.parent / "interleave.h").read_text("utf-8")
    assert f"kMostTurns = {FEW_CHANNELS};" in turns


def test_pairs_are_multiplied_where_that_is_faster() -> None:
    for direction in DIRECTIONS:
        slow, fast = (choose(Problem(conv(), direction, pair_rate=rate)) for rate in (0.5, 5.0))
        assert (slow.algorithm, fast.algorithm) == ("winograd", "pairs")
        assert "pairs" not in choose(Problem(conv(), direction)).costs


def test_pairs_need_an_even_sum_and_places_sixteen_images() -> None:
    odd, single = conv(depth=63), conv(images=1)
    costs = [choose(Problem(odd, each, pair_rate=5.0)).costs for each in DIRECTIONS]
    assert ["pairs" in each for each in costs] == [False, True, True]
    costs = [choose(Problem(single, each, pair_rate=5.0)).costs for each in DIRECTIONS]
    assert ["pairs" in each for each in costs] == [True, True, False]
    assert "pairs" not in choose(Problem(replace(conv(), groups=2), "forward", pair_rate=5.0)).costs


def only(conv: Convolution, direction: Direction = "forward") -> str:
    return choose(Problem(conv, direction)).algorithm


def test_few_channels_have_algorithms_of_their_own() -> None:
    read, made = conv(depth=3), conv(filters=3)
    assert "stem" in choose(Problem(read, "weights")).costs
    assert only(replace(read, rows=5, columns=5, top=2, left=2)) == "stem"
    assert only(read, "backward") == only(made) == "narrow"


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_groups_of_few_channels_are_no_products_of_matrices(direction: Direction) -> None:
    taken = [only(replace(conv(), groups=64 // channels), direction) for channels in (1, 2, 4, 8)]
    assert taken == ["grouped"] * 4
    assert only(replace(conv(), groups=4), direction) == "direct"


def test_a_stem_has_several_places_a_row() -> None:
    whole = replace(conv(depth=3), rows=16, columns=16, top=0, left=0, out_height=1, out_width=1)
    assert "stem" not in choose(Problem(whole, "forward", images=True)).costs
