"""`hubel show-batch`: a picture of what the network sees in a step of training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hubel.cli import options

__all__ = ["show_batch"]


@options.takes(options.TRAINING, options.MODEL)
def show_batch(
    context: typer.Context,
    data: options.Data = None,
    net: options.Net = None,
    recipe: options.Recipe = None,
    epoch: Annotated[int, typer.Option(min=1, help="The epoch, from 1 on.")] = 1,
    step: Annotated[int, typer.Option(min=1, help="The step in it, from 1 on.")] = 1,
    count: Annotated[int, typer.Option(min=1, help="How many of its images to draw.")] = 16,
    engine: options.Engine = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The PNG file. [batch.png, batch-2.png …]")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file if there is one.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw a training batch exactly as the network sees it: augmented and preprocessed."""
    from hubel.cli.preparing import prepared
    from hubel.cli.values import new_file, print_json
    from hubel.files import replacing
    from hubel.train.preview import preview
    from hubel.views.batch import captions, draw, pixels

    ready = prepared(options.choices(context), options.fixed(context), 1, quiet)
    shown = preview(ready.data, epoch, step, engine=engine or "native", chosen=ready.chosen)
    path = new_file(out, Path("batch.png"), overwrite)
    with replacing(path) as file:
        draw(shown, count).save(file, format="PNG")
    found = pixels(shown, count)
    if json:
        print_json(
            {
                "picture": str(path.resolve()),
                "epoch": epoch,
                "step": step,
                "drawn": len(found.images),
                "images": len(shown.batch.images),
                "black": found.black,
                "white": found.white,
                "captions": captions(shown, count),
            }
        )
        return
    print(
        f"Drawn: {len(found.images)} of the {len(shown.batch.images)} images of epoch {epoch}, "
        f"step {step}. {found.scale}\nSaved as {path.resolve()}"
    )
