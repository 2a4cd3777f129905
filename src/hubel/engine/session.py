"""What every engine offers: a session keeps the values that outlive a step, and runs graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from hubel.graph.op import Graph
from hubel.variation import Variation

__all__ = ["Array", "Factors", "Feeds", "Session"]

Array: TypeAlias = NDArray[Any]
Factors: TypeAlias = tuple[Array, Array]
Feeds: TypeAlias = Mapping[str, Array | float | int]


class Session(Protocol):
    """Parameters, statistics and slots by name, and the running of graphs on them.

    Shapes are the graph's: images (H, W, C), convolution weights (F, F, C/groups, K), FC weights
    (in, out), and (N, …) in front of what has one entry an image.
    """

    @property
    def pace(self) -> float:
        """Floating-point operations a second of training, roughly, on two cores, not idle ones.

        By this, and not by a clock, is decided how much may be tried in some seconds: so the same
        is tried every time.
        """
        ...

    def write(self, name: str, array: Array) -> None:
        """Keeps a copy of a persistent value."""
        ...

    def read(self, name: str) -> Array:
        """A copy of a persistent value."""
        ...

    def run(self, graph: Graph, feeds: Feeds) -> dict[str, Array]:
        """Runs every node once and gives the graph's outputs by name.

        `feeds` holds "input" (N, H, W, C), and as far as the graph reads them "labels" (N,),
        "targets" (N, classes), "rate", "step" and "seed". Persistent values that the graph updates
        are changed in place.
        """
        ...

    def assemble(
        self, images: Array, indices: Array, variation: Variation | None, factors: Factors
    ) -> Array:
        """The chosen ones of `images` (M, H, W, C), uint8 or float32, as a batch (N, H, W, C).

        Each is varied as `variation` says; every number becomes number * scale + shift with
        `factors` of shape (1, W, C) or (H, W, C), in float32, product and sum rounded each. Every
        engine gives the same bits. Threads may call it while a graph runs. Raises UsageError for an
        index of no image, a place in none and a box that is not on it.
        """
        ...
