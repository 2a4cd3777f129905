"""Calls to fewer calls: neighbours of one kernel that have nothing to do with each other."""

from __future__ import annotations

from dataclasses import replace

from hubel.program.kernels import KERNELS
from hubel.program.lower import Lowered
from hubel.program.program import Call

__all__ = ["join"]


def join(lowered: Lowered) -> Lowered:
    """The same results, with one call of a kernel that repeats where there were many in a row.

    An optimizer then updates all parameters in one sweep, shared out among the threads as a whole.
    """
    calls: list[Call] = []
    for call in lowered.calls:
        if calls and _may_join(calls[-1], call):
            before = calls.pop()
            operands = before.operands + call.operands
            call = replace(before, operands=operands, parameters=_each(before) + _each(call))
        calls.append(call)
    return replace(lowered, calls=tuple(calls))


def _may_join(before: Call, call: Call) -> bool:
    """Whether both are of one kernel that repeats, and neither changes what the other works on."""
    if before.kernel != call.kernel or not KERNELS[call.kernel].repeats:
        return False
    if before.precision != call.precision:
        return False
    return not (
        set(before.writes()) & set(call.operands) or set(call.writes()) & set(before.operands)
    )


def _each(call: Call) -> tuple[object, ...]:
    return call.parameters if isinstance(call.parameters, tuple) else (call.parameters,)
