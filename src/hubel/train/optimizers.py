"""The optimizers by name: their usual learning rate, and how each updates what."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from hubel.graph import modes
from hubel.graph.modes import Update
from hubel.graph.op import Graph, Node, Value
from hubel.graph.ops.loss import Penalty
from hubel.graph.ops.update import Adam, Average, Clip, Muon, RMSProp, Sgd

if TYPE_CHECKING:
    from hubel.train.settings import Settings

__all__ = ["OPTIMIZERS", "Optimizer", "Part", "with_updates"]


@dataclass(frozen=True, slots=True)
class Optimizer:
    """One row of the table of optimizers.

    `rate` is the usual learning rate, `update(settings, part, l2, l1)` how a part of the network is
    updated. A `decoupled` optimizer shrinks the weights itself, where the others have the
    regularisation term in the loss.
    """

    rate: float
    update: Callable[[Settings, Part, float, float], Update]
    decoupled: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """What an optimizer may know of a parameter.

    It is `hidden` if it is a matrix, or filters, of which others come before the scores; it is
    `unscaled` if batch normalisation follows, so that its length changes nothing. `rate_factor`
    multiplies the learning rate.
    """

    hidden: bool
    unscaled: bool
    rate_factor: float


def _sgd(chosen: Settings, part: Part, l2: float, l1: float) -> Update:
    attributes = Sgd(chosen.momentum, chosen.nesterov, l2, l1, rate_factor=part.rate_factor)
    return Update("sgd", attributes, ("velocity",) if chosen.momentum else ())


def _rmsprop(chosen: Settings, part: Part, l2: float, l1: float) -> Update:
    attributes = RMSProp(momentum=chosen.momentum, l2=l2, l1=l1, rate_factor=part.rate_factor)
    return Update("rmsprop", attributes, ("square", "velocity") if chosen.momentum else ("square",))


def _adam(chosen: Settings, part: Part, l2: float, l1: float) -> Update:
    return Update("adam", Adam(l2=l2, l1=l1, rate_factor=part.rate_factor), ("first", "second"))


def _adamw(chosen: Settings, part: Part, decay: float, l1: float) -> Update:
    attributes = Adam(decay=decay, l1=l1, rate_factor=part.rate_factor)
    return Update("adam", attributes, ("first", "second"))


def _muon(chosen: Settings, part: Part, decay: float, l1: float) -> Update:
    """Muon for what is hidden, SGD with Nesterov's momentum for the rest (Jordan 2024)."""
    momentum, factor = chosen.momentum, part.rate_factor
    if part.hidden:
        muon = Muon(momentum, unit=part.unscaled, decay=decay, l1=l1, rate_factor=factor)
        return Update("muon", muon, ("velocity",))
    rest = Sgd(momentum, momentum > 0, decay=decay, l1=l1, rate_factor=factor)
    return Update("sgd", rest, ("velocity",) if momentum else ())


OPTIMIZERS: Mapping[str, Optimizer] = MappingProxyType(
    {
        "sgd": Optimizer(0.01, _sgd),
        "rmsprop": Optimizer(0.001, _rmsprop),
        "adam": Optimizer(0.001, _adam),
        "adamw": Optimizer(0.001, _adamw, decoupled=True),
        "muon": Optimizer(0.02, _muon, decoupled=True),
    }
)


def with_updates(graph: Graph, chosen: Settings, frozen: Collection[str] = ()) -> Graph:
    """One whole training step of a graph with a loss, with the optimizer of the settings.

    The parameters named in `frozen` stay as they are. Outputs are those of modes.with_updates.
    """
    optimizer = OPTIMIZERS[chosen.optimizer]
    matrices = [p.name for p in graph.with_role("parameter") if modes.decays(p)]
    unscaled = _unscaled(graph)

    def update(parameter: Value) -> Update:
        name, matrix = parameter.name, modes.decays(parameter)
        part = Part(
            name in matrices[:-1], name in unscaled, 1.0 if matrix else chosen.bias_lr_factor
        )
        regular = (chosen.weight_decay, chosen.l1) if matrix else (0.0, 0.0)
        return optimizer.update(chosen, part, *regular)

    l2 = 0.0 if optimizer.decoupled else chosen.weight_decay
    return modes.with_updates(
        graph,
        update,
        Penalty(l2, chosen.l1) if l2 or chosen.l1 else None,
        frozen=frozen,
        clip=None if chosen.clip_norm is None else Clip(chosen.clip_norm),
        average=None if chosen.average is None else Average(chosen.average),
    )


def _unscaled(graph: Graph) -> set[str]:
    """Weights behind whose layer nothing but pooling stands before a batch normalisation."""
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    found = set()
    for node in graph.nodes:
        if node.op not in ("conv", "dense"):
            continue
        after = node
        while len(read := readers.get(after.outputs[0], [])) == 1:
            after = read[0]
            if after.op not in ("max_pool", "average_pool"):
                break
        if after.op == "batch_norm":
            found.add(node.inputs[1])
    return found
