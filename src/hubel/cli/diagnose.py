"""`hubel diagnose`: what is wrong with a run, before its first epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hubel.cli import options

__all__ = ["diagnose"]


@options.takes(options.TRAINING, options.MODEL)
def diagnose(
    context: typer.Context,
    data: options.Data = None,
    net: options.Net = None,
    recipe: options.Recipe = None,
    threads: options.Threads = None,
    gradient_check: Annotated[
        bool,
        typer.Option(
            "--gradient-check", help="Hold every gradient against differences in double precision."
        ),
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the learning rates tried into this SVG file.")
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Look for faults in a run before it begins; the exit status is 1 where a check fails."""
    from dataclasses import asdict

    from hubel.cli.preparing import prepared
    from hubel.cli.values import print_json
    from hubel.train.preflight import Rates
    from hubel.train.run import write_text
    from hubel.views.preflight import check_lines
    from hubel.views.rates import rates_chart, rates_svg

    made = prepared(options.choices(context), options.fixed(context), threads, quiet or json)
    if not (quiet or json):
        made.announce()
    checks = []
    chosen = asdict(made.chosen)
    for found in made.model.diagnose(made.data, gradient_check=gradient_check, **chosen):
        if not isinstance(found, Rates):
            checks.append(found)
        lines = (
            rates_chart(found, made.chosen.rate) if isinstance(found, Rates) else check_lines(found)
        )
        if picture is not None and isinstance(found, Rates):
            write_text(picture, rates_svg(found, made.chosen.rate))
        if not json:
            print(*lines, sep="\n", flush=True)
    if json:
        print_json([check.as_dict() for check in checks])
    if not all(check.ok for check in checks):
        raise typer.Exit(1)
