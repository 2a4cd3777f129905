"""What a command line says about training: images loaded and a model made, or a run's own again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hubel.cli import report
from hubel.cli.command import train_command
from hubel.cli.terminal import reading, say
from hubel.cli.values import VAL_FRACTION, wanted_images
from hubel.data import load as load_data
from hubel.data.dataset import Dataset
from hubel.errors import FormatError, UsageError, reason
from hubel.model import Model
from hubel.network import Network
from hubel.notation.named import Header, find, read_header
from hubel.notation.parse import parse
from hubel.train.recipes import Recipe, check_recipe, recipe, usual
from hubel.train.run import SETTINGS
from hubel.train.settings import Settings, settings

__all__ = ["Prepared", "Source", "kept", "prepared", "source_of"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the images come from and how they are read: what a resumed run must do again."""

    source: str
    size: tuple[int, int] | None
    channels: int | None
    resize: Any
    data_dir: str | None
    val_fraction: float
    seed: int

    def load(self, quiet: bool) -> Dataset:
        return load_data(
            self.source,
            size=None if self.size is None else (self.size[0], self.size[1]),
            channels=self.channels,
            resize=self.resize,
            val_fraction=self.val_fraction,
            seed=self.seed,
            data_dir=self.data_dir,
            progress=None if quiet else reading(),
        )

    def anywhere(self) -> Source:
        """The same from any working folder."""
        path = Path(self.source)
        if not path.is_dir():
            return self
        return Source(
            str(path.resolve()),
            self.size,
            self.channels,
            self.resize,
            self.data_dir,
            self.val_fraction,
            self.seed,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A model as the command line describes it, and the images it is to be trained on."""

    model: Model
    engine: str
    precision: str
    data: Dataset
    name: str
    recipe: str | None
    chosen: Settings
    source: Source

    def announce(self) -> None:
        """Say what machine, data and net there are."""
        say(
            report.engine_line(self.model, self.engine, self.precision),
            *report.data_lines(self.data),
            *report.net_lines(self.model.network, self.name),
        )
        if self.recipe is not None:
            say(f"Recipe {self.recipe}, which is short for:", f"  {self._command()}")

    def _command(self) -> str:
        model = self.model
        net = " ".join(model.network.text.split())
        return train_command(
            self.source, net, self.chosen, self.engine, self.precision, model.initialisation
        )


def prepared(
    choices: Mapping[str, Any], fixed: Mapping[str, Any], threads: int | None, quiet: bool
) -> Prepared:
    """Load the data and make the model. Raises HubelError for what does not fit."""
    if "data" not in fixed:
        raise UsageError(
            "there is nothing to train on",
            hint="name a folder of class folders, or try: hubel train digits",
        )
    named = fixed.get("recipe")
    if named is not None:
        check_recipe(named)
    text, name = "", named or report.DEFAULT
    if "net" in fixed:
        text, name = find(fixed["net"])
        name = Path(name).stem or "net"
        parse(text)
    loading = {"val_fraction": VAL_FRACTION, **choices}
    source = source_of(fixed, read_header(text), settings(**loading))
    data = source.load(quiet)
    made = _recipe(data, choices, fixed, text)
    chosen = settings(**{**made.choices, **loading})
    height, width, depth = data.train.images.shape[1:]
    network = Network(made.net, (height, width, depth), len(data.classes))
    engine, precision = fixed.get("engine", "native"), fixed.get("precision", made.precision)
    model = Model(
        network,
        seed=chosen.seed,
        engine=engine,
        precision=precision,
        threads=threads,
        initialisation=fixed.get("initialisation", made.initialisation),
        classes=data.classes,
        resize=source.resize,
    )
    return Prepared(model, engine, precision, data, name, named, chosen, source)


def _recipe(
    data: Dataset, choices: Mapping[str, Any], fixed: Mapping[str, Any], net: str
) -> Recipe:
    """What stands in for all that was not given: the recipe asked for, or what is usual."""
    if "recipe" in fixed:
        made = recipe(fixed["recipe"], data)
    else:
        height, width, _ = data.train.images.shape[1:]
        made = usual(height, width)
        if net or {"optimizer", "lr"} & choices.keys():
            made = replace(made, choices={})
    return made.around(net) if net else made


def source_of(fixed: Mapping[str, Any], header: Header, chosen: Settings) -> Source:
    """Where the images come from, in the size and depth that is asked for or that the net names."""
    size, channels = wanted_images(fixed.get("size"), fixed.get("channels"), header)
    return Source(
        fixed["data"],
        size,
        channels,
        fixed.get("resize", "squash"),
        None if "data_dir" not in fixed else str(fixed["data_dir"].resolve()),
        chosen.val_fraction,
        chosen.seed,
    )


def kept(folder: Path) -> tuple[dict[str, Any], Source]:
    """The settings of a run as they were written, and where its images come from."""
    path = folder / SETTINGS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not {"engine", "data", "net"} <= found.keys():
            raise ValueError("there is no engine, data or net")
        source = Source(**found["data"])
    except OSError as error:
        raise UsageError(
            f"there is no run here: {reason(error)}",
            where=str(path),
            hint="give the folder of a run, such as runs/digits",
        ) from error
    except (TypeError, ValueError) as error:
        raise FormatError(f"these are no settings of a run: {error}", where=str(path)) from error
    return found, source
