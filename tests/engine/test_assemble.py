"""Batches out of images: by every engine and instruction set, to the bits of the reference."""

from __future__ import annotations

from threading import Thread
from typing import Any

import numpy as np
import pytest

from hubel.engine.native import NativeSession, instruction_sets
from hubel.engine.reference import ReferenceSession
from hubel.engine.session import Factors, Places
from hubel.errors import UsageError

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


@pytest.mark.parametrize("isa", instruction_sets())
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(5, 7, 1), (6, 5, 3), (3, 4, 2), (2, 3, 70), (4, 1100, 1)])
def test_native_batches_have_the_bits_of_the_reference(
    shape: tuple[int, int, int], dtype: type, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBEL_ISA", isa)
    session, reference = NativeSession(2), ReferenceSession()
    x, chosen = images(shape, dtype), RNG.integers(0, COUNT, BATCH)
    for moved in (None, places(shape)):
        for rows in (1, shape[0]):
            given = factors(shape, rows)
            found = session.assemble(x, chosen, moved, given)
            wanted = reference.assemble(x, chosen, moved, given)
            assert found.dtype == wanted.dtype == np.float32
            assert found.tobytes() == wanted.tobytes()


def test_the_reference_takes_each_pixel_from_its_place() -> None:
    x = np.arange(1, 13, dtype=np.uint8).reshape(2, 2, 3, 1)
    moved = np.array([[-1, 0]], np.int32), np.array([[2, -1, 1]], np.int32)
    nothing = np.ones((1, 3, 1), np.float32), np.full((1, 3, 1), 0.5, np.float32)
    found = ReferenceSession().assemble(x, np.array([1]), moved, nothing)
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
    moved, given, chosen = places((5, 3, 1)), factors((5, 3, 1), 1), np.array([3, 0, 7, 7, 2])
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
    good = np.zeros((1, 4), np.int32)
    for chosen, moved, message in (
        ([9], None, "image 9 to 9 were chosen, of 9 from 0 on"),
        ([-1], None, "image -1 to -1 were chosen"),
        ([0], (good + 4, good), "row 4 to 4 were chosen, of 4"),
        ([0], (good, good - 2), "column -2 to -2 were chosen"),
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
