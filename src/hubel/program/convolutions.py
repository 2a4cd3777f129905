"""The rules of convolutions and fully connected layers: each by the algorithm chosen for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from types import MappingProxyType
from typing import TypeAlias

from hubel.graph.op import Node
from hubel.graph.ops.conv import Conv, Window
from hubel.program import kernels, structs
from hubel.program.choose import POINTS, Choice, Problem, choose, tiles_of
from hubel.program.lowering import Lowering, as_map

__all__ = ["CONVOLUTIONS", "Rule"]

Rule: TypeAlias = Callable[[Lowering, Node], None]

MANY_ROWS = 64
"""GEMM rows a weight meets from which laying the weights into panels first pays."""

NEAR_WEIGHTS = 2**17
"""Weights that stay near a core: half a MiB."""

TILE_ROWS = (64, 32, 16, 8)
"""Rows of the matrices that Winograd works on at once: many, that weights are read seldom."""

TASKS = 32
"""Tasks that a piece of work is cut into, by its size alone, so that every thread has some."""

FEW_TASKS = 8
"""Tasks that are enough where each costs something to begin."""

MOST_PARTIAL_NUMBERS = 2**20
"""What the partial sums of one weight gradient may take: 4 MiB stay near a core."""

MOST_SUMS = 300_000
"""Transformed sums that one task of Winograd's weight gradient keeps near its core."""

LEAST_PLACES = 16
"""Output pixels from which a partial sum costs the weight gradient of small groups little."""


def _convolution(lowering: Lowering, conv: Conv, x: str) -> structs.Convolution:
    window = conv.window
    maps = lowering.maps(x)
    top, _, left, _ = window.padding
    return structs.Convolution(
        lowering.batch,
        lowering.block,
        maps.height,
        maps.width,
        maps.depth,
        *window.output,
        conv.filters,
        *window.size,
        *window.stride,
        top,
        left,
        *window.dilation,
        conv.groups,
    )


def _whole_map(lowering: Lowering, x: str, filters: int) -> Conv:
    """A fully connected layer as what it equals: a window as large as the map, in one place."""
    height, width, _ = as_map(lowering.graph[x].shape)
    window = Window((height, width), (1, 1), (0, 0, 0, 0), (1, 1), (1, 1))
    return Conv(window, filters)


def _is_images(lowering: Lowering, x: str) -> bool:
    return lowering.graph[x].role == "input"


def _as_vectors(
    lowering: Lowering, conv: structs.Convolution, x: str
) -> tuple[structs.Convolution, str]:
    """A window that covers a fed image reads it as one long pixel, for so it lies in memory."""
    size = (conv.height, conv.width)
    covered = (conv.rows, conv.columns) == size and (conv.out_height, conv.out_width) == (1, 1)
    plain = _is_images(lowering, x) and lowering.precision == "float32"
    if not (plain and covered and conv.groups == 1 and conv.top == conv.left == 0):
        return conv, x
    depth = prod(size) * conv.depth
    vector = replace(conv, height=1, width=1, depth=depth, rows=1, columns=1)
    return replace(vector, dilation_y=1, dilation_x=1), lowering.plain(x)


def _blocks(conv: structs.Convolution) -> int:
    return conv.images // conv.block


