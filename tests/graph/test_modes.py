"""Inference, loss, gradients and whole training steps of a graph."""

from __future__ import annotations

import pytest

from hubel.graph.build import build
from hubel.graph.modes import (
    Update,
    decays,
    for_inference,
    with_gradients,
    with_loss,
    with_updates,
    without_updates,
)
from hubel.graph.op import Graph, Value
from hubel.graph.ops.loss import CrossEntropy, Penalty
from hubel.graph.ops.update import Adam, Sgd
from hubel.notation.parse import parse


def graph_of(text: str) -> Graph:
    made = build(parse(text), (8, 8, 3))
    assert not made.problems
    return made.graph


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


# Inference.


def test_inference_uses_running_statistics_and_drops_nothing() -> None:
    graph = for_inference(graph_of("conv3-4 bn relu drop0.5 fc10"))
    assert ops(graph) == ["conv", "batch_norm_apply", "activation", "dense"]
    bn, dense = graph.nodes[1], graph.nodes[3]
    assert bn.inputs == ("conv1", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var")
    assert bn.outputs == ("bn1",)
    assert dense.inputs[0] == "relu1"
    assert not any(node.updates for node in graph.nodes)
    assert not graph.with_role("scalar")
    assert graph.outputs == ("fc1",)


def test_inference_leaves_out_one_dropout_after_another_and_at_the_end() -> None:
    graph = for_inference(graph_of("fc9 drop0.5 drop0.2"))
    assert ops(graph) == ["dense"]
    assert graph.outputs == ("fc1",)


def test_inference_as_far_as_the_outputs_need() -> None:
    text = "conv3-4 bn relu drop0.5 conv3-2 fc10"
    graph = for_inference(graph_of(text), ["conv1", "drop1"])
    assert ops(graph) == ["conv", "batch_norm_apply", "activation"]
    assert graph.outputs == ("conv1", "relu1")
    assert "conv2.weight" not in graph.values


# Losses.


def test_a_loss_behind_the_scores() -> None:
    graph = with_loss(graph_of("fc10"), "softmax_cross_entropy", CrossEntropy(0.1))
    assert ops(graph) == ["dense", "softmax_cross_entropy", "mean_loss", "count_correct"]
    assert graph.outputs == ("loss", "correct")
    loss, mean, correct = graph.nodes[1:]
    assert (loss.inputs, loss.outputs) == (("fc1", "labels"), ("losses", "probabilities"))
    assert loss.attributes == CrossEntropy(0.1)
    assert (mean.inputs, mean.outputs) == (("losses",), ("loss",))
    assert correct.inputs == ("fc1", "labels")
    assert graph["probabilities"].shape == (10,)
    assert (graph["labels"].role, graph["labels"].dtype) == ("label", "label")
    assert (graph["loss"].shape, graph["loss"].batched) == ((), False)


def test_the_hinge_loss_has_no_probabilities() -> None:
    graph = with_loss(graph_of("fc10"), "hinge")
    assert graph.nodes[1].outputs == ("losses",)
    assert "probabilities" not in graph.values


def test_a_loss_of_targets_still_counts_by_labels() -> None:
    graph = with_loss(graph_of("fc10"), "target_cross_entropy")
    loss, _, correct = graph.nodes[1:]
    assert (loss.inputs, correct.inputs) == (("fc1", "targets"), ("fc1", "labels"))
    assert (graph["targets"].role, graph["targets"].shape) == ("target", (10,))


def test_gradients_come_after_the_outputs_in_the_order_asked_for() -> None:
    graph = with_gradients(
        with_loss(graph_of("fc10"), "hinge"), ["fc1.bias", "input", "fc1.weight"]
    )
    assert graph.outputs == (
        "loss",
        "correct",
        "grad(fc1.bias)",
        "grad(input)",
        "grad(fc1.weight)",
    )


# Training steps.


def training_step(penalty: Penalty | None = None) -> Graph:
    graph = with_loss(graph_of("conv3-4 bn relu fc10"), "softmax_cross_entropy", CrossEntropy())
    return with_updates(
        graph,
        lambda value: Update("adam", Adam(l2=0.5 if decays(value) else 0.0), ("first", "second")),
        penalty,
    )


def test_every_parameter_is_updated_once_at_the_end() -> None:
    graph = training_step()
    parameters = [value.name for value in graph.with_role("parameter")]
    updates = graph.nodes[-len(parameters) :]
    assert parameters == [
        "conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias", "fc1.weight", "fc1.bias",
    ]  # fmt: skip
    for name, node in zip(parameters, updates, strict=True):
        assert (node.op, node.name) == ("adam", f"update({name})")
        assert node.inputs == (f"grad({name})", "rate", "step")
        assert node.updates == (name, f"{name}.first", f"{name}.second")
        assert node.outputs == ()
        assert node.attributes.l2 == (0.5 if name in ("conv1.weight", "fc1.weight") else 0.0)
        assert graph[f"{name}.first"].shape == graph[name].shape
    assert {value.name for value in graph.with_role("slot")} == {
        f"{name}.{slot}" for name in parameters for slot in ("first", "second")
    }


def test_a_training_step_outputs_the_loss_and_no_gradient() -> None:
    graph = training_step()
    assert graph.outputs == ("loss", "correct", "gradient_norm")
    assert "conv_input_grad" not in ops(graph)
    assert {value.name for value in graph.values.values() if value.fed} == {
        "input",
        "labels",
        "rate",
        "step",
    }
    (bn,) = (node for node in graph.nodes if node.op == "batch_norm")
    assert bn.updates == ("bn1.running_mean", "bn1.running_var")


def test_the_penalty_is_read_before_the_weights_move() -> None:
    graph = training_step(Penalty(0.5, 0.0))
    assert graph.outputs == ("loss", "correct", "penalty", "gradient_norm")
    order = ops(graph)
    assert order.index("penalty") < order.index("adam")
    (penalty,) = (node for node in graph.nodes if node.op == "penalty")
    assert penalty.inputs == ("conv1.weight", "fc1.weight")
    assert penalty.attributes == Penalty(0.5, 0.0)


def test_no_slots_where_the_optimizer_keeps_none() -> None:
    graph = with_updates(with_loss(graph_of("fc2"), "hinge"), lambda _: Update("sgd", Sgd()))
    assert graph.nodes[-1].updates == ("fc1.bias",)
    assert graph.with_role("slot") == ()


@pytest.mark.parametrize(
    ("shape", "expected"), [((3, 3, 3, 4), True), ((9, 2), True), ((4,), False)]
)
def test_weights_of_dot_products_decay(shape: tuple[int, ...], expected: bool) -> None:
    assert decays(Value("w", shape, "parameter", batched=False)) is expected


def test_a_graph_prints_itself() -> None:
    graph = with_updates(with_loss(graph_of("fc2"), "hinge"), lambda _: Update("sgd", Sgd()))
    assert str(graph).splitlines() == [
        "input      input: N×8×8×3",
        "parameter  fc1.weight: 192×2",
        "parameter  fc1.bias: 2",
        "label      labels: N",
        "scalar     rate: scalar",
        "scalar     step: scalar",
        "fc1: N×2 = dense(input, fc1.weight, fc1.bias)",
        "losses: N = hinge(fc1, labels)",
        "loss: scalar = mean_loss(losses)",
        "correct: scalar = count_correct(fc1, labels)",
        "grad(fc1): N×2 = hinge_grad(fc1, labels)",
        "grad(fc1.weight): 192×2 = dense_weight_grad(input, grad(fc1))",
        "grad(fc1.bias): 2 = bias_grad(grad(fc1))",
        "gradient_norm: scalar = gradient_norm(grad(fc1.weight), grad(fc1.bias))",
        "update(fc1.weight) = sgd(grad(fc1.weight), rate, step) updates fc1.weight "
        "Sgd(momentum=0.0, nesterov=False, l2=0.0, l1=0.0, decay=0.0, rate_factor=1.0)",
        "update(fc1.bias) = sgd(grad(fc1.bias), rate, step) updates fc1.bias "
        "Sgd(momentum=0.0, nesterov=False, l2=0.0, l1=0.0, decay=0.0, rate_factor=1.0)",
        "return loss, correct, gradient_norm",
    ]


def test_without_updates_nothing_is_changed() -> None:
    graph = build(parse("conv3-4 bn relu fc2"), (5, 5, 1)).graph
    assert [node.updates for node in graph.nodes if node.updates] == [
        ("bn1.running_mean", "bn1.running_var")
    ]
    bare = without_updates(graph)
    assert [node.op for node in bare.nodes] == [node.op for node in graph.nodes]
    assert not any(node.updates for node in bare.nodes)
    assert not bare.with_role("statistic")
