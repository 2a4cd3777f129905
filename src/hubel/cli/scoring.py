"""Which images a model is scored on, with their classes in the model's own order."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hubel.cli.preparing import kept
from hubel.data import load
from hubel.data.dataset import Dataset, Split
from hubel.errors import DataError, HubelError, UsageError
from hubel.model import Model

__all__ = ["chosen_split", "load_for", "training_images"]


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


def training_images(model: Model, path: Path, data: Dataset) -> tuple[Dataset | None, str]:
    """The dataset that a model was trained on: `data`, or what its run folder names.

    Where neither is, or its images are others by now, there is none, and a reason.
    """
    if model.trained_on(data):
        return data, ""
    try:
        _, source = kept(path if path.is_dir() else path.parent)
        training = source.load(quiet=True)
    except HubelError as error:
        return None, str(error)
    if not model.trained_on(training):
        return None, f"{source.source}: these are not the images of its training any more"
    return training, ""


def chosen_split(model: Model, data: Dataset, split: str | None) -> tuple[str, Split]:
    """The name of a split, and its images with the numbers that the model gives their classes.

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
    labels = number[np.concatenate([part.labels for part in parts])]
    return "validation" if name == "val" else name, Split(images, labels)
