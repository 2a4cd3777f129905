"""Folders and arrays of images to batches."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hubel.data.arrays import split_arrays
    from hubel.data.dataset import Dataset, ImageProblem, Split
    from hubel.data.image import read
    from hubel.data.loading import load
    from hubel.data.preprocess import Preprocess, fit

__all__ = [
    "Dataset",
    "ImageProblem",
    "Preprocess",
    "Split",
    "fit",
    "load",
    "read",
    "split_arrays",
]

# No name here is a submodule's too, which its import would put in the place of the function.
_HOMES = {
    "hubel.data.arrays": ("split_arrays",),
    "hubel.data.dataset": ("Dataset", "ImageProblem", "Split"),
    "hubel.data.image": ("read",),
    "hubel.data.loading": ("load",),
    "hubel.data.preprocess": ("Preprocess", "fit"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    # A model needs the preprocessing alone to predict; decoding images takes a third of its time.
    if name not in _HOME:
        raise AttributeError(f"module 'hubel.data' has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = found
    return found
