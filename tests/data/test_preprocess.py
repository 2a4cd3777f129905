"""Preprocessing: statistics against NumPy, application, saving, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hubel.data.preprocess import (
    EPSILON,
    LARGEST,
    Method,
    Preprocess,
    _covariances,
    factors,
    fit,
)
from hubel.engine.reference.assemble import assemble
from hubel.errors import DataError, FormatError, UsageError

RNG = np.random.default_rng(1)
METHODS: tuple[Method, ...] = ("none", "centre", "mean-image", "normalise")


def images(count: int = 600, dtype: type = np.uint8) -> np.ndarray:
    pixels = RNG.integers(0, 256, (count, 5, 4, 3), np.uint8)
    pixels[..., 1] //= 4
    return pixels if dtype is np.uint8 else (pixels * 3.0 - 100).astype(dtype)


def applied(measured: Preprocess | None, x: np.ndarray) -> np.ndarray:
    return assemble(x, np.arange(len(x)), None, factors(measured, x))


def expected(x: np.ndarray, method: Method) -> np.ndarray:
    unit = x / 255 if x.dtype == np.uint8 else x.astype(np.float64)
    if method == "none":
        return unit
    if method == "mean-image":
        return unit - unit.mean(axis=0)
    centred = unit - unit.mean(axis=(0, 1, 2))
    return centred if method == "centre" else centred / unit.std(axis=(0, 1, 2))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("method", METHODS)
def test_it_is_what_numpy_says(method: Method, dtype: type) -> None:
    x = images(dtype=dtype)
    measured = fit(x, method)
    found = applied(measured, x)
    assert found.dtype == np.float32
    # Scale, shift and both results are rounded once each, at no more than this magnitude.
    largest = np.abs(x).max() / (255 if dtype is np.uint8 else 1) / min(measured.std)
    assert np.abs(found - expected(x, method)).max() <= 4 * 2.0**-24 * 2 * largest


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_without_it_numbers_stay_as_they_are(dtype: type) -> None:
    x = images(dtype=dtype)
    x[0, 0, 0] = 0
    if dtype is np.float32:
        x[0, 0, 1] = -0.0
    found = applied(None, x)
    assert found.dtype == np.float32
    assert found.tobytes() == x.astype(np.float32).tobytes()


def test_normalised_channels_have_mean_0_and_deviation_1() -> None:
    x = images()
    found = applied(fit(x), x).astype(np.float64)
    assert np.abs(found.mean(axis=(0, 1, 2))).max() < 1e-6
    assert np.abs(found.std(axis=(0, 1, 2)) - 1).max() < 1e-6


def test_sums_over_bytes_are_exact() -> None:
    # 70,000 white pixels after one black: the textbook formula in float32 would be far off.
    x = np.full((700, 10, 10, 1), 255, np.uint8)
    x[0, 0, 0] = 254
    measured = fit(x)
    assert measured.std[0] == pytest.approx(np.sqrt((1 / 70000) * (1 - 1 / 70000)) / 255, rel=1e-12)
    assert measured.mean[0] == pytest.approx(1 - 1 / 70000 / 255, rel=1e-14)
    assert measured.notes == ()


def test_batches_are_preprocessed_as_the_whole_is() -> None:
    x = images()
    measured = fit(x)
    whole = applied(measured, x)
    parts = [applied(measured, x[start : start + 7]) for start in range(0, len(x), 7)]
    assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_constant_channel_is_centred_and_noted(dtype: type) -> None:
    x = images(dtype=dtype)
    x[..., 2] = 77
    measured = fit(x)
    assert measured.std[2] == 1.0
    assert measured.notes == (
        "channel 3 of 3 has the same value in every training image: it carries no information "
        "and is only centred",
    )
    assert np.abs(applied(measured, x)[..., 2]).max() < 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_saving_keeps_every_bit(method: Method) -> None:
    x = images()
    measured = fit(x, method)
    again = Preprocess.from_dict(json.loads(json.dumps(measured.to_dict())), measured.arrays())
    assert np.array_equal(applied(again, x), applied(measured, x))
    assert again.notes == measured.notes
    assert set(measured.arrays()) == ({"mean_image"} if method == "mean-image" else set())


def test_refusals() -> None:
    x = images(4)
    with pytest.raises(UsageError, match="preprocessing 'bleach' is not one of none, centre"):
        fit(x, "bleach")
    with pytest.raises(DataError, match=r"images of shape \(0, 5, 4, 3\) cannot be measured"):
        fit(x[:0])
    with pytest.raises(DataError, match=r"shape \(4, 5, 4, 1\) were given.*\(N, H, W, 3\)"):
        factors(fit(x), x[..., :1])
    with pytest.raises(DataError, match="images of 4×4×3 were given; the mean image is 5×4×3"):
        factors(fit(x, "mean-image"), x[:, :4])
    good = fit(x).to_dict()
    for change, message in (
        ({"method": "x"}, "the preprocessing 'x' is unknown"),
        ({"mean": None}, "the preprocessing is incomplete"),
        ({"std": [1.0, 0.0, 1.0]}, "has means .* and deviations"),
        ({"std": [1.0]}, "has means .* and deviations"),
        ({"method": "mean-image"}, "'mean-image' and its mean image do not match"),
    ):
        with pytest.raises(FormatError, match=message):
            Preprocess.from_dict({**good, **change})
    with pytest.raises(FormatError, match=r"the mean image has the shape \(5, 4, 1\), 3 channels"):
        Preprocess.from_dict(
            {**good, "method": "mean-image"}, {"mean_image": np.zeros((5, 4, 1), np.float32)}
        )


def centred(x: np.ndarray) -> np.ndarray:
    flat = x.reshape(len(x), -1) / (255 if x.dtype == np.uint8 else 1)
    rows: np.ndarray = flat - flat.mean(axis=0)
    return rows


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_pca_rotates_into_uncorrelated_numbers_the_largest_variance_first(dtype: type) -> None:
    x = images(dtype=dtype)
    measured = fit(x, "pca")
    assert measured.matrix is not None
    np.testing.assert_allclose(measured.matrix.T @ measured.matrix, np.eye(60), atol=1e-5)
    rows = centred(x) @ measured.matrix.astype(np.float64)
    covariances = rows.T @ rows / len(x)
    wanted = np.linalg.svd(centred(x), compute_uv=False) ** 2 / len(x)
    np.testing.assert_allclose(np.diag(covariances), wanted, rtol=1e-3)
    assert np.abs(covariances - np.diag(wanted)).max() < 1e-3 * wanted.max()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_whitened_numbers_have_variance_one_and_stay_an_image(dtype: type) -> None:
    x = images(dtype=dtype)
    x[..., 2] = x[..., 0]  # two channels that are alike: half of their directions have no variance
    measured = fit(x, "whiten")
    assert measured.matrix is not None
    np.testing.assert_allclose(measured.matrix, measured.matrix.T, atol=1e-3)
    # CS231n: the rotated numbers are divided by √(variance + ε); then they are rotated back.
    variances, directions = np.linalg.eigh(np.cov(centred(x), rowvar=False, bias=True))
    wanted = centred(x) @ directions / np.sqrt(np.maximum(variances, 0) + EPSILON) @ directions.T
    found = centred(x) @ measured.matrix.astype(np.float64)
    assert np.abs(found - wanted).max() < (1e-2 if dtype is np.float32 else 1e-4)
    spread = np.linalg.eigvalsh(found.T @ found / len(x))
    assert np.allclose(spread[-40:], 1, atol=1e-2)
    assert np.allclose(spread[:20], 0, atol=1e-2)


def test_few_images_and_large_ones_are_told_of() -> None:
    (note,) = fit(images(20), "whiten").notes
    assert note == (
        "20 training images vary in at most 19 of 60 directions: what other images have in the "
        "rest is made up to 316 times larger"
    )
    with pytest.raises(DataError) as caught:
        fit(np.zeros((2, 64, 64, 3), np.uint8), "pca")
    assert str(caught.value) == (
        f"pca would need the covariances of 12,288 numbers in an image of 64×64×3, and takes at "
        f"most {LARGEST:,}. Hint: bring the images to a smaller size, such as --size 32, or take "
        f"normalise."
    )


def test_a_matrix_is_kept_and_must_match() -> None:
    measured = fit(images(80), "whiten")
    kept = Preprocess.from_dict(json.loads(json.dumps(measured.to_dict())), measured.arrays())
    assert kept.matrix is not None
    assert kept.matrix.tobytes() == measured.arrays()["matrix"].tobytes()
    for arrays, message in (
        ({"mean_image": measured.mean_image}, "and its matrix do not match"),
        ({"matrix": measured.matrix}, "and its mean image do not match"),
        ({"mean_image": measured.mean_image, "matrix": np.eye(3)}, r"the shape \(3, 3\), images"),
    ):
        with pytest.raises(FormatError, match=message):
            Preprocess.from_dict(measured.to_dict(), arrays)


def test_covariances_of_bytes_are_exact_in_any_order() -> None:
    x = np.full((2100, 3, 2, 1), 255, np.uint8)  # as large as sums become
    x[::3] = RNG.integers(0, 256, (700, 3, 2, 1), np.uint8)
    rows = x.reshape(-1, 6).astype(np.int64)
    exact = 2100 * (rows.T @ rows) - np.outer(rows.sum(0), rows.sum(0))
    measured = _covariances(x)
    np.testing.assert_allclose(measured, exact / (2100.0**2 * 255**2), rtol=1e-9)
    assert measured.tobytes() == _covariances(x[::-1].copy()).tobytes()
