"""`hubel train`: images in, a run folder with a trained model out."""

from __future__ import annotations

import typer

from hubel.cli import options

__all__ = ["train"]


@options.takes(options.TRAINING, options.MODEL)
def train(
    context: typer.Context,
    data: options.Data = None,
    net: options.Net = None,
    recipe: options.Recipe = None,
    threads: options.Threads = None,
    name: options.Name = None,
    out: options.Out = None,
    resume: options.Resume = None,
    preflight: options.Preflight = True,
    audit: options.Audit = True,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a network on a folder of images, and keep the best model."""
    from hubel.cli.session import follow, resumed, started

    given, fixed = options.choices(context), options.fixed(context)
    if resume is not None:
        run = resumed(resume, given, fixed, threads, quiet, audit)
    else:
        run = started(given, fixed, threads, quiet, audit, preflight)
    status = follow(run, json, quiet)
    if status:
        raise typer.Exit(status)
