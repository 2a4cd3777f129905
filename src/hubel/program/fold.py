"""Batch normalisation by settled statistics, folded into the convolution before it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from hubel.program import structs
from hubel.program.lower import Lowered
from hubel.program.program import ALIGNMENT, Buffer, Call

__all__ = ["fold"]


def fold(lowered: Lowered) -> Lowered:
    """The same scores from fewer passes: a scale and a shift of a sum are other weights and a bias.

    Only where nothing else uses what lies between the two layers.
    """
    uses = Counter(name for call in lowered.calls for name in call.reads())
    uses.update(name for name, _, _ in lowered.results)
    makers = {name: place for place, call in enumerate(lowered.calls) for name in call.writes()}
    buffers = dict(lowered.buffers)
    instead: dict[int, tuple[Call, ...]] = {}
    for place, norm in enumerate(lowered.calls):
        if norm.kernel != "batch_norm_apply" or uses[norm.operand("x")] != 1:
            continue
        at = makers.get(norm.operand("x"))
        if at is None or not _is_convolution(lowered.calls[at]):
            continue
        conv = lowered.calls[at]
        packed_at = makers.get(conv.operand("weights"))
        packed = None if packed_at is None else lowered.calls[packed_at]
        weight = conv.operand("weights") if packed is None else packed.operand("weight")
        rows = _rows(conv, lowered.buffers[weight].bytes)
        folded = _folded(norm, weight, conv.operand("bias"), rows, buffers)
        new_weight, new_bias = folded.operand("folded"), folded.operand("shift")
        joined = _with(conv, {"bias": new_bias, "y": norm.operand("y")})
        if packed is None or packed_at is None:
            joined = _with(joined, {"weights": new_weight})
            instead[at] = (folded, joined)
        else:
            instead[packed_at] = (folded, _with(packed, {"weight": new_weight}))
            instead[at] = (joined,)
        instead[place] = ()
    calls = tuple(
        made for place, call in enumerate(lowered.calls) for made in instead.get(place, (call,))
    )
    return replace(lowered, calls=calls, buffers=buffers)


def _is_convolution(call: Call) -> bool:
    return {"weights", "bias", "y"} <= set(call.places())


def _rows(conv: Call, size: int) -> int:
    given = getattr(conv.parameters, "convolution", conv.parameters)
    filters: int = given.filters
    rows: int = given.rows * given.columns * given.depth // given.groups
    assert rows * filters * 4 <= size
    return rows


def _folded(norm: Call, weight: str, bias: str, rows: int, buffers: dict[str, Buffer]) -> Call:
    depth = norm.parameters.depth
    names = []
    for suffix, size in (("weight", rows * depth), ("bias", depth)):
        name = f"{norm.node}:folded {suffix}"
        room = -(-size * 4 // ALIGNMENT) * ALIGNMENT
        buffers[name] = Buffer(name, room, "arena")
        names.append(name)
    scale, offset, mean, variance = (
        norm.operand(name) for name in ("weight", "bias", "mean", "variance")
    )
    parameters = structs.Fold(rows, depth, norm.parameters.epsilon, int(bool(bias)))
    operands = (weight, bias, scale, offset, mean, variance, *names)
    return Call("fold_norm", operands, parameters, norm.node)


def _with(call: Call, operands: dict[str, str]) -> Call:
    given = list(call.operands)
    for name, buffer in operands.items():
        given[call.place(name)] = buffer
    parameters: Any = call.parameters
    if "bias" in operands:
        if isinstance(parameters, structs.Convolution):
            parameters = replace(parameters, has_bias=1)
        else:
            convolution = replace(parameters.convolution, has_bias=1)
            parameters = replace(parameters, convolution=convolution)
    return replace(call, operands=tuple(given), parameters=parameters)
