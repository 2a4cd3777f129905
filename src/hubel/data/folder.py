"""Which image files a folder holds, in which split and class: names only, no image is opened."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from hubel.data.dataset import ImageProblem, printable
from hubel.errors import DataError, reason

__all__ = ["File", "Listing", "list_folder", "natural_key"]

LAYOUT = (
    "one folder of images per class (ROOT/cat/1.jpg, ROOT/dog/1.jpg), or such folders below "
    "ROOT/train and, if you like, ROOT/val and ROOT/test"
)

_SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_SYSTEM_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx", "icon\r"})

# The name relative to the root, the size in bytes, the time of the last change.
_Found: TypeAlias = tuple[str, int, int]


class File(NamedTuple):
    """A regular file: class number, name relative to the root, size, last change (ns)."""

    label: int
    name: str
    bytes: int
    modified: int


@dataclass(frozen=True, slots=True)
class Listing:
    """A folder of images: classes in order, the files of each split in order, what was left out.

    `validation` and `test` are None where the folder does not have them.
    """

    root: str
    classes: tuple[str, ...]
    train: tuple[File, ...]
    validation: tuple[File, ...] | None
    test: tuple[File, ...] | None
    problems: tuple[ImageProblem, ...]


def list_folder(path: str | os.PathLike[str], *, strict: bool = True) -> Listing:
    """List a folder of class folders, or of train/ with val/ and test/ beside it.

    Every regular file in a class folder counts as an image, whatever its suffix; hidden and
    system files do not. Raises `DataError` for a layout that cannot be a dataset, with what was
    found and what is expected. Unless `strict`, classes that the splits do not share and empty
    folders are left out, and named in `problems`, instead.
    """
    root = Path(path)
    where = printable(str(root))
    try:
        mode = root.stat().st_mode
    except (OSError, ValueError) as error:
        raise DataError(reason(error), where=where, hint=f"give {LAYOUT}") from None
    if not stat.S_ISDIR(mode):
        raise DataError("this is a file, not a folder", where=where, hint=f"give {LAYOUT}")
    problems: list[ImageProblem] = []
    tops = _split_folders(root, where)
    found = {
        split: _classes(root, top, problems, ancestors=_identities(root))
        for split, top in tops.items()
    }
    if not strict:
        problems += _leave_out(found, tops)
    classes = _check_classes(found, tops, where)
    if tops["train"]:
        problems += [
            ImageProblem(entry.name, "it is not in train/, val/ or test/")
            for entry in _entries(root, "", problems)
            if entry.name not in tops.values()
        ]
    listed = {
        split: tuple(
            File(label, *rest) for label, name in enumerate(classes) for rest in files.get(name, ())
        )
        for split, files in found.items()
    }
    if not listed.get("validation", (1,)):
        raise DataError("the validation folder holds no images", where=where)
    if not listed.get("test", (1,)):
        raise DataError("the test folder holds no images", where=where)
    return Listing(
        str(root),
        classes,
        listed["train"],
        listed.get("validation"),
        listed.get("test"),
        tuple(problems),
    )


def natural_key(name: str) -> tuple[object, ...]:
    """Sort key that puts "9" before "10" and "img9" before "img10".

    >>> sorted(["10", "9", "B", "a", "img10", "img9"], key=natural_key)
    ['9', '10', 'a', 'B', 'img9', 'img10']
    """
    parts = re.split(r"([0-9]+)", name.casefold())
    # Split alternates text and digits, so that like is always compared with like.
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts)), name


def _split_folders(root: Path, where: str) -> dict[str, str]:
    """Return the folder of each split relative to `root`: "" where classes lie directly in it."""
    folders = {entry.name for entry in _entries(root, "", []) if _is_folder(entry)}
    found: dict[str, str] = {}
    for split, spellings in _SPLITS.items():
        # A class may be called "train" too: a split is a folder that holds folders.
        here = sorted(n for n in folders if n.lower() in spellings and _holds_folders(root / n))
        if len(here) > 1:
            both = " and ".join(f"{name}/" for name in here)
            raise DataError(f"{both} both hold {split} images", where=where, hint="keep one")
        if here:
            found[split] = here[0]
    if not found:
        return {"train": ""}
    if "train" not in found:
        names = ", ".join(f"{name}/" for name in found.values())
        raise DataError(f"found {names} but no train/", where=where, hint=f"give {LAYOUT}")
    return found


def _classes(
    root: Path, top: str, problems: list[ImageProblem], ancestors: set[tuple[int, int]]
) -> dict[str, list[_Found]]:
    """Return the (name, bytes, modified) of every file by class, below root/top."""
    found: dict[str, list[_Found]] = {}
    spelled: dict[str, str] = {}
    for entry in sorted(_entries(root / top, top, problems), key=lambda entry: entry.name):
        name = f"{top}/{entry.name}" if top else entry.name
        if not _is_folder(entry):
            problems.append(ImageProblem(name, "it lies in no class folder"))
            continue
        if _identity(entry.path) in ancestors:
            problems.append(ImageProblem(name, "it is a link to a folder that contains it"))
            continue
        # Unicode spells "é" in two ways, which look the same and are two folders.
        label = printable(unicodedata.normalize("NFC", entry.name))
        if label in found:
            raise DataError(
                f"two class folders are both called {label!r}, spelled {spelled[label]!a} "
                f"and {entry.name!a}",
                where=printable(str(root / top)),
                hint="rename one or move its images into the other",
            )
        spelled[label] = entry.name
        found[label] = sorted(_files(Path(entry.path), name, problems))
    return found


def _files(folder: Path, prefix: str, problems: list[ImageProblem]) -> Iterator[_Found]:
    for entry in _entries(folder, prefix, problems):
        name = f"{prefix}/{entry.name}"
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path), name, problems)
                continue
            status = entry.stat()
        except OSError as error:
            broken = entry.is_symlink()
            reason = (
                "it is a link to nothing" if broken else f"it cannot be read ({error.strerror})"
            )
            problems.append(ImageProblem(name, reason))
            continue
        if stat.S_ISREG(status.st_mode):
            yield name, status.st_size, status.st_mtime_ns
        elif stat.S_ISDIR(status.st_mode):
            # Following links to folders within a class could go round in circles or anywhere.
            problems.append(ImageProblem(name, "it is a link to a folder, which is not followed"))
        else:
            problems.append(ImageProblem(name, "it is not a regular file"))


def _entries(folder: Path, name: str, problems: list[ImageProblem]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not _is_hidden(entry.name)]
    except OSError as error:
        problems.append(ImageProblem(name or ".", f"it cannot be listed ({error.strerror})"))
        return []


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads round in a circle
        return False


def _holds_folders(folder: Path) -> bool:
    return any(_is_folder(entry) for entry in _entries(folder, "", []))


def _identity(path: str | os.PathLike[str]) -> tuple[int, int]:
    status = Path(path).stat()
    return status.st_dev, status.st_ino


def _identities(root: Path) -> set[tuple[int, int]]:
    resolved = root.resolve()
    return {_identity(folder) for folder in (resolved, *resolved.parents)}


def _check_classes(
    found: dict[str, dict[str, list[_Found]]], tops: dict[str, str], where: str
) -> tuple[str, ...]:
    train = found["train"]
    classes = tuple(sorted(train, key=natural_key))
    shown = ", ".join(f"{name!r}" for name in classes[:5]) + (", …" if len(classes) > 5 else "")
    if len(classes) < 2:
        what = f"found one class folder, {shown}" if classes else "found no class folders"
        below = f" below {tops['train']}/" if tops["train"] else ""
        raise DataError(
            f"{what}{below}; a classifier needs at least two classes",
            where=where,
            hint=f"give {LAYOUT}",
        )
    if empty := [name for name in classes if not train[name]]:
        raise DataError(
            f"no image in the class {_named(empty)}",
            where=where,
            hint="put images into the folder or remove it",
        )
    for split in ("validation", "test"):
        if unknown := sorted(set(found.get(split, ())) - set(classes), key=natural_key):
            raise DataError(
                f"{tops[split]}/ has the class {_named(unknown)}, which {tops['train']}/ has not "
                f"(it has {shown})",
                where=where,
                hint="name the class folders alike in every split",
            )
    return classes


def _leave_out(
    found: dict[str, dict[str, list[_Found]]], tops: dict[str, str]
) -> Iterator[ImageProblem]:
    """Drop classes that the splits do not share and splits without images, and name them."""
    train = found["train"]
    for name in [name for name in train if not train[name]]:
        path = f"{tops['train']}/{name}" if tops["train"] else name
        yield ImageProblem(path, "it holds no image: the class cannot be learned", "class")
        del train[name]
    for split in [split for split in found if split != "train"]:
        for name in sorted(found[split].keys() - train, key=natural_key):
            yield ImageProblem(
                f"{tops[split]}/{name}",
                f"{tops['train']}/ has no images of such a class{_meant(name, train)}",
                "class",
            )
            del found[split][name]
        if not any(found[split].values()):
            yield ImageProblem(tops[split], "it holds no image of any class", "class")
            del found[split]


def _meant(name: str, train: Iterable[str]) -> str:
    """A class that differs from a name in nothing but case, spaces and signs."""
    plain = re.sub(r"[\W_]+", "", name.casefold())
    for other in train:
        if re.sub(r"[\W_]+", "", other.casefold()) == plain:
            return f": is it {other!r}?"
    return ""


def _named(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names[:10]) + (" …" if len(names) > 10 else "")
