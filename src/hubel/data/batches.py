"""Which images a training step sees, in which order, prepared while the step before runs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias, TypeVar

import numpy as np

from hubel.data import counter
from hubel.data.augment import Augmentation, Drawing, vary
from hubel.data.dataset import Split
from hubel.data.preprocess import Factors, Preprocess, factors
from hubel.errors import UsageError
from hubel.variation import Variation

__all__ = ["Assemble", "Batch", "batches", "minibatches", "prefetch"]

Assemble: TypeAlias = Callable[[np.ndarray, np.ndarray, Variation | None, Factors], np.ndarray]
"""(images, indices of the wanted ones, how they are varied, factors) to float32 numbers: an
engine's `Session.assemble`."""

# Images whose variations are drawn together: few enough to stay near a core, many enough that what
# NumPy takes for each call does not count.
_DRAWN_TOGETHER = 2048

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Images (B, H, W, C) float32 ready for the network, their class numbers and indices.

    `variation` tells what was done to them. `targets` (B, classes) float32 are what a loss of
    distributions aims at; None where the class numbers alone say it.
    """

    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    variation: Variation | None = None
    targets: np.ndarray | None = None


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
    assemble: Assemble,
    batch_size: int,
    seed: int = 0,
    epoch: int = 0,
    *,
    shuffle: bool = True,
    augment: Augmentation | None = None,
) -> Iterator[Batch]:
    """Yield the batches of an epoch: gathered, augmented, preprocessed.

    Without `preprocess`, pixels become float32 numbers as they are.
    """
    images = split.images
    ready = factors(preprocess, images)
    order = batches(len(split), batch_size, seed, epoch, shuffle)
    height, width, depth = images.shape[1:]
    drawing = Drawing(seed, epoch, len(split), (height, width, depth), images.dtype == np.uint8)
    while group := list(islice(order, max(1, _DRAWN_TOGETHER // batch_size))):
        drawn = vary(augment, drawing, np.concatenate(group)) if augment is not None else None
        for place, indices in enumerate(group):
            first = place * batch_size
            own = None if drawn is None else drawn.part(slice(first, first + batch_size))
            made = assemble(images, indices, own, ready)
            yield Batch(made, split.labels[indices], indices, own)


def prefetch(source: Iterable[_Item], ahead: int = 2) -> Generator[_Item, None, None]:
    """Yield the items of `source`, which a thread fetches `ahead` of their use.

    An exception in `source` is raised here, in its place. Closing this generator, or leaving the
    loop over it, ends the thread, and waits until the item that it is just fetching is there.
    NumPy and the engine release the GIL, so both do run at once.

    >>> list(prefetch(range(3)))
    [0, 1, 2]
    """
    if ahead < 1:
        raise UsageError(f"ahead is {ahead}, at least 1 is needed")
    # An item, or what ended the thread: None for the end of the source.
    ready: queue.SimpleQueue[tuple[_Item] | BaseException | None] = queue.SimpleQueue()
    # One entry for each item that may be fetched; whoever waits for one sleeps until it is there.
    room: queue.SimpleQueue[None] = queue.SimpleQueue()
    stop = threading.Event()

    def work() -> None:
        try:
            items = iter(source)
            while True:
                room.get()
                if stop.is_set():
                    return
                ready.put((next(items),))
        except StopIteration:
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    for _ in range(ahead):
        room.put(None)
    thread = threading.Thread(target=work, name="hubel-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            fetched = ready.get()
            room.put(None)
            if isinstance(fetched, BaseException):
                raise fetched
            if fetched is None:
                return
            yield fetched[0]
    finally:
        stop.set()
        room.put(None)
        thread.join()
        if isinstance(source, Generator):
            source.close()
