"""Which images a training step sees, in which order, prepared while the step before runs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np

from hubel.data import counter
from hubel.data.dataset import Split
from hubel.data.preprocess import Preprocess
from hubel.errors import UsageError

__all__ = ["Augment", "Batch", "batches", "minibatches", "prefetch"]

Augment: TypeAlias = Callable[[np.ndarray, int, int, np.ndarray], np.ndarray]
"""(images uint8, seed, epoch, indices of the images) to images of the same shape."""

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Images (B, H, W, C) float32 ready for the network, their class numbers and indices."""

    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray


def batches(
    count: int, batch_size: int, seed: int, epoch: int, shuffle: bool = True
) -> Iterator[np.ndarray]:
    """Yield the indices of each batch of an epoch; the last batch may be smaller.

    The order depends on (count, seed, epoch) and nothing else: not on earlier epochs, NumPy's
    version or the platform.

    >>> [batch.tolist() for batch in batches(5, 2, seed=0, epoch=0, shuffle=False)]
    [[0, 1], [2, 3], [4]]
    """
    if count < 1 or batch_size < 1:
        raise UsageError(f"{count} images cannot be put into batches of {batch_size}")
    order = np.arange(count)
    if shuffle:
        order = np.argsort(counter.draw(seed, epoch, order), kind="stable")
    return (order[start : start + batch_size] for start in range(0, count, batch_size))


def minibatches(
    split: Split,
    preprocess: Preprocess | None,
    batch_size: int,
    seed: int = 0,
    epoch: int = 0,
    *,
    shuffle: bool = True,
    augment: Augment | None = None,
) -> Iterator[Batch]:
    """Yield the batches of an epoch: gathered, augmented, preprocessed.

    Without `preprocess`, pixels become float32 numbers as they are.
    """
    for indices in batches(len(split), batch_size, seed, epoch, shuffle):
        images = split.images[indices]
        if augment is not None:
            images = augment(images, seed, epoch, indices)
        ready = images.astype(np.float32) if preprocess is None else preprocess.apply(images)
        yield Batch(ready, split.labels[indices], indices)


def prefetch(source: Iterable[_Item], ahead: int = 1) -> Generator[_Item, None, None]:
    """Yield the items of `source`, which a thread fetches `ahead` of their use.

    An exception in `source` is raised here, in its place. Closing this generator, or leaving the
    loop over it, ends the thread, and waits until the item that it is just fetching is there.
    NumPy and the engine release the GIL, so both do run at once.

    >>> list(prefetch(range(3)))
    [0, 1, 2]
    """
    if ahead < 1:
        raise UsageError(f"ahead is {ahead}, at least 1 is needed")
    ready: queue.Queue[tuple[bool, _Item | BaseException | None]] = queue.Queue(ahead)
    stop = threading.Event()

    def offer(last: bool, item: _Item | BaseException | None) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                ready.put((last, item), timeout=0.05)
                return

    def work() -> None:
        try:
            for item in source:
                offer(False, item)
                if stop.is_set():
                    return
        except BaseException as error:
            offer(True, error)
        else:
            offer(True, None)

    thread = threading.Thread(target=work, name="hubel-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            last, item = ready.get()
            if not last:
                yield item  # type: ignore[misc]
            elif isinstance(item, BaseException):
                raise item
            else:
                return
    finally:
        stop.set()
        thread.join()
        if isinstance(source, Generator):
            source.close()
