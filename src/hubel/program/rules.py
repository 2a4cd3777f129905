"""One rule an operation: the calls of kernels that it becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from types import MappingProxyType
from typing import Any, TypeAlias

from hubel.graph.op import Node
from hubel.graph.ops.conv import Conv, Window
from hubel.graph.ops.pointwise import FUNCTIONS
from hubel.program import kernels
from hubel.program.choose import POINTS, TILE_ROWS, choose, tiles_of
from hubel.program.lowering import Lowering, as_map

__all__ = ["RULES"]

Rule: TypeAlias = Callable[[Lowering, Node], None]


def _convolution(lowering: Lowering, conv: Conv, x: str) -> kernels.Convolution:
    window = conv.window
    maps = lowering.maps(x)
    top, _, left, _ = window.padding
    return kernels.Convolution(
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


MANY_ROWS = 64
"""GEMM rows a weight meets from which laying the weights into panels first pays."""


def _pack(lowering: Lowering, conv: kernels.Convolution, weight: str, backward: bool) -> str:
    taps = conv.rows * conv.columns
    inner, columns = conv.depth // conv.groups, conv.filters // conv.groups
    if backward:
        inner, columns = columns, inner
    size = kernels.packed_size(taps, inner, columns, conv.groups)
    packed = lowering.scratch("packed", size * 4)
    parameters = kernels.PackWeights(taps, conv.depth, conv.filters, conv.groups, int(backward))
    lowering.call("pack_weights", (weight, packed), parameters)
    return packed


def _forward(lowering: Lowering, node: Node, conv: Conv) -> None:
    x, weight, *bias = node.inputs
    given, x = _as_vectors(lowering, _convolution(lowering, conv, x), x)
    given = replace(given, has_bias=len(bias))
    made = lowering.make(node.outputs[0])
    operands = (bias[0] if bias else "", made)
    if _is_stem(lowering, given, x):
        weights = _pack(lowering, given, weight, False)
        chunks = given.images // given.block * given.out_height
        lowering.call("stem", (lowering.plain(x), weights, *operands), kernels.Stem(given, chunks))
        return
    if choose(given, "forward", lowering.prepared).algorithm == "winograd":
        transformed = _transform(lowering, given, weight, False)
        _winograd(lowering, given, (x, transformed, operands[0], "", made))
        return
    places = given.images * given.out_height * given.out_width
    packed = lowering.prepared or places >= MANY_ROWS
    given = replace(given, packed=int(packed))
    weights = _pack(lowering, given, weight, False) if given.packed else weight
    lowering.call("conv", (x, weights, *operands), _cut(given, given.out_height, given.filters))


FEW_CHANNELS = 8
"""Channels of images up to which the taps of a filter's row are one product."""


def _is_stem(lowering: Lowering, conv: kernels.Convolution, x: str) -> bool:
    """Whether a convolution reads the images themselves, and these have few channels."""
    whole = conv.groups == 1 and conv.dilation_x == 1 and conv.columns > 1
    # With one place a row, every image would stream all the weights past.
    several = conv.out_width > 1 and conv.depth <= FEW_CHANNELS
    return whole and several and lowering.graph[x].role == "input"


def _as_vectors(
    lowering: Lowering, conv: kernels.Convolution, x: str
) -> tuple[kernels.Convolution, str]:
    """A window that covers a fed image reads it as one long pixel, for so it lies in memory."""
    size = (conv.height, conv.width)
    covered = (conv.rows, conv.columns) == size and (conv.out_height, conv.out_width) == (1, 1)
    plain = lowering.graph[x].role == "input" and lowering.precision == "float32"
    if not (plain and covered and conv.groups == 1 and conv.top == conv.left == 0):
        return conv, x
    depth = prod(size) * conv.depth
    vector = replace(conv, height=1, width=1, depth=depth, rows=1, columns=1)
    return replace(vector, dilation_y=1, dilation_x=1), lowering.plain(x)


