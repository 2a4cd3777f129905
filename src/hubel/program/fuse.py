"""Calls to fewer calls: what can be done to a tile while it is in registers is done there."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from hubel.graph.ops.pointwise import FUNCTIONS
from hubel.program import kernels
from hubel.program.lower import Lowered
from hubel.program.program import Call

__all__ = ["fuse"]

RELU = list(FUNCTIONS).index("relu")

BEFORE_RELU = {
    "conv": "y",
    "depthwise": "y",
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
    "depthwise_input_grad": "dx",
    "winograd": "y",
    "max_pool_grad": "dx",
    "add": "y",
}
"""Kernels that can close a gradient where a ReLU was closed, and the operand that they make."""


def fuse(lowered: Lowered) -> Lowered:
    """The same results from fewer passes over memory.

    A ReLU joins what is before it; a ReLU's gradient joins what made its dy, or the gradient of the
    batch normalisation before the ReLU, as a gate. The sum of a shortcut and a batch normalisation
    joins that; pooling joins the convolution before it. All only where nothing else uses what lies
    between.
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
    kept = _pools([call for call in calls if call is not None], lowered)
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
    between = call.operand("dy")
    maker = calls[makers[between]] if between in makers and uses[between] == 1 else None
    if maker is None or maker.kernel not in BEFORE_GATE:
        return None
    operands = list(maker.operands)
    operands[maker.place("gate")] = call.operand("kept")
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
    operands = list(call.operands)
    operands[call.place("dy")] = maker.operand("dy")
    operands[call.place("gate")] = maker.operand("kept")
    parameters = replace(call.parameters, has_gate=1)
    return makers[between], replace(call, operands=tuple(operands), parameters=parameters)


def _added(
    call: Call, calls: list[Call | None], makers: dict[str, int], uses: Counter[str]
) -> tuple[int, Call] | None:
    if call.kernel != "add" or call.operand("gate"):
        return None
    terms, y = (call.operand("a"), call.operand("b")), call.operand("y")
    if y in terms or terms[0] == terms[1]:
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


def _pools(calls: list[Call], lowered: Lowered) -> tuple[Call, ...]:
    """2×2 max pooling joins Winograd's convolution, whose tiles hold whole windows.

    The maps between them are then never written. A gate that reads them, to close the gradient of
    the ReLU, reads the pooled ones instead: only the largest of a window gets a gradient.
    """
    results = {name for name, _, _ in lowered.results}
    makers = {name: place for place, call in enumerate(calls) for name in call.writes()}
    readers: dict[str, list[Call]] = {}
    for call in calls:
        for name in call.reads():
            readers.setdefault(name, []).append(call)
    instead: dict[int, tuple[Call, ...]] = {}
    gates: dict[str, str] = {}
    for place, pool in enumerate(calls):
        if pool.kernel != "max_pool" or not _is_halving(pool.parameters):
            continue
        between, y = pool.operand("x"), pool.operand("y")
        at = makers.get(between)
        if at is None or between in results or calls[at].kernel != "winograd":
            continue
        if not all(call is pool or _is_gate(call, between) for call in readers[between]):
            continue
        index = pool.operand("index") if pool.operand("index") in readers else ""
        parameters = kernels.WinogradPool(calls[at].parameters, int(bool(index)))
        operands = (*calls[at].operands[:3], y, index)
        joined = replace(
            calls[at], kernel="winograd_pool", operands=operands, parameters=parameters
        )
        instead |= {at: (joined,), place: ()}
        gates[between] = y
    made = [new for place, call in enumerate(calls) for new in instead.get(place, (call,))]
    return tuple(_gated_by(call, gates) for call in made)


def _is_halving(pooling: kernels.Pooling) -> bool:
    """Whether 2×2 windows lie side by side from the first pixel on, none over an edge."""
    window = (pooling.rows, pooling.columns, pooling.stride_y, pooling.stride_x)
    halves = (pooling.out_height, pooling.out_width) == (pooling.height // 2, pooling.width // 2)
    return window == (2, 2, 2, 2) and halves and not (pooling.top or pooling.left)


def _is_gate(call: Call, name: str) -> bool:
    return call.kernel == "max_pool_grad" and name == call.operand("gate")


def _gated_by(call: Call, gates: dict[str, str]) -> Call:
    if call.kernel != "max_pool_grad" or call.operand("gate") not in gates:
        return call
    operands = list(call.operands)
    operands[call.place("gate")] = gates[call.operand("gate")]
    parameters = replace(call.parameters, gate_is_y=1)
    return replace(call, operands=tuple(operands), parameters=parameters)
