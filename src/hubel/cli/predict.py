"""`hubel predict`: what a model takes images for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hubel.cli import options

__all__ = ["predict"]

_BATCH = 64


def predict(
    model: Annotated[Path, typer.Argument(help="A .hubel file, or a run folder for its best.")],
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to name.")] = 5,
    tta: Annotated[
        str | None,
        typer.Option(help="Average views: none, flip or crops. [as it was trained to]"),
    ] = None,
    engine: Annotated[str, typer.Option(help="native or reference.")] = "native",
    precision: Annotated[
        str, typer.Option(help="How maps are stored: float32, bfloat16 or auto.")
    ] = "float32",
    threads: options.Threads = None,
    json: options.Json = False,
) -> None:
    """Name the most probable classes of images; the exit status is 2 if any cannot be read."""
    from hubel.cli.pictures import Read, listed, readable
    from hubel.cli.terminal import say
    from hubel.cli.values import model_file, print_json
    from hubel.model import load

    trained = load(model_file(model), engine=engine, precision=precision, threads=threads)
    paths = listed(images)
    results: list[dict[str, Any]] = []
    number = 0
    for path, found in readable(trained, paths, _BATCH, tta):
        if not isinstance(found, Read):
            say(f"hubel: {found}")
            results.append({"image": str(path), "error": found.what})
            continue
        number += 1
        order = (-found.probabilities).argsort(kind="stable")[:top]
        likely = {trained.classes[place]: float(found.probabilities[place]) for place in order}
        height, width = found.size
        results.append({"image": str(path), "height": height, "width": width, "classes": likely})
        if not json:
            named = ", ".join(f"{label} {share:.2f}" for label, share in likely.items())
            print(f"image {number}/{len(paths)} {path}: {height}x{width} {named}")
    if json:
        print_json(results)
    if number < len(paths):
        raise typer.Exit(2)
