"""One training step: which batch it sees, what it is fed, and what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice

import numpy as np

from hubel.data import augment
from hubel.data.augment import Places
from hubel.data.batches import Assemble, Augment, Batch, minibatches
from hubel.data.dataset import Split
from hubel.data.preprocess import Preprocess
from hubel.engine import Session
from hubel.errors import UsageError
from hubel.graph import modes
from hubel.graph.op import Graph
from hubel.train import optimizers
from hubel.train.events import StepDone
from hubel.train.losses import LOSSES
from hubel.train.progress import Progress
from hubel.train.schedules import learning_rate
from hubel.train.settings import Settings
from hubel.train.whiten import whitened

__all__ = ["batches_from", "run_step", "step_graph", "steps_before"]


def step_graph(graph: Graph, chosen: Settings) -> Graph:
    """The whole training step of a network's graph: loss, gradients, updates.

    Raises UsageError for a frozen layer that there is not, and where all are frozen. A layer of
    which only a parameter is frozen goes on with the statistics of the batch.
    """
    frozen = _frozen(graph, chosen)
    loss = LOSSES[chosen.loss]
    settled = modes.with_settled(graph, chosen.freeze)
    lossy = modes.with_loss(settled, loss.op, loss.attributes(chosen))
    return optimizers.with_updates(lossy, chosen, frozen)


def _frozen(graph: Graph, chosen: Settings) -> set[str]:
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
    frozen = {name for name, layer in parameters.items() if {name, layer} & {*chosen.freeze}}
    if chosen.whiten:
        frozen.add(whitened(graph).name)
    if frozen == parameters.keys():
        raise UsageError("every layer is frozen, so that there is nothing to train")
    return frozen


def steps_before(progress: Progress, steps: int) -> int:
    """How many steps of `steps` an epoch a run has behind it."""
    return progress.epoch * steps + progress.step


def batches_from(
    training: Split,
    preprocess: Preprocess | None,
    assemble: Assemble,
    chosen: Settings,
    progress: Progress,
) -> Iterator[Batch]:
    """The batches of a run from where it has come to, to its end."""
    vary = _augment(chosen)
    for epoch in range(progress.epoch, chosen.epochs):
        of_epoch = minibatches(
            training,
            preprocess,
            assemble,
            chosen.batch_size,
            chosen.seed,
            epoch,
            shuffle=chosen.shuffle,
            augment=vary,
        )
        yield from islice(of_epoch, progress.step if epoch == progress.epoch else 0, None)


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
            "input": batch.images,
            "labels": batch.labels,
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


def _augment(chosen: Settings) -> Augment | None:
    chain: list[Augment] = []
    if chosen.crop:
        chain.append(partial(augment.crop, padding=chosen.crop))
    if chosen.flip:
        chain.append(augment.flip)
    if not chain:
        return None

    def vary(places: Places, seed: int, epoch: int, indices: np.ndarray) -> Places:
        for each in chain:
            places = each(places, seed, epoch, indices)
        return places

    return vary
