"""2×2 max pooling joins what is before it: the maps between them are then never written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

from hubel.program import structs
from hubel.program.lower import Lowered
from hubel.program.program import Call

__all__ = ["join_pooling"]

Readers: TypeAlias = Mapping[str, Sequence[Call]]
"""The calls that read each buffer."""

Joined: TypeAlias = Sequence[tuple[Call, Call | None]]
"""Calls, and what stands in the place of each."""


def join_pooling(lowered: Lowered) -> Lowered:
    """The same with such pooling joined to Winograd's convolution or to batch normalisation.

    Only where nothing needs the maps between but the pooling and, to close a gradient where a ReLU
    was closed, the pooling's gradient: of a window only the largest gets one, so that the pooled
    maps tell that as well.
    """
    makers = {name: call for call in lowered.calls for name in call.writes()}
    readers: dict[str, list[Call]] = {name: [] for name in makers}
    for call in lowered.calls:
        for name in call.reads():
            readers.setdefault(name, []).append(call)
    results = {name for name, _, _ in lowered.results}
    buffers = dict(lowered.buffers)
    instead: dict[int, Call | None] = {}
    for pool in lowered.calls:
        if pool.kernel != "max_pool" or not _is_halving(pool.parameters):
            continue
        between = pool.operand("x")
        if between not in makers or makers[between].kernel not in JOINS or between in results:
            continue
        if not all(call is pool or _is_gated(call, between) for call in readers[between]):
            continue
        peak = replace(buffers[pool.operand("y")], name=f"{pool.node}:peak", memory="arena")
        joined = JOINS[makers[between].kernel](makers[between], pool, peak.name, readers)
        before = {name for old, _ in joined for name in old.writes()}
        after = {name for _, new in joined if new for name in new.writes()}
        if joined and not (before - after) & results:
            instead |= {id(old): new for old, new in joined}
            instead[id(pool)] = None
            buffers[peak.name] = peak
    made = (instead.get(id(call), call) for call in lowered.calls)
    return replace(lowered, calls=tuple(call for call in made if call), buffers=buffers)


def _convolution(maker: Call, pool: Call, _: str, readers: Readers) -> Joined:
    """Winograd's tiles hold whole windows."""
    y, index = pool.operand("y"), pool.operand("index")
    gradients = readers[index]
    parameters = structs.WinogradPool(maker.parameters, int(bool(gradients)))
    operands = (*maker.operands[:3], y, index if gradients else "")
    joined = replace(maker, kernel="winograd_pool", operands=operands, parameters=parameters)
    gated = [call for call in gradients if call.operand("gate")]
    return [(maker, joined), *((call, _gated_by(call, y)) for call in gated)]


def _normalisation(maker: Call, pool: Call, peak: str, readers: Readers) -> Joined:
    """What was normalised is read once for both, and on the way back not before dx is made.

    The gradients of the parameters are sums over dy, of which only a peak has any.
    """
    gradients = readers[pool.operand("index")]
    behind = [call for first in gradients for call in readers[first.operand("dx")]]
    if maker.parameters.has_other or len(gradients) != len(behind) or len(gradients) > 1:
        return []
    if any(call.kernel != "batch_norm_grad" for call in behind):
        return []
    given, pooling = maker.parameters, pool.parameters
    maps = structs.Layout(
        pooling.images, pooling.block, pooling.height, pooling.width, pooling.depth
    )
    x, weight, bias, _, moments, *running, _, mean, inverse, workspace = maker.operands
    kept = peak if gradients else ""
    made_of = (x, weight, bias, moments, *running)
    joined = replace(
        maker,
        kernel="batch_norm_pool",
        operands=(*made_of, pool.operand("y"), kept, mean, inverse, workspace),
        parameters=structs.NormPool(
            maps,
            given.epsilon,
            given.momentum,
            given.update,
            given.relu,
            int(bool(gradients)),
            given.parts,
        ),
    )
    made: list[tuple[Call, Call | None]] = [(maker, joined)]
    for first, second in zip(gradients, behind, strict=True):
        read = (x, kept, first.operand("dy"), weight, bias, mean, inverse)
        written = (second.operand(name) for name in ("dx", "dweight", "dbias", "workspace"))
        both = replace(
            second,
            kernel="batch_norm_pool_grad",
            operands=(*read, *written),
            parameters=structs.NormPoolGradient(maps, given.relu),
        )
        made += [(first, None), (second, both)]
    return made


JOINS: Mapping[str, Callable[[Call, Call, str, Readers], Joined]] = MappingProxyType(
    {"winograd": _convolution, "batch_norm": _normalisation}
)
"""By the kernel before the pooling."""


def _is_halving(pooling: structs.Pooling) -> bool:
    """Whether 2×2 windows lie side by side from the first pixel on, none over an edge."""
    window = (pooling.rows, pooling.columns, pooling.stride_y, pooling.stride_x)
    halves = (pooling.out_height, pooling.out_width) == (pooling.height // 2, pooling.width // 2)
    return window == (2, 2, 2, 2) and halves and not (pooling.top or pooling.left)


def _is_gated(call: Call, name: str) -> bool:
    return call.kernel == "max_pool_grad" and name == call.operand("gate")


def _gated_by(call: Call, y: str) -> Call:
    operands = list(call.operands)
    operands[call.place("gate")] = y
    return replace(call, operands=tuple(operands), parameters=replace(call.parameters, gate_is_y=1))
