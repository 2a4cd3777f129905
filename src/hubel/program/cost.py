"""What a call costs by its sizes alone: floating-point operations, and bytes read and written."""

from __future__ import annotations

from hubel.program.kernels import Convolution
from hubel.program.program import Call, Program

__all__ = ["operations", "traffic"]


def operations(call: Call) -> int:
    """Floating-point operations of a call's dot products, two a multiply-add; 0 without any.

    Counted by the formula, images · P · Q · K · F · F · C/groups: taps that fall outside the image
    count, although no kernel multiplies zeros, and so does what a faster algorithm saves.
    Winograd's gradient by the inputs is a convolution turned round, from the smaller map to the
    larger one; it counts as the layer does, by the smaller.
    """
    given = getattr(call.parameters, "convolution", call.parameters)
    if not isinstance(given, Convolution):
        return 0
    places = given.out_height * given.out_width
    if call.kernel == "winograd":
        places = min(places, given.height * given.width)
    taps = given.rows * given.columns
    return 2 * given.images * places * given.filters * taps * (given.depth // given.groups)


def traffic(program: Program, call: Call) -> int:
    """Bytes of the buffers that a call reads and writes, each counted once a direction."""
    return sum(program.buffers[name].bytes for name in (*call.reads(), *call.writes()))
