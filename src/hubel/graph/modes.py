"""A checked network's graph to what training, inference and a step of an optimizer need of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from hubel.graph.differentiate import differentiate, prune
from hubel.graph.op import Graph, Node, Value
from hubel.graph.ops.loss import CrossEntropy, Penalty
from hubel.graph.ops.update import Average, Clip
from hubel.graph.verify import verify
from hubel.records import dataclass

__all__ = [
    "Update",
    "decays",
    "for_inference",
    "with_all_gradients",
    "with_gradients",
    "with_layers",
    "with_loss",
    "with_settled",
    "with_updates",
    "without_dropout",
    "without_updates",
]


def for_inference(graph: Graph, outputs: Sequence[str] | None = None) -> Graph:
    """The graph that uses running statistics and drops nothing; `outputs` default to the scores."""
    settled = without_dropout(graph, outputs)
    nodes = tuple(_settled(node) if node.op == "batch_norm" else node for node in settled.nodes)
    return verify(prune(Graph(settled.values, nodes, settled.outputs)))


def with_layers(graph: Graph, layers: Sequence[str]) -> tuple[dict[str, str], Graph]:
    """The value that is each layer's output in inference, and the graph that gives them all.

    That of a dropout layer in front is "input", which is no output of the graph.
    """
    inference = for_inference(graph, layers)
    # A dropout layer passes on what it is given, so that several layers may share one output.
    outputs = tuple(dict.fromkeys(name for name in inference.outputs if name != "input"))
    sources = dict(zip(layers, inference.outputs, strict=True))
    return sources, replace(inference, outputs=outputs)


def without_dropout(graph: Graph, outputs: Sequence[str] | None = None) -> Graph:
    """The graph in which dropout layers pass on what they are given."""
    instead: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        inputs = tuple(instead.get(name, name) for name in node.inputs)
        if node.op == "dropout":
            instead[node.outputs[0]] = inputs[0]
        else:
            nodes.append(replace(node, inputs=inputs))
    wanted = graph.outputs if outputs is None else outputs
    wanted = tuple(instead.get(name, name) for name in wanted)
    return verify(prune(Graph(graph.values, tuple(nodes), wanted)))


def without_updates(graph: Graph) -> Graph:
    """The graph that computes the same and leaves every persistent value as it is."""
    nodes = tuple(replace(node, updates=()) for node in graph.nodes)
    return verify(prune(Graph(graph.values, nodes, graph.outputs)))


def with_settled(graph: Graph, layers: Collection[str]) -> Graph:
    """The graph in which batch normalisation uses running statistics in the layers named."""
    nodes = tuple(
        _settled(node) if node.op == "batch_norm" and node.name in layers else node
        for node in graph.nodes
    )
    return verify(prune(Graph(graph.values, nodes, graph.outputs)))


def _settled(node: Node) -> Node:
    """Batch normalisation by the statistics that it would update."""
    return Node(
        "batch_norm_apply",
        node.name,
        (*node.inputs, *node.updates),
        node.outputs[:1],
        node.attributes,
    )


def with_loss(graph: Graph, op: str, attributes: Any = None) -> Graph:
    """The graph with a loss behind its scores; outputs "loss", its mean, and "correct", a count.

    What is correct the labels say, also where the loss aims at "targets".
    """
    (scores,) = graph.outputs
    aim = "targets" if op == "target_cross_entropy" else "labels"
    each = ("losses",) if op == "hinge" else ("losses", "probabilities")
    values = {
        **graph.values,
        "labels": Value("labels", (), "label", dtype="label"),
        "losses": Value("losses", (), "activation"),
        "loss": Value("loss", (), "result", batched=False),
        "correct": Value("correct", (), "result", batched=False),
    }
    if aim == "targets":
        values[aim] = Value(aim, (prod(graph[scores].shape),), "target")
    if len(each) > 1:
        values["probabilities"] = Value("probabilities", graph[scores].shape, "activation")
    nodes = (
        *graph.nodes,
        Node(op, "loss", (scores, aim), each, attributes),
        Node("mean_loss", "mean_loss", ("losses",), ("loss",)),
        Node("count_correct", "count_correct", (scores, "labels"), ("correct",)),
    )
    return verify(Graph(values, nodes, ("loss", "correct")))


def with_gradients(graph: Graph, wrt: Sequence[str]) -> Graph:
    """A graph with a loss, and after its outputs the gradient of the loss by each of `wrt`."""
    return differentiate(graph, "losses", wrt)


def with_all_gradients(graph: Graph) -> tuple[dict[str, str], Graph]:
    """The value that is the gradient by each parameter and "input", and the graph of them.

    They are those of the mean softmax cross-entropy, its first output, in a training step that
    drops nothing and updates nothing.
    """
    loss = with_loss(without_dropout(graph), "softmax_cross_entropy", CrossEntropy())
    wrt = [*(value.name for value in loss.with_role("parameter")), "input"]
    graded = without_updates(with_gradients(loss, wrt))
    return dict(zip(wrt, graded.outputs[len(loss.outputs) :], strict=True)), graded


@dataclass(frozen=True, slots=True)
class Update:
    """How one parameter is updated: the operation, its attributes, and the slots it keeps."""

    op: str
    attributes: Any
    slots: tuple[str, ...] = ()


def with_updates(
    graph: Graph,
    update: Callable[[Value], Update],
    penalty: Penalty | None = None,
    *,
    frozen: Collection[str] = (),
    clip: Clip | None = None,
    average: Average | None = None,
) -> Graph:
    """One whole training step: loss, gradients of all parameters, and an update of each.

    `update(parameter)` says how; slots are arrays of the parameter's own shape. Further outputs are
    "penalty", the regularisation term, where there is one, and "gradient_norm", the norm of all
    gradients. The parameters named in `frozen` stay as they are, and nothing is computed for them
    alone. Gradients are scaled by `clip`. With `average` the step works on slots named "….raw", and
    leaves in the parameters and statistics themselves the averages of these.
    """
    parameters = [p for p in graph.with_role("parameter") if p.name not in frozen]
    graded = with_gradients(graph, [parameter.name for parameter in parameters])
    gradients = graded.outputs[len(graph.outputs) :]
    values = {**graded.values}
    for name in ("rate", "step"):
        values[name] = Value(name, (), "scalar", batched=False)
    nodes = list(graded.nodes)
    outputs = graph.outputs
    decayed = tuple(parameter.name for parameter in parameters if decays(parameter))
    if penalty is not None and decayed:
        values["penalty"] = Value("penalty", (), "result", batched=False)
        nodes.append(Node("penalty", "penalty", decayed, ("penalty",), penalty))
        outputs = (*outputs, "penalty")
    norms = ("gradient_norm",) if clip is None else ("gradient_norm", "gradient_scale")
    values.update({name: Value(name, (), "result", batched=False) for name in norms})
    nodes.append(Node("gradient_norm", "gradient_norm", gradients, norms, clip))
    for parameter, gradient in zip(parameters, gradients, strict=True):
        chosen = update(parameter)
        kept = tuple(f"{parameter.name}.{slot}" for slot in chosen.slots)
        for name in kept:
            values[name] = Value(name, parameter.shape, "slot", batched=False)
        nodes.append(
            Node(
                chosen.op,
                f"update({parameter.name})",
                (gradient, "rate", "step", *norms[1:]),
                (),
                chosen.attributes,
                updates=(parameter.name, *kept),
            )
        )
    whole = Graph(values, tuple(nodes), (*outputs, "gradient_norm"))
    return verify(whole if average is None else _averaged(whole, average))


def _averaged(whole: Graph, average: Average) -> Graph:
    """The step on copies of what it moves, whose averages are left where it was."""
    moved = {name for node in whole.nodes for name in node.updates}
    means = [
        value
        for value in whole.values.values()
        if value.name in moved and value.role in ("parameter", "statistic")
    ]
    raw = {mean.name: f"{mean.name}.raw" for mean in means}
    values = {**whole.values}
    for mean in means:
        copy = raw[mean.name]
        values[copy] = Value(copy, mean.shape, "slot", batched=False, of=mean.name)
    nodes = [
        replace(
            node,
            inputs=tuple(raw.get(name, name) for name in node.inputs),
            updates=tuple(raw.get(name, name) for name in node.updates),
        )
        for node in whole.nodes
    ]
    nodes += [
        Node("average", f"average({name})", (copy, "step"), (), average, updates=(name,))
        for name, copy in raw.items()
    ]
    return Graph(values, tuple(nodes), whole.outputs)


def decays(parameter: Value) -> bool:
    """Whether regularisation applies: to the weights of dot products, not to biases and scales."""
    return len(parameter.shape) > 1
