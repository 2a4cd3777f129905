"""Where a run left the finite numbers: found by going back a few steps and taking them again.

A step changes the weights in place, so once its loss is not finite the weights that caused it are
gone. Every step is a pure function of the state before it, though: from a state kept in memory the
same steps give the same bits, and can be watched.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from hubel.data.batches import Batch
from hubel.data.dataset import Split
from hubel.engine import Array, Session
from hubel.errors import DataError, HubelError
from hubel.graph.op import Graph
from hubel.train.events import StepDone
from hubel.train.progress import Progress
from hubel.train.settings import Settings
from hubel.train.step import run_step, steps_before

__all__ = ["Anchor", "DivergedError", "anchor", "explain", "finite"]


class DivergedError(HubelError):
    """The numbers of a run are no longer finite; the session is back at `progress`, before that."""

    def __init__(self, what: str, progress: Progress, hint: str) -> None:
        where = f"epoch {progress.epoch + 1}, step {progress.step + 1}"
        super().__init__(what, where=where, hint=hint)
        self.progress = progress


@dataclass(frozen=True, slots=True, eq=False)
class Anchor:
    """All that outlives a step, as it was when a run had come as far as `progress`."""

    progress: Progress
    state: Mapping[str, Array]

    @property
    def broken(self) -> str | None:
        """The name of the first array that holds a NaN or an infinity."""
        return next((name for name, array in self.state.items() if _any_bad(array)), None)


def anchor(session: Session, whole: Graph, progress: Progress) -> Anchor:
    """A copy of everything in the session that the graph of a step keeps."""
    kept = (value.name for value in whole.values.values() if value.persistent)
    return Anchor(progress, {name: session.read(name) for name in kept})


def finite(done: StepDone) -> bool:
    """Whether the results of a step are numbers."""
    return _has_loss(done) and math.isfinite(done.gradient_norm)


def _has_loss(done: StepDone) -> bool:
    return math.isfinite(done.loss) and math.isfinite(done.penalty)


def explain(
    session: Session,
    scores: Graph,
    whole: Graph,
    kept: Anchor,
    batches: Iterable[Batch],
    training: Split,
    chosen: Settings,
    steps: int,
    otherwise: str,
) -> DivergedError:
    """Take the steps of `batches` again from an anchor; say which left the finite numbers.

    Where none does, that is `otherwise`. Leaves the session as it was before that step. Raises
    DataError where an image is to blame.
    """
    if kept.broken is not None:
        what = f"{kept.broken} holds numbers that are not finite before the step is taken"
        return DivergedError(what, kept.progress, "start from other weights")
    hint = (
        f"lower the learning rate (it was {chosen.rate:g}; a tenth is {chosen.rate / 10:g}), "
        "or begin with warm-up"
    )
    _restore(session, kept)
    for batch in batches:
        done = run_step(session, whole, batch, chosen, kept.progress, steps)
        after = anchor(session, whole, kept.progress.after(done))
        if finite(done) and after.broken is None:
            kept = after
            continue
        _restore(session, kept)
        if finite(done):
            what = f"the step made {after.broken} not finite, at a loss of {done.loss:g}"
        elif _has_loss(done):
            what = f"the norm of the gradients is {done.gradient_norm:g} at a loss of {done.loss:g}"
        else:
            number = steps_before(kept.progress, steps)
            place = _first_layer(session, scores, batch, training, chosen, number)
            _restore(session, kept)
            what = f"the loss is {done.loss + done.penalty:g}: {place}"
        return DivergedError(what, kept.progress, hint)
    return DivergedError(otherwise, kept.progress, hint)


def _any_bad(array: Array) -> bool:
    return not np.isfinite(array).all()


def _restore(session: Session, kept: Anchor) -> None:
    for name, array in kept.state.items():
        session.write(name, array)


def _first_layer(
    session: Session, scores: Graph, batch: Batch, training: Split, chosen: Settings, number: int
) -> str:
    sound = np.isfinite(batch.images).all(axis=(1, 2, 3))
    if not sound.all():
        index = int(batch.indices[np.argmin(sound)])
        raise DataError(
            "the image holds numbers that are not finite",
            where=training.files[index] if training.files else f"training image {index} (from 0)",
            hint="leave it out or mend it",
        )
    names = tuple(node.outputs[0] for node in scores.nodes)
    outputs = session.run(
        Graph(scores.values, scores.nodes, names),
        {"input": batch.images, "step": number + 1, "seed": chosen.seed},
    )
    layer = next((name for name in names if _any_bad(outputs[name])), None)
    if layer is None:
        return "every layer's output is finite, but the scores are too large for the loss"
    return f"{layer} is the first layer whose output is not finite"
