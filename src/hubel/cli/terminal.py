"""What the terminal can show, and where messages go: data to standard output, the rest to error."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

__all__ = ["Stop", "has_color", "interruptible", "is_terminal", "reading", "say"]


def is_terminal(stream: TextIO) -> bool:
    """Whether lines on a stream can be overwritten, as a progress bar does."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def has_color(stream: TextIO) -> bool:
    """Whether colours are wanted there (https://no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def say(*lines: str) -> None:
    """Print lines on the standard error."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def reading() -> Callable[[int, int], None] | None:
    """What shows on a terminal how many images are read, None where there is no terminal."""
    return _reading if is_terminal(sys.stderr) else None


def _reading(done: int, total: int) -> None:
    end = "\r\x1b[K" if done >= total else ""
    print(f"\rReading images: {done:,} of {total:,}", end=end, file=sys.stderr, flush=True)


class Stop:
    """Whether a signal has asked for the end, and with which exit status."""

    status: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Note the first signal; the second one ends the process at once."""
        self.status = 128 + number
        signal.signal(number, signal.SIG_DFL)
        if number == signal.SIGINT:
            # A signal may fall into the middle of a print, which must not be entered again.
            os.write(2, b"\nFinishing the step; Ctrl-C again stops at once.\n")


@contextmanager
def interruptible() -> Iterator[Stop]:
    """Within the block, Ctrl-C and a request to terminate are noted instead of obeyed.

    What the process was started to ignore, as in the background of a script, it goes on ignoring.
    """
    stop = Stop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # None is a handler that was not set from Python, and cannot be put back from it either.
    heeded = {
        number: handler
        for number, handler in before.items()
        if handler not in (signal.SIG_IGN, None)
    }
    for number in heeded:
        signal.signal(number, stop)
    try:
        yield stop
    finally:
        for number, handler in heeded.items():
            signal.signal(number, handler)
