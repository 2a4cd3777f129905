"""Datasets that go by a name: one that ships inside, three that are fetched from their homes."""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np

from hubel.data.arrays import resize_images, split_arrays
from hubel.data.cache import directory
from hubel.data.counter import draw
from hubel.data.dataset import Dataset
from hubel.data.download import Resource, fetch, verify
from hubel.data.preprocess import Resize
from hubel.errors import DataError

__all__ = ["NAMES", "class_folders", "load_named"]

_DIGITS = tuple("0123456789")
# Any constant would do; the test images of `digits` must be the same for every user and seed.
_DIGITS_TEST_SEED = 1
_CIFAR_RECORD = 1 + 3 * 32 * 32
_CIFAR_FOLDER = "cifar-10-batches-bin"
_CIFAR_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_CIFAR_TEST = "test_batch.bin"
_CIFAR_MOST = 10_000 * _CIFAR_RECORD
_IDX_MOST = 2**26


@dataclass(frozen=True, slots=True)
class _Published:
    """A dataset's classes, the addresses of its files, and folders where other tools keep them."""

    classes: tuple[str, ...]
    mirrors: tuple[str, ...]
    files: tuple[Resource, ...]
    folders: tuple[str, ...]


_IDX_NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def _idx_files(*checksums: str) -> tuple[Resource, ...]:
    return tuple(Resource(*pair) for pair in zip(_IDX_NAMES, checksums, strict=True))