def _transform(lowering: Lowering, conv: kernels.Convolution, weight: str, backward: bool) -> str:
    inner, columns = (conv.filters, conv.depth) if backward else (conv.depth, conv.filters)
    size = kernels.packed_size(POINTS, inner, columns, 1)
    transformed = lowering.scratch("transformed", size * 4)
    parameters = kernels.PackWeights(9, conv.depth, conv.filters, 1, int(backward))
    lowering.call("winograd_weights", (weight, transformed), parameters)
    return transformed


def _winograd(lowering: Lowering, conv: kernels.Convolution, operands: tuple[str, ...]) -> None:
    units = -(-tiles_of(conv) * conv.block // TILE_ROWS)
    panels = -(-conv.filters // kernels.PANEL)
    parts = min(panels, -(-FEW_UNITS // units))
    lowering.call("winograd", operands, kernels.Winograd(conv, parts))


FEW_UNITS = 8
"""Runs of tiles fewer than which are cut by filters too, so that every thread has some."""


def _cut(conv: kernels.Convolution, height: int, columns: int) -> kernels.Cut:
    """Weights too large to stay near a core are shared out, and each share meets many rows."""
    rows = conv.images // conv.block * height
    weights = conv.rows * conv.columns * conv.depth * conv.filters
    if conv.groups > 1 or weights <= NEAR_WEIGHTS:
        return kernels.Cut(conv, rows, 1)
    parts = min(-(-columns // kernels.PANEL), max(-(-weights // NEAR_WEIGHTS), FEW_UNITS))
    return kernels.Cut(conv, min(rows, -(-TASKS // parts)), parts)


NEAR_WEIGHTS = 2**17
"""Weights that stay near a core: half a MiB."""

TASKS = 32
"""Tasks that a piece of work is cut into, by its size alone, so that every thread has some."""


def _conv(lowering: Lowering, node: Node) -> None:
    _forward(lowering, node, node.attributes)


def _dense(lowering: Lowering, node: Node) -> None:
    filters = lowering.depth(node.outputs[0])
    _forward(lowering, node, _whole_map(lowering, node.inputs[0], filters))


def _input_grad(lowering: Lowering, node: Node, conv: Conv) -> None:
    dy, weight = node.inputs
    (dx,) = node.outputs
    given = _convolution(lowering, conv, dx)
    if choose(given, "backward", lowering.prepared).algorithm == "winograd":
        transformed = _transform(lowering, given, weight, True)
        turned = replace(
            given,
            height=given.out_height,
            width=given.out_width,
            depth=given.filters,
            out_height=given.height,
            out_width=given.width,
            filters=given.depth,
            top=2 - given.top,
            left=2 - given.left,
        )
        _winograd(lowering, turned, (dy, transformed, "", "", lowering.make(dx)))
        return
    packed = _pack(lowering, given, weight, True)
    cut = _cut(given, given.height, given.depth)
    lowering.call("conv_input_grad", (dy, packed, "", lowering.make(dx)), cut)


def _conv_input_grad(lowering: Lowering, node: Node) -> None:
    _input_grad(lowering, node, node.attributes)


def _dense_input_grad(lowering: Lowering, node: Node) -> None:
    (dx,) = node.outputs
    _input_grad(lowering, node, _whole_map(lowering, dx, lowering.depth(node.inputs[0])))


MOST_CHUNKS = 32
MOST_PARTIAL_NUMBERS = 2**20
"""What the partial sums of one weight gradient may take: 4 MiB stay near a core."""


MOST_SUMS = 300_000
"""Transformed sums that one task of Winograd's weight gradient keeps near its core."""


def _weight_grad(lowering: Lowering, conv: Conv, x: str, dy: str, dweight: str) -> None:
    given, x = _as_vectors(lowering, _convolution(lowering, conv, x), x)
    weights = given.rows * given.columns * given.depth // given.groups * given.filters
    if _is_stem(lowering, given, x):
        chunks = max(1, min(MOST_CHUNKS, lowering.batch // lowering.block * given.out_height))
        workspace = lowering.scratch("partial sums", chunks * (weights + given.filters) * 4)
        operands = (lowering.plain(x), dy, workspace, dweight, "")
        lowering.call("stem_weight_grad", operands, kernels.Stem(given, chunks))
        return
    if choose(given, "weights", False).algorithm == "winograd":
        units = -(-tiles_of(given) * given.block // TILE_ROWS)
        sums = POINTS * given.depth * given.filters
        parts = min(-(-given.filters // kernels.PANEL), -(-sums // MOST_SUMS))
        chunks = max(1, min(MOST_CHUNKS // parts, units // 2))
        size = chunks * ((weights if chunks > 1 else 0) + given.filters)
        workspace = lowering.scratch("partial sums", size * 4)
        cut = kernels.Cut(given, chunks, parts)
        lowering.call("winograd_weight_grad", (x, dy, workspace, dweight, ""), cut)
        return
    rows = lowering.batch // lowering.block * given.out_height
    chunks = max(1, min(MOST_CHUNKS, rows, MOST_PARTIAL_NUMBERS // weights))
    panels = -(-(given.filters // given.groups) // kernels.PANEL)
    units = given.groups * panels * given.rows * given.columns
    parts = min(units, -(-MOST_CHUNKS // chunks))
    size = chunks * ((weights if chunks > 1 else 0) + given.filters)
    workspace = lowering.scratch("partial sums", size * 4)
    operands = (x, dy, workspace, dweight, "")
    lowering.call("conv_weight_grad", operands, kernels.Cut(given, chunks, parts))


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


WEIGHT_GRADIENTS = ("conv_weight_grad", "stem_weight_grad", "winograd_weight_grad")
"""Kernels that can sum dy beside their own work."""


def _free_weight_grad(lowering: Lowering, dy: str) -> int | None:
    """The last gradient of weights that reads dy and does not sum it yet."""
    for place, call in reversed(list(enumerate(lowering.calls))):
        if call.kernel in WEIGHT_GRADIENTS and call.operand("dy") == dy:
            return place if not call.operand("dbias") else None
    return None


def _pooling(lowering: Lowering, window: Window, x: str) -> kernels.Pooling:
    maps = lowering.maps(x)
    return kernels.Pooling(
        lowering.batch,
        lowering.block,
        maps.height,
        maps.width,
        maps.depth,
        *window.output,
        *window.size,
        *window.stride,
        *window.padding,
        int(prod(window.size) > 256),
    )


def _max_pool(lowering: Lowering, node: Node) -> None:
    (x,) = node.inputs
    y, index = (lowering.make(name) for name in node.outputs)
    lowering.call("max_pool", (x, y, index), _pooling(lowering, node.attributes, x))


def _max_pool_grad(lowering: Lowering, node: Node) -> None:
    (dx,) = node.outputs
    pooling = _pooling(lowering, node.attributes, dx)
    operands = (*node.inputs, "", lowering.make(dx))
    lowering.call("max_pool_grad", operands, kernels.MaxPoolGradient(pooling))


def _average_pool(lowering: Lowering, node: Node) -> None:
    x, y = node.inputs[0], lowering.make(node.outputs[0])
    lowering.call("average_pool", (x, y), _pooling(lowering, node.attributes, x))


def _average_pool_grad(lowering: Lowering, node: Node) -> None:
    dy, dx = node.inputs[0], lowering.make(node.outputs[0])
    lowering.call("average_pool_grad", (dy, dx), _pooling(lowering, node.attributes, dx))


def _activation(lowering: Lowering, node: Node) -> None:
    made = lowering.make(node.outputs[0])
    function = list(FUNCTIONS).index(node.attributes.function)
    size = lowering.numbers(node.outputs[0])
    parameters = kernels.Function(size, function, node.attributes.alpha)
    lowering.call(node.op, (*node.inputs, made), parameters)


def _rows(lowering: Lowering, name: str) -> kernels.Rows:
    return kernels.Rows(lowering.rows(name), lowering.depth(name))


def _prelu(lowering: Lowering, node: Node) -> None:
    (y,) = node.outputs
    lowering.call("prelu", (*node.inputs, lowering.make(y)), _rows(lowering, y))


def _prelu_grad(lowering: Lowering, node: Node) -> None:
    dx, dslope = (lowering.make(name) for name in node.outputs)
    rows = _rows(lowering, dx)
    workspace = lowering.scratch("partial sums", _partial_sums(rows, 1))
    lowering.call("prelu_grad", (*node.inputs, dx, dslope, workspace), rows)


def _maxout(lowering: Lowering, node: Node) -> None:
    (y,) = node.outputs
    rows = _rows(lowering, y if node.op == "maxout" else node.inputs[1])
    pieces = kernels.Pieces(rows.rows, rows.depth, node.attributes.pieces)
    lowering.call(node.op, (*node.inputs, lowering.make(y)), pieces)


def _dropout(lowering: Lowering, node: Node) -> None:
    (y,) = node.outputs
    maps = lowering.maps(y)
    drop = kernels.Drop(
        maps.images,
        maps.block,
        maps.height,
        maps.width,
        maps.depth,
        node.attributes.rate,
        node.attributes.stream,
    )
    lowering.call("dropout", (*node.inputs, lowering.make(y)), drop)


def _partial_sums(rows: kernels.Rows, sums: int, totals: int = 0) -> int:
    """Bytes of the partial sums of a reduction over rows, as native/kernels/share.h cuts it."""
    parts = max(1, min(64, rows.rows * rows.depth // 32768))
    return (parts * sums + totals) * rows.depth * 8


def _norm(lowering: Lowering, node: Node, update: bool) -> kernels.Norm:
    rows = _rows(lowering, node.outputs[0])
    given = node.attributes
    return kernels.Norm(rows.rows, rows.depth, given.epsilon, given.momentum, int(update))


def _batch_norm(lowering: Lowering, node: Node) -> None:
    running = node.updates or ("", "")
    outputs = tuple(lowering.make(name) for name in node.outputs)
    rows = _rows(lowering, outputs[0])
    workspace = lowering.scratch("sums", _partial_sums(rows, 2, 2))
    operands = (*node.inputs, *running, *outputs, workspace)
    lowering.call("batch_norm", operands, _norm(lowering, node, bool(node.updates)))


def _batch_norm_apply(lowering: Lowering, node: Node) -> None:
    made = lowering.make(node.outputs[0])
    workspace = lowering.scratch("factors", lowering.depth(made) * 8)
    operands = (*node.inputs, made, workspace)
    lowering.call("batch_norm_apply", operands, _norm(lowering, node, False))


def _batch_norm_grad(lowering: Lowering, node: Node) -> None:
    outputs = tuple(lowering.make(name) for name in node.outputs)
    rows = _rows(lowering, outputs[0])
    workspace = lowering.scratch("sums", _partial_sums(rows, 2, 2))
    operands = (*node.inputs, "", *outputs, workspace)
    parameters = kernels.NormGradient(rows.rows, rows.depth)
    lowering.call("batch_norm_grad", operands, parameters)


def _add(lowering: Lowering, node: Node) -> None:
    y = lowering.make(node.outputs[0])
    size = kernels.Sum(lowering.numbers(y))
    first, *rest = node.inputs
    for name in rest:
        lowering.call("add", (first, name, "", y), size)
        first = y


def _copy(
    lowering: Lowering, source: str, target: str, depth: int, from_at: int, to_at: int
) -> None:
    lowering.call(
        "copy_channels",
        (source, target),
        kernels.CopyChannels(
            lowering.rows(source),
            depth,
            lowering.depth(source),
            from_at,
            lowering.depth(target),
            to_at,
        ),
    )


def _concat(lowering: Lowering, node: Node) -> None:
    y = lowering.make(node.outputs[0])
    at = 0
    for source, depth in zip(node.inputs, node.attributes.depths, strict=True):
        _copy(lowering, source, y, depth, 0, at)
        at += depth


def _split(lowering: Lowering, node: Node) -> None:
    at = 0
    for target, depth in zip(node.outputs, node.attributes.depths, strict=True):
        _copy(lowering, node.inputs[0], lowering.make(target), depth, at, 0)
        at += depth


def _loss(lowering: Lowering, node: Node) -> None:
    classes = prod(lowering.graph[node.inputs[0]].shape)
    smoothing = getattr(node.attributes, "smoothing", 0.0)
    scores, *others = node.inputs
    read = lowering.floats(scores)
    outputs = tuple(lowering.make(name) for name in node.outputs)
    parameters = kernels.Loss(lowering.batch, classes, smoothing)
    lowering.call(node.op, (read, *others, *outputs), parameters)


def _mean_loss(lowering: Lowering, node: Node) -> None:
    operands = (*node.inputs, lowering.make(node.outputs[0]))
    lowering.call("mean_loss", operands, kernels.Size(lowering.batch))


def _penalty(lowering: Lowering, node: Node) -> None:
    made = lowering.make(node.outputs[0])
    for place, weight in enumerate(node.inputs):
        given = node.attributes
        size = lowering.numbers(weight)
        parameters = kernels.Regularisation(size, given.l2, given.l1, int(place == 0))
        lowering.call("penalty", (weight, made), parameters)


def _update(kernel: str, slots: int, parameters: Callable[[int, Any], Any]) -> Rule:
    def rule(lowering: Lowering, node: Node) -> None:
        size = lowering.numbers(node.updates[0])
        kept = (*node.updates, *[""] * (1 + slots - len(node.updates)))
        lowering.call(kernel, (*node.inputs, *kept), parameters(size, node.attributes))

    return rule


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "conv": _conv,
        "conv_input_grad": _conv_input_grad,
        "conv_weight_grad": _conv_weight_grad,
        "bias_grad": _bias_grad,
        "dense": _dense,
        "dense_input_grad": _dense_input_grad,
        "dense_weight_grad": _dense_weight_grad,
        "max_pool": _max_pool,
        "max_pool_grad": _max_pool_grad,
        "average_pool": _average_pool,
        "average_pool_grad": _average_pool_grad,
        "activation": _activation,
        "activation_grad": _activation,
        "prelu": _prelu,
        "prelu_grad": _prelu_grad,
        "maxout": _maxout,
        "maxout_grad": _maxout,
        "dropout": _dropout,
        "batch_norm": _batch_norm,
        "batch_norm_apply": _batch_norm_apply,
        "batch_norm_grad": _batch_norm_grad,
        "add": _add,
        "concat": _concat,
        "split": _split,
        "softmax_cross_entropy": _loss,
        "softmax_cross_entropy_grad": _loss,
        "hinge": _loss,
        "hinge_grad": _loss,
        "mean_loss": _mean_loss,
        "count_correct": _loss,
        "penalty": _penalty,
        "sgd": _update(
            "sgd",
            1,
            lambda size, a: kernels.SgdStep(size, a.momentum, int(a.nesterov), a.l2, a.l1, a.decay),
        ),
        "rmsprop": _update(
            "rmsprop",
            2,
            lambda size, a: kernels.RmspropStep(
                size, a.alpha, a.epsilon, a.momentum, a.l2, a.l1, a.decay
            ),
        ),
        "adam": _update(
            "adam",
            2,
            lambda size, a: kernels.AdamStep(
                size, a.beta1, a.beta2, a.epsilon, a.l2, a.l1, a.decay
            ),
        ),
    }
)
