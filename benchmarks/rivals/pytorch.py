"""PyTorch: eager in both layouts, or compiled; in float32, under autocast, or all in bfloat16."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from benchmarks.rivals import Run
from benchmarks.task import RATE, Task
from benchmarks.torch_nets import module

__all__ = ["inference", "training"]


def training(task: Task, channels_last: bool, compiled: bool, bfloat16: str | None) -> Run:
    """Forward, loss, backward, and an update by SGD with momentum."""
    net, x = _ready(task, channels_last, bfloat16)
    y = torch.from_numpy(task.labels())
    optimizer: Any = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.9)
    run = torch.compile(net) if compiled else net

    def step() -> float:
        optimizer.zero_grad()
        with _autocast(bfloat16):
            scores = run(x)
        loss: Any = cross_entropy(scores.float(), y)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def inference(task: Task, channels_last: bool, compiled: bool, bfloat16: str | None) -> Run:
    """The scores of a batch, without what gradients need."""
    net, x = _ready(task, channels_last, bfloat16)
    net.eval()
    run = torch.compile(net) if compiled else net

    def step() -> Any:
        with torch.inference_mode(), _autocast(bfloat16):
            return run(x).float().numpy()

    return step


def _ready(task: Task, channels_last: bool, bfloat16: str | None) -> tuple[Any, Any]:
    torch.set_num_threads(task.threads)
    net: Any = module(task.network(), task.parameters())
    x = torch.from_numpy(task.images().transpose(0, 3, 1, 2).copy())
    if bfloat16 == "pure":
        net, x = net.bfloat16(), x.bfloat16()
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    return net, x


def _autocast(bfloat16: str | None) -> AbstractContextManager[Any]:
    if bfloat16 == "autocast":
        return torch.autocast("cpu", torch.bfloat16)
    return nullcontext()
