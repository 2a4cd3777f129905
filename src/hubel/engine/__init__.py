"""One protocol, several engines: all run the same graphs."""

from __future__ import annotations

from hubel.engine.session import Array, Feeds, Session
from hubel.errors import UsageError
from hubel.program.program import Precision

__all__ = ["ENGINES", "PRECISIONS", "Array", "Feeds", "Session", "start"]

ENGINES = ("native", "reference")
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


def start(
    engine: str = "native", threads: int | None = None, precision: str = "float32"
) -> Session:
    """A fresh session of an engine; `threads` None means every core the process may use.

    `precision` is the native engine's; the reference always computes in float64. Raises UsageError
    for an engine or a precision that does not exist.
    """
    chosen = next((known for known in PRECISIONS if known == precision), None)
    if chosen is None:
        raise UsageError(
            f"there is no precision {precision!r}", hint=f"use one of {', '.join(PRECISIONS)}"
        )
    if engine == "reference":
        from hubel.engine.reference import ReferenceSession

        return ReferenceSession()
    if engine == "native":
        from hubel.engine.native import NativeSession

        return NativeSession(threads, chosen)
    raise UsageError(f"there is no engine {engine!r}", hint=f"use one of {', '.join(ENGINES)}")
