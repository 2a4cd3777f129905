"""`hubel collapse`: stacks of linear layers made the single layers that they equal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hubel.cli import options

__all__ = ["collapse"]


def collapse(
    net: Annotated[
        str,
        typer.Argument(
            help="The network's text, a .hub file, a shipped name, or a trained .hubel file or run."
        ),
    ],
    images: Annotated[
        list[Path] | None,
        typer.Argument(help="Images or folders to compare on. [random ones]"),
    ] = None,
    input: options.Input = None,
    classes: options.Classes = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Save the collapsed model in this file.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Make stacked linear layers the one layer they equal, and show the largest difference."""
    from hubel.cli.values import input_size, model_file, print_json
    from hubel.errors import UsageError
    from hubel.model import Model, load
    from hubel.network import Network
    from hubel.study.collapse import collapse as collapsed
    from hubel.views.collapse import as_dict, lines

    path = Path(net)
    trained: Model | Network
    if net.endswith(".hubel") or path.is_dir():
        if input is not None or classes is not None:
            raise UsageError(f"{net} says its own input and classes", hint="leave them out")
        trained = load(model_file(path))
    else:
        size = None if input is None else input_size(input)
        trained = Network(net, size, classes)
        if out is not None:
            raise UsageError(
                "a network without weights cannot be saved as a model",
                hint="give a .hubel file or a run folder, or leave --out out",
            )
    shown = None if not images else _pixels(trained, images)
    result = collapsed(trained, images=shown)
    if out is not None:
        result.model.save(out)
    if json:
        print_json(as_dict(result))
        return
    print(*lines(result, "random images" if shown is None else "images"), sep="\n")
    if out is not None:
        print(f"Saved as {out}")


def _pixels(trained: Any, paths: list[Path]) -> Any:
    """The images, brought to the network's size."""
    import numpy as np

    from hubel.cli.pictures import listed
    from hubel.data.image import decode
    from hubel.model import Model

    network = trained.network if isinstance(trained, Model) else trained
    height, width, depth = network.input
    resize = trained.resize if isinstance(trained, Model) else "squash"
    channels = depth if depth in (1, 3) else None
    return np.stack(
        [decode(path, (height, width), channels, resize).pixels for path in listed(paths)]
    )
