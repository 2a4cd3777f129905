"""The decoding process that `pool` starts: a line of JSON in, a line of JSON and pixels out."""

from __future__ import annotations

import json
import os
import signal
import sys

from hubel.data.image import decoder_warnings
from hubel.data.pool import Wanted, decode_chunk

__all__ = ["main"]


def main() -> None:
    """Decode chunks of files until the standard input ends."""
    # Ctrl-C reaches every process of the terminal; the parent decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Nothing that a library prints may get in between the pixels.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with decoder_warnings():
        for line in sys.stdin.buffer:
            start, paths, (height, width), channels, resize = json.loads(line)
            chunk = decode_chunk(start, paths, Wanted((height, width), channels, resize))
            failed = list(chunk.failed.items())
            head = [chunk.sizes.tolist(), failed, chunk.conversions, chunk.first_colour]
            answers.write(json.dumps(head).encode() + b"\n")
            answers.write(chunk.images.reshape(-1).data)
            answers.flush()


if __name__ == "__main__":
    main()
