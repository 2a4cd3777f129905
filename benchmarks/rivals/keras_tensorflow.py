"""Keras on TensorFlow: its own training step, in float32 or under its mixed bfloat16 policy."""

from __future__ import annotations

import os
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import tensorflow as tf

from benchmarks.rivals import Run
from benchmarks.task import RATE, Task
from hubel import Network
from hubel.graph.op import Node

__all__ = ["training"]


def training(task: Task) -> Run:
    """A step of `train_on_batch`, on tensors that are there already."""
    tf.config.threading.set_intra_op_parallelism_threads(task.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if task.precision == "bfloat16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = _model(task)
    model.compile(
        optimizer=keras.optimizers.SGD(RATE, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    x, y = tf.constant(task.images()), tf.constant(task.labels())
    return lambda: _loss(model, x, y)


def _loss(model: Any, x: Any, y: Any) -> float:
    # Keras gives the mean over the steps so far of what it was not told to forget.
    model.reset_metrics()
    return float(model.train_on_batch(x, y))


def _model(task: Task) -> Any:
    network = task.network()
    values: dict[str, Any] = {"input": keras.Input(task.case.input)}
    made: dict[str, Any] = {}
    for node in network.graph.nodes:
        made[node.name] = _layer(node, network)
        values[node.outputs[0]] = made[node.name](values[node.inputs[0]])
    (scores,) = network.graph.outputs
    model: Any = keras.Model(
        values["input"], keras.layers.Activation("linear", dtype="float32")(values[scores])
    )
    parameters = task.parameters()
    for node in network.graph.nodes:
        if node.inputs[1:]:
            layer = made[node.name]
            dense = layer.layers[-1] if isinstance(layer, keras.Sequential) else layer
            dense.set_weights([parameters[name] for name in node.inputs[1:]])
    return model


def _layer(node: Node, network: Network) -> Any:
    given, biased = node.attributes, len(node.inputs) > 2
    match node.op:
        case "conv" if given.groups == 1 and given.window.dilation == (1, 1):
            top, bottom, left, right = given.window.padding
            same = (top, bottom, left, right) == tuple(
                side for size in given.window.size for side in ((size - 1) // 2, size // 2)
            )
            if any((top, bottom, left, right)) and not (same and given.window.stride == (1, 1)):
                raise ValueError(f"{node.name}: Keras pads as much as keeps the size, or nothing")
            return keras.layers.Conv2D(
                given.filters,
                given.window.size,
                padding="same" if any((top, bottom, left, right)) else "valid",
                strides=given.window.stride,
                use_bias=biased,
            )
        case "activation" if given.function == "relu":
            return keras.layers.ReLU()
        case "max_pool" if not any(given.padding):
            return keras.layers.MaxPooling2D(given.size, given.stride)
        case "dense":
            outputs = network.graph[node.inputs[1]].shape[1]
            return keras.Sequential(
                [keras.layers.Flatten(), keras.layers.Dense(outputs, use_bias=biased)]
            )
    raise ValueError(f"{node.name}: no Keras layer is known for {node.op}")
