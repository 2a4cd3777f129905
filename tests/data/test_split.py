"""The validation split: its share, its guarantees, and that it stays put."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from hubel.data.split import by_index, by_name
from hubel.errors import UsageError

CLASSES = ("cat", "dog")


def names(count: int) -> tuple[list[str], np.ndarray]:
    labels = np.arange(count) % 2
    return [f"{CLASSES[label]}/{index}.jpg" for index, label in enumerate(labels)], labels


def test_share_is_near_the_fraction_and_depends_on_the_seed() -> None:
    files, labels = names(10_000)
    masks = [by_name(files, labels, CLASSES, 0.1, seed) for seed in (0, 1)]
    for mask in masks:
        for label in (0, 1):
            assert abs(mask[labels == label].sum() - 500) < 5 * np.sqrt(5000 * 0.1 * 0.9)
    both = (masks[0] & masks[1]).sum()
    assert 50 < both < 150  # independent: 100 expected
    assert np.array_equal(masks[0], by_name(files, labels, CLASSES, 0.1, 0))


def test_added_files_move_no_other() -> None:
    files, labels = names(1000)
    before = by_name(files, labels, CLASSES, 0.2, 3)
    more = [f"cat/new{index}.jpg" for index in range(700)]
    after = by_name(more + files, np.concatenate([np.zeros(700, int), labels]), CLASSES, 0.2, 3)
    assert np.array_equal(before, after[700:])


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
