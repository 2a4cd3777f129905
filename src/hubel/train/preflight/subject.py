"""What preflight looks at: a network at its start, its data, and how it is to be trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubel.data import counter
from hubel.data.batches import Batch
from hubel.data.dataset import Split
from hubel.data.preprocess import Preprocess, factors
from hubel.engine import Array, Session
from hubel.graph.op import Graph
from hubel.train.prepared import assembler
from hubel.train.probe import probe_graph
from hubel.train.progress import Progress
from hubel.train.settings import Settings
from hubel.train.step import batches_from

__all__ = ["Subject", "sample"]

# Told apart from the orders of training's epochs, which are drawn from the same seed.
_SAMPLE = 1 << 32

_LOOKED_AT = 64


@dataclass(frozen=True, eq=False)
class Subject:
    """A session with the parameters that training begins with, and all that it will be given.

    `slots` are what an optimizer has kept there that a later run may go on from.
    """

    session: Session
    graph: Graph
    inference: Graph
    training: Split
    validation: Split | None
    preprocess: Preprocess | None
    chosen: Settings
    slots: Mapping[str, Array]

    @property
    def classes(self) -> int:
        """How many classes the network has scores of."""
        (scores,) = self.inference.outputs
        return prod(self.inference[scores].shape)

    @cached_property
    def probing(self) -> Graph:
        """The graph of a probe."""
        return probe_graph(self.graph, self.chosen)

    @cached_property
    def look(self) -> dict[str, Array]:
        """What the network at its start makes of some images: loss, outputs and gradients."""
        batch = self.assembled(sample(self.training.labels, _LOOKED_AT, self.chosen.seed))
        feeds: dict[str, Any] = {
            "input": batch.images,
            "labels": batch.labels,
            "seed": self.chosen.seed,
        }
        return self.session.run(self.probing, feeds)

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Within the block parameters may be trained; afterwards they are as they were."""
        kept = {
            value.name: self.session.read(value.name)
            for role in ("parameter", "statistic")
            for value in self.graph.values.values()
            if value.role == role
        }
        try:
            yield
        finally:
            for name, array in {**kept, **self.slots}.items():
                self.session.write(name, array)

    def batches(self, chosen: Settings) -> Iterator[Batch]:
        """The training batches of a run that is trained so, from its first epoch to its last."""
        assemble = assembler(self.session, self.preprocess)
        return batches_from(
            self.training, self.preprocess, assemble, chosen, Progress(), self.classes
        )

    def assembled(self, indices: NDArray[np.int64], split: Split | None = None) -> Batch:
        """The chosen images of a split, the training images where none is named, not augmented."""
        chosen = split or self.training
        ready = factors(self.preprocess, chosen.images)
        assemble = assembler(self.session, self.preprocess)
        images = assemble(chosen.images, indices, None, ready)
        return Batch(images, chosen.labels[indices], indices)


def sample(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Indices of `count` images, as many of each class as there can be, in a random order.

    >>> sorted(sample(np.array([0, 0, 0, 0, 1, 1]), 4, seed=0).tolist())[2:]
    [4, 5]
    """
    order = np.argsort(counter.draw(seed, _SAMPLE, np.arange(len(labels))), kind="stable")
    place = np.empty(len(labels), np.int64)
    for label in np.unique(labels).tolist():
        mine = order[labels[order] == label]
        place[mine] = np.arange(len(mine))
    # The first of every class, then the second of every class, and so on.
    dealt = order[np.argsort(place[order], kind="stable")][:count]
    return np.asarray(dealt[np.argsort(counter.draw(seed, _SAMPLE + 1, dealt), kind="stable")])
