"""What a caller may feed a graph or a batch: the one check of it, for every engine."""

from __future__ import annotations

import numpy as np

from hubel.engine.session import Array, Feeds
from hubel.errors import DataError, UsageError
from hubel.graph.op import Graph, Value
from hubel.variation import FRACTION, Variation

__all__ = ["check_choice", "check_feeds"]

# Counted rather than measured: dropout hashes them and Adam's bias correction raises to them.
WHOLE_NUMBERS = ("seed", "step")


def check_feeds(graph: Graph, feeds: Feeds) -> dict[str, Array]:
    """The feeds that the graph reads, as arrays of the caller's own number types.

    Labels are copied, for they choose places in memory: what was checked must stay so.
    Raises UsageError for a feed that is missing or has the wrong shape or number type, DataError
    for a label that is no class.
    """
    checked: dict[str, Array] = {}
    batch: tuple[str, int] | None = None
    for value in graph.fed:
        if value.name not in feeds:
            raise UsageError(
                f"the graph reads {value.name!r}, which was not fed",
                hint=f"feed {value.name!r} with shape {_shape(value)}",
            )
        fed = feeds[value.name]
        array = np.array(fed) if value.role == "label" else np.asarray(fed)
        _check_shape(value, array)
        _check_numbers(value, array)
        if value.batched:
            if batch is not None and array.shape[0] != batch[1]:
                raise UsageError(
                    f"{value.name!r} has {array.shape[0]} entries, but {batch[0]!r} has {batch[1]}",
                    hint="feed one entry an image",
                )
            batch = (value.name, array.shape[0])
        checked[value.name] = array
    _check_labels(graph, checked)
    return checked


def check_choice(images: Array, indices: Array, variation: Variation | None) -> None:
    """Raise UsageError where `indices` or the variation point to what `images` do not have."""
    _, height, width, _ = images.shape
    chosen = [("image", indices, 0, len(images))]
    if variation is not None:
        if variation.places is not None:
            rows, columns = variation.places
            chosen += [("row", rows, -1, height), ("column", columns, -1, width)]
        chosen += _sides(variation.boxes, height, width)
        if variation.affine is not None:
            _check_affine(variation.affine, height, width)
        if variation.mixed is not None:
            chosen += _sides(variation.mixed.boxes, height, width)
            check_choice(images, variation.mixed.indices, variation.mixed.variation)
    for what, numbers, least, end in chosen:
        if numbers.size and not (least <= numbers.min() and numbers.max() < end):
            raise UsageError(
                f"{what} {numbers.min()} to {numbers.max()} were chosen, of {end} from 0 on"
            )


def _sides(boxes: Array | None, height: int, width: int) -> list[tuple[str, Array, int, int]]:
    if boxes is None:
        return []
    return [
        ("row of a box", boxes[:, ::2], 0, height + 1),
        ("column of a box", boxes[:, 1::2], 0, width + 1),
    ]


def _check_affine(affine: Array, height: int, width: int) -> None:
    """Coordinates must fit into their 64 bits, with room to step beyond the border."""
    farthest = np.abs(affine.astype(np.float64)) @ np.array([height, width, 1.0])
    if farthest.size and not farthest.max() < 2.0**62:
        raise UsageError(
            f"a pixel would be taken {farthest.max() / 2.0**FRACTION:.3g} pixels from its image"
        )


def _shape(value: Value) -> str:
    sides = ("N", *map(str, value.shape)) if value.batched else tuple(map(str, value.shape))
    return f"({', '.join(sides)}{',' * (len(sides) == 1)})"


def _check_shape(value: Value, array: Array) -> None:
    shape = array.shape[1:] if value.batched else array.shape
    if shape != value.shape or (value.batched and array.ndim == 0):
        raise UsageError(f"{value.name!r} has shape {array.shape}, but must be {_shape(value)}")
    if value.batched and array.shape[0] == 0:
        raise UsageError(f"{value.name!r} holds no image", hint="feed at least one")


def _check_numbers(value: Value, array: Array) -> None:
    whole = value.role == "label" or value.name in WHOLE_NUMBERS
    if array.dtype.kind not in ("iu" if whole else "iuf"):
        wanted = "whole numbers" if whole else "numbers"
        raise UsageError(f"{value.name!r} must hold {wanted}, not {array.dtype}")


def _check_labels(graph: Graph, feeds: dict[str, Array]) -> None:
    for name, classes in graph.labels:
        labels = feeds[name]
        if labels.min() >= 0 and labels.max() < classes:
            continue
        wrong = np.flatnonzero((labels < 0) | (labels >= classes))
        raise DataError(
            f"the label {labels[wrong[0]]} of image {wrong[0]} (from 0) is no class",
            where=name,
            hint=f"labels of {classes} classes are 0 to {classes - 1}",
        )
