"""The optimizers by name: their operation, usual learning rate, and what they keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hubel.graph import modes
from hubel.graph.op import Graph, Value
from hubel.graph.ops.loss import Penalty
from hubel.graph.ops.update import Adam, RMSProp, Sgd

if TYPE_CHECKING:
    from hubel.train.settings import Settings

__all__ = ["OPTIMIZERS", "Optimizer", "with_updates"]


@dataclass(frozen=True, slots=True)
class Optimizer:
    """One row of the table of optimizers.

    `rate` is the usual learning rate, `slots(settings)` names what is kept beside each parameter,
    `attributes(settings, l2, l1)` are those of the update operation `op`. A `decoupled` optimizer
    shrinks the weights itself, where the others have the regularisation term in the loss.
    """

    op: str
    rate: float
    slots: Callable[[Settings], tuple[str, ...]]
    attributes: Callable[[Settings, float, float], Any]
    decoupled: bool = False


OPTIMIZERS: Mapping[str, Optimizer] = MappingProxyType(
    {
        "sgd": Optimizer(
            "sgd",
            0.01,
            lambda chosen: ("velocity",) if chosen.momentum else (),
            lambda chosen, l2, l1: Sgd(chosen.momentum, chosen.nesterov, l2, l1),
        ),
        "rmsprop": Optimizer(
            "rmsprop",
            0.001,
            lambda chosen: ("square", "velocity") if chosen.momentum else ("square",),
            lambda chosen, l2, l1: RMSProp(momentum=chosen.momentum, l2=l2, l1=l1),
        ),
        "adam": Optimizer(
            "adam",
            0.001,
            lambda _: ("first", "second"),
            lambda _, l2, l1: Adam(l2=l2, l1=l1),
        ),
        "adamw": Optimizer(
            "adam",
            0.001,
            lambda _: ("first", "second"),
            lambda _, decay, l1: Adam(decay=decay, l1=l1),
            decoupled=True,
        ),
    }
)


def with_updates(graph: Graph, chosen: Settings) -> Graph:
    """One whole training step of a graph with a loss, with the optimizer of the settings.

    Where there is a regularisation term its value is the further output "penalty".
    """
    optimizer = OPTIMIZERS[chosen.optimizer]

    def attributes(parameter: Value) -> Any:
        if modes.decays(parameter):
            return optimizer.attributes(chosen, chosen.weight_decay, chosen.l1)
        return optimizer.attributes(chosen, 0.0, 0.0)

    l2 = 0.0 if optimizer.decoupled else chosen.weight_decay
    penalised = any(modes.decays(parameter) for parameter in graph.with_role("parameter"))
    penalty = Penalty(l2, chosen.l1) if (l2 or chosen.l1) and penalised else None
    return modes.with_updates(graph, optimizer.op, attributes, optimizer.slots(chosen), penalty)
