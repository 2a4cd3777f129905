"""What batch normalisation measures of a convolution's outputs is measured while they are made."""

from __future__ import annotations

from dataclasses import replace

from hubel.program.choose import tiles_of
from hubel.program.lower import Lowered
from hubel.program.program import ALIGNMENT, Buffer, Call

__all__ = ["join_moments"]


def join_moments(lowered: Lowered) -> Lowered:
    """The same with the moments of Winograd's outputs taken in its tiles.

    The normalisation then reads the maps once instead of twice. Nothing may be done to the outputs
    before they are normalised.
    """
    calls, buffers = list(lowered.calls), dict(lowered.buffers)
    makers = {call.operand("y"): place for place, call in enumerate(calls) if _measures(call)}
    for place, call in enumerate(calls):
        if call.kernel not in ("batch_norm", "batch_norm_pool"):
            continue
        at = makers.get(call.operand("x"))
        if at is None:
            continue
        maker = calls[at]
        winograd = maker.parameters
        # As native/kernels/winograd.h cuts the tiles.
        each = max(1, winograd.rows // winograd.convolution.block)
        parts = -(-tiles_of(winograd.convolution) // each)
        name = f"{maker.node}:moments"
        size = parts * 3 * winograd.convolution.filters * 8
        buffers[name] = Buffer(name, -(-size // ALIGNMENT) * ALIGNMENT, "arena")
        x, weights, bias = maker.operands[:3]
        operands = (x, weights, bias, maker.operand("y"), name)
        calls[at] = replace(maker, kernel="winograd_moments", operands=operands)
        read = list(call.operands)
        read[call.place("moments")] = name
        parameters = replace(call.parameters, parts=parts)
        calls[place] = replace(call, operands=tuple(read), parameters=parameters)
    return replace(lowered, calls=tuple(calls), buffers=buffers)


def _measures(call: Call) -> bool:
    if call.kernel != "winograd" or call.operand("gate"):
        return False
    return not call.parameters.convolution.relu
