"""One training step: which batch it sees, what it is fed, and what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from hubel.data.augment import check as check_size
from hubel.data.batches import Assemble, Batch, minibatches
from hubel.data.dataset import Split
from hubel.data.preprocess import Preprocess
from hubel.engine import Array, Session
from hubel.errors import UsageError
from hubel.graph import modes
from hubel.graph.op import Graph
from hubel.train import optimizers
from hubel.train.events import StepDone
from hubel.train.losses import LOSSES
from hubel.train.progress import Progress
from hubel.train.schedules import learning_rate
from hubel.train.settings import Settings
from hubel.train.targets import balanced, targets
from hubel.train.whiten import whitened

__all__ = [
    "batches_from",
    "check",
    "feeds",
    "forget",
    "frozen",
    "run_step",
    "step_graph",
    "steps_before",
]


def step_graph(graph: Graph, chosen: Settings) -> Graph:
    """The whole training step of a network's graph: loss, gradients, updates.

    Raises UsageError for a frozen layer that there is not, and where all are frozen. A layer of
    which only a parameter is frozen goes on with the statistics of the batch.
    """
    kept = frozen(graph, chosen)
    loss = LOSSES[chosen.loss]
    op, attributes = loss.op, loss.attributes(chosen)
    if chosen.has_targets:
        assert loss.target_op is not None  # as settings were checked
        op, attributes = loss.target_op, None
    settled = modes.with_settled(graph, chosen.freeze)
    return optimizers.with_updates(modes.with_loss(settled, op, attributes), chosen, kept)


def frozen(graph: Graph, chosen: Settings) -> set[str]:
    """The names of the parameters that stay as they are."""
    parameters = {p.name: p.name.rpartition(".")[0] for p in graph.with_role("parameter")}
    layers = dict.fromkeys(parameters.values())
    strangers = [name for name in chosen.freeze if name not in {*layers, *parameters}]
    if strangers:
        raise UsageError(
            f"there is no layer {', '.join(strangers)} with weights to freeze",
            hint=f"those with weights are {', '.join(layers)}; a single parameter will do: "
            f"{next(iter(parameters))}",
        )
    kept = {name for name, layer in parameters.items() if {name, layer} & {*chosen.freeze}}
    if chosen.whiten:
        kept.add(whitened(graph).name)
    if kept == parameters.keys():
        raise UsageError("every layer is frozen, so that there is nothing to train")
    return kept


def check(training: Split, chosen: Settings, classes: int) -> None:
    """Raise UsageError or DataError where batches of these images cannot be made as chosen."""
    height, width = training.images.shape[1:3]
    check_size(chosen.augmentation, height, width)
    if chosen.class_weights:
        balanced(training.labels, classes)


def forget(session: Session, whole: Graph) -> None:
    """What a step keeps beside the parameters, as it is before the first one."""
    for slot in whole.with_role("slot"):
        start = session.read(slot.of) if slot.of else np.zeros(slot.shape, np.float32)
        session.write(slot.name, start)


def steps_before(progress: Progress, steps: int) -> int:
    """How many steps of `steps` an epoch a run has behind it."""
    return progress.epoch * steps + progress.step


def batches_from(
    training: Split,
    preprocess: Preprocess | None,
    assemble: Assemble,
    chosen: Settings,
    progress: Progress,
    classes: int,
) -> Iterator[Batch]:
    """The batches of a run from where it has come to, to its end; see `check` for its errors."""
    weights = balanced(training.labels, classes) if chosen.class_weights else None
    for epoch in range(progress.epoch, chosen.epochs):
        of_epoch = minibatches(
            training,
            preprocess,
            assemble,
            chosen.batch_size,
            chosen.seed,
            epoch,
            shuffle=chosen.shuffle,
            augment=chosen.augmentation,
        )
        for batch in islice(of_epoch, progress.step if epoch == progress.epoch else 0, None):
            if not chosen.has_targets:
                yield batch
                continue
            mixed = None if batch.variation is None else batch.variation.mixed
            aims = targets(
                batch.labels, training.labels, classes, mixed, chosen.label_smoothing, weights
            )
            yield replace(batch, targets=aims)


def feeds(batch: Batch) -> dict[str, Array]:
    """What a graph with a loss reads of a batch."""
    fed = {"input": batch.images, "labels": batch.labels}
    return fed if batch.targets is None else {**fed, "targets": batch.targets}


def run_step(
    session: Session,
    whole: Graph,
    batch: Batch,
    chosen: Settings,
    progress: Progress,
    steps: int,
) -> StepDone:
    """Learn from one batch with the graph of a whole step; the numbers may not be finite."""
    number = steps_before(progress, steps)
    rate = learning_rate(chosen, number, steps)
    results = session.run(
        whole,
        {
            **feeds(batch),
            "rate": rate,
            "step": number + 1,
            "seed": chosen.seed,
        },
    )
    loss, correct, count = float(results["loss"]), int(results["correct"]), len(batch.labels)
    seen = progress.seen + count
    return StepDone(
        epoch=progress.epoch + 1,
        step=progress.step + 1,
        count=count,
        loss=loss,
        correct=correct,
        penalty=float(results["penalty"]) if "penalty" in results else 0.0,
        mean_loss=(progress.loss_sum + loss * count) / seen,
        accuracy=(progress.correct + correct) / seen,
        learning_rate=rate,
        gradient_norm=float(results["gradient_norm"]),
    )
