"""A folder to a Dataset: choose a size, decode or take from the cache, split, fingerprint."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from hubel.data.cache import CacheError, Entry, find, key_of, store
from hubel.data.dataset import Dataset, ImageProblem, Split, fingerprint_of, set_aside_note
from hubel.data.folder import File, Listing, list_folder
from hubel.data.image import check_wanted, decoder_warnings, measure
from hubel.data.pool import Wanted, decode_files
from hubel.data.preprocess import Resize
from hubel.data.split import by_name
from hubel.errors import DataError

__all__ = ["load_folder"]

_SAMPLE = 512
_LARGEST_SIDE = 224
_LARGEST_COMMON_SIDE = 512
# Beyond this the images of a split are gathered into a file instead of into memory.
_MEMORY_BYTES = 2**30
_GATHER_ROWS = 256
# Another share than that of `load` was asked for, and is worth a word where it has no effect.
_USUAL_FRACTION = 0.1


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to bring the images to, how sure that is, and the sentences that say so."""

    wanted: Wanted
    guessed_grey: bool
    notes: tuple[str, ...]


class _ColourError(Exception):
    """A training image holds colour, where the sample was grey throughout."""


def load_folder(
    source: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None,
    channels: int | None,
    resize: Resize,
    val_fraction: float,
    seed: int,
    workers: int | None,
    cache: bool,
    strict: bool,
    progress: Callable[[int, int], None] | None,
) -> Dataset:
    """Load a folder of images; see `hubel.data.load`."""
    check_wanted(size, channels, resize)
    listing = list_folder(source, strict=strict)
    files = _all_files(listing)
    key = key_of(
        [
            str(Path(listing.root).resolve()),
            [PIL.__version__, size, channels, resize],
            files,
            len(listing.train),
        ]
    )
    entry = find(key) if cache else None
    notes: list[str] = []
    if entry is None:
        try:
            entry, reason = _decode(
                listing, size, channels, resize, workers, key if cache else None, progress
            )
        except _ColourError:
            entry, reason = _decode(
                listing, size, 3, resize, workers, key if cache else None, progress
            )
        if reason:
            notes.append(f"The decoded images could not be cached: {reason}.")
    return _dataset(listing, entry, key, val_fraction, seed, notes)


def _all_files(listing: Listing) -> tuple[File, ...]:
    return listing.train + (listing.validation or ()) + (listing.test or ())


