"""What is wrong with a dataset, found without changing it: checks that name each image."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from hubel.data.cache import CacheError, key_of, recall, remember
from hubel.data.checks import Finding, ImageCheck
from hubel.data.copies import Copies, Copy, find_copies
from hubel.data.dataset import Dataset, Split, printable
from hubel.data.loading import Progress, load

__all__ = ["Audit", "audit"]

# Raised whenever the search for copies changes, so that what an earlier one found is forgotten.
_VERSION = 2
# The search takes one unrelated pair in a hundred images for copies at most (docs/audit.md).
_NEAR_SHARE = 0.01
_SMALLEST_SIDE = 8
_SMALL_SHARE = 4
_ODD_ASPECT = 2.0
_ODD_SIZE = 4.0
_IMBALANCE = 10.0
_FLAT_LEVELS = 2


@dataclass(frozen=True, slots=True)
class Audit:
    """The checks of a dataset of `images` images, and which held-out ones are in training too.

    `leaked` holds, for "validation" and "test", the places within the split.
    """

    name: str
    images: int
    checks: tuple[ImageCheck, ...]
    leaked: dict[str, tuple[int, ...]]

    @property
    def ok(self) -> bool:
        """Whether no check fails."""
        return all(check.ok for check in self.checks)

    def __getitem__(self, check: str) -> ImageCheck:
        return {one.check: one for one in self.checks}[check]

    def as_list(self) -> list[dict[str, Any]]:
        """The checks as what JSON can hold."""
        return [check.as_dict() for check in self.checks]


def audit(
    data: Dataset | str | os.PathLike[str],
    *,
    cache: bool = True,
    progress: Progress | None = None,
    **loading: Any,
) -> Audit:
    """Look for copies across splits and classes, and for images and classes that will do no good.

    A folder or the name of a dataset is loaded first, with the choices of `loading`; classes that
    its splits do not share are then findings instead of errors. What was found is kept in the
    user's cache folder by the dataset's fingerprint unless `cache` is False. Nothing else is
    written. Raises `DataError` for what cannot be loaded at all.

    >>> from hubel.data import load
    >>> found = audit(load("digits"), cache=False)
    >>> found["leaks"].value, found["constant"].ok
    (0, True)
    """
    if not isinstance(data, Dataset):
        data = load(data, cache=cache, strict=False, progress=progress, **loading)
    splits = {"train": data.train, "validation": data.validation}
    if data.test is not None:
        splits["test"] = data.test
    rows = _Rows(data, splits)
    flat, copies = _searched(data, list(splits.values()), cache)
    leaks = copies.where(rows.split > 0, rows.split == 0, rows.split)
    checks = (
        _leaks(rows, leaks),
        _labels(rows, copies),
        _duplicates(rows, copies),
        _unreadable(data),
        _constant(rows, flat),
        _tiny(rows),
        _odd(rows),
        _classes(data, splits),
        _imbalance(data),
        _stray(data),
    )
    leaked = {
        name: tuple(
            copy.row - rows.starts[name] for copy in leaks if rows.split[copy.row] == number
        )
        for number, name in enumerate(splits)
        if number
    }
    return Audit(data.name, len(rows.split), checks, leaked)


class _Rows:
    """All images of a dataset in a row: their names, splits, classes and sizes."""

    def __init__(self, data: Dataset, splits: dict[str, Split]) -> None:
        parts = list(splits.values())
        lengths = [len(part) for part in parts]
        self.classes = data.classes
        self.split = np.repeat(np.arange(len(parts)), lengths)
        self.labels = np.concatenate([part.labels for part in parts])
        self.starts = dict(zip(splits, np.cumsum([0, *lengths]).tolist(), strict=False))
        self._splits = splits
        self._names = list(splits)
        shown = data.train.images.shape[1:3]
        self.sizes = np.concatenate(
            [np.full((len(p), 2), shown) if p.sizes is None else p.sizes for p in parts]
        )

    def name(self, row: int) -> str:
        """The file of an image, or its place in its split."""
        split = self._names[int(self.split[row])]
        place = row - self.starts[split]
        files = self._splits[split].files
        return printable(files[place]) if files else f"{split}[{place}]"

    def finding(self, copy: Copy, what: Callable[[Copy], str] = lambda _: "") -> Finding:
        how = "exact copy" if copy.exact else "near copy"
        return Finding((self.name(copy.row), self.name(copy.other)), how + what(copy))

    def label(self, row: int) -> str:
        return self.classes[int(self.labels[row])]


def _searched(data: Dataset, parts: list[Split], cache: bool) -> tuple[np.ndarray, Copies]:
    """Which images (N,) are constant, and which are copies, from the cache if it is there."""
    key = key_of(["audit", _VERSION, data.fingerprint])
    kept = recall(key) if cache and data.fingerprint else None
    count = sum(map(len, parts))
    flat, first = np.zeros(count, bool), np.arange(count)
    if kept is not None:
        flat[kept["constant"]] = True
        if kept["exact"]:
            places, originals = np.array(kept["exact"]).T
            first[places] = originals
        return flat, Copies(first, tuple((a, b) for a, b in kept["near"]))
    arrays = [part.images for part in parts]
    flat = np.concatenate([_flat(images) for images in arrays])
    copies = find_copies(arrays, flat)
    if cache and data.fingerprint:
        again = np.flatnonzero(copies.first != first)
        facts = {
            "constant": np.flatnonzero(flat).tolist(),
            "exact": np.stack([again, copies.first[again]], axis=1).tolist(),
            "near": copies.near,
        }
        with suppress(CacheError):  # it is looked for anew next time
            remember(key, facts)
    return flat, copies


def _flat(images: np.ndarray) -> np.ndarray:
    """Which images (N,) are of one colour throughout, up to what JPEG makes of that."""
    flat = np.empty(len(images), bool)
    for row, image in enumerate(images):
        spread = (image.max(axis=(0, 1)) - image.min(axis=(0, 1))).max()
        flat[row] = spread <= (_FLAT_LEVELS if images.dtype == np.uint8 else 0)
    return flat


def _leaks(rows: _Rows, copies: tuple[Copy, ...]) -> ImageCheck:
    stake = int((rows.split > 0).sum())
    return ImageCheck(
        "leaks",
        _tolerable(copies, stake),
        len(copies),
        f"no exact copy, near copies of at most 1 % of {stake:,} held-out images",
        "validation or test images are in the training images too: their score flatters",
        "remove either image of each pair, or believe the score without them",
        tuple(rows.finding(copy) for copy in copies),
    )


def _labels(rows: _Rows, copies: Copies) -> ImageCheck:
    everywhere = np.ones(len(rows.split), bool)
    # Each pair once: the later image is named, with the earlier one.
    found = tuple(
        copy for copy in copies.where(everywhere, everywhere, rows.labels) if copy.other < copy.row
    )
    return ImageCheck(
        "labels",
        _tolerable(found, len(rows.split)),
        len(found),
        f"no exact copy, near copies of at most 1 % of {len(rows.split):,} images",
        "the same picture lies in two classes: no network can get both right",
        "look at each pair and remove the one that is in the wrong class",
        tuple(
            rows.finding(copy, lambda c: f", {rows.label(c.row)} and {rows.label(c.other)}")
            for copy in found
        ),
    )


def _duplicates(rows: _Rows, copies: Copies) -> ImageCheck:
    found = copies.repeats(rows.split)
    return ImageCheck(
        "duplicates",
        len(found) <= _NEAR_SHARE * len(rows.split),
        len(found),
        f"at most 1 % of {len(rows.split):,} images",
        "pictures that a split holds several times count several times",
        "keep one of each",
        tuple(rows.finding(copy) for copy in found),
    )


def _tolerable(copies: tuple[Copy, ...], stake: int) -> bool:
    exact = sum(copy.exact for copy in copies)
    return not exact and len(copies) <= _NEAR_SHARE * stake


def _unreadable(data: Dataset) -> ImageCheck:
    return _of_files(
        "unreadable",
        _problems(data, "unreadable"),
        "files that should be images cannot be read, and are left out",
        "copy them again, save them as JPEG or PNG, or delete them",
    )


def _constant(rows: _Rows, flat: np.ndarray) -> ImageCheck:
    found = np.flatnonzero(flat).tolist()
    return _of_files(
        "constant",
        tuple(Finding((rows.name(row),), "one colour throughout") for row in found),
        "images of a single colour show nothing of their class",
        "delete them",
    )


def _tiny(rows: _Rows) -> ImageCheck:
    shorter = rows.sizes.min(axis=1)
    usual = float(np.median(shorter))
    least = max(min(_SMALLEST_SIDE, usual), usual / _SMALL_SHARE)
    found = np.flatnonzero(shorter < least).tolist()
    return _of_files(
        "tiny",
        tuple(Finding((rows.name(row),), _size(rows, row)) for row in found),
        f"images with a side below {least:g} pixels, where {usual:g} are usual, hold little",
        "replace them with larger ones, or delete them",
    )


def _odd(rows: _Rows) -> ImageCheck:
    aspects = np.log(rows.sizes[:, 1] / rows.sizes[:, 0])
    sides = np.log(rows.sizes.max(axis=1))
    strange = np.abs(aspects - np.median(aspects)) > np.log(_ODD_ASPECT)
    strange |= sides - np.median(sides) > np.log(_ODD_SIZE)
    return _of_files(
        "size",
        tuple(
            Finding((rows.name(row),), _size(rows, row)) for row in np.flatnonzero(strange).tolist()
        ),
        "images more than twice as wide or as high for their other side as is usual here, or four "
        "times as large, are not what they become when they are scaled",
        "look at them: cut out what they are to show, or train with --resize pad or crop",
    )


def _size(rows: _Rows, row: int) -> str:
    height, width = rows.sizes[row].tolist()
    return f"{height}×{width}"


def _classes(data: Dataset, splits: dict[str, Split]) -> ImageCheck:
    findings = list(_problems(data, "class"))
    for name, split in splits.items():
        if name == "train" or not len(split):
            continue
        there = set(np.unique(split.labels).tolist())
        findings += [
            Finding((f"{name}: {label}",), "it holds no image of this class")
            for number, label in enumerate(data.classes)
            if number not in there
        ]
    return _of_files(
        "classes",
        tuple(findings),
        "the splits do not hold the same classes: what is missing from one is not learned or not "
        "measured",
        "name the class folders alike in every split, and put images into each",
    )


def _imbalance(data: Dataset) -> ImageCheck:
    counts = np.bincount(data.train.labels, minlength=len(data.classes))
    largest, smallest = int(counts.argmax()), int(counts.argmin())
    ratio = round(float(counts[largest] / max(int(counts[smallest]), 1)), 2)
    return ImageCheck(
        "imbalance",
        ratio <= _IMBALANCE,
        ratio,
        f"at most {_IMBALANCE:g} times as many training images of one class as of another",
        f"{data.classes[largest]} has {counts[largest]:,} training images, "
        f"{data.classes[smallest]} has {counts[smallest]:,}: naming the frequent class pays",
        "gather more of the rare classes, weight the classes, and look at the accuracy by class",
        tuple(
            Finding((data.classes[number],), f"{counts[number]:,} training images")
            for number in np.flatnonzero(counts * _IMBALANCE < counts[largest]).tolist()
        ),
    )


def _stray(data: Dataset) -> ImageCheck:
    found = _problems(data, "stray")
    return ImageCheck(
        "left out",
        True,
        len(found),
        "as many as you know of",
        "files and folders that belong to no class are left out",
        "see whether images are among them",
        found,
    )


def _problems(data: Dataset, kind: str) -> tuple[Finding, ...]:
    return tuple(
        Finding((printable(problem.path),), problem.reason)
        for problem in data.problems
        if problem.kind == kind
    )


def _of_files(check: str, findings: tuple[Finding, ...], cause: str, advice: str) -> ImageCheck:
    return ImageCheck(check, not findings, len(findings), "0", cause, advice, findings)
