"""What a run will cost, before it begins: seconds an epoch, memory, bytes of a checkpoint."""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from statistics import median

import numpy as np

from hubel.data.batches import prefetch
from hubel.data.checks import Check
from hubel.graph.op import Graph, Value
from hubel.train.preflight.subject import Subject
from hubel.train.progress import Progress
from hubel.train.step import forget, run_step, step_graph

__all__ = ["checkpoint_bytes", "costs", "peak_memory"]

# Steps that are timed, after one that fills caches; fewer where one takes long.
_TIMED, _LONG = 6, 1.0


def costs(subject: Subject) -> Iterator[Check]:
    """Seconds of an epoch, bytes of memory at the most, and bytes of a checkpoint."""
    graph = step_graph(subject.graph, subject.chosen)
    seconds = _epoch_seconds(subject, graph)
    total = seconds * subject.chosen.epochs
    limit = subject.chosen.time
    expected = f"{subject.chosen.epochs} epochs in {total:.3g} s"
    yield Check("seconds-an-epoch", True, seconds, expected + (f" of {limit:g}" if limit else ""))
    state = _bytes(graph, ("parameter", "statistic", "slot"))
    peak, memory = peak_memory(), _memory()
    # Training keeps two copies of its state to go back to.
    needed = None if peak is None else peak + 2 * state
    expected = "" if memory is None else f"below {memory / 1e9:.3g} GB, all there is"
    if needed is None or memory is None or needed < memory:
        yield Check("memory", True, needed, expected)
    else:
        yield Check(
            "memory",
            False,
            needed,
            expected,
            f"a step of {subject.chosen.batch_size} images needs {needed / 1e9:.3g} GB",
            f"try --batch-size {max(1, subject.chosen.batch_size // 2)}",
        )
    size = checkpoint_bytes(graph)
    free = shutil.disk_usage(os.curdir).free
    expected = f"below {free / 2e9:.3g} GB, half of what is free here, for two files"
    if 2 * size < free:
        yield Check("checkpoint", True, size, expected)
    else:
        cause = f"the best and the last model take {2 * size / 1e9:.3g} GB"
        yield Check("checkpoint", False, size, expected, cause, "make room, or choose --out")


def checkpoint_bytes(graph: Graph) -> int:
    """About how large the file is that training with a step's graph goes on from."""
    return _bytes(graph, ("parameter", "statistic", "slot"))


def peak_memory() -> int | None:
    """The most memory in bytes that this process has had so far; None where that is not told."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _bytes(graph: Graph, roles: tuple[str, ...]) -> int:
    def size(value: Value) -> int:
        return 4 * math.prod(value.shape)

    return sum(size(value) for value in graph.values.values() if value.role in roles)


def _epoch_seconds(subject: Subject, graph: Graph) -> float:
    """Steps as training takes them, the next batch made meanwhile, and the scoring after them."""
    chosen = subject.chosen
    steps = math.ceil(len(subject.training) / chosen.batch_size)
    times: list[float] = []
    with subject.unchanged(), closing(prefetch(subject.batches(chosen))) as batches:
        forget(subject.session, graph)
        for batch in batches:
            begun = time.perf_counter()
            run_step(subject.session, graph, batch, chosen, Progress(), steps)
            times.append(time.perf_counter() - begun)
            if len(times) > _TIMED or (len(times) > 2 and times[-1] > _LONG):
                break
    seconds = steps * median(times[1:] or times)
    if subject.validation is not None:
        count = min(len(subject.validation), chosen.batch_size)
        held_out = subject.assembled(np.arange(count), subject.validation)
        feeds = {"input": held_out.images}
        subject.session.run(subject.inference, feeds)
        begun = time.perf_counter()
        subject.session.run(subject.inference, feeds)
        seconds += (time.perf_counter() - begun) * len(subject.validation) / count
    return seconds
