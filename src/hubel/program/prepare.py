"""Calls that need only run when parameters have changed, set before the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hubel.program.lower import Lowered
from hubel.program.program import Buffer, Call
from hubel.records import dataclass

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """`first` are run when the store has changed, and leave what they make for every later run."""

    first: tuple[Call, ...]
    lowered: Lowered


def prepare(lowered: Lowered) -> Prepared:
    """The calls that read nothing but parameters, apart from the rest.

    They lay out weights, and fold batch normalisation into them. A step that changes parameters
    itself has none: what it laid out would be stale before the next.
    """
    buffers = lowered.buffers
    if any(buffers[name].memory == "store" for call in lowered.calls for name in call.writes()):
        return Prepared((), lowered)
    settled = {name for name, buffer in buffers.items() if buffer.memory == "store"}
    first: list[Call] = []
    rest: list[Call] = []
    for call in lowered.calls:
        makes = call.writes()
        kept = all(buffers[name].memory == "arena" for name in makes)
        if kept and settled.issuperset(set(call.reads()) - set(makes)):
            settled.update(makes)
            first.append(call)
        else:
            rest.append(call)
    made = {name for call in first for name in call.writes()}
    return Prepared(tuple(first), replace(lowered, calls=tuple(rest), buffers=_kept(buffers, made)))


def _kept(buffers: Mapping[str, Buffer], names: set[str]) -> dict[str, Buffer]:
    return {
        name: replace(buffer, memory="prepared") if name in names else buffer
        for name, buffer in buffers.items()
    }
