"""What preflight and watching find of planted faults, and how often they are wrong on healthy runs.

    python -m benchmarks.doctor --data-dir DIR [--runs 10] [--healthy 40] [--json FILE]

Each fault is planted into runs of several networks on several datasets, a seed each: preflight, and
then a few epochs on at most 4,000 images. A fault counts as detected where a check fails or a
verdict is given that names it; on a healthy run every one of them is a false alarm.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import Column, Row, finish
from hubel import Dataset, Model, Network
from hubel.data import load
from hubel.data.dataset import Split
from hubel.engine import Array, Feeds, Session
from hubel.graph import modes
from hubel.graph.op import Graph
from hubel.train.diverged import DivergedError
from hubel.train.events import Verdict
from hubel.train.preflight import Check

__all__ = ["FAULTS", "PATIENTS", "Fault", "Patient", "examine"]

_MOST_IMAGES, _MOST_VALIDATION = 4000, 1000

_SMALL = "conv3-16p1 relu pool2 conv3-32p1 relu pool2 fc64 relu fc"
_NORMED = "(conv3-24p1 bn relu conv3-24p1 bn relu pool2)x2 conv3-48p1 bn relu gap fc"
_RESIDUAL = (
    "conv3-16p1 bn relu ([conv3-16p1 bn relu conv3-16p1 bn | ] relu)x2 "
    "pool2 conv3-32p1 bn relu gap fc"
)
_TANH = "conv5-12p2 tanh pool2 conv3-24p1 tanh pool2 fc48 tanh fc"


@dataclass(frozen=True, slots=True)
class Patient:
    """A healthy run: its data, its network, how it is trained."""

    data: str
    net: str
    choices: Mapping[str, Any] = field(default_factory=dict)


_SGD = {"optimizer": "sgd", "lr": 0.01}
_FAST = {"optimizer": "adam", "lr": 0.003}

PATIENTS = (
    Patient("digits", _SMALL),
    Patient("digits", _NORMED, _FAST),
    Patient("digits", _TANH, _SGD),
    Patient("mnist", _SMALL, {**_SGD, "lr": 0.005}),
    Patient("mnist", _NORMED, _FAST),
    Patient("mnist", _RESIDUAL, {**_SGD, "lr": 0.05, "weight_decay": 5e-4}),
    Patient("cifar10", _SMALL),
    Patient("cifar10", _NORMED, {**_FAST, "flip": True, "crop": 4}),
    Patient("cifar10", _RESIDUAL, {**_SGD, "lr": 0.05, "schedule": "one-cycle"}),
    Patient("cifar10", _TANH, {**_SGD, "lr": 0.02}),
)


@dataclass(slots=True, eq=False)
class Run:
    """A run that a fault may be planted into, before its model is made and after."""

    net: str
    data: Dataset
    choices: dict[str, Any]
    seed: int
    initialisation: str = "he"
    model: Model | None = None


def _nothing(run: Run) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Fault:
    """What is planted, and the names of the checks and verdicts that detect it."""

    name: str
    found_by: frozenset[str]
    before: Callable[[Run], None] = _nothing
    after: Callable[[Run], None] = _nothing
    suits: Callable[[Patient], bool] = lambda patient: True


class _Altered:
    """A session in which running a graph does something else."""

    def __init__(self, session: Session, run: Callable[[Graph, Feeds], dict[str, Array]]) -> None:
        self._session = session
        self.run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def _zero(run: Run) -> None:
    run.initialisation = "zero"


def _rate(factor: float) -> Callable[[Run], None]:
    def plant(run: Run) -> None:
        run.choices["lr"] = run.choices.get("lr", 0.001) * factor

    return plant


def _labels(run: Run) -> None:
    random = np.random.default_rng(run.seed)

    def mixed(split: Split) -> Split:
        return replace(split, labels=random.permutation(split.labels))

    run.data = replace(run.data, train=mixed(run.data.train), validation=mixed(run.data.validation))


def _raw(run: Run) -> None:
    run.choices["preprocess"] = None


def _sorted(run: Run) -> None:
    order = np.argsort(run.data.train.labels, kind="stable")
    train = run.data.train
    run.data = replace(run.data, train=Split(train.images[order], train.labels[order]))
    run.choices["shuffle"] = False


def _other_order(run: Run) -> None:
    classes = len(run.data.classes)
    moved = np.roll(np.arange(classes), 1 + run.seed % (classes - 1))
    validation = run.data.validation
    run.data = replace(run.data, validation=replace(validation, labels=moved[validation.labels]))


def _leaked(run: Run) -> None:
    train, validation = run.data.train, run.data.validation
    random = np.random.default_rng(run.seed)
    count = len(validation) // 10
    into = random.choice(len(validation), count, replace=False)
    source = random.choice(len(train), count, replace=False)
    images, labels = validation.images.copy(), validation.labels.copy()
    images[into], labels[into] = train.images[source], train.labels[source]
    run.data = replace(run.data, validation=Split(images, labels))


def _squashed(run: Run) -> None:
    run.net += " sigmoid"


def _frozen(run: Run) -> None:
    assert run.model is not None
    session, name = run.model.session, "conv2.weight"

    def kept(graph: Graph, feeds: Feeds) -> dict[str, Array]:
        before = session.read(name)
        results = session.run(graph, feeds)
        session.write(name, before)
        return results

    run.model.session = _Altered(session, kept)


def _dead(run: Run) -> None:
    """The biases in front of the second ReLU far below zero."""
    assert run.model is not None
    parameters = run.model.parameters
    layer = "bn2" if "bn2.bias" in parameters else "conv2"
    bias = parameters[f"{layer}.bias"]
    run.model.set_parameters({f"{layer}.bias": np.full_like(bias, -20.0)})


def _batch_statistics(run: Run) -> None:
    assert run.model is not None
    model, session = run.model, run.model.session
    usual = modes.without_updates(modes.without_dropout(model.network.graph))
    scores = usual.outputs

    def in_training_mode(graph: Graph, feeds: Feeds) -> dict[str, Array]:
        return session.run(usual if graph.outputs == scores else graph, feeds)

    run.model.session = _Altered(session, in_training_mode)


_BY_RATE = frozenset(
    {
        "learning-rate, rate",
        "rate-too-high, rate",
        "rate-too-low, rate",
        "stuck, rate",
        "twenty-images, rate",
        "diverged",
    }
)

FAULTS = (
    Fault("all weights zero", frozenset({"weights"}), before=_zero),
    Fault("learning rate × 100", _BY_RATE, before=_rate(100)),
    Fault("learning rate ÷ 1000", _BY_RATE, before=_rate(0.001)),
    Fault("shuffled labels", frozenset({"labels", "unrelated"}), before=_labels),
    Fault("pixels not normalised", frozenset({"inputs"}), before=_raw),
    Fault("a frozen layer", frozenset({"frozen"}), after=_frozen),
    Fault("dead biases", frozenset({"dead-units", "saturated", "activations"}), after=_dead),
    Fault(
        "classes of validation in another order", frozenset({"class-order"}), before=_other_order
    ),
    Fault("softmax twice (a sigmoid before it)", frozenset({"scores"}), before=_squashed),
    Fault("sorted images, not shuffled", frozenset({"batches"}), before=_sorted),
    Fault(
        "batch norm left in training mode",
        frozenset({"independence"}),
        after=_batch_statistics,
        suits=lambda patient: " bn " in patient.net,
    ),
    Fault("validation images among the training images", frozenset({"leak"}), before=_leaked),
)


def examine(
    patient: Patient, data: Dataset, seed: int, fault: Fault | None, epochs: int
) -> set[str]:
    """The names of all checks that fail and of all verdicts, in a run with a fault or none."""
    run = Run(patient.net, data, dict(patient.choices), seed)
    if fault is not None:
        fault.before(run)
    size = run.data.train.images.shape[1:]
    net = Network(run.net, (size[0], size[1], size[2]), len(run.data.classes), fit="floor")
    run.model = Model(net, seed=seed, initialisation=run.initialisation, classes=run.data.classes)
    if fault is not None:
        fault.after(run)
    choices = {**run.choices, "epochs": epochs, "seed": seed}
    found = {
        _named(each.check, each.advice)
        for each in run.model.diagnose(run.data, **choices)
        if isinstance(each, Check) and not each.ok
    }
    try:
        for event in run.model.train(run.data, **choices):
            if isinstance(event, Verdict):
                found.add(_named(event.code, event.advice))
    except DivergedError:
        found.add("diverged")
    return found


def _named(code: str, advice: str) -> str:
    """The name of what was found, and whether it blames the learning rate."""
    return f"{code}, rate" if "--lr" in advice else code


def _limited(data: Dataset, seed: int) -> Dataset:
    """A random part of a dataset, another for each seed."""
    random = np.random.default_rng(seed)

    def part(split: Split, most: int) -> Split:
        chosen = np.sort(random.permutation(len(split))[:most])
        return Split(split.images[chosen], split.labels[chosen])

    return replace(
        data,
        train=part(data.train, _MOST_IMAGES),
        validation=part(data.validation, _MOST_VALIDATION),
    )


def _trials(fault: Fault | None, runs: int) -> Iterator[tuple[Patient, int]]:
    suited = [patient for patient in PATIENTS if fault is None or fault.suits(patient)]
    for number in range(runs):
        yield suited[number % len(suited)], number


def _row(name: str, wanted: frozenset[str] | None, results: list[set[str]]) -> Row:
    """`wanted` detect the fault; None: there is none, and everything found is a false alarm."""
    hits = [bool(found if wanted is None else found & wanted) for found in results]
    by: dict[str, int] = {}
    for found in results:
        for code in found if wanted is None else found & wanted:
            by[code] = by.get(code, 0) + 1
    return {"fault": name, "runs": len(results), "found": sum(hits), "by": by}


COLUMNS = (
    Column("planted", lambda row: row["fault"]),
    Column("detected", lambda row: f"{row['found']} of {row['runs']}"),
    Column(
        "by",
        lambda row: ", ".join(
            f"{name} {count}"
            for name, count in sorted(row["by"].items(), key=lambda each: -each[1])
        ),
    ),
)


def main() -> None:
    """Examine runs with each fault and healthy ones, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, help="where mnist/ and cifar10/ lie already")
    parser.add_argument("--runs", type=int, default=10, help="of each fault (default 10)")
    parser.add_argument("--healthy", type=int, default=40, help="healthy runs (default 40)")
    parser.add_argument("--epochs", type=int, default=4, help="of each run (default 4)")
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="some faults")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    given = parser.parse_args()
    loaded: dict[str, Dataset] = {}

    def data(name: str, seed: int) -> Dataset:
        if name not in loaded:
            place = None if given.data_dir is None else given.data_dir / name
            loaded[name] = load(name, data_dir=place)
        return _limited(loaded[name], seed)

    rows = []
    chosen = [each for each in FAULTS if not given.only or any(w in each.name for w in given.only)]
    for fault in chosen:
        results = []
        for patient, seed in _trials(fault, given.runs):
            results.append(examine(patient, data(patient.data, seed), seed, fault, given.epochs))
            if not results[-1] & fault.found_by:
                print(f"missed: {fault.name}: {patient} seed {seed}: {results[-1]}", flush=True)
        rows.append(_row(fault.name, fault.found_by, results))
        print(fault.name, rows[-1]["found"], "of", rows[-1]["runs"], rows[-1]["by"], flush=True)
    if not given.only:
        results = []
        for patient, seed in _trials(None, given.healthy):
            results.append(examine(patient, data(patient.data, seed), seed, None, given.epochs))
            if results[-1]:
                print(f"false alarm: {patient} seed {seed}: {results[-1]}", flush=True)
        rows.append(_row("nothing (false alarms)", None, results))
    finish("doctor", given, COLUMNS, rows)


if __name__ == "__main__":
    main()
