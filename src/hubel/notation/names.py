"""The names of layers: kind and number, in the order in which they are built."""

from __future__ import annotations

__all__ = ["Names"]


class Names:
    """Names one layer after another; `counts` says how many there are of each kind so far.

    >>> name = Names()
    >>> name("conv"), name("relu"), name("conv")
    ('conv1', 'relu1', 'conv2')
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def __call__(self, kind: str) -> str:
        """The name of the next layer of a kind."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return f"{kind}{self.counts[kind]}"
