"""Decoded images kept between runs, in the user's cache folder and never beside the images.

An entry is two files: `KEY.pixels`, the bytes of the array, which is mapped into memory, and
`KEY.json` with its shape, its digest and the facts that belong to it. The second is written last
and has a digest of its own, so that an entry is there whole or not at all. Facts can be kept
without an array too.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hubel.files import replacing

__all__ = ["CacheError", "Entry", "directory", "find", "key_of", "recall", "remember", "store"]

_VERSION = 2
_UNUSED_DAYS = 30
_SPARE_BYTES = 64 * 2**20
_BLOCK = 2**22


class CacheError(Exception):
    """The cache cannot be written; the reason is its text. It costs the cache and nothing else."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """An array (N, …) uint8, read-only, its digest, and the facts stored with it."""

    images: np.ndarray
    digest: str
    facts: dict[str, Any]


def directory() -> Path:
    """Return the folder of the cache: `HUBEL_CACHE`, or `hubel` in the platform's own place."""
    if chosen := os.environ.get("HUBEL_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "hubel" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "hubel"
    # The XDG base directory specification wants relative values ignored.
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(xdg) if Path(xdg).is_absolute() else Path.home() / ".cache") / "hubel"


def key_of(parts: object) -> str:
    """Return the key of what JSON-able `parts` describe, other for every version of the cache."""
    text = json.dumps([_VERSION, parts])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def find(key: str) -> Entry | None:
    """Return the entry of `key`; None where there is none or where any byte of it is wrong."""
    pixels, about = _paths(key)
    try:
        record = json.loads(about.read_bytes())
        body, seal = record["body"], record["seal"]
        if seal != key_of(body) or body["key"] != key:
            return None
        shape = tuple(body["shape"])
        if pixels.stat().st_size != math.prod(shape):
            return None
        images = np.memmap(pixels, np.uint8, "r", shape=shape)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    digest = hashlib.sha256()
    flat = images.reshape(-1)
    for start in range(0, len(flat), _BLOCK):
        digest.update(flat[start : start + _BLOCK].data)
    if digest.hexdigest() != body["digest"]:
        return None
    with suppress(OSError):
        os.utime(about)  # a read-only cache can be used, it only cannot say when it was
    return Entry(images, body["digest"], body["facts"])


def store(
    key: str,
    most: int,
    shape: tuple[int, ...],
    chunks: Iterable[np.ndarray],
    facts: Callable[[], dict[str, Any]],
) -> Entry:
    """Write the chunks (K, *shape), at most `most` rows in all, and return them as an entry.

    `facts` is called after the last chunk. Raises `CacheError` when the folder cannot be written
    or would be full or there is no row, and passes on what the chunks and the facts raise,
    `OSError` as `CacheError`.
    """
    pixels, about = _paths(key)
    row = math.prod(shape)
    try:
        pixels.parent.mkdir(parents=True, exist_ok=True)
        _forget_unused(pixels.parent)
        free = shutil.disk_usage(pixels.parent).free
    except OSError as error:
        raise CacheError(_reason(error)) from None
    if free < most * row + _SPARE_BYTES:
        raise CacheError(f"{most * row:,} bytes are needed and {free:,} are free")
    digest = hashlib.sha256()
    count = 0
    try:
        with replacing(pixels) as file:
            for chunk in chunks:
                block = np.ascontiguousarray(chunk).reshape(-1).data
                digest.update(block)
                file.write(block)
                count += len(chunk)
            if count == 0:
                raise CacheError(f"there is nothing to keep ({directory()})")
            body: dict[str, Any] = {
                "key": key,
                "shape": [count, *shape],
                "digest": digest.hexdigest(),
                "facts": facts(),
            }
        with replacing(about) as file:
            file.write(json.dumps({"seal": key_of(body), "body": body}).encode())
        images = np.memmap(pixels, np.uint8, "r", shape=(count, *shape))
    except OSError as error:
        raise CacheError(_reason(error)) from None
    return Entry(images, digest.hexdigest(), body["facts"])


def remember(key: str, facts: dict[str, Any]) -> None:
    """Keep facts without an array; raises `CacheError` when the folder cannot be written."""
    path = _facts(key)
    body = {"key": key, "facts": facts}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _forget_unused(path.parent)
        with replacing(path) as file:
            file.write(json.dumps({"seal": key_of(body), "body": body}).encode())
    except OSError as error:
        raise CacheError(_reason(error)) from None


def recall(key: str) -> dict[str, Any] | None:
    """Return the facts that were kept by `key`; None where there are none or a byte is wrong."""
    path = _facts(key)
    try:
        record = json.loads(path.read_bytes())
        body, seal = record["body"], record["seal"]
        if seal != key_of(body) or body["key"] != key:
            return None
        facts: dict[str, Any] = body["facts"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    with suppress(OSError):
        os.utime(path)
    return facts


def _forget_unused(folder: Path) -> None:
    """Delete what no run has used for a month and what killed runs left behind."""
    for pattern, days in (("*.json", _UNUSED_DAYS), (".*.tmp", 1), ("*.pixels", 1)):
        for path in folder.glob(pattern):
            if path.suffix == ".pixels" and path.with_suffix(".json").exists():
                continue
            with suppress(OSError):  # another process may be deleting the same
                if path.stat().st_mtime < time.time() - days * 86_400:
                    path.unlink()
                    if path.suffix == ".json":
                        path.with_suffix(".pixels").unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    return f"{error.strerror or error} ({directory()})"


def _paths(key: str) -> tuple[Path, Path]:
    folder = directory() / "images"
    return folder / f"{key}.pixels", folder / f"{key}.json"


def _facts(key: str) -> Path:
    return directory() / "facts" / f"{key}.json"
