"""Which images a model is scored on, with their classes in the model's own order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubel.data import load
from hubel.data.dataset import Dataset, Split
from hubel.errors import DataError, UsageError
from hubel.model import Model

__all__ = ["chosen_split", "load_for"]


def load_for(model: Model, source: str, data_dir: Path | None) -> Dataset:
    """Load images as the model needs them, and set the same ones aside as in its training."""
    height, width, depth = model.network.input
    kept = model.settings
    return load(
        source,
        size=(height, width),
        channels=depth if depth in (1, 3) else None,
        resize=model.resize,
        val_fraction=kept.val_fraction if kept else 0.0,
        seed=kept.seed if kept else 0,
        data_dir=data_dir,
    )


def chosen_split(
    model: Model, data: Dataset, split: str | None
) -> tuple[str, NDArray[Any], NDArray[np.int64]]:
    """The name of a split, its images, and the number that the model gives the class of each.

    Classes are matched by name. Raises DataError for classes that the model does not have, and
    UsageError for a split that there is not.
    """
    strangers = [name for name in data.classes if name not in model.classes]
    if strangers:
        raise DataError(
            f"the model has no class {', '.join(strangers)}",
            where=data.name,
            hint=f"its classes are {', '.join(model.classes)}: rename or leave out the others",
        )
    splits: dict[str, tuple[Split, ...]] = {"val": (data.validation,)}
    if data.test is not None and len(data.test):
        splits["test"] = (data.test,)
    splits["all"] = (data.train, data.validation, *splits.get("test", ()))
    # Images that a model was trained on flatter it: they are only scored where they are asked for,
    # or where there are no others.
    name = split or next((name for name in ("test", "val") if any(splits.get(name, ()))), "all")
    if name not in splits or not sum(map(len, splits[name])):
        raise UsageError(
            f"--split {name} has no images here",
            where=data.name,
            hint=f"choose from {', '.join(splits)}",
        )
    parts = splits[name]
    number = np.array([model.classes.index(label) for label in data.classes], np.int64)
    images = parts[0].images
    if len(parts) > 1:
        images = np.concatenate([part.images for part in parts])
    return (
        "validation" if name == "val" else name,
        images,
        number[np.concatenate([part.labels for part in parts])],
    )
