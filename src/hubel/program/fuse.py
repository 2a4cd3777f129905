"""Calls to fewer calls: what can be done to a tile while it is in registers is done there."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from hubel.graph.ops.pointwise import FUNCTIONS
from hubel.program.lower import Lowered
from hubel.program.moments import join_moments
from hubel.program.pooling import join_pooling
from hubel.program.program import Call

__all__ = ["fuse"]

RELU = list(FUNCTIONS).index("relu")

BEFORE_RELU = {
    "conv": "y",
    "grouped": "y",
    "narrow": "y",
    "pair_conv": "y",
    "stem": "y",
    "winograd": "y",
    "batch_norm": "y",
    "batch_norm_apply": "y",
    "add": "y",
}
"""Kernels that can apply the ReLU behind them, and the operand that they make."""

BEFORE_GATE = {
    "conv_input_grad": "dx",
    "pair_conv_input_grad": "dx",
    "narrow": "y",
    "grouped_input_grad": "dx",
    "winograd": "y",
    "max_pool_grad": "dx",
    "add": "y",
}
"""Kernels that can close a gradient where a ReLU was closed, and the operand that they make."""


def fuse(lowered: Lowered) -> Lowered:
    """The same results from fewer passes over memory.

    A ReLU joins what is before it. A ReLU's gradient joins what made its dy, as a gate; behind a
    batch normalisation it joins the gradient of that, which makes the gate anew from its x. The sum
    of a shortcut and a batch normalisation joins that; pooling joins what is before it. All only
    where nothing else uses what lies between. What batch normalisation measures of a convolution's
    outputs is measured while they are made.
    """
    uses = Counter(name for call in lowered.calls for name in call.reads())
    uses.update(name for name, _, _ in lowered.results)
    makers: dict[str, int] = {}
    calls: list[Call | None] = []
    for call in lowered.calls:
        joined = (
            _relu(call, calls, makers, uses)
            or _gate(call, calls, makers, uses)
            or _gated_norm(call, calls, makers, uses)
            or _added(call, calls, makers, uses)
        )
        if joined is not None:
            place, made = joined
            calls[place] = None
            call = made
        for name in call.writes():
            makers[name] = len(calls)
        calls.append(call)
    fewer = replace(lowered, calls=tuple(call for call in calls if call is not None))
    return _without_unused(join_moments(join_pooling(fewer)))


def _relu(
    call: Call, calls: list[Call | None], makers: dict[str, int], uses: Counter[str]
) -> tuple[int, Call] | None:
    if call.kernel != "activation" or call.parameters.function != RELU:
        return None
    between = call.operand("x")
    maker = calls[makers[between]] if between in makers and uses[between] == 1 else None
    if maker is None or maker.kernel not in BEFORE_RELU:
        return None
    operands = list(maker.operands)
    operands[maker.place(BEFORE_RELU[maker.kernel])] = call.operand("y")
    made = replace(maker, operands=tuple(operands), parameters=_with(maker.parameters, "relu"))
    return makers[between], made


def _gate(
    call: Call, calls: list[Call | None], makers: dict[str, int], uses: Counter[str]
) -> tuple[int, Call] | None:
    if call.kernel != "activation_grad" or call.parameters.function != RELU:
        return None
    between, kept = call.operand("dy"), call.operand("kept")
    maker = calls[makers[between]] if between in makers and uses[between] == 1 else None
    if maker is None or maker.kernel not in BEFORE_GATE:
        return None
    if kept in makers and _is_normalised(calls[makers[kept]]):
        return None
    operands = list(maker.operands)
    operands[maker.place("gate")] = kept
    operands[maker.place(BEFORE_GATE[maker.kernel])] = call.operand("dx")
    parameters = _with(maker.parameters, "has_gate")
    return makers[between], replace(maker, operands=tuple(operands), parameters=parameters)


def _gated_norm(
    call: Call, calls: list[Call | None], makers: dict[str, int], uses: Counter[str]
) -> tuple[int, Call] | None:
    if call.kernel != "batch_norm_grad":
        return None
    between = call.operand("dy")
    maker = calls[makers[between]] if between in makers and uses[between] == 1 else None
    if maker is None or maker.kernel != "activation_grad" or maker.parameters.function != RELU:
        return None
    kept = maker.operand("kept")
    normalised = calls[makers[kept]] if kept in makers else None
    if normalised is None or not _is_normalised(normalised):
        return None
    operands = list(call.operands)
    operands[call.place("dy")] = maker.operand("dy")
    operands[call.place("bias")] = normalised.operand("bias")
    parameters = replace(call.parameters, relu=1)
    return makers[between], replace(call, operands=tuple(operands), parameters=parameters)


def _is_normalised(call: Call | None) -> bool:
    """Whether a call applies a ReLU to what it normalises and nothing else."""
    if call is None or call.kernel != "batch_norm":
        return False
    return bool(call.parameters.relu) and not call.parameters.has_other


def _added(
    call: Call, calls: list[Call | None], makers: dict[str, int], uses: Counter[str]
) -> tuple[int, Call] | None:
    if call.kernel != "add" or call.operand("gate"):
        return None
    terms, y = (call.operand("a"), call.operand("b")), call.operand("y")
    if terms[0] == terms[1]:
        return None
    places = {makers[name]: name for name in terms if name in makers and uses[name] == 1}
    for place in sorted(places, reverse=True):
        maker, between = calls[place], places[place]
        if maker is None or maker.kernel != "batch_norm" or maker.operand("y") != between:
            continue
        if maker.parameters.relu or maker.parameters.has_other:
            continue
        # It moves here, where both terms are there.
        made = set(maker.writes())
        if any(later is not None and made & set(later.reads()) for later in calls[place + 1 :]):
            continue
        operands = list(maker.operands)
        operands[maker.place("other")] = terms[terms[0] == between]
        operands[maker.place("y")] = y
        parameters = replace(maker.parameters, has_other=1, relu=call.parameters.relu)
        return place, replace(maker, operands=tuple(operands), parameters=parameters)
    return None


def _with(parameters: Any, flag: str) -> Any:
    """The parameters with a flag set, which lies in the convolution where there is one."""
    if hasattr(parameters, flag):
        return replace(parameters, **{flag: 1})
    return replace(parameters, convolution=replace(parameters.convolution, **{flag: 1}))


def _without_unused(lowered: Lowered) -> Lowered:
    used = {name for call in lowered.calls for name in call.operands}
    used.update(name for name, _, _ in lowered.results)
    buffers = {
        name: buffer
        for name, buffer in lowered.buffers.items()
        if name in used or buffer.memory != "arena"
    }
    return replace(lowered, buffers=buffers)
