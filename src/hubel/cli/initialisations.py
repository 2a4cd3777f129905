"""`hubel initialisations`: what each does to the user's images, ten layers deep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from hubel.cli import options

__all__ = ["initialisations"]


def initialisations(
    data: options.Data = None,
    layers: Annotated[str, typer.Option(help="fc, of 100 outputs, or conv, of 16 filters.")] = "fc",
    activation: Annotated[str, typer.Option(help="The function behind each layer.")] = "tanh",
    size: options.Size = None,
    channels: options.Channels = None,
    resize: options.Resize = None,
    data_dir: options.DataDir = None,
    seed: options.Seed = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Draw histograms in this .png or .svg.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Show what each initialisation does to activations ten layers deep."""
    from hubel.cli.study import check_picture, loaded
    from hubel.cli.values import print_json
    from hubel.study.initialisations import Kind, look
    from hubel.views.canvas import save
    from hubel.views.initialisations import as_dict, lines, shapes
    from hubel.views.initialisations import size as picture_size

    check_picture(out)
    dataset, _ = loaded(data, None, size, channels, resize, data_dir)
    chosen = cast(Kind, layers)  # look refuses other words
    rows = look(dataset, kind=chosen, activation=activation, seed=seed or 0)
    if out is not None:
        save(out, shapes(rows), *picture_size(rows))
    if json:
        print_json(as_dict(rows))
    else:
        print(*lines(rows), sep="\n")
