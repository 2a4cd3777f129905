"""Folders and arrays of images to batches."""

from __future__ import annotations

from hubel.data.arrays import split_arrays
from hubel.data.batches import Batch, batches, minibatches, prefetch
from hubel.data.dataset import Dataset, ImageProblem, Split
from hubel.data.image import read
from hubel.data.load import load
from hubel.data.preprocess import Preprocess, fit

__all__ = [
    "Batch",
    "Dataset",
    "ImageProblem",
    "Preprocess",
    "Split",
    "batches",
    "fit",
    "load",
    "minibatches",
    "prefetch",
    "read",
    "split_arrays",
]