# MNIST's and Fashion-MNIST's checksums are torchvision's, CIFAR-10's is on its own page.
_PUBLISHED = {
    "mnist": _Published(
        _DIGITS,
        ("https://ossci-datasets.s3.amazonaws.com/mnist", "http://yann.lecun.com/exdb/mnist"),
        _idx_files(
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        ("MNIST/raw", "raw"),
    ),
    "fashion-mnist": _Published(
        (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",),
        _idx_files(
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        ("FashionMNIST/raw", "raw"),
    ),
    "cifar10": _Published(
        (
            "airplane",
            "automobile",
            "bird",
            "cat",
            "deer",
            "dog",
            "frog",
            "horse",
            "ship",
            "truck",
        ),
        ("https://www.cs.toronto.edu/~kriz",),
        (Resource("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),),
        (),
    ),
}

NAMES = ("digits", *_PUBLISHED)


def class_folders(name: str, data_dir: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder of images under `data_dir` that holds a named dataset, None where its
    original files lie there or no `data_dir` is given; raises `DataError` where neither does."""
    if data_dir is None or name == "digits" or _originals(name, Path(data_dir)):
        return None
    own = Path(data_dir) / name
    for folder in (own, Path(data_dir)):
        if (folder / "train").is_dir():
            return folder
    if own.is_dir():
        return own
    files = ", ".join(file.name for file in _PUBLISHED[name].files)
    raise DataError(
        f"{name} is not here: neither {files} nor a folder {name}/train of class folders",
        where=os.fspath(data_dir),
        hint="give the folder that holds them, or none to download them",
    )


def load_named(
    name: str,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    resize: Resize = "squash",
    val_fraction: float = 0.1,
    seed: int = 0,
    data_dir: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    mirror: str | None = None,
) -> Dataset:
    """Load a named dataset from its original files, in `data_dir` or downloaded into the cache.

    `mirror` is an address to fetch them from instead of their homes. Raises `DataError` where they
    can be had from nowhere or are not what was published.
    """
    notes: tuple[str, ...] = ()
    if name == "digits":
        x, y, x_test, y_test = _read_digits()
        classes = _DIGITS
        notes = (
            f"digits has no test set of its own: {len(x_test)} of its {len(x) + len(x_test):,} "
            "images, the same in every run, are kept for testing.",
        )
    else:
        classes = _PUBLISHED[name].classes
        found = _originals(name, Path(data_dir)) if data_dir is not None else None
        folder = found or _downloaded(name, mirror, progress)
        x, y, x_test, y_test = (_read_cifar if name == "cifar10" else _read_idx_files)(name, folder)
    conversions = _conversions(x.shape, len(x) + len(x_test), size, channels)
    x, x_test = (resize_images(images, size, channels, resize) for images in (x, x_test))
    data = split_arrays(
        x,
        y,
        test=(x_test, y_test),
        classes=classes,
        val_fraction=val_fraction,
        seed=seed,
        name=name,
        notes=notes,
    )
    return replace(data, conversions=conversions)


def _conversions(
    shape: tuple[int, ...], count: int, size: tuple[int, int] | None, channels: int | None
) -> dict[str, int]:
    """What is done to all `count` images of a dataset, in the words used for those of folders."""
    done = []
    if channels not in (None, shape[3]):
        done.append("colour to grey" if channels == 1 else "grey to colour")
    if size not in (None, shape[1:3]):
        done.append("resized")
    return dict.fromkeys(done, count)


# Training images and labels, test images and labels.
_Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _read_digits() -> _Arrays:
    with (
        resources.files("hubel.data").joinpath("digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        levels, labels = stored["images"], stored["labels"].astype(np.int64)
    # 17 levels, 0 to 16, spread over 0 to 255.
    images = ((levels.astype(np.uint16) * 255 + 8) // 16).astype(np.uint8)[..., None]
    # No image will ever be added, so that exact shares can be had, a fifth of each class.
    test = np.zeros(len(labels), bool)
    for label in range(len(_DIGITS)):
        members = np.flatnonzero(labels == label)
        shuffled = members[np.argsort(draw(_DIGITS_TEST_SEED, members), kind="stable")]
        test[shuffled[: round(len(members) / 5)]] = True
    return images[~test], labels[~test], images[test], labels[test]


def _originals(name: str, data_dir: Path) -> Path | None:
    """Return the folder at or below `data_dir` where all original files lie, packed or not."""
    published = _PUBLISHED[name]
    for below in (name, "", *published.folders, *(f"{name}/{f}" for f in published.folders)):
        folder = data_dir / below
        if all(_packed_or_not(folder, file) for file in published.files):
            return folder
    return None


def _packed_or_not(folder: Path, file: Resource) -> Path | None:
    unpacked = _CIFAR_FOLDER if file.name.endswith(".tar.gz") else file.name.removesuffix(".gz")
    for path in (folder / file.name, folder / unpacked):
        if path.exists():
            return path
    return None


def _downloaded(name: str, mirror: str | None, progress: Callable[[int, int], None] | None) -> Path:
    published = _PUBLISHED[name]
    folder = directory() / "downloads" / name
    mirrors = published.mirrors if mirror is None else (mirror,)
    for file in published.files:
        try:
            fetch(file, mirrors, folder, progress=progress)
        except DataError as error:
            files = ", ".join(file.name for file in published.files)
            raise DataError(
                error.what,
                where=name if not error.where else error.where,
                hint=f"without a network, get {files} from {published.mirrors[0]} by other means "
                "and give their folder with --data-dir (data_dir=)",
            ) from None
    return folder


def _read_idx_files(name: str, folder: Path) -> _Arrays:
    images, labels, test_images, test_labels = (
        _read_idx(folder, file, dimensions)
        for file, dimensions in zip(_PUBLISHED[name].files, (3, 1, 3, 1), strict=True)
    )
    return images[..., None], labels, test_images[..., None], test_labels


def _read_idx(folder: Path, file: Resource, dimensions: int) -> np.ndarray:
    """Read the format of http://yann.lecun.com/exdb/mnist: a magic number, sizes, then bytes."""
    path = _packed_or_not(folder, file)
    assert path is not None, f"{file.name} was there a moment ago"
    packed = path.suffix == ".gz"
    if packed:
        verify(path, file)
    try:
        with gzip.open(path) if packed else path.open("rb") as stream:
            content = stream.read(_IDX_MOST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"it cannot be unpacked ({error})", where=str(path)) from None
    head = 4 + 4 * dimensions
    shape = tuple(np.frombuffer(content[4:head], ">u4").tolist())
    expected = bytes([0, 0, 8, dimensions])
    if content[:4] != expected or len(content) != head + int(np.prod(shape, dtype=object)):
        raise DataError(
            f"it is not an IDX file of {dimensions} dimensions: it starts with "
            f"{content[:4].hex(' ')} and has {len(content):,} bytes for the sizes {shape}",
            where=str(path),
            hint="delete it and fetch it again",
        )
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


def _read_cifar(name: str, folder: Path) -> _Arrays:
    """Read the binary version of https://www.cs.toronto.edu/~kriz/cifar.html: label, R, G, B."""
    file = _PUBLISHED[name].files[0]
    path = _packed_or_not(folder, file)
    assert path is not None, f"{file.name} was there a moment ago"
    parts: dict[str, bytes] = {}
    wanted = (*_CIFAR_TRAIN, _CIFAR_TEST)
    try:
        if path.is_dir():
            for member in wanted:
                with (path / member).open("rb") as stream:
                    parts[member] = stream.read(_CIFAR_MOST + 1)
        else:
            verify(path, file)
            parts = _members(path, {f"{_CIFAR_FOLDER}/{member}": member for member in wanted})
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataError(f"it cannot be read ({error})", where=str(path)) from None
    for member in wanted:
        size = len(parts.get(member, b""))
        if not 0 < size <= _CIFAR_MOST or size % _CIFAR_RECORD:
            raise DataError(
                f"{member} has {size:,} bytes, not up to 10,000 records of {_CIFAR_RECORD:,}",
                where=str(path),
                hint="delete it and fetch it again",
            )
    train, test = b"".join(parts[member] for member in _CIFAR_TRAIN), parts[_CIFAR_TEST]
    (x, y), (x_test, y_test) = _cifar_records(train), _cifar_records(test)
    return x, y, x_test, y_test


def _members(path: Path, names: dict[str, str]) -> dict[str, bytes]:
    parts: dict[str, bytes] = {}
    with tarfile.open(path, "r|gz") as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.name in names else None
            if stream is not None and member.size <= _CIFAR_MOST:
                parts[names[member.name]] = stream.read()
    return parts


def _cifar_records(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    records = np.frombuffer(content, np.uint8).reshape(-1, _CIFAR_RECORD)
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 0].astype(np.int64)
