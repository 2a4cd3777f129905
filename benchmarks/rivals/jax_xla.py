"""JAX: a whole training step compiled by XLA, channels last, in float32 or bfloat16."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.rivals import Run
from benchmarks.task import RATE, Task
from hubel.graph.op import Graph, Node

__all__ = ["training"]


def training(task: Task) -> Run:
    """Loss, gradients and SGD with momentum in one compiled function; master weights in float32."""
    graph = task.network().graph
    dtype = jnp.bfloat16 if task.precision == "bfloat16" else jnp.float32
    x, y = jnp.asarray(task.images(), dtype), jnp.asarray(task.labels())
    weights = {name: jnp.asarray(array) for name, array in task.parameters().items()}
    velocity = {name: jnp.zeros_like(array) for name, array in weights.items()}

    def loss_of(weights: Mapping[str, Any]) -> Any:
        cast = {name: array.astype(dtype) for name, array in weights.items()}
        scores = _scores(graph, cast, x).astype(jnp.float32)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(scores), y[:, None], axis=1))

    def step(weights: Any, velocity: Any) -> Any:
        loss, gradients = jax.value_and_grad(loss_of)(weights)
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradients)
        return loss, jax.tree.map(lambda w, v: w - RATE * v, weights, velocity), velocity

    compiled = jax.jit(step, donate_argnums=(0, 1))
    state = [weights, velocity]

    def run() -> float:
        loss, *state[:] = compiled(*state)
        jax.block_until_ready(state)
        return float(loss)

    return run


def _scores(graph: Graph, weights: Mapping[str, Any], x: Any) -> Any:
    values = {**weights, "input": x}
    for node in graph.nodes:
        values[node.outputs[0]] = _value(node, [values[name] for name in node.inputs])
    return values[graph.outputs[0]]


def _value(node: Node, inputs: list[Any]) -> Any:
    given = node.attributes
    match node.op:
        case "conv":
            top, bottom, left, right = given.window.padding
            made = lax.conv_general_dilated(
                inputs[0],
                inputs[1],
                given.window.stride,
                ((top, bottom), (left, right)),
                rhs_dilation=given.window.dilation,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=given.groups,
            )
            return made + inputs[2] if len(inputs) > 2 else made
        case "activation" if given.function == "relu":
            return jax.nn.relu(inputs[0])
        case "max_pool":
            top, bottom, left, right = given.padding
            return lax.reduce_window(
                inputs[0],
                -jnp.inf,
                lax.max,
                (1, *given.size, 1),
                (1, *given.stride, 1),
                ((0, 0), (top, bottom), (left, right), (0, 0)),
            )
        case "dense":
            made = inputs[0].reshape(len(inputs[0]), -1) @ inputs[1]
            return made + inputs[2] if len(inputs) > 2 else made
    raise ValueError(f"{node.name}: no JAX function is known for {node.op}")
