"""The one check of a program, run on every one that is made: a failure is a fault of Hubel."""

from __future__ import annotations

from collections import Counter

from hubel.program.kernels import KERNELS
from hubel.program.plan import lifetimes
from hubel.program.program import ALIGNMENT, Call, Program

__all__ = ["ProgramError", "verify"]


class ProgramError(AssertionError):
    """A program that would compute nonsense."""


def verify(program: Program) -> Program:
    """The program itself, if every buffer is placed, made before it is read, and shared safely.

    Raises ProgramError.
    """
    made = {name for name, buffer in program.buffers.items() if buffer.memory not in RUN_MADE}
    for number, call in enumerate((*program.first, *program.calls)):
        _verify_operands(number, call)
        for name in call.reads():
            if name not in made and name not in call.writes():
                raise ProgramError(f"call {number} {call.kernel} reads {name} before it is made")
        for name in call.writes():
            if program.buffers[name].memory in FED:
                raise ProgramError(f"call {number} {call.kernel} writes {name}, which was fed")
        made.update(call.writes())
    for name, _, _ in program.results:
        if program.buffers[name].memory != "results":
            raise ProgramError(f"the result {name} lies in another memory")
        if name not in made:
            raise ProgramError(f"the result {name} is made by no call")
    for buffer in program.buffers.values():
        if buffer.offset < 0 or buffer.offset % ALIGNMENT:
            raise ProgramError(f"{buffer.name} is not placed on a cache line")
        if buffer.offset + buffer.bytes > program.sizes[buffer.memory]:
            raise ProgramError(f"{buffer.name} lies outside its memory")
    _verify_sharing(program)
    return program


def _verify_operands(number: int, call: Call) -> None:
    """Each part has its own, and no part changes what another works on."""
    kernel = KERNELS[call.kernel]
    parts = len(call.parameters) if isinstance(call.parameters, tuple) else 1
    if len(call.operands) != parts * len(kernel.operands):
        raise ProgramError(f"call {number} {call.kernel}: wrong number of operands")
    if parts > 1 and not kernel.repeats:
        raise ProgramError(f"call {number} {call.kernel} has {parts} parts, but does not repeat")
    if parts > 1:
        uses = Counter(name for part in call.parts for name in set(part))
        for name in call.writes():
            if uses[name] > 1:
                raise ProgramError(f"two parts of call {number} {call.kernel} work on {name}")


RUN_MADE = ("arena", "prepared", "results")
"""Memories whose content the calls themselves make."""

FED = ("input", "labels", "targets", "scalars")
"""Memories that are only read."""


def _verify_sharing(program: Program) -> None:
    """Only in the arena may two buffers lie in one place, and only at different times."""
    living = lifetimes(program.calls)
    buffers = sorted(program.buffers.values(), key=lambda b: (b.memory, b.offset))
    for place, one in enumerate(buffers):
        for other in buffers[place + 1 :]:
            if other.memory != one.memory or other.offset >= one.offset + one.bytes:
                break
            if one.memory != "arena" or living[one.name].overlaps(living[other.name]):
                raise ProgramError(f"{one.name} and {other.name} overlap in time and in memory")
