"""Built networks in PyTorch, layer by layer, for the tests that hold an engine against it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hubel.engine.reference import RULES
from hubel.engine.reference.call import Call
from hubel.engine.session import Array
from hubel.graph.build import Placed
from hubel.graph.ops.conv import Window
from hubel.graph.ops.pointwise import Dropout
from tests.engine.cases import Case, built

if TYPE_CHECKING:
    from torch import Tensor


class TorchNet:
    """A built net in PyTorch: channels first inside, Hubel's layouts outside.

    `tensors` holds the parameters and, under "input", the images, all with gradients.
    """

    def __init__(self, case: Case, values: Mapping[str, Array], fed: Mapping[str, Any]) -> None:
        import torch

        self.layers = built(case).layers
        self.fed = fed
        learned = {parameter.name for parameter in built(case).parameters}
        self.tensors = {
            name: torch.tensor(array, dtype=torch.float64, requires_grad=name in learned)
            for name, array in values.items()
        }
        self.tensors["input"] = torch.tensor(fed["input"], dtype=torch.float64, requires_grad=True)

    def scores(self, training: bool) -> Tensor:
        made = {"input": _channels_first(self.tensors["input"])}
        for placed in self.layers:
            sources = [made[name] for name in placed.sources]
            made[placed.name] = _LAYERS[placed.op](self, placed, training, *sources)
        return _channels_last(made[self.layers[-1].name])

    def of(self, placed: Placed, name: str) -> Tensor | None:
        return self.tensors.get(f"{placed.name}.{name}")


def _channels_first(x: Tensor) -> Tensor:
    return x.movedim(-1, 1)


def _channels_last(x: Tensor) -> Tensor:
    return x.movedim(1, -1)


def _padded(x: Tensor, window: Window, value: float) -> tuple[Tensor, tuple[int, int]]:
    """Padding as PyTorch's layers take it where both ends are alike, else done beforehand."""
    from torch.nn.functional import pad

    top, bottom, left, right = window.padding
    if (top, left) == (bottom, right):
        return x, (top, left)
    return pad(x, (left, right, top, bottom), value=value), (0, 0)


def _conv(net: TorchNet, placed: Placed, training: bool, x: Tensor) -> Tensor:
    from torch.nn.functional import conv2d, pad

    layer, window = placed.layer, placed.window
    assert layer is not None
    assert window is not None
    x, padding = _padded(x, window, 0.0)
    if layer.fit == "ceil":
        # PyTorch has no such convolution: the zeros that the last windows read are put there.
        reach = [
            (window.output[axis] - 1) * window.stride[axis]
            + window.dilation[axis] * (window.size[axis] - 1)
            + 1
            - (x.shape[2 + axis] + 2 * padding[axis])
            for axis in range(2)
        ]
        x = pad(
            x,
            (
                padding[1],
                padding[1] + max(reach[1], 0),
                padding[0],
                padding[0] + max(reach[0], 0),
            ),
        )
        padding = (0, 0)
    weight = net.tensors[f"{placed.name}.weight"].permute(3, 2, 0, 1).contiguous()
    return conv2d(
        x, weight, net.of(placed, "bias"), window.stride, padding, window.dilation, layer.groups
    )


def _dense(net: TorchNet, placed: Placed, training: bool, x: Tensor) -> Tensor:
    from torch.nn.functional import linear

    weight = net.tensors[f"{placed.name}.weight"]
    # The rows of the matrix follow the image laid flat as H, W, C; PyTorch lays it C, H, W.
    if x.ndim == 4:
        weight = weight.reshape(*placed.input, -1).permute(2, 0, 1, 3).flatten(0, 2)
    return linear(x.flatten(1), weight.T, net.of(placed, "bias"))


def _max_pool(net: TorchNet, placed: Placed, training: bool, x: Tensor) -> Tensor:
    from torch.nn.functional import max_pool2d

    assert placed.layer is not None
    assert placed.window is not None
    x, padding = _padded(x, placed.window, -np.inf)
    ceil = placed.layer.fit == "ceil"
    return max_pool2d(x, placed.window.size, placed.window.stride, padding, ceil_mode=ceil)


def _average_pool(net: TorchNet, placed: Placed, training: bool, x: Tensor) -> Tensor:
    from torch.nn.functional import avg_pool2d

    assert placed.layer is not None
    assert placed.window is not None
    x, padding = _padded(x, placed.window, 0.0)
    ceil = placed.layer.fit == "ceil"
    return avg_pool2d(x, placed.window.size, placed.window.stride, padding, ceil_mode=ceil)


def _activation(net: TorchNet, placed: Placed, training: bool, x: Tensor) -> Tensor:
    from torch.nn import functional as f

    assert placed.layer is not None
    alpha = placed.layer.value
    functions: dict[str, Callable[[], Tensor]] = {
        "relu": lambda: f.relu(x),
        "leaky": lambda: f.leaky_relu(x, alpha),
        "elu": lambda: f.elu(x, alpha),
        "selu": lambda: f.selu(x),
        "gelu": lambda: f.gelu(x),
        "silu": lambda: f.silu(x),
        "scale": lambda: alpha * x,
        "sigmoid": lambda: f.sigmoid(x),
        "tanh": lambda: f.tanh(x),
    }
    return functions[placed.layer.kind]()


def _prelu(net: TorchNet, placed: Placed, training: bool, x: Tensor) -> Tensor:
    from torch.nn.functional import prelu

    return prelu(x, net.tensors[f"{placed.name}.weight"])


def _maxout(net: TorchNet, placed: Placed, training: bool, x: Tensor) -> Tensor:
    assert placed.layer is not None
    return x.unflatten(1, (-1, placed.layer.count)).amax(2)


def _batch_norm(net: TorchNet, placed: Placed, training: bool, x: Tensor) -> Tensor:
    from torch.nn.functional import batch_norm

    names = ("running_mean", "running_var", "weight", "bias")
    return batch_norm(x, *(net.of(placed, name) for name in names), training, 0.1, 1e-5)


def _group_norm(net: TorchNet, placed: Placed, training: bool, x: Tensor) -> Tensor:
    from torch.nn.functional import group_norm

    assert placed.layer is not None
    weight, bias = (net.of(placed, name) for name in ("weight", "bias"))
    return group_norm(x, placed.layer.count or 1, weight, bias, 1e-5)


def _dropout(net: TorchNet, placed: Placed, training: bool, x: Tensor) -> Tensor:
    import torch

    assert placed.layer is not None
    assert placed.layer.value is not None
    if not training:
        return x
    # PyTorch draws other numbers; whose they are is not compared here, what becomes of them is.
    ones = np.ones(_channels_last(x).shape)
    attributes = Dropout(placed.layer.value, int(placed.name.removeprefix("drop")))
    seed, step = (np.asarray(net.fed[name]) for name in ("seed", "step"))
    (mask,) = RULES["dropout"](Call(attributes, (ones, seed, step), (ones.shape,), ()))
    return x * _channels_first(torch.tensor(mask, dtype=x.dtype))


def _add(net: TorchNet, placed: Placed, training: bool, *sources: Tensor) -> Tensor:
    import torch

    return torch.stack(sources).sum(0)


def _concat(net: TorchNet, placed: Placed, training: bool, *sources: Tensor) -> Tensor:
    import torch

    return torch.cat(sources, 1)


_LAYERS: Mapping[str, Callable[..., Tensor]] = {
    "conv": _conv,
    "dense": _dense,
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "activation": _activation,
    "prelu": _prelu,
    "maxout": _maxout,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "dropout": _dropout,
    "add": _add,
    "concat": _concat,
}
