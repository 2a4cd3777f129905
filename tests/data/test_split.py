"""The validation split: its share, its guarantees, and that it stays put."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubel.data.split import by_index, by_name
from hubel.errors import UsageError

CLASSES = ("cat", "dog")


def names(count: int) -> tuple[list[str], np.ndarray]:
    labels = np.arange(count) % 2
    return [f"{CLASSES[label]}/{index}.jpg" for index, label in enumerate(labels)], labels


def test_another_seed_is_another_choice() -> None:
    files, labels = names(10_000)
    masks = [by_name(files, labels, CLASSES, 0.1, seed) for seed in (0, 1)]
    both = (masks[0] & masks[1]).sum()
    assert 50 < both < 150  # independent: 100 expected
    assert np.array_equal(masks[0], by_name(files, labels, CLASSES, 0.1, 0))


FRACTIONS = st.floats(0.001, 0.999)
SEEDS = st.integers(0, 2**64 - 1)


@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4), fraction=FRACTIONS, seed=SEEDS)
def test_every_class_gives_its_share_exactly(sizes: list[int], fraction: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    files = [f"{index}.jpg" for index in range(len(labels))]
    for mask in (
        by_name(files, labels, [f"class{label}" for label in range(len(sizes))], fraction, seed),
        by_index(labels, fraction, seed),
    ):
        for label, size in enumerate(sizes):
            expected = 0 if size == 1 else min(max(round(fraction * size), 1), size - 1)
            assert mask[labels == label].sum() == expected


@given(count=st.integers(2, 60), added=st.integers(1, 30), fraction=FRACTIONS, seed=SEEDS)
def test_added_files_move_only_those_at_the_cut(
    count: int, added: int, fraction: float, seed: int
) -> None:
    files = [f"{index}.jpg" for index in range(count)] + ["other.jpg", "another.jpg"]
    labels = np.array([0] * count + [1, 1])
    before = by_name(files, labels, CLASSES, fraction, seed)
    more = [f"new{index}.jpg" for index in range(added)]
    after = by_name(
        more + files, np.concatenate([np.zeros(added, int), labels]), CLASSES, fraction, seed
    )
    moved = before != after[added:]
    # The least and the most of a small class can move one more.
    assert moved[:count].sum() <= max(added * fraction, added * (1 - fraction)) + 1
    assert not moved[count:].any()


def test_a_tenth_more_files_move_next_to_none() -> None:
    files, labels = names(1000)
    before = by_name(files, labels, CLASSES, 0.2, 3)
    more = [f"cat/new{index}.jpg" for index in range(50)]
    after = by_name(more + files, np.concatenate([np.zeros(50, int), labels]), CLASSES, 0.2, 3)
    assert (before != after[50:]).sum() <= 50 * 0.2 + 1


def test_order_and_unicode_spelling_do_not_matter() -> None:
    files = [f"é{index}" for index in range(100)]
    labels = np.zeros(100, int)
    mask = by_name(files, labels, CLASSES, 0.3, 0)
    decomposed = [unicodedata.normalize("NFD", name) for name in files]
    assert decomposed != files
    assert np.array_equal(by_name(decomposed[::-1], labels, CLASSES, 0.3, 0), mask[::-1])


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_small_classes_have_an_image_on_each_side(fraction: float, count: int) -> None:
    for seed in range(20):
        mask = by_name([f"{i}" for i in range(count)], np.zeros(count, int), "a", fraction, seed)
        assert not mask.all()
        assert mask.any() == (count > 1)
        assert np.array_equal(by_index(np.zeros(count, int), fraction, seed).any(), count > 1)


def test_zero_sets_nothing_aside_and_nonsense_is_refused() -> None:
    files, labels = names(10)
    assert not by_name(files, labels, CLASSES, 0, 0).any()
    for bad in (-0.1, 1.0, 10, float("nan")):
        with pytest.raises(UsageError, match="is a tenth"):
            by_name(files, labels, CLASSES, bad, 0)


def test_names_that_are_no_unicode() -> None:
    assert by_name(["caf\udce9", "b"], np.zeros(2, int), ["a"], 0.5, 0).sum() == 1
