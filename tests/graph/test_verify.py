"""The check of graphs: each way in which one can fail to hold together is found and shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hubel.graph.build import build
from hubel.graph.modes import with_gradients, with_loss
from hubel.graph.op import Graph, Node, Value
from hubel.graph.verify import GraphError, verify
from hubel.notation.parse import parse


def sound() -> Graph:
    return with_gradients(
        with_loss(build(parse("conv3-4 bn relu fc2"), (5, 5, 3)).graph, "hinge"), ["conv1.weight"]
    )


def with_value(graph: Graph, name: str, value: Value) -> Graph:
    return replace(graph, values={**graph.values, name: value})


def with_node(graph: Graph, name: str, node: Node) -> Graph:
    (old,) = (node for node in graph.nodes if node.name == name)
    place = graph.nodes.index(old)
    return replace(graph, nodes=(*graph.nodes[:place], node, *graph.nodes[place + 1 :]))


def node_of(graph: Graph, name: str) -> Node:
    (node,) = (node for node in graph.nodes if node.name == name)
    return node


def test_a_sound_graph_is_given_back() -> None:
    graph = sound()
    assert verify(graph) is graph


def broken_graphs() -> list[tuple[Graph, str]]:
    graph = sound()
    conv, bn, relu = (node_of(graph, name) for name in ("conv1", "bn1", "relu1"))
    relu_value, conv_value = graph["relu1"], graph["conv1"]
    weight_gradient = graph["grad(conv1.weight)"]
    return [
        (
            with_value(graph, "conv9", conv_value),
            "the value 'conv1' is filed under 'conv9'",
        ),
        (
            with_node(graph, "relu1", replace(relu, op="rellu")),
            "there is no operation 'rellu'",
        ),
        (
            with_node(graph, "relu1", replace(relu, inputs=("bn7",))),
            "'bn7' is no value of the graph",
        ),
        (
            with_node(graph, "relu1", replace(relu, outputs=("relu7",))),
            "'relu7' is no value of the graph",
        ),
        (
            with_node(graph, "conv1", replace(conv, inputs=("relu1", *conv.inputs[1:]))),
            "'relu1' is read before it is made",
        ),
        (
            with_node(graph, "relu1", replace(relu, outputs=("bn1",))),
            "'bn1' is made twice",
        ),
        (
            with_node(graph, "bn1", replace(bn, outputs=("bn1", "bn1.mean", "bn1.mean"))),
            "'bn1.mean' is made twice",
        ),
        (
            with_node(graph, "relu1", replace(relu, outputs=("conv1.weight",))),
            "'conv1.weight' is parameter and cannot be made",
        ),
        (
            with_node(graph, "bn1", replace(bn, updates=("conv1",))),
            "'conv1' is updated but does not outlive a step",
        ),
        (
            with_value(graph, "relu1", replace(relu_value, shape=(3, 3, 5))),
            "its outputs are ((3, 3, 5),), but its rule gives ((3, 3, 4),)",
        ),
        (
            with_node(graph, "bn1", replace(bn, outputs=("bn1",))),
            "its outputs are ((3, 3, 4),), but its rule gives ((3, 3, 4), (4,), (4,))",
        ),
        (
            with_value(graph, "relu1", replace(relu_value, batched=False)),
            "'relu1' has batched=False",
        ),
        (
            with_value(graph, "relu1", replace(relu_value, dtype="index")),
            "'relu1' has dtype 'index'",
        ),
        (
            with_value(graph, "relu1", replace(relu_value, role="gradient")),
            "'relu1' is gradient of ''",
        ),
        (
            with_value(graph, "grad(conv1.weight)", replace(weight_gradient, shape=(3, 3, 4, 3))),
            "'grad(conv1.weight)' is (3, 3, 4, 3), but 'conv1.weight' is (3, 3, 3, 4)",
        ),
        (
            with_value(
                graph, "grad(conv1.weight)", replace(weight_gradient, role="activation", of="")
            ),
            "'grad(conv1.weight)' is the gradient of nothing",
        ),
        (replace(graph, outputs=("loss", "lost")), "the output 'lost' is made by no node"),
        (
            replace(graph, nodes=graph.nodes[:-1]),
            "the output 'grad(conv1.weight)' is made by no node",
        ),
    ]


@pytest.mark.parametrize(
    ("graph", "message"), broken_graphs(), ids=[message for _, message in broken_graphs()]
)
def test_what_is_broken_is_said(graph: Graph, message: str) -> None:
    with pytest.raises(GraphError) as caught:
        verify(graph)
    assert message in str(caught.value)


def test_the_node_is_shown() -> None:
    graph = sound()
    relu = replace(node_of(graph, "relu1"), inputs=("bn7",))
    with pytest.raises(GraphError, match=r"no value of the graph, in Node\(op='activation', name="):
        verify(with_node(graph, "relu1", relu))
