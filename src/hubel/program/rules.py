"""One rule an operation: the calls of kernels that it becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType
from typing import Any

from hubel.graph.op import Node
from hubel.graph.ops.conv import Window
from hubel.graph.ops.pointwise import FUNCTIONS
from hubel.program import structs
from hubel.program.convolutions import CONVOLUTIONS, Rule
from hubel.program.lowering import Lowering

__all__ = ["RULES"]


def _pooling(lowering: Lowering, window: Window, x: str) -> structs.Pooling:
    maps = lowering.maps(x)
    return structs.Pooling(
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
    lowering.call("max_pool_grad", operands, structs.MaxPoolGradient(pooling))


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
    parameters = structs.Function(size, function, node.attributes.alpha)
    lowering.call(node.op, (*node.inputs, made), parameters)


def _rows(lowering: Lowering, name: str) -> structs.Rows:
    return structs.Rows(lowering.rows(name), lowering.depth(name))


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
    pieces = structs.Pieces(rows.rows, rows.depth, node.attributes.pieces)
    lowering.call(node.op, (*node.inputs, lowering.make(y)), pieces)


def _dropout(lowering: Lowering, node: Node) -> None:
    (y,) = node.outputs
    maps = lowering.maps(y)
    drop = structs.Drop(
        maps.images,
        maps.block,
        maps.height,
        maps.width,
        maps.depth,
        node.attributes.rate,
        node.attributes.stream,
    )
    lowering.call("dropout", (*node.inputs, lowering.make(y)), drop)


# Numbers of a task of native/kernels/share.h, kTaskNumbers.
_TASK = 32768


def _partial_sums(rows: structs.Rows, sums: int, totals: int = 0) -> int:
    """Bytes of the partial sums of a reduction over rows."""
    return (_parts(rows.rows, rows.depth) * sums + totals) * rows.depth * 8


def _parts(rows: int, depth: int) -> int:
    """How many partial sums native/kernels/share.h cuts a reduction over rows into."""
    return max(1, min(64, rows * depth // _TASK))


def _norm(lowering: Lowering, node: Node, update: bool) -> structs.Norm:
    rows = _rows(lowering, node.outputs[0])
    given = node.attributes
    return structs.Norm(rows.rows, rows.depth, given.epsilon, given.momentum, int(update))


def _batch_norm(lowering: Lowering, node: Node) -> None:
    running = node.updates or ("", "")
    outputs = tuple(lowering.make(name) for name in node.outputs)
    rows = _rows(lowering, outputs[0])
    workspace = lowering.scratch("sums", _partial_sums(rows, 2, 2))
    operands = (*node.inputs, "", "", *running, *outputs, workspace)
    lowering.call("batch_norm", operands, _norm(lowering, node, bool(node.updates)))


def _batch_norm_apply(lowering: Lowering, node: Node) -> None:
    made = lowering.make(node.outputs[0])
    workspace = lowering.scratch("factors", lowering.depth(made) * 8)
    operands = (*node.inputs, made, workspace)
    lowering.call("batch_norm_apply", operands, _norm(lowering, node, False))


def _batch_norm_apply_grad(lowering: Lowering, node: Node) -> None:
    (dx,) = node.outputs
    rows = _rows(lowering, dx)
    workspace = lowering.scratch("factors", rows.depth * 4)
    parameters = structs.NormApplyGradient(rows.rows, rows.depth, node.attributes.epsilon)
    operands = (*node.inputs, lowering.make(dx), workspace)
    lowering.call("batch_norm_apply_grad", operands, parameters)


def _batch_norm_grad(lowering: Lowering, node: Node) -> None:
    outputs = tuple(lowering.make(name) for name in node.outputs)
    rows = _rows(lowering, outputs[0])
    workspace = lowering.scratch("sums", _partial_sums(rows, 2, 2))
    x, dy, weight, mean, inverse = node.inputs
    operands = (x, dy, weight, "", mean, inverse, *outputs, workspace)
    parameters = structs.NormGradient(rows.rows, rows.depth)
    lowering.call("batch_norm_grad", operands, parameters)


def _group_norm(lowering: Lowering, node: Node) -> None:
    outputs = tuple(lowering.make(name) for name in node.outputs)
    maps, norm = lowering.maps(outputs[0]), node.attributes
    given = structs.GroupNorm(maps, norm.groups, norm.epsilon)
    parts = _parts(maps.height * maps.width, maps.block * maps.depth)
    factors = 5 if node.op == "group_norm_grad" else 3
    size = maps.images * maps.depth * (parts * 2 * 8 + factors * 4)
    workspace = lowering.scratch("sums", size)
    lowering.call(node.op, (*node.inputs, *outputs, workspace), given)


def _add(lowering: Lowering, node: Node) -> None:
    y = lowering.make(node.outputs[0])
    size = structs.Sum(lowering.numbers(y))
    first, *rest, last = node.inputs
    for number, name in enumerate(rest):
        width = lowering.width(lowering.graph[y])
        both = lowering.scratch(f"sum of {number + 2}", lowering.numbers(y) * width)
        lowering.call("add", (first, name, "", both), size)
        first = both
    lowering.call("add", (first, last, "", y), size)


def _copy(
    lowering: Lowering, source: str, target: str, depth: int, from_at: int, to_at: int
) -> None:
    lowering.call(
        "copy_channels",
        (source, target),
        structs.CopyChannels(
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
    parameters = structs.Loss(lowering.batch, classes, smoothing)
    lowering.call(node.op, (read, *others, *outputs), parameters)


def _target_loss(lowering: Lowering, node: Node) -> None:
    scores, targets = node.inputs
    read = lowering.floats(scores)
    outputs = tuple(lowering.make(name) for name in node.outputs)
    parameters = structs.Rows(lowering.batch, prod(lowering.graph[targets].shape))
    lowering.call(node.op, (read, targets, *outputs), parameters)


def _mean_loss(lowering: Lowering, node: Node) -> None:
    operands = (*node.inputs, lowering.make(node.outputs[0]))
    lowering.call("mean_loss", operands, structs.Size(lowering.batch))


def _penalty(lowering: Lowering, node: Node) -> None:
    made = lowering.make(node.outputs[0])
    for place, weight in enumerate(node.inputs):
        given = node.attributes
        size = lowering.numbers(weight)
        parameters = structs.Regularisation(size, given.l2, given.l1, int(place == 0))
        lowering.call("penalty", (weight, made), parameters)


def _squares(size: int) -> int:
    """Bytes of the partial sums of squares of so many numbers, one a task."""
    return -(-size // _TASK) * 8


def _gradient_norm(lowering: Lowering, node: Node) -> None:
    made = tuple(lowering.make(name) for name in node.outputs)
    norm, scale = made if len(made) > 1 else (*made, "")
    clip = node.attributes.limit if node.attributes else 0.0
    sums = lowering.scratch("squares", max(_squares(lowering.numbers(g)) for g in node.inputs))
    for place, gradient in enumerate(node.inputs):
        size = lowering.numbers(gradient)
        last = place == len(node.inputs) - 1
        parameters = structs.NormPart(size, clip, int(place == 0), int(last))
        lowering.call("gradient_norm", (gradient, sums, norm, scale), parameters)


def _update(kernel: str, slots: int, parameters: Callable[[int, Any, int], Any]) -> Rule:
    def rule(lowering: Lowering, node: Node) -> None:
        size = lowering.numbers(node.updates[0])
        kept = (*node.updates, *[""] * (1 + slots - len(node.updates)))
        read = _read(node)
        made = parameters(size, node.attributes, int(bool(read[-1])))
        lowering.call(kernel, (*read, *kept), made)

    return rule


def _read(node: Node) -> tuple[str, ...]:
    """What an update reads: the gradient, the rate, the step, and "" where nothing is clipped."""
    return node.inputs if len(node.inputs) > 3 else (*node.inputs, "")


def _muon(lowering: Lowering, node: Node) -> None:
    weight, read, a = node.updates[0], _read(node), node.attributes
    size, columns = lowering.numbers(weight), lowering.depth(weight)
    rows = size // columns
    room = _squares(size) + 8 * size + 16 * min(rows, columns) ** 2
    workspace = lowering.scratch("matrices", room)
    parameters = structs.MuonStep(
        rows,
        columns,
        a.momentum,
        a.steps,
        int(a.unit),
        a.l2,
        a.l1,
        a.decay,
        a.rate_factor,
        int(bool(read[-1])),
    )
    lowering.call("muon", (*read, *node.updates, workspace), parameters)


def _average(lowering: Lowering, node: Node) -> None:
    parameters = structs.AverageStep(lowering.numbers(node.updates[0]), node.attributes.decay)
    lowering.call("average", (*node.inputs, *node.updates), parameters)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **CONVOLUTIONS,
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
        "batch_norm_apply_grad": _batch_norm_apply_grad,
        "batch_norm_grad": _batch_norm_grad,
        "group_norm": _group_norm,
        "group_norm_grad": _group_norm,
        "add": _add,
        "concat": _concat,
        "split": _split,
        "softmax_cross_entropy": _loss,
        "softmax_cross_entropy_grad": _loss,
        "target_cross_entropy": _target_loss,
        "target_cross_entropy_grad": _target_loss,
        "hinge": _loss,
        "hinge_grad": _loss,
        "mean_loss": _mean_loss,
        "count_correct": _loss,
        "penalty": _penalty,
        "gradient_norm": _gradient_norm,
        "sgd": _update(
            "sgd",
            1,
            lambda size, a, clipped: structs.SgdStep(
                size, a.momentum, int(a.nesterov), a.l2, a.l1, a.decay, a.rate_factor, clipped
            ),
        ),
        "rmsprop": _update(
            "rmsprop",
            2,
            lambda size, a, clipped: structs.RmspropStep(
                size,
                a.alpha,
                a.epsilon,
                a.momentum,
                a.l2,
                a.l1,
                a.decay,
                a.rate_factor,
                clipped,
            ),
        ),
        "adam": _update(
            "adam",
            2,
            lambda size, a, clipped: structs.AdamStep(
                size, a.beta1, a.beta2, a.epsilon, a.l2, a.l1, a.decay, a.rate_factor, clipped
            ),
        ),
        "muon": _muon,
        "average": _average,
    }
)
