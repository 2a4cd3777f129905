"""Many image files decoded at once: by threads when they are few, by processes when they are many.

Pillow releases the GIL while it decodes but not while it opens, so that threads gain little on
thumbnails. The processes are plain child interpreters that are told paths in JSON and answer with
pixels over a pipe: unlike `multiprocessing` they never run the user's script again, on any
platform, and a decoder that crashes takes none of the caller with it.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from typing import cast

import numpy as np

from hubel.data.dataset import printable
from hubel.data.image import decode, decoder_warnings
from hubel.data.preprocess import Resize
from hubel.errors import DataError

__all__ = ["Chunk", "Wanted", "decode_chunk", "decode_files"]

# A child takes about 0.2 s to start, a thumbnail about 0.1 ms to decode.
_FEWEST_FOR_PROCESSES = 2000
_CHUNK_FILES = 256
_CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What every image is brought to: `size` (height, width), `channels` 1 or 3, `resize`."""

    size: tuple[int, int]
    channels: int
    resize: Resize

    @property
    def shape(self) -> tuple[int, int, int]:
        return (*self.size, self.channels)


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """The images (K, H, W, C) that could be read of the `count` files from `start` on.

    `sizes` (K, 2) are their heights and widths in the files. `failed` maps a file's position in the
    whole list to the reason; `first_colour` is the position of the first of the others that holds
    colour.
    """

    start: int
    count: int
    images: np.ndarray
    sizes: np.ndarray
    failed: dict[int, str]
    conversions: dict[str, int]
    first_colour: int | None


def decode_files(
    paths: Sequence[str], wanted: Wanted, workers: int | None = None
) -> Generator[Chunk, None, None]:
    """Yield the decoded files in order, a chunk at a time.

    `workers` is how many are decoded at once, as many as there are cores if not given. Raises
    `DataError` when a decoding process dies; an unreadable file is no error but in `failed`.
    """
    workers = max(1, workers or _cores())
    step = max(1, min(_CHUNK_FILES, _CHUNK_BYTES // int(np.prod(wanted.shape))))
    starts = deque(range(0, len(paths), step))
    children: list[_Child] = []
    if workers > 1 and len(paths) >= _FEWEST_FOR_PROCESSES:
        children = _start_children(workers)
    idle: queue.SimpleQueue[_Child] = queue.SimpleQueue()
    for child in children:
        idle.put(child)

    def work(start: int) -> Chunk:
        some = paths[start : start + step]
        if not children:
            return decode_chunk(start, some, wanted)
        child = idle.get()
        try:
            return child.decode(start, some, wanted)
        finally:
            idle.put(child)

    pool = ThreadPoolExecutor(workers, thread_name_prefix="hubel-decode")
    pending: deque[Future[Chunk]] = deque()
    try:
        with decoder_warnings():
            while starts or pending:
                # A few ahead, not all: finished chunks wait in memory for their turn.
                while starts and len(pending) < 2 * workers:
                    pending.append(pool.submit(work, starts.popleft()))
                yield pending.popleft().result()
    finally:
        for child in children:
            child.kill()
        pool.shutdown(cancel_futures=True)


def decode_chunk(start: int, paths: Sequence[str], wanted: Wanted) -> Chunk:
    """Decode some files here and now; call it within `decoder_warnings`."""
    images = np.empty((len(paths), *wanted.shape), np.uint8)
    sizes: list[tuple[int, int]] = []
    failed: dict[int, str] = {}
    conversions: Counter[str] = Counter()
    first_colour = None
    for position, path in enumerate(paths, start):
        try:
            picture = decode(path, wanted.size, wanted.channels, wanted.resize)
        except DataError as error:
            failed[position] = error.what
            continue
        images[len(sizes)] = picture.pixels
        sizes.append(picture.size)
        conversions.update(picture.conversions)
        if first_colour is None and not picture.grey:
            first_colour = position
    kept = images[: len(sizes)]
    measured = np.array(sizes, np.int64).reshape(-1, 2)
    return Chunk(start, len(paths), kept, measured, failed, dict(conversions), first_colour)


class _Child:
    """A process that runs `hubel.data.worker`; used by one thread at a time."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by kill
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "hubel.data.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment,
            )
        except OSError:
            self._errors.close()
            raise

    def decode(self, start: int, paths: Sequence[str], wanted: Wanted) -> Chunk:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = [start, list(paths), wanted.size, wanted.channels, wanted.resize]
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            header = self._process.stdout.readline()
            images = np.empty((0, *wanted.shape), np.uint8)
            if header.endswith(b"\n"):
                sizes, failed, conversions, first_colour = json.loads(header)
                images = np.empty((len(sizes), *wanted.shape), np.uint8)
                measured = np.array(sizes, np.int64).reshape(-1, 2)
                pixels = cast(BufferedReader, self._process.stdout)
                if pixels.readinto(images.reshape(-1).data) == images.nbytes:
                    reasons = {int(position): reason for position, reason in failed}
                    return Chunk(
                        start, len(paths), images, measured, reasons, conversions, first_colour
                    )
        except OSError:
            pass  # the pipe broke because the process did; what it said last is told below
        raise self._death(paths)

    def _death(self, paths: Sequence[str]) -> DataError:
        status = self._process.wait()
        self._errors.seek(0)
        last = self._errors.read().decode("utf-8", "replace").strip().splitlines()[-1:]
        return DataError(
            f"the process that was decoding ended with status {status}"
            + (f" ({last[0]})" if last else ""),
            where=f"{printable(paths[0])} to {printable(paths[-1])}",
            hint="with workers=1 the images are decoded one by one in this process",
        )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with suppress(OSError):
                if stream is not None:
                    stream.close()


def _start_children(count: int) -> list[_Child]:
    # An embedded interpreter has no executable, a sandbox may forbid processes: threads do then.
    if not sys.executable:
        return []
    children: list[_Child] = []
    with suppress(OSError):
        children.extend(_Child() for _ in range(count))
    return children


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
