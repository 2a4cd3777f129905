"""The command line that trains a model, to the same bits each time."""

from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from hubel.cli.values import VAL_FRACTION
from hubel.train.settings import Settings, flag

if TYPE_CHECKING:
    from hubel.cli.preparing import Source

__all__ = ["nearby", "train_command"]


def train_command(
    source: Source,
    net: str,
    chosen: Settings,
    engine: str,
    precision: str,
    initialisation: str,
) -> str:
    """`hubel train` with all that differs from what it does unasked, and the epochs and the rate.

    `net` is the text of a network in one line, or a file.
    """
    parts = ["hubel", "train", nearby(source.source), "--net", net]
    usual = Settings(val_fraction=VAL_FRACTION)
    for field in fields(Settings):
        value = getattr(chosen, field.name)
        if field.name in ("epochs", "lr") or value != getattr(usual, field.name):
            parts += _option(field.name, value)
    if source.size is not None:
        parts += _option("size", "x".join(map(str, source.size)))
    for name, value, default in (
        ("channels", source.channels, None),
        ("resize", source.resize, "squash"),
        ("data_dir", source.data_dir, None),
        ("engine", engine, "native"),
        ("precision", precision, "float32"),
        ("initialisation", initialisation, "he"),
    ):
        if value != default:
            parts += _option(name, value)
    return shlex.join(parts)


def nearby(path: str) -> str:
    """A path as it is called from the working folder, where it lies below it."""
    whole = Path(path).resolve()
    if not whole.exists() or not whole.is_relative_to(Path.cwd()):
        return path
    return str(whole.relative_to(Path.cwd()))


def _option(name: str, value: object) -> list[str]:
    if value is True:
        return [flag(name)]
    return [flag(name), "none" if value is None else str(value)]
