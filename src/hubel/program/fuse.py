"""Calls to fewer calls: what can be done to a tile while it is in registers is done there."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hubel.graph.ops.pointwise import FUNCTIONS
from hubel.program.lower import Lowered
from hubel.program.program import Call

__all__ = ["fuse"]

RELU = list(FUNCTIONS).index("relu")
GATED = ("conv_input_grad", "max_pool_grad")


def fuse(lowered: Lowered) -> Lowered:
    """The same results from fewer passes over memory.

    A ReLU joins the convolution or fully connected layer before it; a ReLU's gradient joins the
    gradient that made its dy, as a gate. Both only where nothing else uses what lies between.
    """
    uses = Counter(name for call in lowered.calls for name in call.reads())
    uses.update(name for name, _, _ in lowered.results)
    makers: dict[str, int] = {}
    calls: list[Call | None] = []
    for call in lowered.calls:
        joined = _relu(call, calls, makers, uses) or _gate(call, calls, makers, uses)
        if joined is not None:
            place, made = joined
            calls[place] = None
            call = made
        for name in call.writes():
            makers[name] = len(calls)
        calls.append(call)
    kept = tuple(call for call in calls if call is not None)
    used = {name for call in kept for name in call.operands}
    used.update(name for name, _, _ in lowered.results)
    buffers = {
        name: buffer
        for name, buffer in lowered.buffers.items()
        if name in used or buffer.memory != "arena"
    }
    return replace(lowered, calls=kept, buffers=buffers)


def _relu(
    call: Call, calls: list[Call | None], makers: dict[str, int], uses: Counter[str]
) -> tuple[int, Call] | None:
    if call.kernel != "activation" or call.parameters.function != RELU:
        return None
    between = call.operand("x")
    maker = calls[makers[between]] if between in makers else None
    if maker is None or maker.kernel != "conv" or uses[between] > 1:
        return None
    operands = list(maker.operands)
    operands[maker.place("y")] = call.operand("y")
    made = replace(maker, operands=tuple(operands), parameters=replace(maker.parameters, relu=1))
    return makers[between], made


def _gate(
    call: Call, calls: list[Call | None], makers: dict[str, int], uses: Counter[str]
) -> tuple[int, Call] | None:
    if call.kernel != "activation_grad" or call.parameters.function != RELU:
        return None
    between = call.operand("dy")
    maker = calls[makers[between]] if between in makers else None
    if maker is None or maker.kernel not in GATED or uses[between] > 1:
        return None
    operands = list(maker.operands)
    operands[maker.place("gate")] = call.operand("kept")
    operands[maker.place("dx")] = call.operand("dx")
    parameters = replace(maker.parameters, has_gate=1)
    return makers[between], replace(maker, operands=tuple(operands), parameters=parameters)
