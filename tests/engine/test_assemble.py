"""Batches out of images: by every engine and instruction set, to the bits of the reference."""

from __future__ import annotations

from threading import Thread
from typing import Any

import numpy as np
import pytest

from hubel.engine.native import NativeSession, instruction_sets
from hubel.engine.reference import ReferenceSession
from hubel.engine.session import Factors
from hubel.errors import UsageError
from hubel.variation import FRACTION, Mixture, Places, Variation

RNG = np.random.default_rng(11)
COUNT, BATCH = 9, 5


def images(shape: tuple[int, int, int], dtype: type) -> np.ndarray:
    pixels = RNG.integers(0, 256, (COUNT, *shape), np.uint8)
    return pixels if dtype is np.uint8 else (pixels / np.float32(7) - 10).astype(np.float32)


def factors(shape: tuple[int, int, int], rows: int) -> Factors:
    size = (rows, *shape[1:])
    scale = RNG.uniform(0.001, 2, size).astype(np.float32)
    return scale, RNG.normal(size=size).astype(np.float32)


def places(shape: tuple[int, int, int]) -> Places:
    rows = RNG.integers(-1, shape[0], (BATCH, shape[0]), np.int32)
    return rows, RNG.integers(-1, shape[1], (BATCH, shape[1]), np.int32)


def boxes(shape: tuple[int, int, int]) -> Any:
    height, width, _ = shape
    top, left = RNG.integers(0, height + 1, BATCH), RNG.integers(0, width + 1, BATCH)
    down, right = RNG.integers(0, height + 1 - top), RNG.integers(0, width + 1 - left)
    return np.stack([top, left, top + down, left + right], axis=1).astype(np.int32)


def affine(shape: tuple[int, int, int]) -> Any:
    """Maps that turn and scale by up to two and reach well beyond the image."""
    one = 1 << FRACTION
    made = RNG.integers(-2 * one, 2 * one, (BATCH, 2, 3))
    for axis in range(2):
        made[:, axis, 2] = RNG.integers(-2 * one, (shape[axis] + 2) * one, BATCH)
    return made


def colours() -> Any:
    return RNG.normal(0.5, 1, (BATCH, 3)).astype(np.float32)


def variations(shape: tuple[int, int, int]) -> list[Variation | None]:
    """One for each thing that can be done to images, and with everything at once."""
    every = Variation(None, affine(shape), True, colours(), boxes(shape))
    second, shares = RNG.integers(0, COUNT, BATCH), RNG.random(BATCH, np.float32)
    nowhere = np.zeros((BATCH, 4), np.int32)
    return [
        None,
        Variation(places(shape)),
        Variation(affine=affine(shape)),
        Variation(affine=affine(shape), reflect=True),
        Variation(colours=colours()),
        Variation(places(shape), colours=colours()),
        Variation(boxes=boxes(shape)),
        Variation(mixed=Mixture(second, shares, nowhere, Variation())),
        Variation(places(shape), mixed=Mixture(second, shares, boxes(shape), every)),
        Variation(None, affine(shape), False, colours(), boxes(shape), every.mixed),
    ]


