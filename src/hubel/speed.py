"""How fast a model is on this machine: its training step, its inference, and every single call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from hubel.engine import Feeds
from hubel.engine.native import NativeSession
from hubel.errors import UsageError
from hubel.graph import modes
from hubel.graph.op import Graph
from hubel.model import Model
from hubel.program.choose import Choice
from hubel.program.cost import operations, traffic
from hubel.train.settings import Settings
from hubel.train.step import step_graph

__all__ = ["CallSpeed", "Speed", "explain", "measure", "native_session", "step_of", "training_step"]

# At least so many runs are timed, and others before them that fill caches and the arena.
_LEAST, _WARM = 5, 2


@dataclass(frozen=True, slots=True)
class Speed:
    """Medians in seconds: a training step and inference of `batch` images, inference of one.

    `operations` are the floating-point operations of the training step's dot products.
    """

    batch: int
    step: float
    operations: int
    single: float
    inference: float


@dataclass(frozen=True, slots=True)
class CallSpeed:
    """One call of a step's program: its kernel's parameters, seconds, operations and bytes moved.

    `operations` are those of `hubel.program.cost`, 0 for a kernel without dot products; `choice`
    are the algorithms that a convolution's was taken from, with their costs.
    """

    node: str
    kernel: str
    parameters: Any
    seconds: float
    operations: int
    bytes: int
    choice: Choice | None = None


def native_session(model: Model) -> NativeSession:
    """The model's session; raises UsageError where it is not the compiled engine's."""
    if not isinstance(model.session, NativeSession):
        raise UsageError("only the native engine is timed", hint='use engine="native"')
    return model.session


def training_step(model: Model) -> Graph:
    """The step that is timed: cross-entropy, all gradients, SGD with momentum."""
    return step_graph(model.network.graph, Settings(optimizer="sgd", momentum=0.9))


def step_of(model: Model, images: Any, labels: Any) -> Callable[[], float]:
    """What runs one training step, as `fit` does, on the same batch each time; gives the loss."""
    graph = training_step(model)
    feeds = _feeds(images, labels)
    return lambda: float(model.session.run(graph, feeds)["loss"])


def measure(model: Model, batch: int, seconds: float = 1.0) -> Speed:
    """Times a model on random images, each of the three for about so many seconds.

    The model's weights change as in training.
    """
    session = native_session(model)
    images, labels = _data(model, batch)
    graph, feeds = training_step(model), _feeds(images, labels)
    return Speed(
        batch=batch,
        step=_timed(lambda: session.run(graph, feeds), seconds),
        operations=sum(map(operations, session.program(graph, batch).calls)),
        single=_timed(lambda: model.logits(images[:1]), seconds),
        inference=_timed(lambda: model.logits(images, batch), seconds),
    )


def explain(
    model: Model, batch: int, inference: bool = False, repeats: int = 9
) -> tuple[CallSpeed, ...]:
    """Every call of the model's training step, or of its inference, with its median of `repeats`.

    The calls run in their order within the whole step, so that each finds the caches as the one
    before it leaves them.
    """
    session = native_session(model)
    graph = modes.for_inference(model.network.graph) if inference else training_step(model)
    feeds = _feeds(*_data(model, batch))
    timed = session.time_calls(graph, feeds, repeats)
    program = session.program(graph, batch)
    return tuple(
        CallSpeed(
            one.call.node,
            one.call.compiled,
            one.call.parameters,
            one.seconds,
            operations(one.call),
            traffic(program, one.call),
            one.call.choice,
        )
        for one in timed
    )


def _data(model: Model, batch: int) -> tuple[Any, Any]:
    if batch < 1:
        raise UsageError(f"batch is {batch}, at least 1 is needed")
    numbers = np.random.default_rng(0)
    images = numbers.standard_normal((batch, *model.network.input), np.float32)
    return images, numbers.integers(0, len(model.classes), batch)


def _feeds(images: Any, labels: Any) -> Feeds:
    return {"input": images, "labels": labels, "rate": 0.001, "step": 1, "seed": 0}


def _timed(run: Callable[[], object], seconds: float) -> float:
    for _ in range(_WARM):
        run()
    times: list[float] = []
    begun = perf_counter()
    while len(times) < _LEAST or perf_counter() - begun < seconds:
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return median(times)
