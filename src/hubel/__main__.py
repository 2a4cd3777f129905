"""`python -m hubel`, and the `hubel` command."""

from __future__ import annotations

import sys

__all__ = ["run"]


def run() -> int:
    """The command's exit status; an interruption that falls into its imports is one too."""
    try:
        from hubel.cli import main

        return main()
    except KeyboardInterrupt:
        print("hubel: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(run())
