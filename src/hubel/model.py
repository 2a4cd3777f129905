"""A network with weights on an engine: trained, asked, looked into, and kept in one file."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from math import prod
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hubel import engine as engines
from hubel.data import preprocess as preprocessing
from hubel.data.preprocess import Preprocess, Resize
from hubel.engine import Array
from hubel.errors import DataError, FormatError, HubelError, UsageError
from hubel.graph import modes
from hubel.graph.op import Graph, Value
from hubel.graph.shape import describe
from hubel.network import Network
from hubel.train import arrays, checkpoint
from hubel.train.arrays import Classes
from hubel.train.checkpoint import Saved, TrainingState
from hubel.train.forward import Forward
from hubel.train.initialise import SEEDS, initial
from hubel.train.losses import softmax

# What only training and scoring need is imported where they begin: a saved model that predicts one
# image would spend more time on it than on anything of its own.
if TYPE_CHECKING:
    from pathlib import Path

    from hubel.data.dataset import Dataset, Split
    from hubel.train.events import EpochDone, Event
    from hubel.train.metrics import Evaluation
    from hubel.train.preflight import Check, Rates
    from hubel.train.progress import Progress
    from hubel.train.settings import Settings
    from hubel.train.tta import View

__all__ = ["Model", "load"]

# Images that run through the network at once where nobody says otherwise: memory stays bounded.
_BATCH = 256


class Model:
    """A network and its weights, which begin from `seed` and `initialisation` alone.

    `net` is a Network, or what `check` takes with the size of its `input`. Images are (N, H, W, C),
    or (N, H, W) for a depth of 1, uint8 or float32. A model that was never trained takes their
    numbers as they are; training sets a preprocessing that every later call applies. `classes` are
    the names of the scores in order, `resize` how images of other sizes are to be brought to the
    network's. `engine` "native" is fast and computes in `precision`: "float32", "bfloat16", or
    "auto" for the one that is faster here; "reference" is plain NumPy in float64.

    >>> model = Model("fc2", (1, 1, 1), engine="reference")
    >>> model.set_parameters({"fc1.weight": [[1.0, 2.0]]})
    >>> model.logits(np.array([[[[3.0]]]], np.float32)).tolist()
    [[3.0, 6.0]]
    """

    def __init__(
        self,
        net: Network | str | Path,
        input: tuple[int, int, int] | None = None,
        *,
        seed: int = 0,
        engine: str = "native",
        precision: str = "float32",
        threads: int | None = None,
        initialisation: str = "he",
        classes: Sequence[str] | None = None,
        resize: Resize = "squash",
    ) -> None:
        if not isinstance(net, Network):
            net = Network(net, input, classes=None if classes is None else len(classes))
        elif input not in (None, net.input):
            raise UsageError(f"the network is for {describe(net.input)}, not {describe(input)}")
        if not 0 <= seed < SEEDS:
            raise UsageError(f"seed is {seed}, not at least 0 and below 2**64")
        names = arrays.class_names(net, classes)
        self._begin(net, names, seed, initialisation, resize, engine, precision, threads)
        for name, array in initial(net.built.parameters, initialisation, seed).items():
            self.session.write(name, array)
        for value in net.graph.with_role("statistic"):
            start = float(value.name.endswith("running_var"))
            self.session.write(value.name, np.full(value.shape, start, np.float32))

    def _begin(
        self,
        net: Network,
        classes: tuple[str, ...],
        seed: int,
        initialisation: str,
        resize: Resize,
        engine: str,
        precision: str,
        threads: int | None,
    ) -> None:
        """Everything but what is in the session."""
        self.network = net
        self.seed = seed
        self.initialisation = initialisation
        self.precision = engines.settled(precision, engine)
        self.resize: Resize = resize
        self.preprocess: Preprocess | None = None
        self._last_forward: Forward | None = None
        self.settings: Settings | None = None
        self.progress: Progress | None = None
        self._fingerprint = ""
        self._resumable = False
        self.classes = classes
        self.session = engines.start(engine, threads, self.precision)

    def __repr__(self) -> str:
        text = shorten(" ".join(self.network.text.split()), 60, placeholder=" …")
        epochs = self.progress.epoch if self.progress else 0
        return (
            f"Model({text!r} on {describe(self.network.input)}, {len(self.classes)} classes, "
            f"{self.network.report.parameters:,} parameters, {epochs} epochs of training)"
        )

    def train(
        self,
        x: ArrayLike | Dataset,
        y: Classes | None = None,
        *,
        validation: tuple[ArrayLike, Classes] | None = None,
        classes: Sequence[str] | None = None,
        resume: bool = False,
        **choices: Any,
    ) -> Generator[Event, None, None]:
        """Check everything, then return the run as a generator of events.

        The model stays as it is until the first event is asked for. `x` and `y` are images and
        their classes, by number or by name, or `x` is a whole Dataset. Without `validation`,
        `val_fraction` of the images is set aside for it. The `choices` are those of
        `hubel.train.settings.Settings`. Leaving the generator ends the run; a run that was left, or
        was loaded from a file, goes on with `resume`: the same data, the same choices, except that
        it may last longer. Raises UsageError and DataError for what cannot be used, and
        from the generator HubelError where the numbers are no longer finite.
        """
        from hubel.train import fit
        from hubel.train.progress import Progress
        from hubel.train.settings import settings

        chosen = self._resumed(choices) if resume else settings(**{"seed": self.seed, **choices})
        names, training, held_out = self._handed_over(x, y, validation, classes, chosen)
        fingerprint = arrays.fingerprint(training, held_out, names)
        if resume and fingerprint != self._fingerprint:
            raise DataError(
                "the images, their classes or their order are not those of the run",
                hint="resume with the same data, or start a new run on this one",
            )
        progress = self.progress if resume else None
        preprocess = self.preprocess if resume else _measured(training, chosen)
        graph = self.network.graph
        events = fit.train(self.session, graph, training, held_out, preprocess, chosen, progress)

        def run() -> Generator[Event, None, None]:
            self.classes, self.settings, self._fingerprint = names, chosen, fingerprint
            self.preprocess = preprocess
            self.progress, self._resumable = progress or Progress(), True
            yield from self._followed(events)

        return run()

    def diagnose(
        self,
        x: ArrayLike | Dataset,
        y: Classes | None = None,
        *,
        validation: tuple[ArrayLike, Classes] | None = None,
        classes: Sequence[str] | None = None,
        gradient_check: bool = False,
        **choices: Any,
    ) -> Iterator[Check | Rates]:
        """Check a run before its first epoch: what fails, why, and what to change.

        Takes what `train` takes. Yields a Check for each thing looked at and, after that of the
        learning rate, the rates tried; with `gradient_check` the gradients of all layers are held
        against differences in double precision. The model stays as it is.
        """
        from hubel.train.preflight import Subject, preflight
        from hubel.train.settings import settings

        chosen = settings(**{"seed": self.seed, **choices})
        _, training, held_out = self._handed_over(x, y, validation, classes, chosen)
        subject = Subject(
            self.session,
            self.network.graph,
            self._inference,
            training,
            held_out,
            _measured(training, chosen),
            chosen,
            self._kept_slots(),
        )
        return preflight(subject, gradient_check)

    def fit(
        self, x: ArrayLike | Dataset, y: Classes | None = None, **choices: Any
    ) -> tuple[EpochDone, ...]:
        """Train to the end, as `train` does, and return the history: one row an epoch."""
        for _ in self.train(x, y, **choices):
            pass
        assert self.progress is not None
        return self.progress.history

    @property
    def tta(self) -> str:
        """The views of an image that are averaged unless told otherwise: those of its training."""
        return self.settings.tta if self.settings else "none"

    def predict(
        self, x: ArrayLike, batch_size: int = _BATCH, *, tta: str | None = None
    ) -> NDArray[np.float64]:
        """The probability of each class for each image, (N, classes); `tta` as for `logits`."""
        return softmax(self.logits(x, batch_size, tta=tta))

    def logits(self, x: ArrayLike, batch_size: int = _BATCH, *, tta: str | None = None) -> Array:
        """The scores of each image, (N, classes), before the softmax.

        With `tta` "flip" or "crops" they are the mean over the views of hubel.train.tta, in
        float64; "none" takes the image as it is, None does as the model was trained to.
        """
        if (tta or self.tta) == "none":
            return self._scores(x, batch_size)
        from hubel.train.tta import views_of

        views = views_of(tta or self.tta)
        parts = (
            view.share * self._scores(x, batch_size, view).astype(np.float64) for view in views
        )
        return np.asarray(sum(parts, 0.0))

    def evaluate(
        self, x: ArrayLike, y: Classes, batch_size: int = _BATCH, *, tta: str | None = None
    ) -> dict[str, float]:
        """The mean loss and the accuracy on images and their classes; `tta` as for `logits`."""
        measured = self.measure(x, y, batch_size, tta=tta)
        return {"loss": measured.loss, "accuracy": measured.accuracy}

    def measure(
        self, x: ArrayLike, y: Classes, batch_size: int = _BATCH, *, tta: str | None = None
    ) -> Evaluation:
        """As `evaluate`, with the confusion matrix and the 95 % interval of the accuracy."""
        from hubel.train import fit, metrics

        split = arrays.as_split(x, y, self.network.input, self.classes)
        loss = self.settings.loss if self.settings else "cross-entropy"
        if (tta or self.tta) != "none":
            scores = self.logits(split.images, batch_size, tta=tta)
            return metrics.measure([(scores, split.labels)], len(self.classes), loss)
        return fit.evaluate(self.session, self._inference, split, self.preprocess, loss, batch_size)

    def activations(self, x: ArrayLike, batch_size: int = _BATCH) -> dict[str, Array]:
        """What every layer makes of the images in inference mode, (N, H, W, C) or (N, outputs)."""
        sources, graph = self._layers
        made = self._forward.run(graph, x, batch_size) if graph.outputs else {}
        if "input" in sources.values():
            images = arrays.as_images(x, self.network.input, least=0)
            made["input"] = np.array(self._forward.prepared(images))  # may be the caller's own
        return {layer: made[source] for layer, source in sources.items()}

    def gradients(self, x: ArrayLike, y: Classes) -> tuple[float, dict[str, Array]]:
        """The mean softmax cross-entropy of one batch, and its gradients by parameter and "input".

        Batch normalisation uses the batch's own statistics, as in training, but the running ones
        stay as they are; dropout drops nothing, so that the same images give the same numbers. The
        gradient by "input" is that by the preprocessed image.
        """
        split = arrays.as_split(x, y, self.network.input, self.classes)
        gradients, graph = self._gradients
        results = self.session.run(
            graph, {"input": self._forward.prepared(split.images), "labels": split.labels}
        )
        return float(results["loss"]), {name: results[made] for name, made in gradients.items()}

    def trained_on(self, data: Dataset) -> bool:
        """Whether these are the very images, classes and split that the model was trained on."""
        held_out = data.validation if len(data.validation) else None
        return arrays.fingerprint(data.train, held_out, data.classes) == self._fingerprint

    @property
    def parameters(self) -> dict[str, Array]:
        """Copies of all weights and running statistics by name."""
        return {name: self.session.read(name) for name in self._kept()}

    def set_parameters(self, given: Mapping[str, ArrayLike]) -> None:
        """Set some or all weights and running statistics; raises UsageError naming all misfits."""
        kept = self._kept()
        values = {name: np.asarray(array) for name, array in given.items()}
        problems = []
        for name, array in values.items():
            if name not in kept:
                problems.append(f"there is no {name}")
            elif array.shape != kept[name].shape:
                problems.append(f"{name} has shape {kept[name].shape}, not {array.shape}")
            elif array.dtype.kind not in "fiu":
                problems.append(f"{name} holds numbers, not {array.dtype}")
        if problems:
            raise UsageError("; ".join(problems), hint=f"the names are {', '.join(kept)}")
        for name, array in values.items():
            self.session.write(name, array)

    def save(self, path: str | os.PathLike[str], *, resumable: bool = True) -> None:
        """Write the model to one file, which replaces `path` only once it is whole.

        Without `resumable` what the optimizer keeps is left out: the file is smaller, and no run
        can go on from it. Raises HubelError, and leaves the old file, where a weight is not finite.
        """
        training = None
        if self.settings is not None and self.progress is not None:
            slots = self._kept_slots() if resumable else {}
            training = TrainingState(
                self.settings,
                self.progress,
                self._fingerprint,
                self._resumable and resumable,
                slots,
            )
        net = self.network
        saved = Saved(
            net=net.text,
            input=net.input,
            fit=net.fit,
            classes=self.classes,
            seed=self.seed,
            initialisation=self.initialisation,
            preprocess=self.preprocess,
            resize=self.resize,
            tensors=self.parameters,
            training=training,
        )
        checkpoint.write(path, saved)

    def _kept_slots(self) -> dict[str, Array]:
        """What the optimizer of a run that can go on has kept."""
        if self.settings is None or not self._resumable:
            return {}
        return {name: self.session.read(name) for name in self._slots(self.settings)}

    def _restore(self, saved: Saved) -> None:
        """Take over weights and the state of training; raises UsageError where they do not fit."""
        missing = self._kept().keys() - saved.tensors.keys()
        if missing:
            raise UsageError(f"there is no {', '.join(sorted(missing))} in it")
        self.set_parameters(saved.tensors)
        self.preprocess = saved.preprocess
        if saved.training is None:
            return
        self.settings = saved.training.settings
        self.progress = saved.training.progress
        self._fingerprint = saved.training.fingerprint
        self._resumable = saved.training.resumable
        if self._resumable:
            for name, value in self._slots(self.settings).items():
                array = saved.training.slots.get(name)
                if array is None or array.shape != value.shape:
                    raise UsageError(f"the optimizer's {name} is missing or has another shape")
                self.session.write(name, array)

    def _handed_over(
        self,
        x: ArrayLike | Dataset,
        y: Classes | None,
        validation: tuple[ArrayLike, Classes] | None,
        classes: Sequence[str] | None,
        chosen: Settings,
    ) -> tuple[tuple[str, ...], Split, Split | None]:
        return arrays.handed_over(
            x,
            y,
            validation,
            classes,
            network=self.network,
            known=self.classes,
            trained=self.settings is not None,
            chosen=chosen,
        )

    def _resumed(self, choices: Mapping[str, Any]) -> Settings:
        from hubel.train.settings import resumed

        if self.settings is None or self.progress is None:
            raise UsageError("there is no run to resume: this model was never trained")
        if not self._resumable:
            raise UsageError(
                "this model was saved without what the optimizer keeps: no run can go on from it",
                hint="resume from the run's last.hubel",
            )
        chosen = resumed(self.settings, choices)
        if chosen.epochs < self.progress.epoch:
            raise UsageError(f"the run has {self.progress.epoch} epochs behind it already")
        return chosen

    def _followed(self, events: Generator[Event, None, None]) -> Generator[Event, None, None]:
        from hubel.train.diverged import DivergedError

        with closing(events):
            try:
                for event in events:
                    assert self.progress is not None
                    self.progress = self.progress.after(event)
                    yield event
            except DivergedError as error:
                self.progress = error.progress
                raise

    @property
    def _forward(self) -> Forward:
        """One for as long as a preprocessing stays: its matrix lies in a session of its own."""
        last = self._last_forward
        if last and last.session is self.session and last.preprocess is self.preprocess:
            return last
        self._last_forward = Forward(self.session, self.network.input, self.preprocess)
        return self._last_forward

    # An engine keeps what it prepared for a graph as long as it meets the very same one again.

    @cached_property
    def _inference(self) -> Graph:
        return modes.for_inference(self.network.graph)

    @cached_property
    def _layers(self) -> tuple[dict[str, str], Graph]:
        """The value that is each layer's output in inference, and the graph that gives them all."""
        layers = [placed.name for placed in self.network.built.layers]
        return modes.with_layers(self.network.graph, layers)

    @cached_property
    def _gradients(self) -> tuple[dict[str, str], Graph]:
        """The value that is the gradient by each parameter and "input", and the graph of them."""
        return modes.with_all_gradients(self.network.graph)

    def _kept(self) -> dict[str, Value]:
        graph = self.network.graph
        values = (*graph.with_role("parameter"), *graph.with_role("statistic"))
        return {value.name: value for value in values}

    def _slots(self, chosen: Settings) -> dict[str, Value]:
        from hubel.train.step import step_graph

        whole = step_graph(self.network.graph, chosen)
        return {value.name: value for value in whole.with_role("slot")}

    def _scores(self, x: ArrayLike, batch_size: int, view: View | None = None) -> Array:
        (scores,) = self._forward.run(self._inference, x, batch_size, view).values()
        return scores.reshape(len(scores), prod(scores.shape[1:]))


