"""`hubel evaluate`: how good a model is on images whose classes are known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["evaluate"]


def evaluate(
    model: Annotated[Path, typer.Argument(help="A .hubel file, or a run folder for its best.")],
    data: Annotated[str, typer.Argument(help="A folder of class folders, or a dataset's name.")],
    split: Annotated[
        str | None,
        typer.Option(help="test, val or all. [test where there is one, else val]"),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where a named dataset lies already.")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", min=1)] = 256,
    tta: Annotated[
        str | None,
        typer.Option(help="Average views: none, flip or crops. [as it was trained to]"),
    ] = None,
    engine: Annotated[str, typer.Option(help="native or reference.")] = "native",
    precision: Annotated[
        str, typer.Option(help="How maps are stored: float32, bfloat16 or auto.")
    ] = "float32",
    threads: Annotated[int | None, typer.Option(help="Threads. [all]")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but the result.")
    ] = False,
) -> None:
    """Evaluate a model: accuracy with its 95 % interval, loss, and accuracy by class."""
    from hubel.cli.report import data_lines, engine_line
    from hubel.cli.scoring import chosen_split, load_for
    from hubel.cli.terminal import say
    from hubel.cli.values import model_file, print_json
    from hubel.model import load
    from hubel.views.progress import evaluation_line, percent

    trained = load(model_file(model), engine=engine, precision=precision, threads=threads)
    dataset = load_for(trained, data, data_dir)
    if not quiet:
        say(engine_line(trained, engine, precision), *data_lines(dataset))
    name, images, classes = chosen_split(trained, dataset, split)
    measured = trained.measure(images, classes, batch_size, tta=tta)
    by_class = dict(zip(trained.classes, measured.per_class, strict=True))
    if json:
        print_json(
            {"split": name, "tta": tta or trained.tta, **measured.as_dict(), "per_class": by_class}
        )
        return
    print(f"{evaluation_line(measured, name)}, loss {measured.loss:.4f}")
    width = max(map(len, by_class))
    for label, share in by_class.items():
        print(f"  {label:<{width}}  {'no image' if share is None else percent(share)}")
