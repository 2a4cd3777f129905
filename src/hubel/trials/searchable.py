"""Which choices of training a search may vary, and on which scale."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hubel.records import dataclass

__all__ = ["DECAY", "DECOUPLED_DECAY", "SEARCHABLE", "Searchable"]

DECAY, DECOUPLED_DECAY = "1e-6..1e-2", "1e-4..1"
"""The usual ranges of the weight decay, the second where the optimizer shrinks the weights itself,
which its learning rate weakens.
"""


@dataclass(frozen=True, slots=True)
class Searchable:
    """How a choice of training is searched: on which scale unless one is written, and its type.

    `usual` says in words over which range it is searched where it is not given.
    """

    log: bool = False
    whole: bool = False
    usual: str = ""


SEARCHABLE: Mapping[str, Searchable] = MappingProxyType(
    {
        "lr": Searchable(log=True, usual="a tenth to 100 times the optimizer's usual"),
        "weight_decay": Searchable(log=True, usual=f"{DECAY}; adamw and muon {DECOUPLED_DECAY}"),
        "batch_size": Searchable(log=True, whole=True),
        "momentum": Searchable(),
        "l1": Searchable(log=True),
        "label_smoothing": Searchable(),
        "warmup_epochs": Searchable(),
        "crop": Searchable(whole=True),
        "rotate": Searchable(),
        "scale": Searchable(),
        "colour": Searchable(),
        "cutout": Searchable(whole=True),
        "mixup": Searchable(),
        "cutmix": Searchable(),
        "average": Searchable(),
        "clip_norm": Searchable(log=True),
        "bias_lr_factor": Searchable(log=True),
    }
)
"""The choices of training that may be ranges: fields of `Settings`."""
