"""From nothing imported to the first prediction of a saved model, in this process.

Run with the name of a way and what `save` gave for it; prints the seconds of the import, and from
its start to the prediction.
"""

from __future__ import annotations

from time import perf_counter

_BEGUN = perf_counter()

# What follows is part of the import that is timed.
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

__all__ = ["WAYS", "main"]

_CLASSES = 10


def _hubel(path: str) -> tuple[float, int]:
    import numpy as np

    import hubel

    imported = perf_counter()
    model = hubel.load(path)
    return imported, model.predict(np.zeros((1, 32, 32, 3), np.float32)).size


def _state(path: str) -> tuple[float, int]:
    """The weights alone; the net is written in code, as PyTorch advises."""
    import torch

    imported = perf_counter()
    net = _sequential()
    net.load_state_dict(torch.load(path, weights_only=True))
    net.eval()
    with torch.inference_mode():
        return imported, net(torch.zeros(1, 3, 32, 32)).softmax(1).numel()


def _script(path: str) -> tuple[float, int]:
    import torch

    imported = perf_counter()
    net: Any = torch.jit.load(path)  # type: ignore[no-untyped-call]  # PyTorch's own gap
    with torch.inference_mode():
        return imported, net(torch.zeros(1, 3, 32, 32)).softmax(1).numel()


def _exported(path: str) -> tuple[float, int]:
    import torch

    imported = perf_counter()
    net = torch.export.load(path).module()
    with torch.inference_mode():
        return imported, net(torch.zeros(1, 3, 32, 32)).softmax(1).numel()


def _sequential() -> Any:
    from torch import nn

    layers: list[Any] = []
    depth = 3
    for filters in (32, 64, 128):
        for _ in range(2):
            layers += [nn.Conv2d(depth, filters, 3, padding=1), nn.ReLU()]
            depth = filters
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, _CLASSES))


WAYS: dict[str, Callable[[str], tuple[float, int]]] = {
    "Hubel": _hubel,
    "PyTorch, state dict": _state,
    "PyTorch, TorchScript": _script,
    "PyTorch, exported program": _exported,
}
"""Every way to load a saved `cs231n` and predict: when the import was done, how many scores."""


def save(way: str, path: str) -> None:
    """Writes the file that a way loads; raises ModuleNotFoundError without its library."""
    if way == "Hubel":
        from hubel import Model

        Model("cs231n").save(path)
        return
    import torch

    net, x = _sequential().eval(), torch.zeros(1, 3, 32, 32)
    if way == "PyTorch, state dict":
        torch.save(net.state_dict(), path)
    elif way == "PyTorch, TorchScript":
        scripted: Any = torch.jit.trace(net, x)  # type: ignore[no-untyped-call]  # PyTorch's own gap
        torch.jit.save(scripted, path)
    else:
        torch.export.save(torch.export.export(net, (x,)), path)


def main() -> None:
    """Loads and predicts in the way of the arguments."""
    way, path, *writing = sys.argv[1:]
    if writing:
        save(way, path)
        return
    imported, scores = WAYS[way](path)
    done = perf_counter()
    if scores != _CLASSES:
        raise ValueError(f"{way} gives {scores} scores, not {_CLASSES}")
    print(f"{imported - _BEGUN} {done - _BEGUN}")


if __name__ == "__main__":
    main()
