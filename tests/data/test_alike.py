"""The search for near copies: what it finds, what it leaves alone, and images of odd sizes."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.audit import KINDS, plant, recall
from hubel.data import load
from hubel.data.alike import near_pairs, thumbnails
from hubel.data.copies import Copies, Copy, find_copies

# 8×8 to 6×6 leaves little of a digit: half of these are found.
LEAST = {kind: 0.4 if kind == "scaled to 3/4 and back" else 0.95 for kind in KINDS}


def noise(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def search(*parts: np.ndarray) -> Copies:
    return find_copies(parts, np.zeros(sum(map(len, parts)), bool))


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    data = load("digits")
    assert data.test is not None
    return np.concatenate([data.train.images, data.validation.images, data.test.images])


def test_digits_as_they_are_give_less_than_one_false_alarm_in_a_hundred(digits: np.ndarray) -> None:
    copies = search(digits)
    assert (copies.first == np.arange(len(digits))).all()
    assert len({row for pair in copies.near for row in pair}) < 0.01 * len(digits)


def test_of_digits_changed_a_little_nineteen_in_twenty_are_found(digits: np.ndarray) -> None:
    rows = np.random.default_rng(3).permutation(len(digits))[: 120 * len(KINDS)]
    chosen = rows.reshape(len(KINDS), -1)
    made = [plant(digits, some, kind) for kind, some in zip(KINDS, chosen, strict=True)]
    copies = search(digits, *made)
    for number, (kind, some) in enumerate(zip(KINDS, chosen, strict=True)):
        planted = len(digits) + number * len(some) + np.arange(len(some))
        assert recall(copies, some, planted) >= LEAST[kind], kind


def test_what_is_found_does_not_depend_on_how_images_lie_in_splits(digits: np.ndarray) -> None:
    images = np.concatenate([digits[:400], plant(digits, np.arange(20), "JPEG, quality 75")])
    whole = search(images)
    assert len(whole.near) >= 20
    assert search(images[:150], images[150:150], images[150:]).near == whole.near


def test_floats_and_larger_images_are_searched_too() -> None:
    images = noise(40, 50, 70, 3).astype(np.float32) / 255
    darker = images[[3, 8]] * np.float32(0.7) + np.float32(0.1)
    assert set(search(images, darker).near) == {(3, 40), (8, 41)}


def test_many_copies_of_one_picture_are_no_dense_place() -> None:
    images = noise(200, 16, 16, 1)
    shades = np.clip(images[:1] * np.linspace(0.8, 1, 60)[:, None, None, None], 0, 255)
    copies = search(images, np.rint(shades).astype(np.uint8))
    assert {row for pair in copies.near for row in pair} == {0, *range(200, 259)}
    assert copies.first[259] == 0


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 1)])
def test_of_a_pixel_or_two_nothing_is_told(shape: tuple[int, ...]) -> None:
    images = np.unique(noise(60, *shape), axis=0)
    assert near_pairs([images], np.arange(len(images))) == []


def test_images_of_a_row_are_compared_too() -> None:
    images = np.unique(noise(60, 1, 9, 3), axis=0)
    again = np.concatenate([images, images[:1] // 2 + 64])
    assert (0, len(images)) in near_pairs([again], np.arange(len(again)))


def test_too_few_images_have_no_neighbours_to_compare_with() -> None:
    images = noise(3, 8, 8, 1)
    assert near_pairs([images, images + 1], np.array([0, 1, 3])) == []


def test_colours_without_brightness_break_nothing() -> None:
    images = noise(20, 8, 8, 3).astype(np.float32)
    images -= images.mean(axis=3, keepdims=True)
    assert search(images).near == ()


def test_thumbnails_average_areas_that_share_pixels() -> None:
    images = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    # Rows 0 to 1.5 and 1.5 to 3, columns alike: the middle row and column count half to each.
    expected = [[4 / 3, 8 / 3], [16 / 3, 20 / 3]]
    np.testing.assert_allclose(thumbnails(images, 2)[0, :, :, 0], expected, rtol=1e-6)
    assert thumbnails(images, 5).shape == (1, 3, 3, 1)


class TestCopies:
    # 0 = 3 to the last bit, 1 and 4 are near copies of both, 2 is alone.
    COPIES = Copies(np.array([0, 1, 2, 0, 4]), ((0, 4), (0, 1)))

    def test_a_copy_of_another_value_is_the_exact_one_or_else_the_closest(self) -> None:
        everywhere = np.ones(5, bool)
        found = self.COPIES.where(everywhere, everywhere, np.array([0, 0, 0, 1, 1]))
        assert found == (Copy(0, 3, True), Copy(1, 3, False), Copy(3, 0, True), Copy(4, 0, False))

    def test_only_the_rows_wanted_and_the_copies_among_others_count(self) -> None:
        last = np.arange(5) == 4
        assert self.COPIES.where(last, np.arange(5) == 3, np.arange(5)) == (Copy(4, 3, False),)
        assert self.COPIES.where(last, np.arange(5) == 2, np.arange(5)) == ()

    def test_repeats_name_what_was_there_before(self) -> None:
        assert self.COPIES.repeats(np.zeros(5, int)) == (
            Copy(1, 0, False),
            Copy(3, 0, True),
            Copy(4, 0, False),
        )
        assert self.COPIES.repeats(np.arange(5)) == ()
