"""Augmentation: what is drawn for an image, by seed, epoch and index alone, and what it does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from hubel.data.augment import Augmentation, Drawing, vary
from hubel.data.preprocess import factors
from hubel.engine.reference.assemble import assemble
from hubel.errors import UsageError
from hubel.variation import Variation

COUNT = 1200
IMAGES = np.random.default_rng(7).integers(0, 256, (COUNT, 8, 6, 3), np.uint8)
INDICES = np.arange(1000, COUNT)

EVERYTHING = Augmentation(True, 2, "reflect", 20.0, 0.3, 0.4, 3, 1.0, 1.0)


def drawing(seed: int = 0, epoch: int = 0, images: np.ndarray = IMAGES) -> Drawing:
    return Drawing(seed, epoch, len(images), images.shape[1:], images.dtype == np.uint8)


def varied(
    chosen: Augmentation, seed: int = 0, epoch: int = 0, indices: np.ndarray = INDICES
) -> np.ndarray:
    """What becomes of some of the images."""
    found = vary(chosen, drawing(seed, epoch), indices)
    return assemble(IMAGES, indices, found, factors(None, IMAGES))


def drawn(chosen: Augmentation, **choices: Any) -> Variation:
    found = vary(chosen, drawing(**choices), np.arange(COUNT))
    assert found is not None
    return found


def test_without_a_choice_nothing_is_done() -> None:
    assert vary(Augmentation(), drawing(), INDICES) is None
    assert vary(Augmentation(border="reflect"), drawing(), INDICES) is None


def test_flip_mirrors_about_half_of_the_images_and_the_others_an_epoch_later() -> None:
    epochs = []
    for epoch in range(4):
        found = varied(Augmentation(flip=True), epoch=epoch)
        originals = IMAGES[INDICES]
        mirrored = (found == originals[:, :, ::-1]).all(axis=(1, 2, 3))
        assert (mirrored ^ (found == originals).all(axis=(1, 2, 3))).all()
        epochs.append(mirrored)
    assert 70 < epochs[0].sum() < 130
    np.testing.assert_array_equal(epochs[0], ~epochs[1])
    np.testing.assert_array_equal(epochs[0], epochs[2])
    np.testing.assert_array_equal(epochs[1], epochs[3])


@pytest.mark.parametrize("border", ["zero", "reflect"])
def test_crop_cuts_windows_of_the_padded_image(border: Any) -> None:
    found = varied(Augmentation(crop=2, border=border))
    mode: Any = "constant" if border == "zero" else "reflect"
    places = set()
    for image, original in zip(found, IMAGES[INDICES], strict=True):
        padded = np.pad(original, ((2, 2), (2, 2), (0, 0)), mode=mode)
        here = [
            (row, column)
            for row in range(5)
            for column in range(5)
            if np.array_equal(image, padded[row : row + 8, column : column + 6])
        ]
        assert len(here) == 1
        places.add(here[0])
    assert len(places) == 25


def test_reflection_needs_room() -> None:
    with pytest.raises(UsageError, match="images of 8×6 cannot be reflected by 6 pixels"):
        varied(Augmentation(crop=6, border="reflect"))


@pytest.mark.parametrize("border", ["zero", "reflect"])
def test_a_turn_of_nothing_leaves_what_flip_and_crop_do(border: Any) -> None:
    # By so little that no pixel's place moves by a part that a weight of 16 bits shows.
    moved = varied(Augmentation(flip=True, crop=2, border=border))
    turned = varied(Augmentation(flip=True, crop=2, border=border, rotate=1e-9))
    np.testing.assert_allclose(turned, moved, atol=0.01)


def test_rotation_and_scale_are_within_their_bounds_about_the_middle() -> None:
    found = drawn(Augmentation(rotate=30.0, scale=0.2))
    assert found.affine is not None
    made = found.affine / 2.0**32
    size = 1 / np.hypot(made[:, 0, 0], made[:, 0, 1])
    angle = np.degrees(np.arctan2(made[:, 0, 1], made[:, 0, 0]))
    for numbers, middle, off in ((size, 1.0, 0.2), (angle, 0.0, 30.0)):
        assert np.abs(numbers - middle).max() <= off * (1 + 1e-6)
        assert np.abs(numbers - middle).max() > 0.98 * off
        assert abs(numbers.mean() - middle) < 0.05 * off
    centre = made @ [3.5, 2.5, 1.0]
    np.testing.assert_allclose(centre, np.tile([3.5, 2.5], (COUNT, 1)), atol=1e-8)
    assert abs(np.corrcoef(size, angle)[0, 1]) < 0.1


def test_colour_keeps_grey_grey_and_mid_grey_in_place() -> None:
    found = drawn(Augmentation(colour=0.4)).colours
    assert found is not None
    own, grey, offset = found.astype(np.float64).T
    gain = own + grey  # what happens to grey pixels: brightness times contrast
    contrast = 1 - offset / 127.5
    for numbers in (contrast, gain / contrast, own / gain):
        assert 0.59 < numbers.min() < 0.62
        assert 1.38 < numbers.max() < 1.41
    of_grey_images = vary(Augmentation(colour=0.4), drawing(images=IMAGES[..., :1]), INDICES)
    assert of_grey_images is not None
    assert of_grey_images.colours is not None
    assert not of_grey_images.colours[:, 1].any()  # there is nothing to saturate


def test_cutout_is_a_square_about_any_pixel() -> None:
    found = drawn(Augmentation(cutout=3)).boxes
    assert found is not None
    sizes = found[:, 2:] - found[:, :2]
    assert sizes.min() == 2
    assert sizes.max() == 3
    middles = {(top + bottom, left + right) for top, left, bottom, right in found.tolist()}
    assert len(middles) == 48


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 8.0])
def test_shares_have_the_moments_of_their_beta(alpha: float) -> None:
    images = np.zeros((20_000, 1, 1, 1), np.uint8)
    found = vary(Augmentation(mixup=alpha), drawing(images=images), np.arange(20_000))
    assert found is not None
    assert found.mixed is not None
    shares = found.mixed.shares.astype(np.float64)
    assert shares.min() >= 0
    assert shares.max() <= 1
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(shares.mean() - 0.5) < 4 * math.sqrt(variance / 20_000)
    assert abs(shares.var() / variance - 1) < 0.05
    fourth = variance**2 * 3 * (2 * alpha + 1) / (2 * alpha + 3)
    assert abs(((shares - 0.5) ** 4).mean() / fourth - 1) < 0.05


def test_a_second_image_is_any_image_varied_as_it_is_by_itself() -> None:
    found = drawn(EVERYTHING)
    assert found.mixed is not None
    partners = found.mixed.indices
    assert 0.5 < len(np.unique(partners)) / COUNT < 0.75  # 1 − 1/e of them, as they are drawn
    alone = vary(EVERYTHING, drawing(), partners, mix=False)
    assert alone is not None
    np.testing.assert_array_equal(found.mixed.variation.affine, alone.affine)
    np.testing.assert_array_equal(found.mixed.variation.boxes, alone.boxes)
    assert found.mixed.variation.mixed is None


def test_a_pasted_box_has_the_share_of_its_area() -> None:
    mixed = drawn(Augmentation(cutmix=1.0)).mixed
    assert mixed is not None
    area = np.prod(mixed.boxes[:, 2:] - mixed.boxes[:, :2], axis=1)
    np.testing.assert_allclose(mixed.shares, 1 - area / 48, rtol=1e-6)
    # ∫ (√u − u/4)² du = 0.32 of an image, what lies beyond the border left out; whole pixels, less.
    assert 0.2 < (area / 48).mean() < 0.32
    both = drawn(Augmentation(mixup=1.0, cutmix=1.0)).mixed
    assert both is not None
    pasted = (both.boxes[:, 2:] > both.boxes[:, :2]).all(axis=1)
    assert 0.35 < pasted.mean() < 0.55
    assert (both.shares[~pasted] < 1).mean() > 0.85


def test_what_a_seed_means_never_changes_unseen() -> None:
    images = np.arange(2, 20, dtype=np.uint8).reshape(2, 3, 3, 1)
    moved = vary(Augmentation(True, 1), drawing(5, 0, images), np.array([1]))
    found = assemble(images, np.array([1]), moved, factors(None, images))
    assert found[0, :, :, 0].tolist() == [[0, 13, 12], [0, 16, 15], [0, 19, 18]]
    mixed = drawn(EVERYTHING).mixed
    assert mixed is not None
    assert mixed.indices[:4].tolist() == [306, 152, 40, 805]
    assert mixed.shares[:4].tolist() == pytest.approx([0.6667, 0.75, 0.6598, 0.3773], abs=1e-4)


ONE_BY_ONE = [
    Augmentation(flip=True),
    Augmentation(crop=2),
    Augmentation(rotate=15.0, border="reflect"),
    Augmentation(scale=0.2),
    Augmentation(colour=0.3),
    Augmentation(cutout=4),
    Augmentation(mixup=0.4),
    Augmentation(cutmix=1.0),
    EVERYTHING,
]


@pytest.mark.parametrize("chosen", ONE_BY_ONE, ids=str)
def test_an_image_is_varied_alike_in_any_batch_and_anew_each_epoch(chosen: Augmentation) -> None:
    whole = varied(chosen, 4, 9)
    order = np.random.default_rng(0).permutation(len(INDICES))
    np.testing.assert_array_equal(varied(chosen, 4, 9, INDICES[order]), whole[order])
    np.testing.assert_array_equal(varied(chosen, 4, 9, INDICES[3:4]), whole[3:4])
    assert not np.array_equal(varied(chosen, 4, 10), whole)
    assert not np.array_equal(varied(chosen, 5, 9), whole)
