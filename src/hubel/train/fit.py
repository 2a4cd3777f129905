"""The training loop: a generator of events that nothing calls back into."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from numpy.typing import NDArray

from hubel.data.batches import Batch, minibatches, prefetch
from hubel.data.dataset import Split
from hubel.data.preprocess import Preprocess
from hubel.engine import Array, Session
from hubel.graph import modes
from hubel.graph.op import Graph
from hubel.train import diverged
from hubel.train.events import Ended, EpochDone, Event, Probe, Reason, Started, Validating
from hubel.train.losses import Labels, Scores
from hubel.train.metrics import Evaluation, measure
from hubel.train.prepared import assembler
from hubel.train.probe import due, probe, probe_graph, weights_of
from hubel.train.progress import Progress
from hubel.train.schedules import learning_rate
from hubel.train.settings import Settings
from hubel.train.step import batches_from, check, forget, frozen, run_step, step_graph, steps_before
from hubel.train.watch import Watch, chance_loss
from hubel.train.whiten import write_whitened

__all__ = ["evaluate", "train"]

# Steps between two copies of the state in memory, from which a divergence is traced: few enough
# to be taken again at once, many enough that the copies cost nothing.
_ANCHOR_STEPS = 64

_CHANGED_FROM_OUTSIDE = (
    "a weight was not finite, yet the same steps taken again leave all of them finite: "
    "something other than training changed it"
)
_VALIDATION_BAD = "the scores of validation images are not finite, though every weight is"


def train(
    session: Session,
    graph: Graph,
    training: Split,
    validation: Split | None,
    preprocess: Preprocess | None,
    chosen: Settings,
    progress: Progress | None = None,
) -> Generator[Event, None, None]:
    """Train the session's parameters on a network's graph, event by event.

    With the `progress` of an earlier run and its state in the session the run goes on from there,
    to the same bits as if it had never stopped: a step depends on the state before it, the settings
    and the data alone. Between two events the session is in order; closing the generator ends
    the run there. Raises `DivergedError` where the numbers are no longer finite, with the session
    as it was before the step that did it.
    """
    check(training, chosen, _classes(graph))
    run = _Run(
        session,
        graph,
        step_graph(graph, chosen),
        probe_graph(graph, chosen),
        modes.for_inference(graph),
        training,
        validation,
        preprocess,
        chosen,
    )
    return run.events(progress)


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    session: Session
    graph: Graph
    whole: Graph
    probing: Graph
    inference: Graph
    training: Split
    validation: Split | None
    preprocess: Preprocess | None
    chosen: Settings

    @property
    def steps(self) -> int:
        """Steps in an epoch, the last of which may see fewer images."""
        return math.ceil(len(self.training) / self.chosen.batch_size)

    def events(self, progress: Progress | None) -> Generator[Event, None, None]:
        begun = time.monotonic()
        if progress is None:
            progress = Progress()
            if self.chosen.whiten:
                write_whitened(self.session, self.graph, self.training.images, self.preprocess)
            forget(self.session, self.whole)
        held_out = 0 if self.validation is None else len(self.validation)
        yield Started(
            self.chosen.epochs,
            self.steps,
            len(self.training),
            held_out,
            progress.epoch,
            progress.step,
        )
        kept = self._anchor(progress, None)
        watch = self._watch()
        if progress.step:
            # The run may have been left between a step and what was to be said of it.
            progress = yield from watch.step(progress)
        source = self._batches(progress)
        with closing(prefetch(source)) as batches:
            while (reason := self._finished(progress, begun)) is None:
                epoch_begun, seen_before = time.monotonic(), progress.seen
                while progress.step < self.steps and not self._out_of_time(begun):
                    if progress.step - kept.progress.step >= _ANCHOR_STEPS:
                        kept = self._anchor(progress, kept)
                    batch, number = next(batches), steps_before(progress, self.steps) + 1
                    before = self._weights() if due(number) else None
                    done = run_step(
                        self.session, self.whole, batch, self.chosen, progress, self.steps
                    )
                    if not diverged.finite(done):
                        raise self._explain(kept, progress.after(done))
                    if before is not None:
                        done = replace(done, probe=self._probe(batch, before))
                    progress = progress.after(done)
                    yield done
                    progress = yield from watch.step(progress)
                if progress.step < self.steps:
                    continue
                measured = None
                if self.validation is not None:
                    measured = yield from self._validate(self.validation, progress.epoch + 1)
                    if not math.isfinite(measured.loss):
                        raise self._explain(kept, progress, _VALIDATION_BAD)
                kept = self._anchor(progress, kept)
                seconds = time.monotonic() - epoch_begun
                row = self._row(progress, measured, seconds, progress.seen - seen_before)
                if measured is not None:
                    # Before the epoch is over, so that a run that is left here measures it again.
                    progress = yield from watch.epoch(progress, row, measured)
                progress = progress.after(row)
                kept = replace(kept, progress=progress)
                yield row
        best = progress.best.epoch if progress.best else None
        yield Ended(reason, progress.epoch, best, time.monotonic() - begun)

    def _watch(self) -> Watch:
        classes = _classes(self.inference)
        chance = chance_loss(self.chosen, self.training.labels, classes)
        meant = frozenset(frozen(self.graph, self.chosen))
        return Watch(self.chosen, chance, self.steps, meant)

    def _probe(self, batch: Batch, before: Mapping[str, Array]) -> Probe | None:
        return probe(
            self.session, self.graph, self.probing, batch, self.chosen, before, self._weights()
        )

    def _weights(self) -> dict[str, Array]:
        return weights_of(self.session, self.graph, self.whole)

    def _batches(self, progress: Progress) -> Iterator[Batch]:
        assemble = assembler(self.session, self.preprocess)
        return batches_from(
            self.training,
            self.preprocess,
            assemble,
            self.chosen,
            progress,
            _classes(self.inference),
        )

    def _finished(self, progress: Progress, begun: float) -> Reason | None:
        if progress.epoch >= self.chosen.epochs:
            return "epochs"
        if self.chosen.patience is not None and progress.since_best >= self.chosen.patience:
            return "patience"
        return "time" if self._out_of_time(begun) else None

    def _out_of_time(self, begun: float) -> bool:
        return self.chosen.time is not None and time.monotonic() - begun >= self.chosen.time

    def _anchor(self, progress: Progress, before: diverged.Anchor | None) -> diverged.Anchor:
        """A copy of the state, which is finite: else the steps since `before` are explained."""
        latest = diverged.anchor(self.session, self.whole, progress)
        if latest.broken is not None:
            raise self._explain(before or latest, progress)
        return latest

    def _explain(
        self, kept: diverged.Anchor, until: Progress, otherwise: str = _CHANGED_FROM_OUTSIDE
    ) -> diverged.DivergedError:
        count = steps_before(until, self.steps) - steps_before(kept.progress, self.steps)
        shown = replace(kept.progress.shown, verdicts=until.shown.verdicts)
        kept = replace(kept, progress=replace(kept.progress, shown=shown))
        again = self._batches(kept.progress)
        scores = modes.without_updates(replace(self.whole, outputs=self.inference.outputs))
        return diverged.explain(
            self.session,
            scores,
            self.whole,
            kept,
            islice(again, count),
            self.training,
            self.chosen,
            self.steps,
            otherwise,
        )

    def _validate(self, validation: Split, epoch: int) -> Generator[Event, None, Evaluation]:
        parts = []
        done = 0
        for part in _scored(
            self.session, self.inference, validation, self.preprocess, self.chosen.batch_size
        ):
            parts.append(part)
            done += len(part[1])
            yield Validating(epoch, done, len(validation))
        return measure(parts, _classes(self.inference), self.chosen.loss)

    def _row(
        self, progress: Progress, measured: Evaluation | None, seconds: float, images: int
    ) -> EpochDone:
        loss = progress.loss_sum / progress.seen
        figures = (measured.loss, measured.accuracy) if measured else (None, None)
        last = steps_before(progress, self.steps) - 1
        return EpochDone(
            epoch=progress.epoch + 1,
            loss=loss,
            accuracy=progress.correct / progress.seen,
            validation_loss=figures[0],
            validation_accuracy=figures[1],
            learning_rate=learning_rate(self.chosen, last, self.steps),
            seconds=seconds,
            images_per_second=images / max(seconds, 1e-9),
            best=progress.improves(loss, *figures),
        )


def evaluate(
    session: Session,
    inference: Graph,
    split: Split,
    preprocess: Preprocess | None,
    loss: str = "cross-entropy",
    batch_size: int = 256,
) -> Evaluation:
    """Score a split with the graph of inference, which drops nothing and has running statistics."""
    scored = _scored(session, inference, split, preprocess, batch_size)
    return measure(scored, _classes(inference), loss)


def _classes(graph: Graph) -> int:
    (scores,) = graph.outputs
    return math.prod(graph[scores].shape)


def _scored(
    session: Session, inference: Graph, split: Split, preprocess: Preprocess | None, batch_size: int
) -> Iterator[tuple[Scores, Labels]]:
    (name,) = inference.outputs
    assemble = assembler(session, preprocess)
    source = minibatches(split, preprocess, assemble, batch_size, shuffle=False)
    with closing(prefetch(source)) as batches:
        for batch in batches:
            scores: NDArray[Any] = session.run(inference, {"input": batch.images})[name]
            yield scores.reshape(len(scores), -1), batch.labels