def _measured(training: Split, chosen: Settings) -> Preprocess | None:
    """The preprocessing that was chosen, as the images that are trained on have it."""
    if chosen.preprocess is None:
        return None
    return preprocessing.fit(training.images, chosen.preprocess)


def load(
    path: str | os.PathLike[str],
    *,
    engine: str = "native",
    precision: str = "float32",
    threads: int | None = None,
) -> Model:
    """The model that `Model.save` wrote; raises FormatError for a file that is damaged."""
    saved = checkpoint.read(path)
    try:
        network = Network(saved.net, input=saved.input, classes=len(saved.classes), fit=saved.fit)
        classes = arrays.class_names(network, saved.classes)
    except HubelError as error:
        raise _misfit(path, error) from error
    # Nothing is drawn that the file's weights would replace at once.
    model = Model.__new__(Model)
    model._begin(
        network,
        classes,
        saved.seed,
        saved.initialisation,
        saved.resize,
        engine,
        precision,
        threads,
    )
    try:
        model._restore(saved)
    except UsageError as error:
        raise _misfit(path, error) from error
    return model


def _misfit(path: str | os.PathLike[str], error: HubelError) -> FormatError:
    return FormatError(
        f"its parts do not fit together: {error.what}",
        where=os.fspath(path),
        hint="it was not written by Hubel, or changed since: take another copy",
    )
