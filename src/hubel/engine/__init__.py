"""One protocol, several engines: all run the same graphs."""

from __future__ import annotations

from hubel.engine.session import Array, Feeds, Session
from hubel.errors import UsageError

__all__ = ["ENGINES", "Array", "Feeds", "Session", "start"]

ENGINES = ("native", "reference")


def start(engine: str = "native", threads: int | None = None) -> Session:
    """A fresh session of an engine; `threads` None means every core the process may use.

    Raises UsageError for an engine that does not exist.
    """
    if engine == "reference":
        from hubel.engine.reference import ReferenceSession

        return ReferenceSession()
    if engine == "native":
        from hubel.engine.native import NativeSession

        return NativeSession(threads)
    raise UsageError(f"there is no engine {engine!r}", hint=f"use one of {', '.join(ENGINES)}")
