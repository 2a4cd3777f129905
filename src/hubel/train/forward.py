"""Images through a network: prepared as its model sees them, and a bounded number at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hubel.data.preprocess import Preprocess, factors
from hubel.engine import Array, Session
from hubel.errors import UsageError
from hubel.graph.op import Graph
from hubel.train.arrays import as_images
from hubel.train.prepared import assembler
from hubel.variation import Variation

if TYPE_CHECKING:
    from hubel.data.batches import Assemble
    from hubel.train.tta import View

__all__ = ["Forward"]


@dataclass(frozen=True, eq=False)
class Forward:
    """A session with a network's parameters, the size of its images, and their preprocessing."""

    session: Session
    size: tuple[int, int, int]
    preprocess: Preprocess | None

    def run(
        self, graph: Graph, x: ArrayLike, batch_size: int, view: View | None = None
    ) -> dict[str, Array]:
        """The graph's outputs for all images, or for a view of each; raises UsageError for misfits.

        No image is fine too: the outputs then have their shapes, and no rows.
        """
        if batch_size < 1:
            raise UsageError(f"batch_size is {batch_size}, at least 1 is needed")
        images = as_images(x, self.size, least=0)
        count = len(images)
        if not count:  # one image that nobody sees gives the shapes
            images = np.zeros((1, *self.size), np.float32)
        parts = [
            self.session.run(
                graph, {"input": self.prepared(images[start : start + batch_size], view)}
            )
            for start in range(0, len(images), batch_size)
        ]
        if len(parts) == 1:
            return {name: made[:count] for name, made in parts[0].items()}
        return {name: np.concatenate([part[name] for part in parts]) for name in graph.outputs}

    def prepared(self, images: NDArray[Any], view: View | None = None) -> Array:
        """The images as the network sees them; the same array where nothing is done to it."""
        if self.preprocess is None and images.dtype == np.float32 and view is None:
            return images
        indices = np.arange(len(images))
        seen = None if view is None else Variation(view.places(*images.shape[:3]))
        return self._assemble(images, indices, seen, factors(self.preprocess, images))

    @cached_property
    def _assemble(self) -> Assemble:
        return assembler(self.session, self.preprocess)
