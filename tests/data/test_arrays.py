"""Arrays to a Dataset: labels of every kind, and arrays that cannot be meant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hubel.data import split_arrays
from hubel.errors import DataError

X = np.random.default_rng(0).integers(0, 256, (60, 5, 5, 3), np.uint8)
Y = np.arange(60) % 3


def test_labels_follow_their_images() -> None:
    data = split_arrays(X, Y, seed=2)
    assert data.classes == ("0", "1", "2")
    for part in (data.train, data.validation):
        for image, label in zip(part.images, part.labels, strict=True):
            assert Y[[np.array_equal(image, x) for x in X].index(True)] == label
    assert len(data.train) + len(data.validation) == 60
    assert data.notes == (
        f"{len(data.validation)} of the 60 training images are set aside for validation.",
    )
    assert data.fingerprint == split_arrays(X, Y, seed=2).fingerprint
    assert data.fingerprint != split_arrays(X, Y, seed=3).fingerprint
    assert data.fingerprint != split_arrays(X, Y[::-1], seed=2).fingerprint


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        (["b", "a", "b"] * 20, None, ("a", "b")),
        (np.array(["10", "9", "10"] * 20), None, ("9", "10")),
        (np.array([10, 9, -1] * 20), None, ("-1", "9", "10")),
        (np.array(["x", "y", "x"] * 20, object), None, ("x", "y")),
        (Y.astype(np.uint8), ("cat", "dog", "owl", "none"), ("cat", "dog", "owl", "none")),
        (["dog", "cat", "dog"] * 20, ("dog", "cat"), ("dog", "cat")),
    ],
)
def test_kinds_of_labels(labels: Any, classes: Any, expected: tuple[str, ...]) -> None:
    data = split_arrays(X, labels, classes=classes, val_fraction=0)
    assert data.classes == expected
    named = [data.classes[label] for label in data.train.labels]
    texts = [str(label) for label in list(labels)]
    assert named == (texts if classes is None or texts[0] in classes else [classes[y] for y in Y])


def test_grey_float_and_given_splits() -> None:
    x = X[..., 0].astype(np.float64)
    data = split_arrays(x, Y, validation=(x[:6], Y[:6]), test=(x[6:9], Y[6:9]))
    assert data.train.images.shape == (60, 5, 5, 1)
    assert data.train.images.dtype == np.float32
    assert data.test is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (60, 6, 3)
    assert data.notes == ()


@pytest.mark.parametrize(
    ("x", "y", "more", "message"),
    [
        (X[0, 0], Y, {}, r"the images have the shape \(5, 3\)"),
        (X[:0], Y[:0], {}, r"the images have the shape \(0, 5, 5, 3\)"),
        (X.transpose(0, 3, 1, 2), Y, {}, r"looks like \(N, C, H, W\)\. Hint: put the channels"),
        (X.astype(np.int64), Y, {}, r"type int64\. Hint: give uint8"),
        (X, Y[:-1], {}, r"the labels have the shape \(59,\), the 60 images need \(60,\)"),
        (X, Y.astype(float), {}, "the labels are of type float64"),
        (X, Y * 0, {}, "at least two distinct classes"),
        (X, Y, {"classes": ("a", "a", "b")}, "at least two distinct classes"),
        (X, Y, {"classes": ("a", "b")}, "the labels are 0 to 2, the 2 classes are 0 to 1"),
        (X, Y - 1, {"classes": ("a", "b", "c")}, "the labels are -1 to 1"),
        (X, Y, {"test": (X, Y + 1)}, "the test labels have the class '3', which is none of 0, 1"),
        (X, Y, {"validation": (X[:, :4], Y)}, r"the validation images are \(4, 5, 3\) uint8"),
        (X, Y, {"validation": (X / 255, Y)}, "float32, the training images"),
    ],
)
def test_refusals(x: np.ndarray, y: np.ndarray, more: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_arrays(x, y, **more)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
def test_values_that_are_no_numbers_are_found(bad: float) -> None:
    x = X.astype(np.float64)
    x[[7, 9], 1, 1, 1] = bad
    with pytest.raises(DataError, match=r"2 of 60 images .* the first at index 7"):
        split_arrays(x, Y)


def test_a_dataset_shows_itself_without_pixels() -> None:
    data = split_arrays(np.zeros((6, 4, 4), np.uint8), ["cat", "dog"] * 3)
    assert repr(data) == (
        "Dataset('arrays', 2 classes, train=Split(4 images of 4×4×1, uint8), "
        "validation=Split(2 images of 4×4×1, uint8), test=None)"
    )
