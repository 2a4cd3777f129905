"""Calls to Program: every buffer gets its place, and buffers that never live at once share one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hubel.program.prepare import Prepared
from hubel.program.program import Buffer, Call, Memory, Program
from hubel.records import dataclass

__all__ = ["Lifetime", "lifetimes", "plan"]


@dataclass(frozen=True, slots=True)
class Lifetime:
    """The numbers of the first and the last call that need a buffer."""

    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        """Whether both are needed by one call or between two."""
        return self.first <= other.last and other.first <= self.last


def lifetimes(calls: tuple[Call, ...]) -> Mapping[str, Lifetime]:
    """For every buffer the first and the last call that works on it."""
    found: dict[str, Lifetime] = {}
    for place, call in enumerate(calls):
        for name in call.operands:
            if name:
                found[name] = Lifetime(found[name].first if name in found else place, place)
    return found


def plan(prepared: Prepared) -> Program:
    """The program with every buffer placed.

    The arena is filled largest first, each buffer at the lowest offset where it overlaps no other
    that lives at the same time (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
    Inference", 2020). The other memories are filled in order.
    """
    lowered = prepared.lowered
    living = lifetimes(lowered.calls)
    placed: dict[str, Buffer] = {}
    sizes: dict[Memory, int] = dict.fromkeys(
        ("arena", "store", "prepared", "scalars", "results", "input", "labels", "targets"), 0
    )
    for buffer in lowered.buffers.values():
        if buffer.memory == "arena":
            continue
        offset = buffer.offset if buffer.memory == "store" else sizes[buffer.memory]
        placed[buffer.name] = replace(buffer, offset=offset)
        sizes[buffer.memory] = max(sizes[buffer.memory], offset + buffer.bytes)
    arena = [b for b in lowered.buffers.values() if b.memory == "arena" and b.name in living]
    done: list[Buffer] = []
    for buffer in sorted(arena, key=lambda b: (-b.bytes, living[b.name].first, b.name)):
        near = [b for b in done if living[b.name].overlaps(living[buffer.name])]
        made = replace(buffer, offset=_lowest(buffer.bytes, near))
        placed[buffer.name] = made
        done.append(made)
        sizes["arena"] = max(sizes["arena"], made.offset + made.bytes)
    return Program(lowered.batch, prepared.first, lowered.calls, placed, lowered.results, sizes)


def _lowest(size: int, others: list[Buffer]) -> int:
    offset = 0
    for other in sorted(others, key=lambda b: b.offset):
        if offset + size <= other.offset:
            break
        offset = max(offset, other.offset + other.bytes)
    return offset
