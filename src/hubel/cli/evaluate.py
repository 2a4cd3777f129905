"""`hubel evaluate`: how good a model is on images whose classes are known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hubel.cli import options

__all__ = ["evaluate"]


def evaluate(
    model: Annotated[Path, typer.Argument(help="A .hubel file, or a run folder for its best.")],
    data: Annotated[str, typer.Argument(help="A folder of class folders, or a dataset's name.")],
    split: Annotated[
        str | None,
        typer.Option(help="test, val or all. [test where there is one, else val]"),
    ] = None,
    data_dir: options.DataDir = None,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", min=1)] = 256,
    tta: Annotated[
        str | None,
        typer.Option(help="Average views: none, flip or crops. [as it was trained to]"),
    ] = None,
    engine: Annotated[str, typer.Option(help="native or reference.")] = "native",
    precision: Annotated[
        str, typer.Option(help="How maps are stored: float32, bfloat16 or auto.")
    ] = "float32",
    threads: options.Threads = None,
    audit: options.Audit = True,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate a model: accuracy with its 95 % interval, loss, and accuracy by class."""
    from hubel.cli.honest import compared, comparison_lines, leaks_in
    from hubel.cli.report import data_lines, engine_line
    from hubel.cli.scoring import chosen_split, load_for, training_images
    from hubel.cli.terminal import say
    from hubel.cli.values import model_file, print_json
    from hubel.model import load
    from hubel.views.progress import evaluation_line, percent

    trained = load(model_file(model), engine=engine, precision=precision, threads=threads)
    dataset = load_for(trained, data, data_dir)
    if not quiet:
        say(engine_line(trained, engine, precision), *data_lines(dataset))
    name, scored = chosen_split(trained, dataset, split)
    measured = trained.measure(scored.images, scored.labels, batch_size, tta=tta)
    made, why = None, ""
    if audit and name != "all":
        training, why = training_images(trained, model, dataset)
        if training is not None:
            leaked = {name: leaks_in(training, scored, name)}
            seed = trained.seed
            both = {name: (scored, measured)}
            made = compared(trained, training.train, both, leaked, seed, tta)[name]
    by_class = dict(zip(trained.classes, measured.per_class, strict=True))
    if json:
        beside = made.as_dict() if made else {}
        views = {"tta": tta or trained.tta}
        print_json({"split": name, **views, **measured.as_dict(), **beside, "per_class": by_class})
        return
    print(f"{evaluation_line(measured, name)}, loss {measured.loss:.4f}")
    if made is not None:
        print(*comparison_lines(made, name), sep="\n")
    elif why:
        print(f"      not compared with the training images: {why}")
    width = max(map(len, by_class))
    for label, share in by_class.items():
        print(f"  {label:<{width}}  {'no image' if share is None else percent(share)}")
