"""The table that `check` prints; it lives with the report because networks print themselves."""

from __future__ import annotations

from hubel.graph.summary import render

__all__ = ["render"]
