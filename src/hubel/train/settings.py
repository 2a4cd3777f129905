"""How a network is trained: every choice in one frozen record that a checkpoint keeps."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from hubel.data.augment import Augmentation, Border
from hubel.data.preprocess import Method
from hubel.errors import FormatError, UsageError
from hubel.train.initialise import SEEDS
from hubel.train.losses import LOSSES
from hubel.train.optimizers import OPTIMIZERS
from hubel.train.schedules import SCHEDULES
from hubel.train.tta import TTA

__all__ = ["EXTENDABLE", "Settings", "Weights", "flag", "from_dict", "names", "resumed", "settings"]

Weights: TypeAlias = Literal["balanced"]
"""How much each class weighs in the loss."""

EXTENDABLE = frozenset({"epochs", "patience", "time"})
"""The choices that may differ when a run is resumed: how long it goes on."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The choices of one training run; `settings` makes one and checks it.

    `lr` None is the optimizer's usual learning rate, which `settings` writes in. `weight_decay` is
    the factor of ½·Σw² in the loss (for AdamW that of the weights' own shrinking) and `l1` that of
    Σ|w|, over weights of dot products alone. `warmup_epochs` may be a fraction. `flip`,
    `crop`, `border`, `rotate`, `scale`, `colour`, `cutout`, `mixup` and `cutmix` vary the training
    images as `hubel.data.augment.Augmentation` tells. `class_weights` "balanced" makes all classes
    weigh the same in the loss, however many images they have.
    `val_fraction` of the images was set aside for validation. `patience` is how many epochs in a
    row may bring no new best before the run stops, `time` how many seconds it may take; None: no
    limit.
    `average` is how much less each step back counts in the mean of the weights after every step,
    which validation, `best.hubel` and the model itself then have, while training goes on with the
    last ones; `clip_norm` the largest norm of all gradients together; None: neither.
    `bias_lr_factor` multiplies the rate of biases and scales. The layers and parameters named in
    `freeze` stay as they are, batch normalisation with running statistics. With `whiten` the
    filters of the first convolution are made from the training images, see `hubel.train.whiten`,
    and stay so. `tta` names the views of an image that the trained model averages, see
    `hubel.train.tta`; validation during the run takes images as they are.
    """

    epochs: int = 10
    batch_size: int = 64
    optimizer: str = "adam"
    lr: float | None = None
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    l1: float = 0.0
    loss: str = "cross-entropy"
    label_smoothing: float = 0.0
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    preprocess: Method | None = "normalise"
    flip: bool = False
    crop: int = 0
    border: Border = "zero"
    rotate: float = 0.0
    scale: float = 0.0
    colour: float = 0.0
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    class_weights: Weights | None = None
    shuffle: bool = True
    patience: int | None = None
    time: float | None = None
    val_fraction: float = 0.0
    seed: int = 0
    average: float | None = None
    clip_norm: float | None = None
    bias_lr_factor: float = 1.0
    freeze: tuple[str, ...] = ()
    whiten: bool = False
    tta: str = "none"

    @property
    def rate(self) -> float:
        """The learning rate at its highest."""
        return OPTIMIZERS[self.optimizer].rate if self.lr is None else self.lr

    @property
    def augmentation(self) -> Augmentation:
        """What is done to training images."""
        names = (field.name for field in dataclasses.fields(Augmentation))
        return Augmentation(**{name: getattr(self, name) for name in names})

    @property
    def has_targets(self) -> bool:
        """Whether the loss aims at a share of each class, which class numbers alone do not say."""
        return bool(self.mixup or self.cutmix or self.class_weights)


def settings(**choices: Any) -> Settings:
    """Settings from the choices given, checked; raises UsageError that names all that are wrong.

    >>> settings(optimizer="sgd", lr=0.1).rate
    0.1
    """
    known = [field.name for field in dataclasses.fields(Settings)]
    strangers = [name for name in choices if name not in known]
    if strangers:
        near = [difflib.get_close_matches(name, known, n=1) for name in strangers]
        meant = ", ".join(dict.fromkeys(name for names in near for name in names))
        raise UsageError(
            f"training has no choice named {', '.join(strangers)}",
            hint=f"did you mean {meant}?" if meant else f"there are {', '.join(known)}",
        )
    chosen = Settings(**{**choices, "freeze": names(choices.get("freeze", ()))})
    problems = list(_problems(chosen))
    if problems:
        raise UsageError("; ".join(problems), where="training settings")
    return dataclasses.replace(chosen, lr=chosen.rate)


def resumed(before: Settings, choices: Mapping[str, Any]) -> Settings:
    """The settings of a run that goes on; raises UsageError for choices that it cannot change.

    >>> resumed(settings(epochs=2, flip=True), {"epochs": 5}).flip
    True
    """
    kept = dataclasses.asdict(before)
    if "freeze" in choices:
        choices = {**choices, "freeze": names(choices["freeze"])}
    changed = [
        name
        for name, given in choices.items()
        if name not in EXTENDABLE and (name not in kept or given != kept[name])
    ]
    if changed:
        began = ", ".join(f"{name} {kept.get(name)}" for name in changed)
        asked = ", ".join(f"{name} {choices[name]}" for name in changed)
        raise UsageError(
            f"a resumed run keeps its choices: it began with {began}, not {asked}",
            hint=f"only {', '.join(sorted(EXTENDABLE))} may change; else start a new run",
        )
    # A limit of time is that of one sitting; epochs and patience are those of the whole run.
    return settings(**{**kept, "time": None, **choices})


def from_dict(fields: Mapping[str, Any]) -> Settings:
    """Settings as a checkpoint keeps them; raises FormatError where they cannot be."""
    try:
        return settings(**fields)
    except (TypeError, UsageError) as error:
        raise FormatError(f"its training settings do not hold: {error}") from None


def names(given: Any) -> Any:
    """Names as JSON has them, a list, or as the command line does, with commas between them."""
    if isinstance(given, str):
        return tuple(name.strip() for name in given.split(",") if name.strip())
    return tuple(given) if isinstance(given, list) else given


def _problems(chosen: Settings) -> Iterator[str]:
    for name, table in (
        ("optimizer", OPTIMIZERS),
        ("schedule", SCHEDULES),
        ("loss", LOSSES),
        ("preprocess", (None, *get_args(Method))),
        ("tta", TTA),
        ("border", get_args(Border)),
        ("class_weights", (None, *get_args(Weights))),
    ):
        given = getattr(chosen, name)
        if given not in table:
            yield f"{_called(name)} is {given!r}, not one of {', '.join(map(str, table))}"
    for name, least in (
        ("epochs", 1),
        ("batch_size", 1),
        ("crop", 0),
        ("cutout", 0),
        ("seed", 0),
    ):
        yield from _whole(name, getattr(chosen, name), least)
    if isinstance(chosen.seed, int) and chosen.seed >= SEEDS:
        yield f"{_called('seed')} is {chosen.seed}, not below 2**64"
    if chosen.patience is not None:
        yield from _whole("patience", chosen.patience, 1)
    for name in ("weight_decay", "l1", "warmup_epochs", "bias_lr_factor", "mixup", "cutmix"):
        yield from _within(name, getattr(chosen, name), 0.0, math.inf)
    yield from _within("rotate", chosen.rotate, 0.0, 360.0)
    for name in ("momentum", "label_smoothing", "val_fraction", "scale", "colour"):
        yield from _within(name, getattr(chosen, name), 0.0, 1.0)
    for name in ("lr", "time"):
        given = getattr(chosen, name)
        if given is not None:
            yield from _within(name, given, 0.0, math.inf)
    if chosen.average is not None:
        yield from _within("average", chosen.average, 0.0, 1.0)
    if chosen.clip_norm is not None:
        yield from _within("clip_norm", chosen.clip_norm, 0.0, math.inf)
        if chosen.clip_norm == 0:
            yield f"{_called('clip_norm')} is 0, which leaves nothing of any gradient"
    if not isinstance(chosen.freeze, tuple) or any(not isinstance(n, str) for n in chosen.freeze):
        yield f"{_called('freeze')} is {chosen.freeze!r}, not names of layers"
    for name in ("nesterov", "flip", "shuffle", "whiten"):
        if not isinstance(getattr(chosen, name), bool):
            yield f"{_called(name)} is {getattr(chosen, name)!r}, not True or False"
    if chosen.nesterov and not (chosen.optimizer == "sgd" and chosen.momentum):
        yield f"{_called('nesterov')} needs the optimizer sgd with a momentum above 0"
    if chosen.whiten and chosen.preprocess in ("pca", "whiten"):
        yield (
            f"{_called('whiten')} makes filters of the images' patches, which preprocess "
            f"{chosen.preprocess} mixes up: choose one of both"
        )
    if chosen.label_smoothing and chosen.loss != "cross-entropy":
        yield f"{_called('label_smoothing')} needs the loss cross-entropy, not {chosen.loss}"
    if chosen.loss in LOSSES and LOSSES[chosen.loss].target_op is None:
        for name in ("mixup", "cutmix", "class_weights"):
            if getattr(chosen, name):
                yield f"{_called(name)} needs the loss cross-entropy, not {chosen.loss}"


def flag(name: str) -> str:
    """The option of the command line that sets a choice.

    >>> flag("weight_decay")
    '--weight-decay'
    """
    return f"--{name.replace('_', '-')}"


def _called(name: str) -> str:
    """A choice as Python and as the command line call it."""
    return name if name == "shuffle" else f"{name} ({flag(name)})"


def _whole(name: str, given: object, least: int) -> Iterator[str]:
    if not isinstance(given, int) or isinstance(given, bool) or given < least:
        yield f"{_called(name)} is {given!r}, not a whole number of at least {least}"


def _within(name: str, given: object, least: float, bound: float) -> Iterator[str]:
    if not isinstance(given, int | float) or isinstance(given, bool) or not least <= given < bound:
        limit = "" if bound == math.inf else f" and below {bound:g}"
        yield f"{_called(name)} is {given!r}, not a number of at least {least:g}{limit}"
