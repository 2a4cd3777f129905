"""What is off in a run, in words, as it shows: a fold of the run's own events."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hubel.train.events import EpochDone, Probe, StepDone, Verdict
from hubel.train.losses import Labels
from hubel.train.metrics import Evaluation, wilson
from hubel.train.schedules import learning_rate
from hubel.train.settings import Settings

__all__ = ["Watch", "chance_loss"]

# Steps that a mean of losses is taken over: fewer are noise, more are late.
_WINDOW = 40
# A step's gradient may be some times the usual one; this often it undoes what was learned.
_BURST = 200.0
# A network that has not got below chance after so many steps, or an epoch, does not learn.
_PATIENCE = 200

# CS231n names 1e-3 as a healthy update by weight; healthy runs reach from 1e-4 to 5e-2 early on.
_LOW_RATIO, _HIGH_RATIO = 3e-5, 0.3

# An output of an FC layer is one number an image, and may rightly be there for few of them; a
# filter has a whole map to fire in.
_DEAD_FILTERS, _DEAD_OUTPUTS = 0.4, 0.9
_SATURATED = 0.6
_GAP, _RISEN, _EPOCHS_WORSE = 0.1, 1.15, 3


def chance_loss(chosen: Settings, labels: Labels, classes: int) -> float:
    """The loss of knowing how frequent each class is, and nothing else of an image.

    It is the entropy of the classes for cross-entropy, ln(classes) where they are equally frequent
    or weighted to be,
    and classes − 1 for the hinge loss of equal scores.
    """
    if chosen.loss == "hinge":
        return classes - 1.0
    share = np.bincount(labels, minlength=classes) / len(labels)
    if chosen.class_weights is not None:
        share = np.full(classes, 1.0 / classes)
    share = share * (1.0 - chosen.label_smoothing) + chosen.label_smoothing / classes
    present = share[share > 0]
    return float(-(present * np.log(present)).sum())


@dataclass(slots=True)
class Watch:
    """What a run has shown so far; each method takes an event and yields what is newly off.

    `chance` is the loss at chance level, `steps` those of an epoch, `frozen` the parameters that
    are meant not to change.
    """

    chosen: Settings
    chance: float
    steps: int
    frozen: frozenset[str] = frozenset()
    first: float | None = None
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=2 * _WINDOW))
    norms: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    number: int = 0
    probed: Probe | None = None
    rows: list[EpochDone] = field(default_factory=list)
    said: set[tuple[str, str]] = field(default_factory=set)

    def step(self, done: StepDone, number: int) -> Iterator[Verdict]:
        """After step `number`, the run's first being 1: how the loss goes, what a probe shows."""
        self.number = number
        self.losses.append(done.loss)
        if self.first is None:
            self.first = done.loss
        yield from self._bursting(done)
        self.norms.append(done.gradient_norm)
        if len(self.losses) == self.losses.maxlen:
            yield from self._rising(done)
        due = min(max(_PATIENCE, self.steps), self.chosen.epochs * self.steps)
        if number % due == 0 and number >= 2 * _WINDOW:
            yield from self._stuck(done)
        if done.probe is not None:
            last, self.probed = self.probed, done.probe
            yield from self._units(done, done.probe, last)
            yield from self._standing_still(done, done.probe, last)
            yield from self._leaping(done)

    def _units(self, done: StepDone, probed: Probe, last: Probe | None) -> Iterator[Verdict]:
        """Units that never fire, or are flat."""
        before = {} if last is None else {each.layer: each for each in last.layers}
        for layer in probed.layers:
            # Units may come back to life: what two probes see is believed.
            most = _DEAD_FILTERS if layer.maps else _DEAD_OUTPUTS
            earlier = before[layer.layer].dead if layer.layer in before else None
            if layer.dead is not None and earlier is not None and min(layer.dead, earlier) > most:
                yield from self._say(
                    done,
                    "dead-units",
                    layer.layer,
                    f"{_percent(layer.dead)} of {layer.layer} never fires",
                    "lower the learning rate, or use leaky0.01 for relu; look at the biases before "
                    "it",
                )
            if layer.saturated is not None and layer.saturated > _SATURATED:
                yield from self._say(
                    done,
                    "saturated",
                    layer.layer,
                    f"{_percent(layer.saturated)} of {layer.layer}'s outputs lie where "
                    f"{layer.function} is flat",
                    "lower the learning rate, put bn before it, or use relu",
                )

    def epoch(self, row: EpochDone, measured: Evaluation | None) -> Iterator[Verdict]:
        """After an epoch: how training and validation compare."""
        self.rows.append(row)
        if measured is None:
            return
        yield from self._order(row, measured)
        yield from self._unrelated(row, measured)
        yield from self._overfitting(row)

    def _say(
        self, event: StepDone | EpochDone, code: str, layer: str, message: str, advice: str
    ) -> Iterator[Verdict]:
        if (code, layer) in self.said:
            return
        self.said.add((code, layer))
        step = self.steps if isinstance(event, EpochDone) else event.step
        yield Verdict(event.epoch, step, code, layer, message, advice)

    def _bursting(self, done: StepDone) -> Iterator[Verdict]:
        if len(self.norms) < _WINDOW or self.chosen.clip_norm is not None:
            return
        usual = float(np.median(self.norms))
        if usual > 0 and done.gradient_norm > _BURST * usual:
            yield from self._say(
                done,
                "gradient-bursts",
                "",
                f"the gradient's norm was {done.gradient_norm:.2g} in one step, and "
                f"{usual:.2g} before",
                f"try --clip-norm {2 * usual:.1g}",
            )

    def _rising(self, done: StepDone) -> Iterator[Verdict]:
        losses = list(self.losses)
        before, after = np.mean(losses[:_WINDOW]), np.mean(losses[_WINDOW:])
        assert self.first is not None
        worse_than_start = after > 1.15 * max(self.first, self.chance)
        if worse_than_start or (after > 1.25 * before and after > self.chance):
            rate = self.chosen.rate
            start = self.first if worse_than_start else before
            yield from self._say(
                done,
                "rate-too-high",
                "",
                f"learning rate too high: the loss rose from {start:.3g} to {after:.3g}, the mean "
                f"of {_WINDOW} steps",
                f"try --lr {rate / 10:g}",
            )

    def _stuck(self, done: StepDone) -> Iterator[Verdict]:
        mean = float(np.mean(list(self.losses)))
        if mean < 0.98 * self.chance:
            return
        ratio = self._usual_ratio()
        rate = self.chosen.rate
        too_high = ("rate-too-high", "") in self.said
        message = (
            f"nothing learned in {self.number} steps: the loss is {mean:.3g}, and knowing nothing "
            f"costs {self.chance:.3g}"
        )
        advice = (
            "see that each label belongs to its image; hubel diagnose tries twenty images alone"
        )
        if ratio is not None and ratio < 10 * _LOW_RATIO and not too_high:
            advice = f"the steps are too small: try --lr {rate * 10:g}"
        elif too_high or (ratio is not None and ratio > _HIGH_RATIO / 10):
            advice = f"the steps are too large: try --lr {rate / 10:g}"
        yield from self._say(done, "stuck", "", message, advice)

    def _usual_ratio(self) -> float | None:
        """The median of update by weight over weights of dot products that move."""
        if self.probed is None:
            return None
        ratios = [each.ratio for each in self.probed.weights if _is_weight(each.parameter)]
        return float(np.median(ratios)) if ratios else None

    def _standing_still(
        self, done: StepDone, probed: Probe, last: Probe | None
    ) -> Iterator[Verdict]:
        weights = [each for each in probed.weights if each.parameter not in self.frozen]
        moving = [each for each in weights if each.update > 0]
        # The first, small steps may round to nothing: what two probes see is believed.
        stood = set() if last is None else {e.parameter for e in last.weights if e.update == 0}
        for each in weights:
            still = each.update == 0 and each.parameter in stood
            if still and moving and (each.weight > 0 or _is_weight(each.parameter)):
                layer = each.parameter.rsplit(".", 1)[0]
                why = (
                    "no gradient arrives there: units behind it are dead, or all weights are alike"
                    if each.gradient == 0
                    else "its gradient is not zero: something keeps it from being updated"
                )
                yield from self._say(
                    done, "frozen", layer, f"{each.parameter} does not change", why
                )
        ratio = self._usual_ratio()
        if ratio is not None and self.number >= 30 and ratio < _LOW_RATIO * self._share():
            rate = self.chosen.rate
            yield from self._say(
                done,
                "rate-too-low",
                "",
                f"learning rate too low: a step changes the weights by {ratio:.1g} of their size, "
                "1e-3 is usual",
                f"try --lr {rate * 10:g}",
            )

    def _leaping(self, done: StepDone) -> Iterator[Verdict]:
        ratio = self._usual_ratio()
        if ratio is not None and ratio > _HIGH_RATIO:
            yield from self._say(
                done,
                "rate-too-high",
                "",
                f"learning rate too high: a step changes the weights by {ratio:.1g} of their size, "
                "1e-3 is usual",
                f"try --lr {self.chosen.rate / 10:g}",
            )

    def _share(self) -> float:
        """The share of the highest learning rate that the schedule gives now."""
        return learning_rate(self.chosen, self.number - 1, self.steps) / self.chosen.rate

    def _order(self, row: EpochDone, measured: Evaluation) -> Iterator[Verdict]:
        """Whether the classes of validation are the network's in another order."""
        confusion = np.array(measured.confusion)
        pairs = _assigned(confusion)
        moved = [pair for pair in pairs if pair[0] != pair[1]]
        matched = sum(int(confusion[pair]) for pair in pairs) / measured.count
        if len(moved) < 2 or matched < max(measured.accuracy + 0.15, 1.5 * measured.accuracy):
            return
        yield from self._say(
            row,
            "class-order",
            "",
            f"{_percent(measured.accuracy)} of the validation images are right, and "
            f"{_percent(matched)} would be if {len(moved)} classes stood in another order there",
            "see that validation has the classes of training, in the same order",
        )

    def _unrelated(self, row: EpochDone, measured: Evaluation) -> Iterator[Verdict]:
        """Whether what is learned on training images says nothing about validation images."""
        if ("class-order", "") in self.said:
            return
        _, high = wilson(measured.correct, measured.count)
        if high > measured.baseline * 1.1 or row.accuracy < 2 * high or row.accuracy < 0.5:
            return
        yield from self._say(
            row,
            "unrelated",
            "",
            f"{_percent(row.accuracy)} of the training images are right, but only "
            f"{_percent(measured.accuracy)} of the validation images, no more than always naming "
            "the most frequent class",
            "the images were learned by heart: see that each label belongs to its image",
        )

    def _overfitting(self, row: EpochDone) -> Iterator[Verdict]:
        assert row.validation_loss is not None
        assert row.validation_accuracy is not None
        losses = [each.validation_loss for each in self.rows if each.validation_loss is not None]
        best = int(np.argmin(losses))
        worse = len(losses) - 1 - best
        gap = row.accuracy - row.validation_accuracy
        if worse < _EPOCHS_WORSE or gap < _GAP or losses[-1] < _RISEN * losses[best]:
            return
        yield from self._say(
            row,
            "overfitting",
            "",
            f"overfitting: training {_percent(row.accuracy)}, validation "
            f"{_percent(row.validation_accuracy)}, and the validation loss has risen from "
            f"{losses[best]:.3g} to {losses[-1]:.3g} in {worse} epochs",
            "augment (--flip --crop 4), --weight-decay 5e-4, drop0.5, or a smaller network",
        )


def _assigned(confusion: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Each true class with the one that it is mostly taken for, every class once.

    The largest counts come first; what is not there at all has no pair.
    """
    order = np.argsort(-confusion, axis=None, kind="stable")
    left = confusion.copy()
    pairs = []
    for true, taken in zip(*np.unravel_index(order, confusion.shape), strict=True):
        if left[true, taken] > 0:
            pairs.append((int(true), int(taken)))
            left[true, :] = left[:, taken] = 0
    return pairs


def _is_weight(parameter: str) -> bool:
    kind = parameter.split(".")[0].rstrip("0123456789")
    return parameter.endswith(".weight") and kind in ("conv", "fc")


def _percent(share: float) -> str:
    return f"{math.floor(100 * share + 0.5)} %"
