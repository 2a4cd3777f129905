"""The options that say what is trained and how, each declared once for all commands that take it.

None is what was not given: the command, the data and the net then have their own usual values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias

import typer

__all__ = [
    "L1",
    "MODEL",
    "TRAINING",
    "Audit",
    "Average",
    "BatchSize",
    "BiasLrFactor",
    "Border",
    "Channels",
    "ClassWeights",
    "Classes",
    "ClipNorm",
    "Colour",
    "Crop",
    "Cutmix",
    "Cutout",
    "Data",
    "DataDir",
    "Engine",
    "Epochs",
    "Flip",
    "Freeze",
    "Initialisation",
    "Input",
    "Json",
    "LabelSmoothing",
    "Loss",
    "Lr",
    "Mixup",
    "Momentum",
    "Name",
    "Nesterov",
    "Net",
    "Optimizer",
    "Out",
    "Patience",
    "Precision",
    "Preflight",
    "Preprocess",
    "Quiet",
    "Recipe",
    "Resize",
    "Resume",
    "Rotate",
    "Scale",
    "Schedule",
    "Seed",
    "Size",
    "Threads",
    "Time",
    "Tta",
    "ValFraction",
    "WarmupEpochs",
    "WeightDecay",
    "Whiten",
    "choices",
    "fixed",
    "takes",
]


def _option(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help)


Data: TypeAlias = Annotated[
    str | None,
    typer.Argument(help="A folder of class folders, or digits, mnist, fashion-mnist, cifar10."),
]
Net: TypeAlias = Annotated[
    str | None,
    _option("The network: text, a .hub file, or a shipped name; else one that suits."),
]

Recipe: TypeAlias = Annotated[
    str | None,
    _option("fast or best: the net and all choices that are not given, from what was measured."),
]
Input: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="HxWxC", help="Size of the images; shipped nets have their own."),
]
Classes: TypeAlias = Annotated[int | None, _option("What fc without a number has as outputs.")]

# How it is trained: each bears the name of a field of the settings.
Epochs: TypeAlias = Annotated[int | None, _option("Passes over the images. [10]", "--epochs", "-e")]
BatchSize: TypeAlias = Annotated[
    int | None, _option("Images in a step. [64]", "--batch-size", "-b", "--batch")
]
Lr: TypeAlias = Annotated[
    float | None,
    _option(
        "Highest learning rate. [0.003; with --net or --opt sgd 0.01, muon 0.02, others 0.001]",
        "--lr",
    ),
]
Optimizer: TypeAlias = Annotated[
    str | None, _option("sgd, rmsprop, adam, adamw or muon. [adam]", "--optimizer", "--opt")
]
Momentum: TypeAlias = Annotated[float | None, _option("For sgd, rmsprop and muon. [0.9]")]
Nesterov: TypeAlias = Annotated[bool | None, _option("Nesterov's momentum, for sgd.")]
WeightDecay: TypeAlias = Annotated[
    float | None, _option("L2 regularisation. [0]", "--weight-decay", "--wd")
]
L1: TypeAlias = Annotated[float | None, _option("L1 regularisation. [0]")]
Loss: TypeAlias = Annotated[str | None, _option("cross-entropy or hinge. [cross-entropy]")]
LabelSmoothing: TypeAlias = Annotated[
    float | None, _option("Share of a label spread over all classes. [0]")
]
Schedule: TypeAlias = Annotated[
    str | None,
    _option(
        "constant, step, cosine, one-cycle, linear or triangle. [cosine]", "--schedule", "--sched"
    ),
]
WarmupEpochs: TypeAlias = Annotated[
    float | None, _option("Epochs in which the learning rate rises. [0]")
]
Preprocess: TypeAlias = Annotated[
    str | None, _option("none, centre, mean-image, normalise, pca or whiten. [normalise]")
]
Flip: TypeAlias = Annotated[
    bool | None, _option("Mirror training images: half of them, and the others an epoch later.")
]
Crop: TypeAlias = Annotated[
    int | None, _option("Move training images at random by up to so many pixels. [0]")
]
Border: TypeAlias = Annotated[
    str | None, _option("Beyond the edge of moved and turned images: zero or reflect. [zero]")
]
Rotate: TypeAlias = Annotated[
    float | None, _option("Turn training images at random by up to so many degrees. [0]")
]
Scale: TypeAlias = Annotated[
    float | None, _option("Make them larger or smaller by up to this share, such as 0.2. [0]")
]
Colour: TypeAlias = Annotated[
    float | None, _option("Vary brightness, contrast and saturation by up to this share. [0]")
]
Cutout: TypeAlias = Annotated[
    int | None, _option("Blank a square of so many pixels a side at random. [0]")
]
Mixup: TypeAlias = Annotated[
    float | None, _option("Blend images and their labels by Beta(alpha, alpha); give alpha. [0]")
]
Cutmix: TypeAlias = Annotated[
    float | None, _option("Paste a box of another image, with its share of the label; alpha. [0]")
]
ClassWeights: TypeAlias = Annotated[
    str | None, _option("balanced: classes of few images weigh more in the loss. [none]")
]
ValFraction: TypeAlias = Annotated[
    float | None, _option("Share of training images set aside where there is no val/. [0.1]")
]
Seed: TypeAlias = Annotated[int | None, _option("Same seed, same bits. [0]")]
Patience: TypeAlias = Annotated[
    int | None, _option("Stop after so many epochs without a new best. [never]")
]
Time: TypeAlias = Annotated[str | None, _option("Stop after 30s, 10m or 2h. [never]", "--time")]

Average: TypeAlias = Annotated[
    float | None,
    _option(
        "Use the mean of the weights after every step, each step back times this: 0.999. [off]"
    ),
]
ClipNorm: TypeAlias = Annotated[
    float | None, _option("Largest norm of all gradients together. [any]")
]
BiasLrFactor: TypeAlias = Annotated[
    float | None, _option("What the rate of biases and scales is multiplied by. [1]")
]
Freeze: TypeAlias = Annotated[
    str | None, _option("Layers or parameters to keep as they are: conv1,bn1.weight. [none]")
]

Whiten: TypeAlias = Annotated[
    bool | None, _option("Make the first convolution's filters from the images, and freeze them.")
]

Tta: TypeAlias = Annotated[
    str | None,
    _option("Views that the trained model averages: none, flip or crops. [none]", "--tta"),
]

# What is trained, on what, and where it goes.
Initialisation: TypeAlias = Annotated[
    str | None,
    _option("he, xavier, small-random, zero or dirac. [he]", "--initialisation", "--init"),
]
Size: TypeAlias = Annotated[
    str | None, _option("Size of the images: 64 or HxW. [the net's, or theirs]", "--size")
]
Channels: TypeAlias = Annotated[int | None, _option("1 for grey, 3 for colour. [as they are]")]
Resize: TypeAlias = Annotated[str | None, _option("squash, pad or crop. [squash]")]
DataDir: TypeAlias = Annotated[
    Path | None, _option("Where a named dataset lies already, instead of a download.")
]
Engine: TypeAlias = Annotated[str | None, _option("native or reference. [native]")]
Precision: TypeAlias = Annotated[
    str | None, _option("How maps are stored: float32, bfloat16 or auto. [float32]")
]
Threads: TypeAlias = Annotated[int | None, _option("Threads; results do not depend on it. [all]")]
Name: TypeAlias = Annotated[str | None, _option("Name of the run folder. [data-net]")]
Out: TypeAlias = Annotated[Path | None, _option("Where run folders go. [runs]", "--out", "-o")]
Resume: TypeAlias = Annotated[
    Path | None, _option("Go on with the run in this folder; --epochs may be more.")
]
Preflight: TypeAlias = Annotated[
    bool, _option("Look for faults in the seconds before the first epoch.")
]
Audit: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--audit/--no-audit",
        help="Look for copies among the images, and compare with a linear classifier.",
    ),
]
Json: TypeAlias = Annotated[bool, _option("Print the result as JSON.", "--json")]
Quiet: TypeAlias = Annotated[bool, _option("Say nothing but the result.", "--quiet", "-q")]

TRAINING: Mapping[str, Any] = MappingProxyType(
    {
        "epochs": Epochs,
        "batch_size": BatchSize,
        "lr": Lr,
        "optimizer": Optimizer,
        "momentum": Momentum,
        "nesterov": Nesterov,
        "weight_decay": WeightDecay,
        "l1": L1,
        "loss": Loss,
        "label_smoothing": LabelSmoothing,
        "class_weights": ClassWeights,
        "schedule": Schedule,
        "warmup_epochs": WarmupEpochs,
        "average": Average,
        "clip_norm": ClipNorm,
        "bias_lr_factor": BiasLrFactor,
        "freeze": Freeze,
        "whiten": Whiten,
        "preprocess": Preprocess,
        "flip": Flip,
        "crop": Crop,
        "border": Border,
        "rotate": Rotate,
        "scale": Scale,
        "colour": Colour,
        "cutout": Cutout,
        "mixup": Mixup,
        "cutmix": Cutmix,
        "tta": Tta,
        "val_fraction": ValFraction,
        "seed": Seed,
        "patience": Patience,
        "time": Time,
    }
)
"""How it is trained: the fields of the settings."""

MODEL: Mapping[str, Any] = MappingProxyType(
    {
        "size": Size,
        "channels": Channels,
        "resize": Resize,
        "data_dir": DataDir,
        "initialisation": Initialisation,
        "engine": Engine,
        "precision": Precision,
        "threads": Threads,
    }
)
"""What is trained, on which images."""

# What a run that goes on has already; its threads may be others.
_FIXED = ("data", "net", "recipe", "name", "out", *(name for name in MODEL if name != "threads"))


def takes(*tables: Mapping[str, Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the options of tables, behind its `net`; it reads them from its context.

    An option that the command declares itself stays as it is there.
    """

    def add(command: Callable[..., None]) -> Callable[..., None]:
        own = signature(command, eval_str=True)
        parameters = list(own.parameters.values())
        place = 1 + list(own.parameters).index("net")
        parameters[place:place] = [
            Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=kind)
            for table in tables
            for name, kind in table.items()
            if name not in own.parameters
        ]

        @wraps(command)
        def called(**given: Any) -> None:
            command(**{name: given[name] for name in own.parameters})

        # Where `inspect.signature` looks first; typing knows of it on no function.
        called.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {each.name: each.annotation for each in parameters}
        return called

    return add


def choices(context: typer.Context) -> dict[str, Any]:
    """The choices of training that were given: fields of the settings, `time` in seconds."""
    from hubel.cli.values import duration

    given = _given(context.params, TRAINING)
    return {**given, "time": duration(given["time"])} if "time" in given else given


def fixed(context: typer.Context) -> dict[str, Any]:
    """What was given of data, net, engine and place, which a resumed run has already."""
    return _given(context.params, _FIXED)


def _given(parameters: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: parameters[name] for name in names if parameters.get(name) is not None}
