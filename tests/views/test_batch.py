"""A batch as a picture: pixels as they were, one scale, and names below."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hubel.data import Dataset, Split
from hubel.train.preview import Preview, preview
from hubel.views.batch import captions, draw, pixels
from tests.train import toy


def dataset(images: np.ndarray, labels: np.ndarray) -> Dataset:
    nothing = Split(images[:0], labels[:0])
    return Dataset("toy", toy.NAMES, Split(images, labels), nothing)


X, Y = toy.images()


@pytest.mark.parametrize("method", ["none", "centre", "mean-image", "normalise", None])
def test_pixels_are_those_of_the_images(method: str | None) -> None:
    shown = preview(dataset(X, Y), preprocess=method)
    found = pixels(shown, 10)
    np.testing.assert_array_equal(found.images, X[shown.batch.indices[:10]])
    assert found.scale == "Black is pixel 0, white 255."


def test_floats_have_one_scale_from_the_least_to_the_largest_drawn() -> None:
    images = np.linspace(-2, 6, 50 * 36, dtype=np.float32).reshape(50, 6, 6, 1)
    shown = preview(dataset(images, Y), shuffle=False)
    found = pixels(shown, 50)
    assert found.scale == "Black is pixel -2, white 6."
    assert found.images.ravel()[[0, -1]].tolist() == [0, 255]
    assert (np.diff(found.images.ravel().astype(int)) >= 0).all()


def test_of_other_depths_one_channel_is_shown_and_told() -> None:
    images = np.concatenate([X, 255 - X], axis=3)
    shown = preview(dataset(images, Y))
    found = pixels(shown, 4)
    np.testing.assert_array_equal(found.images, X[shown.batch.indices[:4]])
    assert found.scale == "Black is pixel 0, white 255; channel 1 of 2 is shown."


def named(shown: Preview, *names: tuple[tuple[str, float], ...]) -> Preview:
    return replace(shown, names=names)


def test_captions_have_shares_where_labels_are_mixed() -> None:
    shown = preview(dataset(X, Y))
    one, both = (("cat", 1.0),), (("cat", 0.625), ("dog", 0.375))
    untouched = (("cat", 1.0), ("dog", 0.0))
    assert captions(named(shown, one, both, untouched)) == (
        ("cat",),
        ("cat 0.62", "dog 0.38"),
        ("cat",),
    )


def test_a_drawing_holds_the_pixels_enlarged_in_squares() -> None:
    shown = preview(dataset(X, Y))
    page = np.asarray(draw(shown, 5))
    first = np.repeat(np.repeat(pixels(shown, 1).images[0, :, :, 0], 19, 0), 19, 1)
    there = [
        (y, x)
        for y in range(page.shape[0] - 114)
        for x in (12,)
        if np.array_equal(page[y : y + 114, x : x + 114, 0], first)
    ]
    assert len(there) == 1
    # Every pixel below the tile that is not paper belongs to its name.
    below = page[there[0][0] + 114 : there[0][0] + 131, 12:126]
    assert (below < 100).any()


def test_names_too_long_for_a_tile_keep_their_beginning_and_their_share() -> None:
    shown = preview(dataset(X, Y))
    long = named(shown, ((f"{'w' * 60}", 0.25), ("dog", 0.75)))
    wide = draw(replace(long, batch=shown.batch), 1)
    short = draw(named(shown, (("www", 0.25), ("dog", 0.75))), 1)
    assert wide.size == short.size
