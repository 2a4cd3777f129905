"""Training from images to accuracy: the same net, schedule and data, epoch by epoch in turns.

`python -m benchmarks.time_to_accuracy FOLDER` takes a folder with `train/` and `test/`, each with a
folder of images for every class, such as CIFAR-10's, and trains `cs231n` with batch normalisation,
flips and crops. An epoch's time is the whole wall clock of training in it: shuffling, crops, flips,
normalisation, steps; not the test. PyTorch has all images in memory as normalised tensors.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from benchmarks.compare import say
from benchmarks.images import Images
from benchmarks.results import Column, Row, arguments, finish
from benchmarks.rivals import HUBEL, rivals_for
from benchmarks.task import PRECISIONS, Case, Task
from benchmarks.turns import Contestant, LeftOutError, ratio
from hubel.data import load

__all__ = ["COLUMNS", "NET", "main", "rows_of"]

NET = (
    "(conv3-32p1b0 bn relu)x2 pool2 (conv3-64p1b0 bn relu)x2 pool2 "
    "(conv3-128p1b0 bn relu)x2 pool2 fc"
)
"""`cs231n` with batch normalisation."""

_BATCH = 128

_CHOICES = {
    "batch_size": _BATCH,
    "optimizer": "sgd",
    "lr": 0.1,
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 5e-4,
    "schedule": "one-cycle",
    "flip": True,
    "crop": 4,
}

COLUMNS = (
    Column("library", lambda row: row["name"]),
    Column("precision", lambda row: row["precision"]),
    Column("seed", lambda row: str(row["seed"])),
    Column("epochs", lambda row: str(len(row["seconds"]))),
    Column("seconds an epoch", lambda row: f"{median(row['seconds']):.1f}"),
    Column("all epochs", lambda row: f"{sum(row['seconds']):.0f} s"),
    Column("of Hubel's epoch", lambda row: f"{row['ratio']:.2f}×"),
    Column("middle half of epochs", lambda row: f"{row['low']:.2f} to {row['high']:.2f}"),
    Column("test accuracy", lambda row: f"{100 * row['accuracies'][-1]:.2f} %"),
)


def main() -> None:
    """Trains everybody and prints a table."""
    parser = arguments(__doc__, rounds=0)
    parser.add_argument("folder", help="with train/ and test/, or a dataset's name")
    parser.add_argument("--epochs", type=int, default=10, help="(default 10)")
    parser.add_argument("--precision", action="append", choices=PRECISIONS, help="both")
    parser.add_argument("--seed", action="append", type=int, help="may be repeated (default 0)")
    parser.add_argument("--images", type=int, help="only so many training images, for a trial")
    parser.add_argument(
        "--only", action="append", metavar="WORD", help="(default: PyTorch's eager variants)"
    )
    given = parser.parse_args()
    images = _images(given.folder, given.images)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        images.save(Path(folder))
        for precision in given.precision or PRECISIONS:
            for seed in given.seed or [0]:
                rows += _trained(given, images, precision, seed, folder)
    finish("time_to_accuracy", given, COLUMNS, rows)


def _images(source: str, most: int | None) -> Images:
    data = load(source, val_fraction=0.0)
    if data.test is None:
        raise SystemExit(f"{source} has no test images")
    # In order of their classes they would be all of one kind.
    train, labels = data.train.images[:], data.train.labels
    step = 1 if most is None else max(1, len(labels) // most)
    return Images(train[::step], labels[::step], data.test.images[:], data.test.labels)


def _trained(
    given: argparse.Namespace, images: Images, precision: str, seed: int, folder: str
) -> list[Row]:
    """Everybody trained with one seed, in turns of an epoch."""
    classes = int(images.train_labels.max()) + 1
    height, width, depth = images.train.shape[1:]
    one = Case(NET, (height, width, depth), classes, _BATCH)
    task = Task(one, "training", precision, given.threads)
    choices = json.dumps({**_CHOICES, "epochs": given.epochs, "seed": seed})
    contestants: list[Contestant] = []
    only = tuple(given.only or ("channels first", "channels last"))
    for rival in rivals_for(task, only):
        contestant = Contestant(
            rival.name, "benchmarks.epoch_worker", rival.name, task.to_json(), folder, choices
        )
        try:
            contestant.answer()
        except LeftOutError as reason:
            say(f"LEFT OUT: {rival.name}, {precision}: {reason}")
            contestant.close()
            if rival.library == HUBEL:
                return []
            continue
        contestants.append(contestant)
    accuracies: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for epoch in range(given.epochs):
        for contestant in contestants:
            accuracy = contestant.turn(0)["accuracy"]
            accuracies[contestant.name].append(accuracy)
            say(
                f"epoch {epoch + 1}/{given.epochs}  {contestant.name}, {precision}, seed {seed}  "
                f"{contestant.rounds[-1]:.1f} s  test accuracy {100 * accuracy:.2f} %"
            )
    for contestant in contestants:
        contestant.close()
    times = {contestant.name: contestant.rounds for contestant in contestants}
    return rows_of(task, seed, times, accuracies)


def rows_of(
    task: Task,
    seed: int,
    times: Mapping[str, Sequence[float]],
    accuracies: Mapping[str, Sequence[float]],
) -> list[Row]:
    """A row for everybody, with the seconds and accuracy of every epoch."""
    return [
        {
            **asdict(task.case),
            "precision": task.precision,
            "threads": task.threads,
            "name": name,
            "seed": seed,
            "seconds": list(seconds),
            "accuracies": list(accuracies[name]),
            **asdict(ratio(times[HUBEL], seconds)),
        }
        for name, seconds in times.items()
    ]


if __name__ == "__main__":
    main()
