"""`hubel search`: ranges in, the best of many trainings out, with the command that repeats it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from hubel.cli import options

__all__ = ["search"]


def _range(help: str, *names: str) -> Any:
    return typer.Option(*names, metavar="RANGE", help=help)


Lr: TypeAlias = Annotated[
    str | None,
    _range(
        "Learning rate: 1e-4..1e-1, or one. [a tenth to 100 times the optimizer's usual]", "--lr"
    ),
]
WeightDecay: TypeAlias = Annotated[
    str | None, _range("L2 regularisation. [1e-6..1e-2]", "--weight-decay", "--wd")
]
BatchSize: TypeAlias = Annotated[
    str | None, _range("Images in a step: 32..256, or 32,64. [64]", "--batch-size", "-b", "--batch")
]
Momentum: TypeAlias = Annotated[str | None, _range("For sgd and rmsprop. [0.9]")]
L1: TypeAlias = Annotated[str | None, _range("L1 regularisation. [0]")]
LabelSmoothing: TypeAlias = Annotated[
    str | None, _range("Share of a label spread over all classes. [0]")
]
WarmupEpochs: TypeAlias = Annotated[
    str | None, _range("Epochs in which the learning rate rises. [0]")
]
Crop: TypeAlias = Annotated[
    str | None, _range("Move training images at random by up to so many pixels. [0]")
]
Trials: TypeAlias = Annotated[int | None, typer.Option(help="Trainings in all. [20]")]
Stages: TypeAlias = Annotated[
    int | None, typer.Option(help="From coarse to fine, each three times as long. [2]")
]
Method: TypeAlias = Annotated[str | None, typer.Option(help="random, grid or tpe. [tpe]")]
StopEarly: TypeAlias = Annotated[
    bool | None, typer.Option(help="Stop trials that do worse than half of the others. [yes]")
]
Epochs: TypeAlias = Annotated[
    int | None,
    typer.Option("--epochs", "-e", help="Passes over the images in the last stage. [10]"),
]
Time: TypeAlias = Annotated[
    str | None, typer.Option("--time", help="Stop the whole search after 30s, 10m or 2h. [never]")
]


@options.takes(options.TRAINING, options.MODEL)
def search(
    context: typer.Context,
    data: options.Data = None,
    net: Annotated[
        str | None, typer.Option(help="The network, with ranges: conv3-{16..64} drop{0.1..0.5}.")
    ] = None,
    trials: Trials = None,
    time: Time = None,
    method: Method = None,
    stages: Stages = None,
    stop_early: StopEarly = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: Lr = None,
    momentum: Momentum = None,
    weight_decay: WeightDecay = None,
    l1: L1 = None,
    label_smoothing: LabelSmoothing = None,
    warmup_epochs: WarmupEpochs = None,
    crop: Crop = None,
    threads: options.Threads = None,
    name: options.Name = None,
    out: options.Out = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the search in this folder.")
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Search learning rate, regularisation and sizes of the network by many short trainings."""
    from hubel.cli.searching import follow, resumed, started

    given, fixed = options.choices(context), options.fixed(context)
    limit = given.pop("time", None)
    plan = {
        key: value
        for key, value in (
            ("trials", trials),
            ("method", method),
            ("stages", stages),
            ("stop_early", stop_early),
        )
        if value is not None
    }
    if resume is not None:
        run = resumed(resume, {**fixed, **given, **plan}, limit, threads, quiet)
    else:
        run = started(given, plan, fixed, limit, threads, quiet)
    status = follow(run, json, quiet)
    if status:
        raise typer.Exit(status)
