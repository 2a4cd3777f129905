"""Receptive fields against what brute force finds: which pixels reach a place at all."""

from __future__ import annotations

import random

import pytest

from hubel.graph.build import Built, build
from hubel.graph.receptive import narrowest_fields, receptive_fields
from hubel.notation.parse import parse


def built(text: str, height: int, width: int | None = None) -> Built:
    return build(parse(text), (height, width or height, 1), fit="floor")


def influences(net: Built, axis: int) -> dict[str, list[set[int]]]:
    """For each value the image rows (or columns) that can change each of its places."""
    size = net.graph["input"].shape[axis]
    seen: dict[str, list[set[int]]] = {"input": [{pixel} for pixel in range(size)]}
    for placed in net.layers:
        sources = [seen[source] for source in placed.sources]
        places = placed.output[axis] if len(placed.output) == 3 else 1
        if placed.window is not None:
            window = placed.window
            before = window.padding[2 * axis]
            reads = [
                [
                    place * window.stride[axis] - before + tap * window.dilation[axis]
                    for tap in range(window.size[axis])
                ]
                for place in range(places)
            ]
            (source,) = sources
            seen[placed.name] = [
                set().union(*(source[one] for one in taps if 0 <= one < len(source)))
                for taps in reads
            ]
        elif placed.op == "dense":
            seen[placed.name] = [set().union(*sources[0])]
        else:
            seen[placed.name] = [
                set().union(*(source[place] for source in sources)) for place in range(places)
            ]
    return seen


def assert_fields_are_true(net: Built) -> int:
    """Every place sees what its field says, where that lies in the image; gives how many did."""
    fields = receptive_fields(net)
    exact = 0
    for axis in range(2):
        size = net.graph["input"].shape[axis]
        for name, places in influences(net, axis).items():
            field = fields[name]
            for place, pixels in enumerate(places):
                first = field.start[axis] + place * field.stride[axis]
                last = first + field.size[axis] - 1
                assert all(first <= pixel <= last for pixel in pixels), (name, place)
                if first >= 0 and last < size:
                    assert (min(pixels), max(pixels)) == (first, last), (name, place)
                    exact += 1
    return exact


def random_layer(rng: random.Random) -> str:
    size = f"{rng.randint(1, 4)}x{rng.randint(1, 4)}"
    suffixes = rng.choice(["", "s2", "s3", "s1x2"]) + rng.choice(["", "p1", "p2x0", "p3"])
    if rng.random() < 0.3:
        pool = rng.randint(2, 3)
        return f"{rng.choice(['pool', 'avgpool'])}{pool}" + rng.choice(["", "s1", "s2", "s2p1"])
    return f"conv{size}-1{suffixes}" + rng.choice(["", "", "d2", "d1x3"])


def random_block(rng: random.Random) -> str:
    """Branches of one stride, so that their fields lie alike at every place."""
    deep = rng.choice(["conv3-1p1 relu conv3-1p1", "conv5-1p2", "conv3-1p2d2", "conv1x3-1p0x1"])
    left, right = rng.choice([("[", "]"), ("{", "}")])
    return f"{left}{deep} | {rng.choice(['', 'conv1-1', 'pool3s1p1'])}{right}"


def test_random_nets_see_what_brute_force_finds() -> None:
    rng = random.Random(7)
    exact = 0
    for _ in range(300):
        parts = [
            random_block(rng) if rng.random() < 0.25 else random_layer(rng)
            for _ in range(rng.randint(1, 5))
        ]
        net = built(" ".join(parts), rng.randint(8, 40), rng.randint(8, 40))
        exact += assert_fields_are_true(net)
    assert exact > 5000


@pytest.mark.parametrize(
    ("text", "size", "field", "stride"),
    [
        ("conv5-6", 32, 5, 1),
        ("conv5-6 conv5-10", 32, 9, 1),
        ("conv3-6p1 conv3-6p1 conv3-6p1", 32, 7, 1),
        ("conv5-6p2 pool2 conv5-16 pool2", 28, 16, 4),
        ("conv3-4d5", 32, 11, 1),
        # The last map of VGG-16, as in the table of Araujo et al.
        (
            "(conv3-1p1)x2 pool2 (conv3-1p1)x2 pool2 ((conv3-1p1)x3 pool2)x3",
            224,
            212,
            32,
        ),
        # AlexNet's last map, from the same table.
        (
            "conv11-1s4p2 pool3s2 conv5-1p2 pool3s2 (conv3-1p1)x3 pool3s2",
            224,
            195,
            32,
        ),
        ("conv7-1s2p3 pool3s2p1 ([conv3-1p1 conv3-1p1 | ])x2", 224, 43, 4),
    ],
)
def test_known_fields(text: str, size: int, field: int, stride: int) -> None:
    net = built(text, size)
    last = receptive_fields(net)[net.layers[-1].name]
    assert last.size == (field, field)
    assert last.stride == (stride, stride)


def test_start_and_centre_count_from_the_first_pixel() -> None:
    fields = receptive_fields(built("conv5-6p2 pool2", 32))
    assert fields["conv1"].start == (-2, -2)
    assert fields["conv1"].centre == (0.0, 0.0)
    assert fields["pool1"].start == (-2, -2)
    assert fields["pool1"].centre == (0.5, 0.5)


def test_fc_and_gap_see_all_that_is_left() -> None:
    fields = receptive_fields(built("conv3-6 pool2 fc10", 32))
    # 15 places, 2 apart, 4 wide.
    assert fields["fc1"].size == (32, 32)
    assert receptive_fields(built("conv3-6 pool2 gap fc10", 32))["gap1"].size == (32, 32)
    # Rounding down leaves the last row and column out.
    assert receptive_fields(built("conv3-6 pool2 fc10", 33))["fc1"].size == (32, 32)


def test_branches_give_the_union_and_the_narrowest_path() -> None:
    net = built("conv3-1p1 [conv5-1p2 | conv3-1p1 | ]", 16)
    assert receptive_fields(net)["add1"].size == (7, 7)
    assert receptive_fields(net)["add1"].start == (-3, -3)
    assert narrowest_fields(net)["add1"].size == (3, 3)


def test_branches_of_different_strides_give_the_widest_union() -> None:
    net = built("{conv3-1s2 | conv9-1}", 15)
    # 7 places each: the strided ones reach row 14, the others row 6 + 8.
    field = receptive_fields(net)["concat1"]
    assert net.layers[-1].output == (7, 7, 2)
    widest = max(max(pixels) - min(pixels) + 1 for pixels in influences(net, 0)["concat1"])
    assert field.size == (widest, widest)
