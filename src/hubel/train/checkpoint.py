"""A model in one file: weights, net, class names, preprocessing, and the state of its training."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, field
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from hubel.data.preprocess import Preprocess, Resize
from hubel.engine import Array
from hubel.errors import FormatError, HubelError, reason
from hubel.formats import weights
from hubel.notation.spec import Fit
from hubel.records import dataclass
from hubel.train.initialise import INITIALISATIONS, SEEDS

if TYPE_CHECKING:
    from hubel.train.progress import Progress
    from hubel.train.settings import Settings

__all__ = ["Saved", "TrainingState", "read", "write"]

_FORMAT = "1"
_SLOT, _PREPROCESS = "slot/", "preprocess/"


@dataclass(frozen=True, slots=True, eq=False)
class TrainingState:
    """What a run needs to go on; `slots` is what the optimizer keeps, if it is `resumable`.

    `fingerprint` is that of the images and labels it was trained on.
    """

    settings: Settings
    progress: Progress
    fingerprint: str
    resumable: bool
    slots: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Saved:
    """The content of a model file; `tensors` are the parameters and statistics by name.

    `seed` and `initialisation` are what the parameters began from, `resize` how images of other
    sizes are brought to `input`.
    """

    net: str
    input: tuple[int, int, int]
    fit: Fit
    classes: tuple[str, ...]
    seed: int
    initialisation: str
    preprocess: Preprocess | None
    resize: Resize
    tensors: Mapping[str, Array]
    training: TrainingState | None = None


def write(path: str | os.PathLike[str], saved: Saved) -> None:
    """Write a model file, which replaces `path` only once it is whole.

    Raises HubelError, and leaves the old file as it is, where a weight is not finite or the system
    refuses.
    """
    for name, array in saved.tensors.items():
        if not np.isfinite(array).all():
            raise HubelError(
                f"{name} holds numbers that are not finite, so the model was not saved",
                where=os.fspath(path),
                hint="lower the learning rate and start from the last file that was saved",
            )
    tensors = dict(saved.tensors)
    model = {
        "net": saved.net,
        "input": saved.input,
        "fit": saved.fit,
        "classes": saved.classes,
        "seed": saved.seed,
        "initialisation": saved.initialisation,
        "preprocess": None,
        "resize": saved.resize,
    }
    if saved.preprocess is not None:
        model["preprocess"] = saved.preprocess.to_dict()
        tensors.update(
            {f"{_PREPROCESS}{name}": array for name, array in saved.preprocess.arrays().items()}
        )
    metadata = {"hubel.format": _FORMAT, "hubel.model": _to_json(model)}
    if saved.training is not None:
        state = saved.training
        metadata["hubel.training"] = _to_json(
            {
                "settings": asdict(state.settings),
                "progress": state.progress.as_dict(),
                "fingerprint": state.fingerprint,
                "resumable": state.resumable,
            }
        )
        tensors.update({f"{_SLOT}{name}": array for name, array in state.slots.items()})
    try:
        weights.write(path, tensors, metadata)
    except OSError as error:
        raise HubelError(
            f"the model cannot be saved: {reason(error)}",
            where=os.fspath(path),
            hint="give the name of a file in a folder that exists, with room to write in",
        ) from error


def read(path: str | os.PathLike[str]) -> Saved:
    """Read a model file; raises FormatError for one that is damaged or not a model of this version,
    and HubelError for one that cannot be opened.
    """
    where = os.fspath(path)
    try:
        tensors, metadata = weights.read(path)
    except OSError as error:
        raise HubelError(
            f"the model cannot be read: {reason(error)}",
            where=where,
            hint="give the path of a .hubel file that `hubel train` or `save` wrote",
        ) from error
    try:
        return _saved(tensors, metadata)
    except (
        FormatError,
        LookupError,
        TypeError,
        ValueError,
        OverflowError,
        RecursionError,
    ) as error:
        what = (
            error.what
            if isinstance(error, FormatError)
            else f"it lacks what a model has: {error!r}"
        )
        raise FormatError(what, where=where, hint="take another copy, or train again") from None


def _saved(tensors: dict[str, Array], metadata: Mapping[str, str]) -> Saved:
    if "hubel.format" not in metadata:
        raise FormatError("it holds arrays, but no Hubel model")
    if metadata["hubel.format"] != _FORMAT:
        raise FormatError(
            f"it has format {metadata['hubel.format']}, and this version of Hubel reads {_FORMAT}"
        )
    model = json.loads(metadata["hubel.model"])
    preprocess = None
    arrays = _taken(tensors, _PREPROCESS)
    slots = _taken(tensors, _SLOT)
    if model["preprocess"] is not None:
        preprocess = Preprocess.from_dict(model["preprocess"], arrays)
    height, width, depth = map(int, model["input"])
    for name, allowed in (
        ("fit", get_args(Fit)),
        ("resize", get_args(Resize)),
        ("initialisation", tuple(INITIALISATIONS)),
    ):
        if model[name] not in allowed:
            raise FormatError(f"its {name} is {model[name]!r}, not one of {', '.join(allowed)}")
    seed = int(model["seed"])
    if not 0 <= seed < SEEDS:
        raise FormatError(f"its seed is {seed}, not at least 0 and below 2**64")
    classes = tuple(map(str, model["classes"]))
    if len(set(classes)) < len(classes):
        raise FormatError("two of its classes have the same name")
    training = None
    if "hubel.training" in metadata:
        from hubel.train import progress, settings  # which a file of weights alone does not need

        state = json.loads(metadata["hubel.training"])
        training = TrainingState(
            settings.from_dict(state["settings"]),
            progress.from_dict(state["progress"]),
            str(state["fingerprint"]),
            bool(state["resumable"]),
            slots,
        )
    return Saved(
        str(model["net"]),
        (height, width, depth),
        model["fit"],
        classes,
        seed,
        model["initialisation"],
        preprocess,
        model["resize"],
        tensors,
        training,
    )


def _taken(tensors: dict[str, Array], prefix: str) -> dict[str, Array]:
    """Take the tensors whose names begin with `prefix` out, and name them without it."""
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in names}


def _to_json(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False, sort_keys=True, allow_nan=False)
