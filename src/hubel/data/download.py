"""Files fetched once from the address that published them, kept only if the checksum agrees."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hubel.errors import DataError
from hubel.files import replacing

__all__ = ["Resource", "fetch", "verify"]

_BLOCK = 2**16
_MOST_BYTES = 2**29


@dataclass(frozen=True, slots=True)
class Resource:
    """A file as it is published: its name and its MD5, which tells damage, not malice."""

    name: str
    md5: str


def verify(path: Path, resource: Resource) -> None:
    """Raise `DataError` unless the file has the published checksum."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    _compare(digest.hexdigest(), resource, str(path))


def fetch(
    resource: Resource,
    mirrors: Sequence[str],
    folder: Path,
    *,
    timeout: float = 30.0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Return the file in `folder`, fetched from the first of the addresses that delivers it whole.

    Raises `DataError` with the reason of every address when none does; nothing half is kept.
    """
    target = folder / resource.name
    if target.exists():
        verify(target, resource)
        return target
    reasons = []
    for mirror in mirrors:
        address = f"{mirror.rstrip('/')}/{resource.name}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _download(address, resource, target, timeout, progress)
        except DataError as error:
            reasons.append(str(error))
        except urllib.error.HTTPError as error:
            reasons.append(f"{address}: the server answers {error.code} {error.reason}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            reasons.append(f"{address}: {getattr(error, 'reason', None) or error}")
        else:
            return target
    raise DataError(f"{resource.name} could not be downloaded; " + "; ".join(reasons))


def _download(
    address: str,
    resource: Resource,
    target: Path,
    timeout: float,
    progress: Callable[[int, int], None] | None,
) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    done = 0
    with urllib.request.urlopen(address, timeout=timeout) as answer, replacing(target) as file:
        total = int(answer.headers.get("Content-Length") or 0)
        while block := answer.read(_BLOCK):
            done += len(block)
            if done > _MOST_BYTES:
                raise DataError(f"it sends more than {_MOST_BYTES:,} bytes", where=address)
            digest.update(block)
            file.write(block)
            if progress is not None:
                progress(done, max(done, total))
        if done < total:
            raise DataError(f"it ended after {done:,} of {total:,} bytes", where=address)
        _compare(digest.hexdigest(), resource, address)


def _compare(found: str, resource: Resource, where: str) -> None:
    if found != resource.md5:
        raise DataError(
            f"its MD5 is {found}, the published one of {resource.name} is {resource.md5}",
            where=where,
            hint="it is another file or was damaged on its way: delete it and fetch it again",
        )