@pytest.mark.parametrize("isa", instruction_sets())
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(5, 7, 1), (6, 5, 3), (3, 4, 2), (2, 3, 70), (1, 1100, 1)])
def test_native_batches_have_the_bits_of_the_reference(
    shape: tuple[int, int, int], dtype: type, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBEL_ISA", isa)
    session, reference = NativeSession(2), ReferenceSession()
    x, chosen = images(shape, dtype), RNG.integers(0, COUNT, BATCH)
    for varied in variations(shape):
        for rows in (1, shape[0]):
            given = factors(shape, rows)
            found = session.assemble(x, chosen, varied, given)
            wanted = reference.assemble(x, chosen, varied, given)
            assert found.dtype == wanted.dtype == np.float32
            assert found.tobytes() == wanted.tobytes()


def test_second_images_of_many_large_ones_are_made_in_parts() -> None:
    x, count = images((64, 64, 3), np.uint8), 25  # ten of them are half a megabyte
    rows, columns = (RNG.integers(-1, 64, (count, 64), np.int32) for _ in range(2))
    blank = np.tile(np.array([[3, 5, 9, 60]], np.int32), (count, 1))
    pasted = blank * (np.arange(count)[:, None] % 2).astype(np.int32)
    second = Variation((rows, columns), boxes=blank)
    shares = RNG.random(count, np.float32)
    mixed = Mixture(RNG.integers(0, COUNT, count), shares, pasted, second)
    chosen, given = RNG.integers(0, COUNT, count), factors((64, 64, 3), 1)
    found = NativeSession(1).assemble(x, chosen, Variation(mixed=mixed), given)
    wanted = ReferenceSession().assemble(x, chosen, Variation(mixed=mixed), given)
    assert found.tobytes() == wanted.tobytes()


def as_is(shape: tuple[int, int, int]) -> Factors:
    """Factors that leave the numbers as they are."""
    return np.ones((1, *shape[1:]), np.float32), np.full((1, *shape[1:]), -0.0, np.float32)


def made(x: np.ndarray, varied: Variation) -> np.ndarray:
    """One image by the reference."""
    found: np.ndarray = ReferenceSession().assemble(x, np.array([0]), varied, as_is(x.shape[1:]))
    return found[0]


def map_of(*rows: tuple[float, float, float]) -> Any:
    return np.rint(np.array([rows]) * 2.0**FRACTION).astype(np.int64)


def test_a_place_between_four_pixels_is_interpolated() -> None:
    x = np.array([[10, 20], [40, 80]], np.uint8)[None, :, :, None]
    # Half a row and a quarter of a column further on: beyond the last there is zero.
    found = made(x, Variation(affine=map_of((1, 0, 0.5), (0, 1, 0.25))))[..., 0]
    assert found.tolist() == [[(12.5 + 50) / 2, (15 + 60) / 2], [25, 30]]
    reflected = made(x, Variation(affine=map_of((1, 0, 0.5), (0, 1, 0.25)), reflect=True))[..., 0]
    assert reflected[0].tolist() == [(12.5 + 50) / 2, (17.5 + 70) / 2]


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_map_of_quarter_turns_moves_whole_pixels(quarters: int) -> None:
    x = RNG.integers(0, 256, (1, 5, 5, 3), np.uint8)
    cos, sin = [(0, 1), (-1, 0), (0, -1)][quarters - 1]
    turn = map_of((cos, sin, 2 - 2 * (cos + sin)), (-sin, cos, 2 - 2 * (cos - sin)))
    np.testing.assert_array_equal(made(x, Variation(affine=turn)), np.rot90(x[0], quarters))


def test_reflection_goes_to_and_fro_about_the_outermost_pixels() -> None:
    x = np.arange(4, dtype=np.uint8).reshape(1, 1, 4, 1)
    far = made(x, Variation(affine=map_of((1, 0, 0), (0, 4, -9)), reflect=True))
    assert far.ravel().tolist() == [3, 1, 1, 3]  # columns −9, −5, −1 and 3


def test_colours_are_a_gain_a_share_of_grey_and_an_offset_within_a_byte() -> None:
    x = np.array([[[[100, 200, 40]]]], np.uint8)
    grey = 0.299 * 100 + 0.587 * 200 + 0.114 * 40
    found = made(x, Variation(colours=np.array([[0.5, 0.5, 10]], np.float32)))
    np.testing.assert_allclose(found[0, 0], 0.5 * x[0, 0, 0] + 0.5 * grey + 10, rtol=1e-6)
    too_much = made(x, Variation(colours=np.array([[9, 0, -400]], np.float32)))
    assert too_much[0, 0].tolist() == [255, 255, 0]
    of_floats = made(x.astype(np.float32), Variation(colours=np.array([[9, 0, -400]], np.float32)))
    assert of_floats[0, 0].tolist() == [500, 1400, -40]


def test_a_box_is_zero_after_preprocessing() -> None:
    x = np.full((1, 3, 3, 1), 7, np.uint8)
    given = np.ones((1, 3, 1), np.float32), np.full((1, 3, 1), 5, np.float32)
    varied = Variation(boxes=np.array([[1, 0, 3, 2]], np.int32))
    found = ReferenceSession().assemble(x, np.array([0]), varied, given)
    assert found[0, :, :, 0].tolist() == [[12, 12, 12], [0, 0, 12], [0, 0, 12]]


def test_a_second_image_is_blended_in_or_pasted() -> None:
    x = np.array([10, 50], np.uint8)[:, None, None, None] + np.zeros((1, 1, 3, 1), np.uint8)
    box = np.array([[0, 1, 1, 3]], np.int32)
    shares = np.array([0.75], np.float32)
    blended = Mixture(np.array([1]), shares, 0 * box, Variation())
    assert made(x, Variation(mixed=blended)).ravel().tolist() == [20, 20, 20]
    # Each image is varied by itself before.
    pasted = Mixture(
        np.array([1]), shares, box, Variation(boxes=np.array([[0, 2, 1, 3]], np.int32))
    )
    assert made(x, Variation(mixed=pasted)).ravel().tolist() == [10, 50, 0]


def test_the_reference_takes_each_pixel_from_its_place() -> None:
    x = np.arange(1, 13, dtype=np.uint8).reshape(2, 2, 3, 1)
    moved = np.array([[-1, 0]], np.int32), np.array([[2, -1, 1]], np.int32)
    nothing = np.ones((1, 3, 1), np.float32), np.full((1, 3, 1), 0.5, np.float32)
    found = ReferenceSession().assemble(x, np.array([1]), Variation(moved), nothing)
    assert found[0, :, :, 0].tolist() == [[0.5, 0.5, 0.5], [9.5, 0.5, 8.5]]


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x[1:],  # begins at an odd address
        lambda x: x[::-1],
        np.asfortranarray,
        lambda x: x.astype(np.float32)[1:],
        lambda x: x.astype(">f4"),
        lambda x: x.astype(np.float64),
    ],
)
def test_images_may_lie_anyhow(form: Any) -> None:
    x = form(images((5, 3, 1), np.uint8))
    moved, given = Variation(places((5, 3, 1))), factors((5, 3, 1), 1)
    chosen = np.array([3, 0, 7, 7, 2])
    found = NativeSession(1).assemble(x, chosen, moved, given)
    np.testing.assert_array_equal(found, ReferenceSession().assemble(x, chosen, moved, given))


