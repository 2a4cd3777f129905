"""`hubel search`: ranges in, the best of many trainings out, with the command that repeats it."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args

import typer

from hubel.cli import options
from hubel.trials.searchable import SEARCHABLE, Searchable

__all__ = ["search"]


def _ranged(kind: Any, one: Searchable) -> Any:
    """The option of a choice of training, with a range where it has a number."""
    option = copy(get_args(kind)[1])
    option.metavar = "RANGE"
    if one.usual:
        option.help = f"{option.help[: option.help.rindex('[')]}[{one.usual}]"
    return Annotated[str | None, option]


_TRAINING = {
    name: _ranged(kind, SEARCHABLE[name]) if name in SEARCHABLE else kind
    for name, kind in options.TRAINING.items()
}

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


@options.takes(_TRAINING, options.MODEL)
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
    threads: options.Threads = None,
    name: options.Name = None,
    out: options.Out = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the search in this folder.")
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Search learning rate, regularisation and sizes of the network by many short trainings.

    A RANGE is 1e-4..1e-1, 16..128 log, or 32,64; a single number is the same in every trial.
    """
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
