"""`hubel check`: a network's arithmetic, layer by layer, before anything runs."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Annotated, cast

import typer

from hubel.cli import options
from hubel.cli.values import input_size, print_json

__all__ = ["check"]


def check(
    net: Annotated[str, typer.Argument(help="The network's text, a .hub file, or a shipped name.")],
    input: options.Input = None,
    classes: options.Classes = None,
    fit: Annotated[
        str, typer.Option(help="Where a window does not divide: strict, floor or ceil.")
    ] = "strict",
    batch_size: Annotated[
        int, typer.Option("--batch-size", "-b", help="For the memory of training.")
    ] = 128,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print the calls of a training step, and its memory.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Check a network: sizes, parameters, cost, and every problem with its smallest fix."""
    from hubel.cli.terminal import has_color
    from hubel.graph.check import check as check_network
    from hubel.notation.spec import Fit
    from hubel.program.make import make
    from hubel.program.show import show
    from hubel.train.settings import Settings
    from hubel.train.step import step_graph
    from hubel.views import summary

    size = None if input is None else input_size(input)
    chosen = cast(Fit, fit)  # check_network refuses other words
    report = check_network(net, size, classes=classes, fit=chosen, batch_size=batch_size)
    if plan and report.ok:
        assert report.built is not None
        print(show(make(step_graph(report.built.graph, Settings()), batch_size)))
    elif json:
        print_json(report.to_dict())
    else:
        # Whatever reads a pipe wants a layer a line, however long.
        wrapped = sys.stdout.isatty() or "COLUMNS" in os.environ
        width = shutil.get_terminal_size((100, 24)).columns if wrapped else sys.maxsize
        print(summary.render(report, width=width, color=has_color(sys.stdout)))
    if not report.ok:
        raise typer.Exit(1)
