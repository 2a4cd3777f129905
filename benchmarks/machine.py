"""When and where numbers were measured."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hubel import __version__
from hubel.engine.native import instruction_sets

__all__ = ["PACKAGES", "facts", "processor"]

PACKAGES = (
    "numpy",
    "torch",
    "tensorflow-cpu",
    "tensorflow",
    "keras",
    "jax",
    "onnx",
    "onnxruntime",
    "openvino",
)
"""Packages whose version matters."""


def facts() -> dict[str, Any]:
    """Date, processor, cores, system, and the versions of all that is installed."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": {
            "processor": processor(),
            "instruction_sets": list(instruction_sets()),
            "flags": _flags(),
            "cores": len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count(),
            "system": f"{platform.system()} {platform.release()}",
        },
        "versions": {
            "python": platform.python_version(),
            "hubel": __version__,
            **{name: found for name in PACKAGES if (found := _version(name)) is not None},
        },
    }


def processor() -> str:
    """The processor's name for itself."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _flags() -> list[str]:
    """What the processor can do that decides how fast products are."""
    wanted = re.compile(r"avx|fma|amx|asimd|sve|bf16")
    return sorted(flag for flag in _cpuinfo("flags").split() if wanted.match(flag))


def _cpuinfo(key: str) -> str:
    file = Path("/proc/cpuinfo")
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    found = re.search(rf"^{key}\s*: (.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
