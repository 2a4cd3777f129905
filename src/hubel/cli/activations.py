"""`hubel activations`: the same network with each activation function, on the user's images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hubel.cli import options

__all__ = ["activations"]


def activations(
    data: options.Data = None,
    net: options.Net = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of training with each.")] = 100,
    time: Annotated[str, typer.Option("--time", help="At most so long in all.")] = "60s",
    batch_size: options.BatchSize = None,
    lr: options.Lr = None,
    optimizer: options.Optimizer = None,
    size: options.Size = None,
    channels: options.Channels = None,
    resize: options.Resize = None,
    data_dir: options.DataDir = None,
    seed: options.Seed = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Draw them in this .png or .svg.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Compare activation functions: outputs, gradients, dead units, speed of learning."""
    from hubel.cli.study import check_picture, loaded
    from hubel.cli.values import duration, print_json
    from hubel.study.activations import compare
    from hubel.views.activations import SIZE, as_dict, lines, shapes
    from hubel.views.canvas import save

    check_picture(out)
    dataset, text = loaded(data, net, size, channels, resize, data_dir)
    given: dict[str, Any] = {"batch_size": batch_size, "lr": lr, "optimizer": optimizer}
    compared = compare(
        dataset,
        text,
        steps=steps,
        seconds=duration(time),
        seed=seed or 0,
        **{name: value for name, value in given.items() if value is not None},
    )
    if out is not None:
        save(out, shapes(compared), *SIZE)
    if json:
        print_json(as_dict(compared))
    else:
        print(*lines(compared), sep="\n")
