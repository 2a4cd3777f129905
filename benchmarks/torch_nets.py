"""The shipped nets as PyTorch modules, made from the same text by the same rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from hubel import Network
from hubel.graph.op import Node

__all__ = ["module"]


class GraphModule(nn.Module):
    """A network's graph run node by node with PyTorch's own functions."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.graph = network.graph
        self.layers = nn.ModuleDict()
        for node in self.graph.nodes:
            made = self._layer(node)
            if made is not None:
                self.layers[node.name] = made

    def _layer(self, node: Node) -> nn.Module | None:
        shape = self.graph[node.inputs[0]].shape
        given = node.attributes
        match node.op:
            case "conv":
                top, bottom, left, right = given.window.padding
                if (top, left) != (bottom, right):
                    raise ValueError(f"{node.name}: PyTorch pads both sides alike")
                return nn.Conv2d(
                    shape[2],
                    given.filters,
                    given.window.size,
                    given.window.stride,
                    (top, left),
                    given.window.dilation,
                    given.groups,
                    bias=len(node.inputs) > 2,
                )
            case "dense":
                inputs, outputs = self.graph[node.inputs[1]].shape
                return nn.Linear(inputs, outputs, bias=len(node.inputs) > 2)
            case "batch_norm":
                return nn.BatchNorm2d(shape[-1], given.epsilon, given.momentum)
            case "max_pool":
                return nn.MaxPool2d(given.size, given.stride, (given.padding[0], given.padding[2]))
            case "average_pool":
                return nn.AvgPool2d(given.size, given.stride, (given.padding[0], given.padding[2]))
            case "activation" if given.function == "relu":
                return nn.ReLU()
            case "dropout":
                return nn.Dropout(given.rate)
            case "add" | "concat":
                return None
        raise ValueError(f"{node.name}: no PyTorch layer is known for {node.op}")

    def forward(self, x: Any) -> Any:
        """The scores (N, K) of images (N, C, H, W)."""
        values = {"input": x}
        for node in self.graph.nodes:
            inputs = [values[name] for name in node.inputs if name in values]
            if node.op == "add":
                made = sum(inputs[1:], inputs[0])
            elif node.op == "concat":
                made = torch.cat(inputs, 1)
            elif node.op == "dense":
                made = self.layers[node.name](inputs[0].flatten(1))
            else:
                made = self.layers[node.name](inputs[0])
            values[node.outputs[0]] = made
        return values[self.graph.outputs[0]].flatten(1)


def module(network: Network, parameters: Mapping[str, Any]) -> GraphModule:
    """A network as a module in training mode, with Hubel's parameters by name."""
    made = GraphModule(network)
    state = made.state_dict()
    for node in network.graph.nodes:
        for name, theirs in zip(node.inputs[1:], ("weight", "bias"), strict=False):
            if name in parameters:
                array = _as_torch(parameters[name], network.graph[node.inputs[0]].shape)
                state[f"layers.{node.name}.{theirs}"] = torch.from_numpy(array)
    made.load_state_dict(state)
    return made


def _as_torch(array: Any, x: tuple[int, ...]) -> Any:
    """Filters (F, F, C, K) as (K, C, F, F), and (H·W·C, K) of a dense layer as (K, C·H·W)."""
    if array.ndim == 2:
        filters = array.reshape(*x, -1) if len(x) == 3 else array.reshape(1, 1, *array.shape)
        return np.ascontiguousarray(filters.transpose(3, 2, 0, 1)).reshape(array.shape[::-1])
    return np.ascontiguousarray(array.transpose(3, 2, 0, 1)) if array.ndim == 4 else array.copy()