def test_a_mapped_file_is_read_where_it_lies(tmp_path: Any) -> None:
    x = images((4, 4, 3), np.uint8)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    given = factors((4, 4, 3), 1)
    found = NativeSession(1).assemble(mapped, np.arange(3), None, given)
    np.testing.assert_array_equal(found, ReferenceSession().assemble(x, np.arange(3), None, given))


@pytest.mark.parametrize("session", [NativeSession(1), ReferenceSession()])
def test_what_the_images_do_not_have_is_refused(session: Any) -> None:
    x, given = images((4, 4, 3), np.uint8), factors((4, 4, 3), 1)
    good, beyond = np.zeros((1, 4), np.int32), np.array([[0, 0, 4, 5]], np.int32)
    second = Mixture(np.array([9]), np.ones(1, np.float32), good, Variation())
    for chosen, moved, message in (
        ([9], None, "image 9 to 9 were chosen, of 9 from 0 on"),
        ([-1], None, "image -1 to -1 were chosen"),
        ([0], Variation((good + 4, good)), "row 4 to 4 were chosen, of 4"),
        ([0], Variation((good, good - 2)), "column -2 to -2 were chosen"),
        ([0], Variation(boxes=beyond), "column of a box 0 to 5 were chosen, of 5 from 0 on"),
        ([0], Variation(boxes=good - 1), "row of a box -1 to -1 were chosen"),
        ([0], Variation(mixed=second), "image 9 to 9 were chosen, of 9 from 0 on"),
        (
            [0],
            Variation(affine=np.full((1, 2, 3), 1 << 61)),
            "a pixel would be taken 4.83e.09 pixels from its image",
        ),
    ):
        with pytest.raises(UsageError, match=message):
            session.assemble(x, np.array(chosen), moved, given)
    assert session.assemble(x, np.arange(0), None, given).shape == (0, 4, 4, 3)


def test_threads_assemble_side_by_side() -> None:
    session = NativeSession(2)
    x, given = images((8, 8, 3), np.uint8), factors((8, 8, 3), 1)
    chosen = [RNG.integers(0, COUNT, BATCH) for _ in range(4)]
    expected = [session.assemble(x, each, None, given) for each in chosen]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(200):
            found = session.assemble(x, chosen[number], None, given)
            if not np.array_equal(found, expected[number]):
                wrong.append(number)

    threads = [Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
