"""`hubel info`: what is known about a model or a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hubel.cli import options

__all__ = ["info"]


def info(
    model: Annotated[Path, typer.Argument(help="A .hubel file, or a run folder for its best.")],
    json: options.Json = False,
) -> None:
    """Tell a model's network, input, classes, preprocessing, training and size."""
    from hubel.cli.description import described, lines
    from hubel.cli.values import model_file, print_json

    facts = described(model_file(model))
    if json:
        print_json(facts)
    else:
        print(*lines(facts), sep="\n")
