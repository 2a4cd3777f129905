"""A dataset: images with labels, split in three, and everything that was odd about it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Literal

import numpy as np

from hubel.records import dataclass

__all__ = [
    "Dataset",
    "ImageProblem",
    "Split",
    "fingerprint_of",
    "printable",
    "set_aside_note",
]


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images (N, H, W, C), the class number of each, and the file that each came from.

    Images are uint8, or float32 where arrays of that type were given, and may lie in a file that
    is mapped into memory. Names are relative to the dataset's folder, with forward slashes; there
    are none for images that came from arrays. `sizes` (N, 2) are the heights and widths in the
    files, None where the images were not brought to another size.
    """

    images: np.ndarray
    labels: np.ndarray
    files: tuple[str, ...] = ()
    sizes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        size = "×".join(map(str, self.images.shape[1:]))
        return f"Split({len(self)} images of {size}, {self.images.dtype})"


@dataclass(frozen=True, slots=True)
class ImageProblem:
    """A file or folder that was left out, and why.

    `kind` is "unreadable" for what should have been an image, "class" for a folder whose class the
    splits do not share, "stray" for anything else.
    """

    path: str
    reason: str
    kind: Literal["unreadable", "class", "stray"] = "stray"

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.reason}"


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Three splits over the same classes, in the order of the class numbers.

    `validation` never shares an image with `train`; `test` is for the final score alone.
    `conversions` counts what had to be done to the images ("palette", "16-bit", …), `notes` are
    sentences that a user should read, and `fingerprint` changes with any pixel, label or split.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split | None = None
    problems: tuple[ImageProblem, ...] = ()
    conversions: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    fingerprint: str = ""

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name!r}, {len(self.classes)} classes, train={self.train!r}, "
            f"validation={self.validation!r}, test={self.test!r})"
        )


def set_aside_note(held_out: int, total: int) -> tuple[str, ...]:
    """Return the sentence that says how many training images went into validation, if any did."""
    if not held_out:
        return ()
    return (f"{held_out:,} of the {total:,} training images are set aside for validation.",)


def fingerprint_of(
    classes: Sequence[str],
    digest: str,
    shape: tuple[int, ...],
    labels: np.ndarray,
    held_out: np.ndarray,
) -> str:
    """Return a digest of classes, pixels (by their own `digest`), labels and split."""
    whole = hashlib.sha256(json.dumps([list(classes), digest, list(shape)]).encode())
    whole.update(labels.astype("<i8").tobytes())
    whole.update(np.packbits(held_out).tobytes())
    return whole.hexdigest()


def printable(name: str) -> str:
    r"""Return a file's name as one line that any terminal and any UTF-8 file can take.

    >>> printable("a\nb"), printable("caf\udce9.jpg"), printable("日本 é.png")
    ('a\\nb', 'caf\\xe9.jpg', '日本 é.png')
    """
    escaped = "".join(
        c if c.isprintable() or 0xDC80 <= ord(c) <= 0xDCFF else repr(c)[1:-1] for c in name
    )
    return escaped.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
