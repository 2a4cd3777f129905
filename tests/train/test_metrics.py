"""Accuracy, its interval, the baseline, confusion, and losses in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hubel.train.losses import LOSSES, softmax
from hubel.train.metrics import measure, wilson

SCORES = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 0.5], [0.0, 0.0, 5.0]])
LABELS = np.array([0, 1, 2, 2])


def test_wilson_gives_the_published_interval() -> None:
    # Brown, Cai and DasGupta (2001): 15 of 50 give 0.191 to 0.438.
    assert wilson(15, 50) == pytest.approx((0.191, 0.438), abs=5e-4)


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_wilson_stays_within_its_bounds(count: int) -> None:
    assert wilson(0, count)[0] == 0.0
    assert wilson(count, count)[1] == 1.0
    assert 0 < wilson(0, count)[1] < 1


def test_measure_counts_what_is_taken_for_what() -> None:
    found = measure([(SCORES[:3], LABELS[:3]), (SCORES[3:], LABELS[3:])], 3)
    assert found.confusion == ((1, 0, 0), (0, 1, 0), (1, 0, 1))
    assert (found.count, found.correct, found.accuracy) == (4, 3, 0.75)
    assert found.per_class == (1.0, 1.0, 0.5)
    assert found.baseline == 0.5
    assert found.interval == wilson(3, 4)


def test_without_a_part_the_scores_are_those_of_the_rest() -> None:
    whole, part, rest = (
        measure([(SCORES[a:b], LABELS[a:b])], 3) for a, b in ((0, 4), (0, 3), (3, 4))
    )
    left = whole.without(part)
    assert (left.count, left.correct, left.confusion) == (rest.count, rest.correct, rest.confusion)
    assert left.loss == pytest.approx(rest.loss, rel=1e-12)


def test_a_class_without_images_has_no_accuracy() -> None:
    assert measure([(SCORES[:1], LABELS[:1])], 3).per_class == (1.0, None, None)


def test_of_equal_scores_the_first_counts() -> None:
    assert measure([(np.zeros((2, 3)), np.array([0, 1]))], 3).correct == 1


def test_cross_entropy_is_minus_the_log_probability() -> None:
    expected = -np.log(softmax(SCORES)[np.arange(4), LABELS])
    assert LOSSES["cross-entropy"].values(SCORES, LABELS) == pytest.approx(expected)
    assert measure([(SCORES, LABELS)], 3).loss == pytest.approx(expected.mean())


def test_huge_scores_overflow_nowhere() -> None:
    scores = np.array([[1e30, 0.0], [0.0, 1e30]], np.float32)
    values = LOSSES["cross-entropy"].values(scores, np.array([0, 0]))
    assert values[0] == 0.0
    assert values[1] == pytest.approx(1e30)
    assert softmax(scores).sum(axis=1) == pytest.approx([1, 1])


def test_hinge_is_the_lectures_example() -> None:
    # CS231n lecture 3: cat 3.2, car 5.1, frog -1.7 and two more images give 2.9, 0 and 12.9.
    scores = np.array([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]])
    values = LOSSES["hinge"].values(scores, np.array([0, 1, 2]))
    assert values == pytest.approx([2.9, 0.0, 12.9])


def test_equal_scores_lose_the_log_of_the_number_of_classes() -> None:
    assert measure([(np.zeros((5, 10)), np.zeros(5, np.int64))], 10).loss == math.log(10)
