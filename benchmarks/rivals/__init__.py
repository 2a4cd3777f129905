"""Everyone who takes part, by library, variant, work and precision; a file each library.

Such a file has a function `training` or `inference`, or both, that takes a Task and the variant's
options and gives what runs one step: it returns the loss, or the scores (N, classes).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from benchmarks.task import Task

__all__ = ["HUBEL", "RIVALS", "Rival", "Run", "named", "rivals_for"]

Run: TypeAlias = Callable[[], Any]

HUBEL = "Hubel"


@dataclass(frozen=True, slots=True)
class Rival:
    """One variant of a library: its file here, the module to import first, and its options.

    `nets` are those it takes part in, all where it is empty.
    """

    library: str
    variant: str
    file: str
    imports: str
    work: str
    precision: str
    options: Mapping[str, Any] = field(default_factory=dict)
    nets: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Library and variant; unique among those of one work and precision."""
        return f"{self.library}, {self.variant}" if self.variant else self.library

    def start(self, task: Task) -> Run:
        """What runs one step; raises ModuleNotFoundError where the library is missing."""
        importlib.import_module(self.imports)
        run: Run = getattr(importlib.import_module(f"benchmarks.rivals.{self.file}"), self.work)(
            task, **self.options
        )
        return run


def _hubel() -> list[Rival]:
    return [
        Rival(HUBEL, "", "hubel_engine", "hubel.speed", work, precision)
        for work in ("training", "inference")
        for precision in ("float32", "bfloat16")
    ]


def _pytorch() -> list[Rival]:
    layouts: dict[str, dict[str, Any]] = {
        "channels first": {"channels_last": False, "compiled": False},
        "channels last": {"channels_last": True, "compiled": False},
        "compiled": {"channels_last": True, "compiled": True},
    }
    numbers: dict[str, dict[str, str | None]] = {
        "float32": {"": None},
        "bfloat16": {"autocast ": "autocast", "pure ": "pure"},
    }
    return [
        Rival(
            "PyTorch",
            f"{word}{layout}",
            "pytorch",
            "torch",
            work,
            precision,
            {**options, "bfloat16": how},
        )
        for work in ("training", "inference")
        for precision, ways in numbers.items()
        for word, how in ways.items()
        for layout, options in layouts.items()
    ]


def _openvino() -> list[Rival]:
    return [
        Rival(
            "OpenVINO",
            f"{hint} hint",
            "openvino_cpu",
            "openvino",
            "inference",
            precision,
            {"hint": hint.upper()},
        )
        for precision in ("float32", "bfloat16")
        for hint in ("latency", "throughput")
    ]


RIVALS = (
    *_hubel(),
    *_pytorch(),
    *(
        Rival("Keras", "", "keras_tensorflow", "tensorflow", "training", precision, {}, ("cs231n",))
        for precision in ("float32", "bfloat16")
    ),
    *(
        Rival("JAX", "", "jax_xla", "jax", "training", precision, {}, ("cs231n",))
        for precision in ("float32", "bfloat16")
    ),
    Rival("ONNX Runtime", "", "onnx_runtime", "onnxruntime", "inference", "float32"),
    *_openvino(),
)
"""The table of all."""


def rivals_for(task: Task, only: tuple[str, ...] = ()) -> list[Rival]:
    """Hubel, then its rivals in a task; `only` leaves those whose name holds one of its words."""
    words = [word.lower() for word in only]
    return [
        rival
        for rival in RIVALS
        if (rival.work, rival.precision) == (task.work, task.precision)
        and (not rival.nets or task.case.net in rival.nets)
        and (
            not words or rival.library == HUBEL or any(word in rival.name.lower() for word in words)
        )
    ]


def named(name: str, task: Task) -> Rival:
    """The rival of that name in a task."""
    (found,) = (rival for rival in rivals_for(task) if rival.name == name)
    return found
