"""Batches as pure functions of seed, epoch and index; the prefetching thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from hubel.data import Split, fit
from hubel.data.augment import Augmentation, Drawing, vary
from hubel.data.batches import batches, minibatches, prefetch
from hubel.data.counter import draw, uniform
from hubel.data.preprocess import factors
from hubel.engine.reference.assemble import assemble
from hubel.errors import UsageError

FLIP = Augmentation(flip=True)


def test_an_epoch_has_every_index_once_and_a_last_partial_batch() -> None:
    found = list(batches(103, 10, seed=3, epoch=2))
    assert [len(batch) for batch in found] == [10] * 10 + [3]
    assert sorted(np.concatenate(found).tolist()) == list(range(103))


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(list(batches(1000, 64, seed, epoch))).tolist()

    orders = {(seed, epoch): order(seed, epoch) for seed in (0, 1, -1, 2**63) for epoch in (0, 1)}
    assert len({tuple(o) for o in orders.values()}) == 8
    assert all(order(*key) == value for key, value in orders.items())
    assert order(0, 0)[:5] == [264, 272, 839, 238, 28]  # the same on every platform


def test_nothing_to_batch_is_an_error() -> None:
    for count, size in ((0, 4), (4, 0)):
        with pytest.raises(
            UsageError, match=f"{count} images cannot be put into batches of {size}"
        ):
            batches(count, size, 0, 0)


def test_the_hash_is_splitmix64() -> None:
    # The published first output of the generator seeded with 1234567 (Vigna, prng.di.unimi.it).
    assert draw(1234567).item() == 6457827717110365317


def test_the_hash_is_uniform_and_its_counters_independent() -> None:
    values = uniform(5, np.arange(40_000))
    assert (values >= 0).all()
    assert (values < 1).all()
    assert np.abs(np.histogram(values, 20)[0] - 2000).max() < 250
    assert abs(np.corrcoef(values, uniform(6, np.arange(40_000)))[0, 1]) < 0.02
    assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 0.02
    bits = np.unpackbits(draw(0, np.arange(10_000)).view(np.uint8)).mean()
    assert abs(bits - 0.5) < 0.005


def test_minibatches_gather_augment_and_preprocess() -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 1), np.uint8)
    split = Split(images, np.arange(10) % 3)
    measured = fit(images)
    found = list(minibatches(split, measured, assemble, 4, seed=1, epoch=5, augment=FLIP))
    for batch, indices in zip(found, batches(10, 4, 1, 5), strict=True):
        assert np.array_equal(batch.indices, indices)
        assert np.array_equal(batch.labels, split.labels[indices])
        varied = vary(FLIP, Drawing(1, 5, 10, (4, 4, 1)), indices)
        wanted = assemble(images, indices, varied, factors(measured, images))
        assert np.array_equal(batch.images, wanted)
    plain = next(minibatches(split, None, assemble, 10, shuffle=False))
    assert plain.images.dtype == np.float32
    assert np.array_equal(plain.images, images)


def test_variations_are_drawn_alike_however_many_batches_share_a_draw() -> None:
    images = np.arange(5000 * 2, dtype=np.float32).reshape(5000, 1, 2, 1)
    split = Split(images, np.zeros(5000, int))
    found = list(minibatches(split, None, assemble, 700, seed=3, epoch=1, augment=FLIP))
    assert [len(batch.images) for batch in found] == [700] * 7 + [100]
    varied = vary(FLIP, Drawing(3, 1, 5000, (1, 2, 1)), np.arange(5000))
    wanted = assemble(images, np.arange(5000), varied, factors(None, images))
    for batch in found:
        assert np.array_equal(batch.images, wanted[batch.indices])


def test_prefetch_keeps_order_and_runs_ahead() -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number

    stream = prefetch(source(), ahead=2)
    assert next(stream) == 0
    deadline = time.monotonic() + 5
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert made[:3] == [0, 1, 2]
    assert list(stream) == [1, 2, 3, 4]


def test_prefetch_raises_the_sources_error_in_its_place() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("broken image")

    stream = prefetch(source())
    assert next(stream) == 1
    with pytest.raises(ValueError, match="broken image"):
        next(stream)
    assert threads() == []


def test_prefetch_stops_when_its_consumer_does() -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            number = 0
            while True:
                number += 1
                yield number
        finally:
            closed.set()

    stream = prefetch(source(), ahead=3)
    assert next(stream) == 1
    stream.close()
    assert closed.is_set()
    assert threads() == []
    with pytest.raises(UsageError, match="ahead is 0"):
        next(prefetch([], ahead=0))


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "hubel-prefetch"]