def _forward(lowering: Lowering, node: Node, conv: Conv) -> None:
    x, weight, *others = node.inputs
    bias = others[0] if others else ""
    y = lowering.make(node.outputs[0])
    images = _is_images(lowering, x)
    given, x = _as_vectors(lowering, _convolution(lowering, conv, x), x)
    given = replace(given, has_bias=len(others))
    chosen = choose(Problem(given, "forward", lowering.prepared, images, lowering.pair_rate))
    match chosen.algorithm:
        case "grouped":
            lowering.call("grouped", (x, weight, bias, y), given)
        case "narrow":
            lowering.call("narrow", (x, weight, bias, "", y), structs.Narrow(given, 0))
        case "stem":
            packed = _pack_window(lowering, given, weight)
            stem = structs.Stem(given, _blocks(given) * given.out_height, int(images))
            lowering.call("stem", (_stem_source(lowering, x), packed, bias, y), stem)
        case "winograd":
            transformed = _transform(lowering, given, weight, False)
            _winograd(lowering, given, (x, transformed, bias, "", y))
        case "direct":
            places = given.images * given.out_height * given.out_width
            packs = lowering.prepared or places >= MANY_ROWS
            given = replace(given, packed=int(packs))
            weights = _pack(lowering, given, weight, False) if packs else weight
            cut = _cut(given, given.out_height, given.filters)
            lowering.call("conv", (x, weights, bias, y), cut)
        case "pairs":
            weights = _pack(lowering, given, weight, False, pairs=True)
            cut = _cut(replace(given, packed=1), given.out_height, given.filters)
            lowering.call("pair_conv", (x, weights, bias, y), cut)
    _remember(lowering, chosen)


def _input_grad(lowering: Lowering, node: Node, conv: Conv) -> None:
    dy, weight = node.inputs
    dx = lowering.make(node.outputs[0])
    given = _convolution(lowering, conv, dx)
    chosen = choose(Problem(given, "backward", lowering.prepared, pair_rate=lowering.pair_rate))
    match chosen.algorithm:
        case "grouped":
            turned = _turn(lowering, given, weight)
            lowering.call("grouped_input_grad", (dy, turned, "", dx), given)
        case "narrow":
            lowering.call("narrow", (dy, weight, "", "", dx), structs.Narrow(given, 1))
        case "winograd":
            transformed = _transform(lowering, given, weight, True)
            _winograd(lowering, _turned(given), (dy, transformed, "", "", dx))
        case "pairs":
            packed = _pack(lowering, given, weight, True, pairs=True)
            cut = _cut(given, given.height, given.depth)
            lowering.call("pair_conv_input_grad", (dy, packed, "", dx), cut)
        case _:
            packed = _pack(lowering, given, weight, True)
            cut = _cut(given, given.height, given.depth)
            lowering.call("conv_input_grad", (dy, packed, "", dx), cut)
    _remember(lowering, chosen)


