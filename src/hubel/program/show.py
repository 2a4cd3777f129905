"""A program as text: its calls, its memory, and who shares it."""

from __future__ import annotations

from collections.abc import Iterator

from hubel.program.plan import lifetimes
from hubel.program.program import Call, Program

__all__ = ["show"]

COLUMNS = 64


def show(program: Program) -> str:
    """Every call in order, then the arena: a line a buffer, its life drawn from left to right.

    Where a call has parts, each has a line.
    """
    return "\n".join([*_calls(program), "", *_arena(program)])


def _calls(program: Program) -> Iterator[str]:
    width = max((len(call.kernel) for call in (*program.first, *program.calls)), default=0)
    if program.first:
        yield f"{len(program.first)} calls when parameters have changed"
        yield from _listed(program.first, width)
        yield ""
    yield f"{len(program.calls)} calls for a batch of {program.batch}"
    yield from _listed(program.calls, width)


def _listed(calls: tuple[Call, ...], width: int) -> Iterator[str]:
    for number, call in enumerate(calls):
        for place, part in enumerate(call.parts):
            head = f"{number:4}  {call.kernel}" if place == 0 else ""
            yield f"{head:<{6 + width}}  {', '.join(name or '—' for name in part)}"


def _arena(program: Program) -> Iterator[str]:
    living = lifetimes(program.calls)
    arena = sorted(
        (b for b in program.buffers.values() if b.memory == "arena"),
        key=lambda b: (b.offset, living[b.name].first),
    )
    apart = sum(b.bytes for b in arena)
    sizes = ", ".join(f"{memory} {size:,}" for memory, size in program.sizes.items())
    yield f"bytes: {sizes}; the arena's buffers would take {apart:,} if none shared"
    last = max(len(program.calls) - 1, 1)
    width = max((len(b.name) for b in arena), default=0)
    for b in arena:
        begin = living[b.name].first * (COLUMNS - 1) // last
        end = living[b.name].last * (COLUMNS - 1) // last
        drawn = " " * begin + "━" * (end - begin + 1)
        yield f"{b.offset:>12,} {b.bytes:>12,}  {b.name:<{width}}  |{drawn:<{COLUMNS}}|"
