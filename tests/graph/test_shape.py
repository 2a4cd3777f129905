from __future__ import annotations

from itertools import product

import pytest

from hubel.graph.shape import extent_of, same_padding, window
from hubel.notation.spec import Fit


def starts(size: int, extent: int, stride: int, before: int, after: int, fit: Fit) -> list[int]:
    """First positions of all windows, found by sliding one along."""
    found = []
    start = -before
    while start + extent <= size + after:
        found.append(start)
        start += stride
    over = found[-1] + extent < size + after if found else start + extent - stride < size + after
    if fit == "ceil" and over and start < size:
        found.append(start)
    return found


def runs(positions: list[int]) -> tuple[range, ...]:
    found: list[range] = []
    for position in positions:
        if found and found[-1].stop == position:
            found[-1] = range(found[-1].start, position + 1)
        else:
            found.append(range(position, position + 1))
    return tuple(found)


@pytest.mark.parametrize("fit", ["strict", "floor", "ceil"])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_outputs_and_unread_positions_agree_with_sliding_a_window(fit: Fit, dilation: int) -> None:
    for size, filter_size, stride, before, after in product(
        range(1, 17), range(1, 8), range(1, 5), range(4), range(4)
    ):
        got = window(size, filter_size, stride, before, after, dilation, fit)
        extent = dilation * (filter_size - 1) + 1
        found = starts(size, extent, stride, before, after, fit)
        taps = range(0, extent, dilation)
        read = {start + tap for start in found for tap in taps}
        unread = runs([position for position in range(size) if position not in read])
        ends_at_border = bool(found) and found[-1] + extent == size + after
        assert (got.output, got.unread) == (len(found), unread), got
        assert got.exact == ends_at_border, got


def test_same_padding_is_the_least_that_gives_the_output() -> None:
    for size, filter_size, stride, dilation in product(
        range(1, 17), range(1, 8), range(1, 5), range(1, 4)
    ):
        before, after = same_padding(size, filter_size, stride, dilation)
        got = window(size, filter_size, stride, before, after, dilation, "floor")
        assert got.output == -(-size // stride)
        assert after - before in (0, 1)
        if after:
            less = window(size, filter_size, stride, before, after - 1, dilation, "floor")
            assert less.output < got.output


@pytest.mark.parametrize(
    ("size", "filter_size", "stride", "padding", "output", "formula"),
    [
        (7, 3, 1, 0, 5, "(7 − 3)/1 + 1 = 5"),
        (7, 3, 2, 0, 3, "(7 − 3)/2 + 1 = 3"),
        (7, 3, 1, 1, 7, "(7 + 2·1 − 3)/1 + 1 = 7"),
        (9, 3, 1, 0, 7, "(9 − 3)/1 + 1 = 7"),
        (32, 5, 1, 2, 32, "(32 + 2·2 − 5)/1 + 1 = 32"),
        (32, 5, 1, 0, 28, "(32 − 5)/1 + 1 = 28"),
        (28, 5, 1, 0, 24, "(28 − 5)/1 + 1 = 24"),
        (224, 2, 2, 0, 112, "(224 − 2)/2 + 1 = 112"),
    ],
)
def test_the_numbers_of_the_lecture(
    size: int, filter_size: int, stride: int, padding: int, output: int, formula: str
) -> None:
    got = window(size, filter_size, stride, padding, padding)
    assert (got.output, got.exact, got.formula, got.unread) == (output, True, formula, ())


def test_a_stride_that_does_not_fit_is_not_exact() -> None:
    got = window(7, 3, stride=3)
    assert not got.exact
    assert got.formula == "(7 − 3)/3 + 1 = 2.33"
    assert got.unread == (range(6, 7),)


@pytest.mark.parametrize(
    ("arguments", "formula"),
    [
        ({"size": 8, "filter": 3, "stride": 2}, "(8 − 3)/2 + 1 = 3.5"),
        ({"size": 8, "filter": 3, "stride": 2, "fit": "floor"}, "⌊(8 − 3)/2⌋ + 1 = 3"),
        ({"size": 8, "filter": 3, "stride": 2, "fit": "ceil"}, "⌈(8 − 3)/2⌉ + 1 = 4"),
        ({"size": 9, "filter": 3, "stride": 2, "fit": "ceil"}, "(9 − 3)/2 + 1 = 4"),
        # The window that rounding up would add starts past the input, so there is none.
        ({"size": 3, "filter": 1, "stride": 4, "fit": "ceil"}, "⌊(3 − 1)/4⌋ + 1 = 1"),
        (
            {"size": 32, "filter": 3, "stride": 2, "after": 1},
            "(32 + 0 + 1 − 3)/2 + 1 = 16",
        ),
        ({"size": 9, "filter": 3, "dilation": 2}, "(9 − (2·(3 − 1) + 1))/1 + 1 = 5"),
        ({"size": 9, "filter": 1, "dilation": 2}, "(9 − 1)/1 + 1 = 9"),
        ({"size": 3, "filter": 7}, "(3 − 7)/1 + 1 = −3"),
        ({"size": 2, "filter": 7, "stride": 2}, "(2 − 7)/2 + 1 = −1.5"),
        ({"size": 2, "filter": 7, "stride": 2, "fit": "floor"}, "⌊(2 − 7)/2⌋ + 1 = −2"),
        ({"size": 2, "filter": 7, "stride": 2, "fit": "ceil"}, "⌈(2 − 7)/2⌉ + 1 = −1"),
        ({"size": 1001, "filter": 1, "stride": 999}, "(1001 − 1)/999 + 1 = 2.001"),
        ({"size": 1999, "filter": 1, "stride": 1999}, "(1999 − 1)/1999 + 1 = 1.999"),
    ],
)
def test_the_formula_with_its_numbers(arguments: dict[str, int], formula: str) -> None:
    assert window(**arguments).formula == formula


def test_a_window_larger_than_its_input_has_no_place() -> None:
    got = window(3, 7, fit="floor")
    assert (got.output, got.exact, got.unread) == (0, False, (range(3),))
    # PyTorch's rounding up lets one window hang over the border.
    assert window(2, 3, stride=2, fit="ceil").output == 1


def test_unread_positions_between_windows_and_between_taps() -> None:
    assert window(7, 1, stride=3).unread == (range(1, 3), range(4, 6))
    assert window(6, 2, stride=2, dilation=2).unread == (range(1, 2), range(3, 4), range(5, 6))
    assert window(3, 2, dilation=2).unread == (range(1, 2),)


def test_extent_of_a_dilated_filter() -> None:
    assert [extent_of(3, dilation) for dilation in (1, 2, 3)] == [3, 5, 7]
    assert window(32, 3, dilation=3).extent == 7


def test_large_inputs_take_no_time() -> None:
    got = window(999_999_999, 3, stride=2, before=1, after=1, fit="floor")
    assert (got.output, got.unread) == (500_000_000, ())
