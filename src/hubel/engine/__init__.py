"""One protocol, several engines: all run the same graphs."""

from __future__ import annotations

from hubel.engine.session import Array, Feeds, Session
from hubel.errors import UsageError
from hubel.program.program import Precision

__all__ = [
    "AUTO",
    "ENGINES",
    "PRECISIONS",
    "Array",
    "Feeds",
    "Session",
    "alone",
    "settled",
    "start",
]

ENGINES = ("native", "reference")
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")

AUTO = "auto"
"""The precision that settles for what the machine multiplies fastest."""


def settled(precision: str, engine: str = "native") -> Precision:
    """The precision that is meant; AUTO is bfloat16 where the processor multiplies it faster.

    Raises UsageError for one that does not exist.

    >>> settled("bfloat16")
    'bfloat16'
    """
    if precision == AUTO:
        if engine != "native":
            return "float32"
        from hubel.engine.native import pair_rate

        return "bfloat16" if pair_rate() > 1 else "float32"
    chosen = next((known for known in PRECISIONS if known == precision), None)
    if chosen is None:
        known = ", ".join((*PRECISIONS, AUTO))
        raise UsageError(f"there is no precision {precision!r}", hint=f"use one of {known}")
    return chosen


def alone(session: Session) -> Session:
    """A fresh session of the same engine in float32, for one thread beside that of training."""
    from hubel.engine.reference import ReferenceSession

    if isinstance(session, ReferenceSession):
        return ReferenceSession()
    from hubel.engine.native import NativeSession

    return NativeSession(1)


def start(
    engine: str = "native", threads: int | None = None, precision: str = "float32"
) -> Session:
    """A fresh session of an engine; `threads` None means every core the process may use.

    `precision` is the native engine's; the reference always computes in float64. Raises UsageError
    for an engine or a precision that does not exist.
    """
    chosen = settled(precision, engine)
    if engine == "reference":
        from hubel.engine.reference import ReferenceSession

        return ReferenceSession()
    if engine == "native":
        from hubel.engine.native import NativeSession

        return NativeSession(threads, chosen)
    raise UsageError(f"there is no engine {engine!r}", hint=f"use one of {', '.join(ENGINES)}")
