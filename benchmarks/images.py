"""Training and test images as arrays that every process maps from the same files."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Images"]


@dataclass(frozen=True, slots=True)
class Images:
    """Images (N, H, W, C) in uint8, and the class number of each."""

    train: Any
    train_labels: Any
    test: Any
    test_labels: Any

    def save(self, folder: Path) -> None:
        """Writes a file an array."""
        for one in fields(self):
            np.save(folder / f"{one.name}.npy", getattr(self, one.name))

    @classmethod
    def load(cls, folder: Path) -> Images:
        """What `save` wrote, read into memory."""
        return cls(*(np.load(folder / f"{one.name}.npy") for one in fields(cls)))