def _decode(
    listing: Listing,
    size: tuple[int, int] | None,
    channels: int | None,
    resize: Resize,
    workers: int | None,
    key: str | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[Entry, str]:
    """Decode every file, into the cache if that works, else into memory and say why."""
    paths = [f"{listing.root}/{file.name}" for file in _all_files(listing)]
    plan = _plan(paths[: len(listing.train)], size, channels, resize)
    facts: dict[str, Any] = {}

    def chunks() -> Iterator[np.ndarray]:
        failed: dict[int, str] = {}
        conversions: Counter[str] = Counter()
        sizes: list[np.ndarray] = []
        with closing(decode_files(paths, plan.wanted, workers)) as decoded:
            for chunk in decoded:
                if plan.guessed_grey and chunk.first_colour in range(len(listing.train)):
                    raise _ColourError
                failed |= chunk.failed
                conversions.update(chunk.conversions)
                sizes.append(chunk.sizes)
                yield chunk.images
                if progress is not None:
                    progress(chunk.start + chunk.count, len(paths))
        _refuse_lost_classes(listing, failed)
        facts.update(
            failed=sorted(failed.items()),
            conversions=dict(sorted(conversions.items())),
            sizes=_other_sizes(np.concatenate(sizes), plan.wanted.size),
            notes=plan.notes,
        )

    reason = ""
    if key is not None:
        try:
            return store(key, len(paths), plan.wanted.shape, chunks(), lambda: facts), ""
        except CacheError as error:
            reason = str(error)
    images = np.empty((len(paths), *plan.wanted.shape), np.uint8)
    digest = hashlib.sha256()
    count = 0
    for chunk in chunks():
        images[count : count + len(chunk)] = chunk
        digest.update(chunk.reshape(-1).data)
        count += len(chunk)
    return Entry(images[:count], digest.hexdigest(), facts), reason


def _other_sizes(sizes: np.ndarray, wanted: tuple[int, int]) -> list[list[int]]:
    """The size in the file of each image; none where all have the one that is wanted."""
    return [] if (sizes == wanted).all() else sizes.tolist()


def _refuse_lost_classes(listing: Listing, failed: dict[int, str]) -> None:
    readable = {file.label for position, file in enumerate(listing.train) if position not in failed}
    for label, name in enumerate(listing.classes):
        if label not in readable:
            mine = [p for p, file in enumerate(listing.train) if file.label == label]
            first = ImageProblem(listing.train[mine[0]].name, failed[mine[0]])
            raise DataError(
                f"none of the {len(mine)} files in the class {name!r} is a readable image; {first}",
                where=listing.root,
                hint="replace the images or remove the folder",
            )


def _plan(
    paths: Sequence[str], size: tuple[int, int] | None, channels: int | None, resize: Resize
) -> _Plan:
    """Choose what was not asked for, from the headers of evenly spread training images."""
    if size is not None and channels is not None:
        return _Plan(Wanted(size, channels, resize), False, ())
    spread = np.unique(np.linspace(0, len(paths) - 1, _SAMPLE).round().astype(int)).tolist()
    sizes: list[tuple[int, int]] = []
    grey = True
    with decoder_warnings():
        for index in spread:
            with suppress(DataError):  # it will be decoded, and named, with all the others
                own_size, own_grey = measure(paths[index])
                sizes.append(own_size)
                grey = grey and own_grey
    notes: tuple[str, ...] = ()
    if size is None:
        size, notes = _common_size(sizes, resize)
    chosen = channels or (1 if grey else 3)
    return _Plan(Wanted(size, chosen, resize), channels is None and grey, notes)


def _common_size(
    sizes: list[tuple[int, int]], resize: Resize
) -> tuple[tuple[int, int], tuple[str, ...]]:
    if not sizes:  # nothing is readable, which decoding will say of each file
        return (1, 1), ()
    heights, widths = [s[0] for s in sizes], [s[1] for s in sizes]
    same = len(set(sizes)) == 1
    if same and max(sizes[0]) <= _LARGEST_COMMON_SIDE:
        return sizes[0], ()
    height, width = float(np.median(heights)), float(np.median(widths))
    shrink = min(1.0, _LARGEST_SIDE / max(height, width))
    size = (_multiple_of_8(height * shrink), _multiple_of_8(width * shrink))
    if same:
        what = f"The images are {heights[0]}×{widths[0]}"
    else:
        what = (
            f"The images differ in size (heights {min(heights)} to {max(heights)}, "
            f"widths {min(widths)} to {max(widths)})"
        )
    how = {"squash": "squashed", "pad": "padded", "crop": "cropped"}[resize]
    return size, (
        f"{what}: each is {how} to {size[0]}×{size[1]}. Choose another size if that is not right.",
    )


def _multiple_of_8(length: float) -> int:
    return max(8, round(length / 8) * 8)


def _dataset(
    listing: Listing, entry: Entry, key: str, val_fraction: float, seed: int, notes: list[str]
) -> Dataset:
    failed = {int(position): str(reason) for position, reason in entry.facts["failed"]}
    files = _all_files(listing)
    kept = [file for position, file in enumerate(files) if position not in failed]
    labels = np.array([file.label for file in kept], np.int64)
    names = tuple(file.name for file in kept)
    sections = [len(listing.train), len(listing.validation or ()), len(listing.test or ())]
    ends = np.cumsum(sections).tolist()
    lost = np.searchsorted(sorted(failed), ends)
    train_end, validation_end, test_end = (np.array(ends) - lost).tolist()
    held_out = np.zeros(train_end, bool)
    if listing.validation is None:
        held_out = by_name(
            names[:train_end], labels[:train_end], listing.classes, val_fraction, seed
        )
        train_rows, validation_rows = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        notes += set_aside_note(len(validation_rows), train_end)
    else:
        train_rows, validation_rows = np.arange(train_end), np.arange(train_end, validation_end)
        notes += _about_validation(listing, listing.validation, val_fraction)

    sizes = np.array(entry.facts["sizes"], np.int64) if entry.facts["sizes"] else None

    def part(rows: np.ndarray) -> Split:
        return Split(
            _rows(entry, rows, key),
            labels[rows],
            tuple(names[row] for row in rows.tolist()),
            None if sizes is None else sizes[rows],
        )

    problems = (
        *listing.problems,
        *(
            ImageProblem(files[position].name, reason, "unreadable")
            for position, reason in failed.items()
        ),
    )
    return Dataset(
        Path(listing.root).resolve().name,
        listing.classes,
        part(train_rows),
        part(validation_rows),
        None if listing.test is None else part(np.arange(validation_end, test_end)),
        tuple(sorted(problems, key=lambda problem: problem.path)),
        entry.facts["conversions"],
        (*entry.facts["notes"], *notes),
        fingerprint_of(listing.classes, entry.digest, entry.images.shape, labels, held_out),
    )


def _about_validation(
    listing: Listing, validation: Sequence[File], val_fraction: float
) -> Iterator[str]:
    """What a folder of validation images leaves out, of its classes and of what was asked for."""
    folder = validation[0].name.split("/")[0]
    if val_fraction not in (0, _USUAL_FRACTION):
        yield f"Validation uses {folder}/: no share of the training images is set aside."
    there = {file.label for file in validation}
    missing = [name for label, name in enumerate(listing.classes) if label not in there]
    if missing:
        shown = ", ".join(missing[:10]) + (" …" if len(missing) > 10 else "")
        yield f"{folder}/ has no image of {shown}: validation says nothing about that."


def _rows(entry: Entry, rows: np.ndarray, key: str) -> np.ndarray:
    """Return some rows of the images: a view where they adjoin, else gathered."""
    if len(rows) == 0 or rows[-1] - rows[0] + 1 == len(rows):
        return entry.images[rows[0] : rows[-1] + 1] if len(rows) else entry.images[:0]
    row_bytes = int(np.prod(entry.images.shape[1:]))
    if len(rows) * row_bytes > _MEMORY_BYTES and isinstance(entry.images, np.memmap):
        own_key = key_of([key, hashlib.blake2b(rows.tobytes()).hexdigest()])
        if gathered := find(own_key):
            return gathered.images
        pieces = (
            entry.images[rows[start : start + _GATHER_ROWS]]
            for start in range(0, len(rows), _GATHER_ROWS)
        )
        with suppress(CacheError):  # memory is the only other place
            return store(own_key, len(rows), entry.images.shape[1:], pieces, dict).images
    gathered_here: np.ndarray = np.asarray(entry.images)[rows]
    return gathered_here
