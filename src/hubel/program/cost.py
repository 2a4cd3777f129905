"""What a call costs by its sizes alone: floating-point operations, and bytes read and written."""

from __future__ import annotations

from hubel.program.program import Call, Program

__all__ = ["operations", "traffic"]


def operations(call: Call) -> int:
    """Floating-point operations of a call's dot products, two a multiply-add; 0 without any.

    Counted by the formula, images · P · Q · K · F · F · C/groups: taps that fall outside the image
    count, although no kernel multiplies zeros, and so does what a faster algorithm saves. The
    gradients count as the layer does.
    """
    if call.choice is None:
        return 0
    problem = call.choice.problem
    given = problem.conv
    each = given.filters * problem.taps * (given.depth // given.groups)
    return 2 * problem.places * each


def traffic(program: Program, call: Call) -> int:
    """Bytes of the buffers that a call reads and writes, each counted once a direction."""
    return sum(program.buffers[name].bytes for name in (*call.reads(), *call.writes()))