def _weight_grad(lowering: Lowering, conv: Conv, x: str, dy: str, dweight: str) -> None:
    images = _is_images(lowering, x)
    given, x = _as_vectors(lowering, _convolution(lowering, conv, x), x)
    weights = given.rows * given.columns * given.depth // given.groups * given.filters
    rows = _blocks(given) * given.out_height
    most = MOST_PARTIAL_NUMBERS // weights

    def call(kernel: str, source: str, chunks: int, partial: bool, parameters: object) -> None:
        size = chunks * ((weights if partial else 0) + given.filters)
        workspace = lowering.scratch("partial sums", size * 4)
        lowering.call(kernel, (source, dy, workspace, dweight, ""), parameters)

    chosen = choose(Problem(given, "weights", lowering.prepared, images, lowering.pair_rate))
    match chosen.algorithm:
        case "grouped":
            places = given.images * given.out_height * given.out_width
            chunks = max(1, min(TASKS, places // LEAST_PLACES, most))
            cut = structs.Chunked(given, chunks)
            call("grouped_weight_grad", x, chunks, True, cut)
        case "stem":
            chunks = max(1, min(TASKS, rows))
            stem = structs.Stem(given, chunks, int(images))
            call("stem_weight_grad", _stem_source(lowering, x), chunks, True, stem)
        case "winograd":
            rows = TILE_ROWS[0]
            units = -(-tiles_of(given) * given.block // rows)
            sums = POINTS * given.depth * given.filters
            most = max(1, units // 2)
            parts = max(-(-sums // MOST_SUMS), -(-FEW_TASKS // most))
            parts = min(-(-given.filters // kernels.PANEL), parts)
            chunks = max(1, min(TASKS // parts, most))
            winograd = structs.WinogradGradient(given, rows, chunks, parts)
            call("winograd_weight_grad", x, chunks, chunks > 1, winograd)
        case "pairs":
            units = -(-given.filters // kernels.PANEL) * given.rows * given.columns
            chunks = max(1, min(TASKS, rows, most))
            parts = min(units, -(-TASKS // chunks))
            call("pair_conv_weight_grad", x, chunks, True, structs.Cut(given, chunks, parts))
        case _:
            panels = -(-(given.filters // given.groups) // kernels.PANEL)
            units = given.groups * panels * given.rows * given.columns
            # One place has nothing that taps share: cut by weights, without partial sums.
            single = given.out_height * given.out_width == 1 and units >= FEW_TASKS
            chunks = 1 if single else max(1, min(TASKS, rows, most))
            parts = min(units, -(-TASKS // chunks))
            call("conv_weight_grad", x, chunks, chunks > 1, structs.Cut(given, chunks, parts))
    _remember(lowering, chosen)


def _remember(lowering: Lowering, chosen: Choice) -> None:
    """The call that was just made tells what was chosen for it, and from what."""
    lowering.calls[-1] = replace(lowering.calls[-1], choice=chosen)


def _stem_source(lowering: Lowering, x: str) -> str:
    return lowering.plain(x) if _is_images(lowering, x) else x


def _pack(
    lowering: Lowering,
    conv: structs.Convolution,
    weight: str,
    backward: bool,
    *,
    pairs: bool = False,
) -> str:
    taps = conv.rows * conv.columns
    inner, columns = conv.depth // conv.groups, conv.filters // conv.groups
    if backward:
        inner, columns = columns, inner
    size = kernels.packed_size(taps, inner, columns, conv.groups)
    packed = lowering.scratch("packed", size * (2 if pairs else 4))
    parameters = structs.PackWeights(taps, conv.depth, conv.filters, conv.groups, int(backward))
    lowering.call("pair_weights" if pairs else "pack_weights", (weight, packed), parameters)
    return packed


def _turn(lowering: Lowering, conv: structs.Convolution, weight: str) -> str:
    """The weights of groups, channels and filters exchanged; of one channel they are the same."""
    channels = conv.depth // conv.groups
    if channels == 1:
        return weight
    taps = conv.rows * conv.columns
    turned = lowering.scratch("turned", taps * channels * conv.filters * 4)
    parameters = structs.PackWeights(taps, conv.depth, conv.filters, conv.groups, backward=1)
    lowering.call("turn_groups", (weight, turned), parameters)
    return turned


def _pack_window(lowering: Lowering, conv: structs.Convolution, weight: str) -> str:
    window = conv.rows * conv.columns * conv.depth
    packed = lowering.scratch("packed", kernels.packed_size(1, window, conv.filters, 1) * 4)
    parameters = structs.WindowWeights(conv.rows, conv.columns, conv.depth, conv.filters)
    lowering.call("stem_weights", (weight, packed), parameters)
    return packed


def _transform(lowering: Lowering, conv: structs.Convolution, weight: str, backward: bool) -> str:
    inner, columns = (conv.filters, conv.depth) if backward else (conv.depth, conv.filters)
    size = kernels.packed_size(POINTS, inner, columns, 1)
    transformed = lowering.scratch("transformed", size * 4)
    parameters = structs.PackWeights(9, conv.depth, conv.filters, 1, int(backward))
    lowering.call("winograd_weights", (weight, transformed), parameters)
    return transformed


def _turned(conv: structs.Convolution) -> structs.Convolution:
    """The convolution of dy by filters turned round, which is the gradient by x."""
    return replace(
        conv,
        height=conv.out_height,
        width=conv.out_width,
        depth=conv.filters,
        out_height=conv.height,
        out_width=conv.width,
        filters=conv.depth,
        top=2 - conv.top,
        left=2 - conv.left,
    )


def _winograd(lowering: Lowering, conv: structs.Convolution, operands: tuple[str, ...]) -> None:
    """Few tiles are cut by filters, and finer where that gives every thread too little."""
    tiles, panels = tiles_of(conv) * conv.block, -(-conv.filters // kernels.PANEL)
    enough = (rows for rows in TILE_ROWS if -(-tiles // rows) * panels >= FEW_TASKS)
    rows = next(enough, TILE_ROWS[-1])
    parts = min(panels, -(-FEW_TASKS // -(-tiles // rows)))
    lowering.call("winograd", operands, structs.Winograd(conv, rows, parts))


def _cut(conv: structs.Convolution, height: int, columns: int) -> structs.Cut:
    """Weights too large to stay near a core are shared out, so that each share meets many rows."""
    rows = _blocks(conv) * height
    weights = conv.rows * conv.columns * conv.depth * conv.filters
    if conv.groups > 1 or weights <= NEAR_WEIGHTS:
        return structs.Cut(conv, rows, 1)
    parts = min(-(-columns // kernels.PANEL), max(-(-weights // NEAR_WEIGHTS), FEW_TASKS))
    return structs.Cut(conv, min(rows, -(-TASKS // parts)), parts)


def _conv(lowering: Lowering, node: Node) -> None:
    _forward(lowering, node, node.attributes)


def _dense(lowering: Lowering, node: Node) -> None:
    filters = lowering.depth(node.outputs[0])
    _forward(lowering, node, _whole_map(lowering, node.inputs[0], filters))


def _conv_input_grad(lowering: Lowering, node: Node) -> None:
    _input_grad(lowering, node, node.attributes)


def _dense_input_grad(lowering: Lowering, node: Node) -> None:
    (dx,) = node.outputs
    _input_grad(lowering, node, _whole_map(lowering, dx, lowering.depth(node.inputs[0])))


def _conv_weight_grad(lowering: Lowering, node: Node) -> None:
    x, dy = node.inputs
    _weight_grad(lowering, node.attributes, x, dy, lowering.make(node.outputs[0]))


def _dense_weight_grad(lowering: Lowering, node: Node) -> None:
    x, dy = node.inputs
    conv = _whole_map(lowering, x, lowering.depth(dy))
    _weight_grad(lowering, conv, x, dy, lowering.make(node.outputs[0]))


def _bias_grad(lowering: Lowering, node: Node) -> None:
    """The gradient of weights that has read the same dy sums it too.

    Where there is none, because only the bias is asked for, one is made up: one weight a channel.
    """
    (dy,) = node.inputs
    place = _free_weight_grad(lowering, dy)
    if place is None:
        height, width, depth = as_map(lowering.graph[dy].shape)
        window = Window((1, 1), (1, 1), (0, 0, 0, 0), (1, 1), (height, width))
        unused = lowering.scratch("one weight a channel", depth * 4)
        _weight_grad(lowering, Conv(window, depth, depth), dy, dy, unused)
        place = len(lowering.calls) - 1
    call = lowering.calls[place]
    convolution = replace(call.parameters.convolution, has_bias=1)
    lowering.calls[place] = replace(
        call,
        operands=(*call.operands[:-1], lowering.make(node.outputs[0])),
        parameters=replace(call.parameters, convolution=convolution),
    )


WEIGHT_GRADIENTS = (
    "conv_weight_grad",
    "pair_conv_weight_grad",
    "grouped_weight_grad",
    "stem_weight_grad",
    "winograd_weight_grad",
)
"""Kernels that can sum dy beside their own work."""


def _free_weight_grad(lowering: Lowering, dy: str) -> int | None:
    """The last gradient of weights that reads dy and does not sum it yet."""
    for place, call in reversed(list(enumerate(lowering.calls))):
        if call.kernel in WEIGHT_GRADIENTS and call.operand("dy") == dy:
            return place if not call.operand("dbias") else None
    return None


CONVOLUTIONS: Mapping[str, Rule] = MappingProxyType(
    {
        "conv": _conv,
        "conv_input_grad": _conv_input_grad,
        "conv_weight_grad": _conv_weight_grad,
        "bias_grad": _bias_grad,
        "dense": _dense,
        "dense_input_grad": _dense_input_grad,
        "dense_weight_grad": _dense_weight_grad,
    }
)
