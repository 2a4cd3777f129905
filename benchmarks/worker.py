"""One contestant in a process of its own: readies a training step, and times steps when told to.

Reads one line a request on standard input, the number of steps to time; answers with a line of
JSON. While it waits it uses no core, so that contestants do not disturb one another.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

__all__ = ["CONTESTANTS", "Task"]


@dataclass(frozen=True, slots=True)
class Task:
    """A training step: a net, its input (height, width, depth), classes, batch and threads."""

    net: str
    input: tuple[int, int, int]
    classes: int
    batch: int
    threads: int


Step = Callable[[], float]


def _data(task: Task) -> tuple[Any, Any]:
    numbers = np.random.default_rng(0)
    images = numbers.normal(size=(task.batch, *task.input)).astype(np.float32)
    return images, numbers.integers(0, task.classes, task.batch)


def hubel(task: Task) -> Step:
    """Hubel's compiled engine in float32."""
    from hubel import Model, Network
    from hubel.train.settings import Settings
    from hubel.train.step import step_graph

    network = Network(task.net, input=task.input, classes=task.classes)
    model = Model(network, seed=0, threads=task.threads)
    graph = step_graph(network.graph, Settings(optimizer="sgd", lr=0.001, momentum=0.9))
    images, labels = _data(task)
    feeds = {"input": images, "labels": labels, "rate": 0.001, "step": 1, "seed": 0}
    return lambda: float(model.session.run(graph, feeds)["loss"])


def _torch(task: Task, channels_last: bool, compiled: bool) -> Step:
    import torch
    from torch.nn.functional import cross_entropy

    from benchmarks.torch_nets import module

    torch.set_num_threads(task.threads)
    net: Any = module(task.net, task.input, task.classes)
    images, labels = _data(task)
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    y = torch.from_numpy(labels)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    optimizer: Any = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9)
    run = torch.compile(net) if compiled else net

    def step() -> float:
        optimizer.zero_grad()
        loss: Any = cross_entropy(run(x), y)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


CONTESTANTS: dict[str, Callable[[Task], Step]] = {
    "hubel": hubel,
    "torch eager, channels first": lambda task: _torch(task, False, False),
    "torch eager, channels last": lambda task: _torch(task, True, False),
    "torch compiled": lambda task: _torch(task, True, True),
}
"""Everyone who takes part, by name; each gives a function that runs one step."""


def main() -> None:
    """Serves one contestant, named in the arguments, until standard input ends."""
    name, given = sys.argv[1], json.loads(sys.argv[2])
    step = CONTESTANTS[name](Task(**{**given, "input": tuple(given["input"])}))
    first = step()
    step()
    print(json.dumps({"loss": first}), flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            began = perf_counter()
            step()
            times.append(perf_counter() - began)
        print(json.dumps({"times": times}), flush=True)


if __name__ == "__main__":
    main()
