"""Convolutional networks: described in a line of text, checked, trained, and looked at."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hubel.data.audit import audit
    from hubel.data.checks import Check
    from hubel.data.dataset import Dataset
    from hubel.data.preprocess import Preprocess
    from hubel.errors import DataError, FormatError, HubelError, NetworkError, UsageError
    from hubel.graph.check import check
    from hubel.model import Model, load
    from hubel.network import Network
    from hubel.study.collapse import Collapsed, collapse
    from hubel.train.events import Ended, EpochDone, Started, StepDone, Validating, Verdict
    from hubel.train.preflight.gradient import gradient_check
    from hubel.train.recipes import Recipe, recipe
    from hubel.train.settings import Settings
    from hubel.trials.search import resume_search, search

__all__ = [
    "Check",
    "Collapsed",
    "DataError",
    "Dataset",
    "Ended",
    "EpochDone",
    "FormatError",
    "HubelError",
    "Model",
    "Network",
    "NetworkError",
    "Preprocess",
    "Recipe",
    "Settings",
    "Started",
    "StepDone",
    "UsageError",
    "Validating",
    "Verdict",
    "audit",
    "check",
    "collapse",
    "gradient_check",
    "load",
    "recipe",
    "resume_search",
    "search",
]

__version__ = "0.1.0"

_HOMES = {
    "hubel.data.audit": ("audit",),
    "hubel.data.checks": ("Check",),
    "hubel.data.dataset": ("Dataset",),
    "hubel.data.preprocess": ("Preprocess",),
    "hubel.errors": ("DataError", "FormatError", "HubelError", "NetworkError", "UsageError"),
    "hubel.graph.check": ("check",),
    "hubel.model": ("Model", "load"),
    "hubel.network": ("Network",),
    "hubel.study.collapse": ("Collapsed", "collapse"),
    "hubel.train.events": (
        "Ended",
        "EpochDone",
        "Started",
        "StepDone",
        "Validating",
        "Verdict",
    ),
    "hubel.train.preflight.gradient": ("gradient_check",),
    "hubel.train.recipes": ("Recipe", "recipe"),
    "hubel.train.settings": ("Settings",),
    "hubel.trials.search": ("resume_search", "search"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    # Importing the package costs nothing until a name is used: NumPy alone takes longer.
    if name not in _HOME:
        raise AttributeError(f"module 'hubel' has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
