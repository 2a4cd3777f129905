"""`python -m hubel` is the `hubel` command."""

from __future__ import annotations

import sys

from hubel.cli import main

if __name__ == "__main__":
    sys.exit(main())
