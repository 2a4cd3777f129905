"""One batch of a training run, to be looked at: the arrays that `train` would feed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from hubel import engine as engines
from hubel.data import preprocess as preprocessing
from hubel.data.batches import Batch
from hubel.data.dataset import Dataset
from hubel.data.preprocess import Factors
from hubel.errors import UsageError
from hubel.train.progress import Progress
from hubel.train.settings import Settings, settings
from hubel.train.step import batches_from, check

__all__ = ["Preview", "preview"]


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """A batch as the network sees it, and what is needed to read it.

    `names` has the classes of each image with the share of each, the image's own class first, and
    `factors` are those by which pixels became the batch's numbers.
    """

    batch: Batch
    epoch: int
    step: int
    names: tuple[tuple[tuple[str, float], ...], ...]
    factors: Factors
    bytes: bool


def preview(
    data: Dataset,
    epoch: int = 1,
    step: int = 1,
    *,
    engine: str = "native",
    chosen: Settings | None = None,
    **choices: Any,
) -> Preview:
    """The batch that training on a dataset sees in a step of an epoch, both counted from 1.

    What "pca" and "whiten" then multiply it by is left out, for nothing could be seen of it.
    The `choices` are those of `hubel.train.settings.Settings`, or all of them are `chosen`. Raises
    UsageError for a step that there is not.

    >>> from hubel.data import load
    >>> found = preview(load("digits"), flip=True, batch_size=16)
    >>> found.batch.images.shape, found.names[0]
    ((16, 8, 8, 1), (('8', 1.0),))
    """
    chosen = settings(**choices) if chosen is None else chosen
    training, classes = data.train, len(data.classes)
    steps = math.ceil(len(training) / chosen.batch_size)
    if epoch < 1 or not 1 <= step <= steps:
        raise UsageError(
            f"there is no step {step} of epoch {epoch}",
            hint=f"{len(training):,} training images in batches of {chosen.batch_size} are "
            f"steps 1 to {steps} of every epoch from 1 on",
        )
    check(training, chosen, classes)
    method = chosen.preprocess
    preprocess = None if method is None else preprocessing.fit(training.images, method)
    batch = next(
        batches_from(
            training,
            preprocess,
            engines.start(engine, 1, "float32").assemble,
            replace(chosen, epochs=max(epoch, chosen.epochs)),
            Progress(epoch=epoch - 1, step=step - 1),
            classes,
        )
    )
    factors = preprocessing.factors(preprocess, training.images)
    is_bytes = training.images.dtype.kind == "u"
    return Preview(batch, epoch, step, _names(batch, data), factors, is_bytes)


def _names(batch: Batch, data: Dataset) -> tuple[tuple[tuple[str, float], ...], ...]:
    first = [data.classes[label] for label in batch.labels]
    mixed = None if batch.variation is None else batch.variation.mixed
    if mixed is None:
        return tuple(((name, 1.0),) for name in first)
    second = [data.classes[label] for label in data.train.labels[mixed.indices]]
    return tuple(
        ((one, share), (other, 1.0 - share))
        for one, other, share in zip(first, second, mixed.shares.tolist(), strict=True)
    )
