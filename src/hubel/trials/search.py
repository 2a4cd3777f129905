"""A search of hyperparameters, begun or taken up again: a generator of events."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hubel.data.dataset import Dataset
from hubel.data.preprocess import Resize
from hubel.engine import settled
from hubel.errors import DataError, FormatError, UsageError, reason
from hubel.network import Network
from hubel.train.recipes import default_net
from hubel.train.run import SETTINGS, append_line, create, open_log, write_json, writing
from hubel.trials.events import SearchEvent, Trial, TrialTrained, as_dict, ranked
from hubel.trials.loop import run, trials_of
from hubel.trials.plan import Plan, from_dict, plan
from hubel.trials.study import opened, required

__all__ = ["kept_settings", "prepare_search", "resume_search", "search", "trials_in"]


def search(
    data: Dataset,
    net: str | Path = "",
    *,
    time: float | None = None,
    threads: int | None = None,
    **choices: Any,
) -> Generator[SearchEvent, None, None]:
    """Check everything, make a folder, and return the search as a generator of events.

    `net` and `choices` are those of `prepare_search`, whose errors it raises. Leaving the generator
    ends the search there, and `time` does so after as many seconds: `resume_search` goes on in the
    folder that the first event names. Raises HubelError from the generator where no candidate
    makes a trial.

    >>> import tempfile
    >>> from hubel.data import load
    >>> from hubel.trials.events import TrialDone
    >>> events = search(load("digits"), "fc", out=tempfile.mkdtemp(), trials=2, epochs=1)
    >>> [event.trial.state for event in events if isinstance(event, TrialDone)]
    ['done', 'done']
    """
    folder = prepare_search(data, net, **choices)
    return resume_search(data, folder, time=time, threads=threads)


def prepare_search(
    data: Dataset,
    net: str | Path = "",
    *,
    trials: int = 20,
    stages: int = 2,
    method: str = "tpe",
    stop_early: bool = True,
    seed: int = 0,
    engine: str = "native",
    precision: str = "float32",
    initialisation: str = "he",
    resize: Resize = "squash",
    out: str | os.PathLike[str] = "runs",
    name: str = "",
    about: Mapping[str, Any] = MappingProxyType({}),
    **choices: Any,
) -> Path:
    """Check everything, and make a folder in which `resume_search` then begins the search.

    `net` is a network whose numbers may be ranges, `conv3-{16..64}`; by default one that suits the
    images. The `choices` are those of `hubel.train.settings.Settings`, and may be ranges too,
    `lr="1e-4..1e-1"`; `epochs` are those of the last stage. Each model starts from the same `seed`.
    The folder, in `out` and of a `name` that is the data's unless it is given, keeps what is said
    `about` the search, and gets the winner as `best.hubel`. Raises UsageError, DataError and
    NetworkError for what cannot be used.
    """
    required()
    height, width, depth = data.train.images.shape[1:]
    made = plan(
        str(net) or default_net(height, width),
        choices,
        trials=trials,
        stages=stages,
        method=method,
        stop_early=stop_early,
        seed=seed,
        engine=engine,
        precision=settled(precision, engine),
        initialisation=initialisation,
        resize=resize,
    )
    if not len(data.validation):
        raise DataError(
            "a search chooses by validation images, and there are none",
            where=data.name,
            hint="set some aside: val_fraction=0.1 (--val-fraction 0.1), or a folder val/",
        )
    if not made.ranged.ranges:
        Network(made.net, (height, width, depth), len(data.classes))
    folder = create(out, name or f"{Path(data.name).name}-search")
    with writing(folder):
        kept = {**about, "fingerprint": data.fingerprint, "search": made.as_dict()}
        write_json(folder / SETTINGS, kept)
    return folder


def resume_search(
    data: Dataset,
    folder: str | os.PathLike[str],
    *,
    time: float | None = None,
    threads: int | None = None,
) -> Generator[SearchEvent, None, None]:
    """Go on with the search in a folder: the same data, to the same end as if it had never stopped.

    Raises UsageError and FormatError where there is none, and DataError for other data.
    """
    required()
    place = Path(folder)
    kept = kept_settings(place)
    if kept["fingerprint"] != data.fingerprint:
        raise DataError(
            "the images, their classes or their split are not those of the search",
            where=str(place),
            hint="resume with the same data, or start a new search on this one",
        )
    return _events(data, from_dict(kept["search"]), place, threads, time)


def kept_settings(folder: Path) -> dict[str, Any]:
    """What a search folder says of itself; raises UsageError and FormatError where it is none."""
    path = folder / SETTINGS
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"there is no search here: {reason(error)}",
            where=str(path),
            hint="give the folder of a search, such as runs/digits-search",
        ) from error
    except ValueError as error:
        raise FormatError(f"this is no JSON: {error}", where=str(path)) from error
    if not isinstance(kept, dict) or not {"fingerprint", "search"} <= kept.keys():
        raise FormatError(
            "these are no settings of a search",
            where=str(path),
            hint="a training run goes on by: hubel train --resume",
        )
    return kept


def trials_in(folder: str | os.PathLike[str]) -> tuple[Trial, ...]:
    """The trials that a search folder holds, the best first."""
    place = Path(folder)
    made = from_dict(kept_settings(place)["search"])
    with opened(place) as stage_of:
        return ranked(trials_of(made, stage_of))


def _events(
    data: Dataset, made: Plan, folder: Path, threads: int | None, limit: float | None
) -> Generator[SearchEvent, None, None]:
    with (
        open_log(folder) as log,
        opened(folder) as stage_of,
        closing(run(data, made, folder, stage_of, threads, limit)) as events,
    ):
        for event in events:
            if not isinstance(event, TrialTrained):
                with writing(folder):
                    append_line(log, as_dict(event))
            yield event
