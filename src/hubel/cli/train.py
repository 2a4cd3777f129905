"""`hubel train`: images in, a run folder with a trained model out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["train"]


def _option(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help)


def train(
    data: Annotated[
        str | None,
        typer.Argument(help="A folder of class folders, or digits, mnist, fashion-mnist, cifar10."),
    ] = None,
    net: Annotated[
        str | None,
        _option("The network: text, a .hub file, or a shipped name; else one that suits."),
    ] = None,
    epochs: Annotated[int | None, _option("Passes over the images. [10]", "--epochs", "-e")] = None,
    batch_size: Annotated[
        int | None, _option("Images in a step. [64]", "--batch-size", "-b", "--batch")
    ] = None,
    lr: Annotated[
        float | None,
        _option(
            "Highest learning rate. [0.003; with --net or --opt sgd 0.01, others 0.001]", "--lr"
        ),
    ] = None,
    optimizer: Annotated[
        str | None, _option("sgd, rmsprop, adam or adamw. [adam]", "--optimizer", "--opt")
    ] = None,
    momentum: Annotated[float | None, _option("For sgd and rmsprop. [0.9]")] = None,
    nesterov: Annotated[bool | None, _option("Nesterov's momentum, for sgd.")] = None,
    weight_decay: Annotated[
        float | None, _option("L2 regularisation. [0]", "--weight-decay", "--wd")
    ] = None,
    l1: Annotated[float | None, _option("L1 regularisation. [0]")] = None,
    loss: Annotated[str | None, _option("cross-entropy or hinge. [cross-entropy]")] = None,
    label_smoothing: Annotated[
        float | None, _option("Share of a label spread over all classes. [0]")
    ] = None,
    schedule: Annotated[
        str | None,
        _option("constant, step, cosine or one-cycle. [cosine]", "--schedule", "--sched"),
    ] = None,
    warmup_epochs: Annotated[
        float | None, _option("Epochs in which the learning rate rises. [0]")
    ] = None,
    initialisation: Annotated[
        str | None, _option("he, xavier, small-random or zero. [he]", "--initialisation", "--init")
    ] = None,
    preprocess: Annotated[
        str | None, _option("none, centre, mean-image or normalise. [normalise]")
    ] = None,
    flip: Annotated[bool | None, _option("Mirror training images at random.")] = None,
    crop: Annotated[
        int | None, _option("Move training images at random by up to so many pixels. [0]")
    ] = None,
    val_fraction: Annotated[
        float | None, _option("Share of training images set aside where there is no val/. [0.1]")
    ] = None,
    size: Annotated[
        str | None, _option("Size of the images: 64 or HxW. [the net's, or theirs]", "--size")
    ] = None,
    channels: Annotated[int | None, _option("1 for grey, 3 for colour. [as they are]")] = None,
    resize: Annotated[str | None, _option("squash, pad or crop. [squash]")] = None,
    data_dir: Annotated[
        Path | None, _option("Where a named dataset lies already, instead of a download.")
    ] = None,
    seed: Annotated[int | None, _option("Same seed, same bits. [0]")] = None,
    patience: Annotated[
        int | None, _option("Stop after so many epochs without a new best. [never]")
    ] = None,
    time: Annotated[str | None, _option("Stop after 30s, 10m or 2h. [never]", "--time")] = None,
    engine: Annotated[str | None, _option("native or reference. [native]")] = None,
    precision: Annotated[
        str | None, _option("How maps are stored: float32, bfloat16 or auto. [float32]")
    ] = None,
    threads: Annotated[int | None, _option("Threads; results do not depend on it. [all]")] = None,
    name: Annotated[str | None, _option("Name of the run folder. [data-net]")] = None,
    out: Annotated[Path | None, _option("Where run folders go. [runs]", "--out", "-o")] = None,
    resume: Annotated[
        Path | None, _option("Go on with the run in this folder; --epochs may be more.")
    ] = None,
    json: Annotated[bool, _option("Print the result as JSON.", "--json")] = False,
    quiet: Annotated[bool, _option("Say nothing but the result.", "--quiet", "-q")] = False,
) -> None:
    """Train a network on a folder of images, and keep the best model."""
    from hubel.cli.session import follow, resumed, started
    from hubel.cli.values import duration

    choices: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "optimizer": optimizer,
        "momentum": momentum,
        "nesterov": nesterov,
        "weight_decay": weight_decay,
        "l1": l1,
        "loss": loss,
        "label_smoothing": label_smoothing,
        "schedule": schedule,
        "warmup_epochs": warmup_epochs,
        "preprocess": preprocess,
        "flip": flip,
        "crop": crop,
        "val_fraction": val_fraction,
        "seed": seed,
        "patience": patience,
        "time": None if time is None else duration(time),
    }
    fixed: dict[str, Any] = {
        "data": data,
        "net": net,
        "size": size,
        "channels": channels,
        "resize": resize,
        "data_dir": data_dir,
        "initialisation": initialisation,
        "engine": engine,
        "precision": precision,
        "name": name,
        "out": out,
    }
    given = {key: value for key, value in choices.items() if value is not None}
    fixed = {key: value for key, value in fixed.items() if value is not None}
    if resume is not None:
        run = resumed(resume, given, fixed, threads, quiet)
    else:
        run = started(given, fixed, threads, quiet)
    status = follow(run, json, quiet)
    if status:
        raise typer.Exit(status)
