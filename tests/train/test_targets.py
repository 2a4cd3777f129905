"""What a loss aims at: weights of classes and shares of mixed labels."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hubel.errors import DataError
from hubel.train.targets import balanced, targets
from hubel.variation import Mixture, Variation


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    weights = pytest.importorskip("sklearn.utils.class_weight")
    labels = np.array([0, 0, 0, 1, 2, 2])
    theirs = weights.compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_array_equal(balanced(labels, 3), theirs)


def test_all_classes_weigh_the_same_in_total() -> None:
    labels = np.array([0] * 5 + [1] * 2 + [2])
    assert np.bincount(labels, balanced(labels, 3)[labels]) == pytest.approx([8 / 3] * 3)


def test_a_class_without_an_image_has_no_weight() -> None:
    message = "2 of 5 classes have no training image and so no weight: 1, 4 (from 0)"
    with pytest.raises(DataError, match=re.escape(message)):
        balanced(np.array([0, 2, 3]), 5)


def mixture(indices: list[int], shares: list[float]) -> Mixture:
    boxes = np.zeros((len(indices), 4), np.int32)
    return Mixture(np.array(indices), np.array(shares, np.float32), boxes, Variation())


def test_mixed_labels_have_the_share_of_each() -> None:
    found = targets(np.array([0, 1]), np.array([2, 1]), 3, mixture([0, 1], [0.75, 0.25]))
    assert found.tolist() == [[0.75, 0, 0.25], [0, 1, 0]]
    assert found.dtype == np.float32


def test_weights_make_a_mean_of_one_in_every_batch() -> None:
    weights = np.array([0.5, 4.0])
    found = targets(np.array([0, 0, 1]), np.array([0]), 2, weights=weights)
    assert found.tolist() == pytest.approx(np.array([[0.3, 0], [0.3, 0], [0, 2.4]]))
    assert found.sum() == pytest.approx(3)


def test_smoothing_comes_before_weights() -> None:
    found = targets(np.array([0]), np.array([0]), 2, smoothing=0.2, weights=np.array([2.0, 1.0]))
    assert found.tolist()[0] == pytest.approx([0.9, 0.05])
