"""Named arrays and a few strings in one file: the safetensors layout with a checksum inside.

The layout (https://huggingface.co/docs/safetensors): the header's length as 8 little-endian bytes,
the header in JSON, padded with spaces to a multiple of 8, then the arrays' bytes in the header's
order without gaps. A `hubel.sha256` in `__metadata__` covers every name, type, shape, string and
byte, so that a file damaged anywhere is refused; other readers take it as one more string.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from hubel.errors import FormatError, UsageError

__all__ = ["CHECKSUM", "read", "write"]

CHECKSUM = "hubel.sha256"

_METADATA = "__metadata__"
_MAX_HEADER = 100_000_000
_DTYPES = {
    "BOOL": np.dtype("?"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I16": np.dtype("<i2"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "U64": np.dtype("<u8"),
    "U8": np.dtype("u1"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def write(
    path: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
) -> None:
    """Write arrays and strings to a file that replaces `path` only once it is whole.

    The same content gives the same bytes. Raises `UsageError` for an array type that the layout
    has no name for, and `OSError` where the file cannot be written.

    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "w.safetensors"
    >>> write(path, {"a": np.arange(3, dtype=np.float32)}, {"net": "fc10"})
    >>> tensors, metadata = read(path)
    >>> tensors["a"].tolist(), metadata
    ([0.0, 1.0, 2.0], {'net': 'fc10'})
    """
    from hubel.files import replacing  # which brings what makes names at random along

    for reserved, names in ((CHECKSUM, metadata), (_METADATA, tensors)):
        if reserved in names:
            raise UsageError(f"the name {reserved!r} is the file format's own")
    arrays = {name: _as_stored(name, tensors[name]) for name in sorted(tensors)}
    header = _encode(arrays, {**metadata, CHECKSUM: _digest(arrays, metadata)})
    if len(header) > _MAX_HEADER:
        raise UsageError(f"names and metadata take {len(header):,} bytes, at most {_MAX_HEADER:,}")
    with replacing(path) as file:
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        for array in arrays.values():
            file.write(_bytes_of(array))


def read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the arrays and strings that `write` wrote, in the order of their names.

    Nothing that the file says is believed before it is checked, and nothing is allocated on its
    word. Raises `FormatError` for a file that breaks any rule of the layout or differs in any byte
    from what was written, and `OSError` for one that cannot be opened.
    """
    with open(path, "rb") as file:  # noqa: PTH123 - pathlib takes longer to import than this
        content = file.read()
    try:
        return _parse(content)
    except _BrokenError as broken:
        hint = "it is not a file that Hubel saved, or it was damaged since: take another copy"
        raise FormatError(str(broken), where=os.fspath(path), hint=hint) from None


class _BrokenError(Exception):
    """The rule of the layout that a file breaks."""


def _parse(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    length = int.from_bytes(content[:8], "little")
    available = len(content) - 8
    if available < 0:
        raise _BrokenError(f"the file ends after {len(content)} of the first 8 bytes")
    if length > min(_MAX_HEADER, available):
        raise _BrokenError(f"the header claims {length:,} bytes, the file has {available:,}")
    header = content[8 : 8 + length]
    body = memoryview(content)[8 + length :]
    entries = _decode(header)
    metadata = _strings(entries.pop(_METADATA, {}))
    tensors = _tensors(entries, body)
    expected = metadata.pop(CHECKSUM, None)
    if expected is None:
        raise _BrokenError(f"the header has no {CHECKSUM!r}")
    # The header is compared as bytes too: white space and escapes are free in JSON, not here.
    if _digest(tensors, metadata) != expected or header != _encode(
        tensors, {**metadata, CHECKSUM: expected}
    ):
        raise _BrokenError("the checksum does not match the content")
    native = {name: array.astype(array.dtype.newbyteorder("=")) for name, array in tensors.items()}
    return native, metadata


def _decode(header: bytes) -> dict[str, Any]:
    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        named = dict(pairs)
        if len(named) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise _BrokenError(f"the header names {twice!r} twice")
        return named

    try:
        entries = json.loads(header.decode("utf-8"), object_pairs_hook=distinct)
    except (ValueError, RecursionError) as error:
        raise _BrokenError(f"the header is not JSON ({error})") from None
    if not isinstance(entries, dict):
        raise _BrokenError("the header is not a JSON object")
    return entries


def _strings(entry: object) -> dict[str, str]:
    if not isinstance(entry, dict) or not all(isinstance(v, str) for v in entry.values()):
        raise _BrokenError(f"{_METADATA!r} is not an object of strings")
    return entry


def _tensors(entries: Mapping[str, object], body: memoryview) -> dict[str, np.ndarray]:
    """Lay the tensors over `body`: contiguous, none overlapping, no gap, nothing left over."""
    tensors = {}
    end = 0
    for name, entry in sorted(entries.items()):
        dtype, shape, begin, stop = _entry(name, entry)
        if begin != end:
            raise _BrokenError(f"tensor {name!r} starts at byte {begin:,} instead of {end:,}")
        if stop > len(body):
            raise _BrokenError(f"tensor {name!r} ends at byte {stop:,} of {len(body):,}")
        values = np.frombuffer(body[begin:stop], np.uint8)
        if dtype == np.bool_ and (values > 1).any():
            raise _BrokenError(f"tensor {name!r} holds truth values other than 0 and 1")
        try:
            tensors[name] = values.view(dtype).reshape(shape)
        except ValueError as error:
            raise _BrokenError(f"tensor {name!r} has the shape {shape} ({error})") from None
        end = stop
    if end != len(body):
        raise _BrokenError(f"{len(body) - end:,} bytes follow the last tensor")
    return tensors


def _entry(name: str, entry: object) -> tuple[np.dtype[Any], list[int], int, int]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _BrokenError(f"tensor {name!r} has not exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        known = " ".join(sorted(_DTYPES))
        raise _BrokenError(f"tensor {name!r} has the type {dtype!r}, not one of {known}")
    for what, numbers in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(numbers, list) or not all(type(n) is int and n >= 0 for n in numbers):
            raise _BrokenError(f"tensor {name!r} has the {what} {numbers!r}")
    if len(offsets) != 2:
        raise _BrokenError(f"tensor {name!r} has the data_offsets {offsets!r}")
    begin, stop = offsets
    size = math.prod(shape) * _DTYPES[dtype].itemsize
    if stop - begin != size:
        what = f"tensor {name!r} ({dtype}, shape {shape})"
        raise _BrokenError(f"{what} needs {size:,} bytes and has {stop - begin:,}")
    return _DTYPES[dtype], shape, begin, stop


def _as_stored(name: str, array: np.ndarray) -> np.ndarray:
    stored = np.asarray(array, order="C")
    stored = stored.astype(stored.dtype.newbyteorder("<"), copy=False)
    if stored.dtype not in _NAMES:
        known = " ".join(sorted(_DTYPES))
        raise UsageError(f"the array {name!r} has the type {stored.dtype}, not one of {known}")
    return stored


def _bytes_of(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _encode(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {_METADATA: dict(sorted(metadata.items()))}
    offset = 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    return text + b" " * (-len(text) % 8)


def _digest(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(_encode(arrays, metadata))
    for array in arrays.values():
        digest.update(_bytes_of(array))
    return digest.hexdigest()
