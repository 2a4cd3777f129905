"""`hubel train`: images in, a run folder with a trained model out."""

from __future__ import annotations

import typer

from hubel.cli import options

__all__ = ["train"]


def train(
    context: typer.Context,
    data: options.Data = None,
    net: options.Net = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    lr: options.Lr = None,
    optimizer: options.Optimizer = None,
    momentum: options.Momentum = None,
    nesterov: options.Nesterov = None,
    weight_decay: options.WeightDecay = None,
    l1: options.L1 = None,
    loss: options.Loss = None,
    label_smoothing: options.LabelSmoothing = None,
    schedule: options.Schedule = None,
    warmup_epochs: options.WarmupEpochs = None,
    average: options.Average = None,
    clip_norm: options.ClipNorm = None,
    bias_lr_factor: options.BiasLrFactor = None,
    freeze: options.Freeze = None,
    whiten: options.Whiten = None,
    tta: options.Tta = None,
    initialisation: options.Initialisation = None,
    preprocess: options.Preprocess = None,
    flip: options.Flip = None,
    crop: options.Crop = None,
    border: options.Border = None,
    rotate: options.Rotate = None,
    scale: options.Scale = None,
    colour: options.Colour = None,
    cutout: options.Cutout = None,
    mixup: options.Mixup = None,
    cutmix: options.Cutmix = None,
    class_weights: options.ClassWeights = None,
    val_fraction: options.ValFraction = None,
    size: options.Size = None,
    channels: options.Channels = None,
    resize: options.Resize = None,
    data_dir: options.DataDir = None,
    seed: options.Seed = None,
    patience: options.Patience = None,
    time: options.Time = None,
    engine: options.Engine = None,
    precision: options.Precision = None,
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
