"""PyTorch: eager in both layouts, or compiled; in float32, under autocast, or all in bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from benchmarks.images import Images
from benchmarks.rivals import Run
from benchmarks.task import RATE, Task
from benchmarks.torch_nets import module
from hubel.data.preprocess import fit
from hubel.train.schedules import learning_rate
from hubel.train.settings import Settings

__all__ = ["epochs", "inference", "training"]

_PADDING = 4


def training(task: Task, channels_last: bool, compiled: bool, bfloat16: str | None) -> Run:
    """Forward, loss, backward, and an update by SGD with momentum."""
    net = _module(task, channels_last, bfloat16)
    x = _laid_out(torch.from_numpy(task.images()), channels_last, bfloat16)
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
    net = _module(task, channels_last, bfloat16).eval()
    x = _laid_out(torch.from_numpy(task.images()), channels_last, bfloat16)
    run = torch.compile(net) if compiled else net

    def step() -> Any:
        with torch.inference_mode(), _autocast(bfloat16):
            return run(x).float().numpy()

    return step


def epochs(
    task: Task,
    data: Images,
    chosen: Settings,
    channels_last: bool,
    compiled: bool,
    bfloat16: str | None,
) -> Iterator[tuple[float, float]]:
    """Trains epoch by epoch: the seconds of each, and the accuracy on the test images after it.

    All images lie in memory as tensors, normalised and padded once; a batch is cut out, moved and
    mirrored by one indexing. Hubel's schedule gives the learning rate of each step.
    """
    net = _module(task, channels_last, bfloat16)
    run = torch.compile(net, dynamic=False) if compiled else net
    measured = fit(data.train)
    mean, std = (np.array(part, np.float32) for part in (measured.mean, measured.std))
    sides = ((0, 0), (_PADDING, _PADDING), (_PADDING, _PADDING), (0, 0))
    images: Any = torch.from_numpy(np.pad((data.train / np.float32(255) - mean) / std, sides))
    labels = torch.from_numpy(data.train_labels)
    test: Any = torch.from_numpy((data.test / np.float32(255) - mean) / std)
    wanted = torch.from_numpy(data.test_labels)
    decayed = [one for one in net.parameters() if one.ndim > 1]
    others = [one for one in net.parameters() if one.ndim < 2]
    optimizer: Any = torch.optim.SGD(
        [
            {"params": decayed, "weight_decay": chosen.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=chosen.rate,
        momentum=chosen.momentum,
        nesterov=chosen.nesterov,
    )
    random = torch.Generator().manual_seed(chosen.seed)
    steps = -(-len(labels) // chosen.batch_size)
    for epoch in range(chosen.epochs):
        begun = perf_counter()
        net.train()
        order: Any = torch.randperm(len(labels), generator=random)
        for number, indices in enumerate(order.split(chosen.batch_size)):
            x = _laid_out(_varied(images, indices, random), channels_last, bfloat16)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(chosen, epoch * steps + number, steps)
            optimizer.zero_grad()
            with _autocast(bfloat16):
                scores = run(x)
            loss: Any = cross_entropy(scores.float(), labels[indices])
            loss.backward()
            optimizer.step()
        seconds = perf_counter() - begun
        net.eval()
        with torch.inference_mode(), _autocast(bfloat16):
            guesses = [
                net(_laid_out(part, channels_last, bfloat16)).argmax(1) for part in test.split(500)
            ]
        yield seconds, float((torch.cat(guesses) == wanted).float().mean())


def _varied(padded: Any, indices: Any, random: Any) -> Any:
    """Images (N, H, W, C) of a padded set, each cut out at a random place and perhaps mirrored."""
    count, side = len(indices), padded.shape[1] - 2 * _PADDING
    along = torch.arange(side)
    corner = torch.randint(0, 2 * _PADDING + 1, (2, count, 1), generator=random)
    mirrored = torch.randint(0, 2, (count, 1), generator=random).bool()
    rows = corner[0] + along
    columns = corner[1] + torch.where(mirrored, along.flip(0), along)
    return padded[indices[:, None, None], rows[:, :, None], columns[:, None, :]]


def _module(task: Task, channels_last: bool, bfloat16: str | None) -> Any:
    torch.set_num_threads(task.threads)
    net: Any = module(task.network(), task.parameters())
    if bfloat16 == "pure":
        net = net.bfloat16()
    return net.to(memory_format=torch.channels_last) if channels_last else net


def _laid_out(images: Any, channels_last: bool, bfloat16: str | None) -> Any:
    """Images (N, H, W, C) as the module takes them, (N, C, H, W) in the memory format it has."""
    x = images.permute(0, 3, 1, 2)
    if bfloat16 == "pure":
        x = x.bfloat16()
    return x.contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )


def _autocast(bfloat16: str | None) -> AbstractContextManager[Any]:
    if bfloat16 == "autocast":
        return torch.autocast("cpu", torch.bfloat16)
    return nullcontext()
