"""What is off in a run, in words, as it shows: pure functions of the run's progress."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hubel.train.events import EpochDone, Verdict
from hubel.train.losses import Labels
from hubel.train.metrics import Evaluation, wilson
from hubel.train.progress import Progress
from hubel.train.schedules import learning_rate
from hubel.train.settings import Settings
from hubel.train.shown import WINDOW, Shown
from hubel.train.step import steps_before

__all__ = ["Watch", "chance_loss"]

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


@dataclass(frozen=True, slots=True)
class Watch:
    """The rules for a run; what it has shown is in its progress, which verdicts become a part of.

    `chance` is the loss at chance level, `steps` those of an epoch, `frozen` the parameters that
    are meant not to change.
    """

    chosen: Settings
    chance: float
    steps: int
    frozen: frozenset[str] = frozenset()

    def step(self, progress: Progress) -> Generator[Verdict, None, Progress]:
        """After a step: what its loss and its probe show, if it was not said; then the progress."""
        rules = [self._bursting, self._rising, self._stuck]
        if progress.shown.probe is not None:
            rules += [self._units, self._standing_still, self._crawling, self._leaping]
        return _unsaid(progress, rules)

    def epoch(
        self, progress: Progress, row: EpochDone, measured: Evaluation
    ) -> Generator[Verdict, None, Progress]:
        """Before an epoch is over, as `row` says: how training and validation compare."""
        order = partial(self._order, measured=measured)
        unrelated = partial(self._unrelated, row=row, measured=measured)
        return _unsaid(progress, [order, unrelated, partial(self._overfitting, row=row)])

    def _bursting(self, progress: Progress) -> Iterator[Verdict]:
        norms = progress.shown.norms
        if len(norms) <= WINDOW or self.chosen.clip_norm is not None:
            return
        *before, norm = norms
        usual = float(np.median(before))
        if usual > 0 and norm > _BURST * usual:
            yield _verdict(
                progress,
                "gradient-bursts",
                "",
                f"the gradient's norm was {norm:.2g} in one step, and {usual:.2g} before",
                f"try --clip-norm {2 * usual:.1g}",
            )

    def _rising(self, progress: Progress) -> Iterator[Verdict]:
        losses, first = progress.shown.losses, progress.shown.first
        if len(losses) < 2 * WINDOW:
            return
        before, after = np.mean(losses[:WINDOW]), np.mean(losses[WINDOW:])
        assert first is not None
        worse_than_start = after > 1.15 * max(first, self.chance)
        if worse_than_start or (after > 1.25 * before and after > self.chance):
            rate = self.chosen.rate
            start = first if worse_than_start else before
            yield _verdict(
                progress,
                "rate-too-high",
                "",
                f"learning rate too high: the loss rose from {start:.3g} to {after:.3g}, the mean "
                f"of {WINDOW} steps",
                f"try --lr {rate / 10:g}",
            )

    def _stuck(self, progress: Progress) -> Iterator[Verdict]:
        losses, number = progress.shown.losses, steps_before(progress, self.steps)
        due = min(max(_PATIENCE, self.steps), self.chosen.epochs * self.steps)
        if number % due or len(losses) < 2 * WINDOW:
            return
        mean = float(np.mean(losses))
        if mean < 0.98 * self.chance:
            return
        ratio = _usual_ratio(progress.shown)
        rate = self.chosen.rate
        too_high = progress.shown.has_said("rate-too-high")
        advice = (
            "see that each label belongs to its image; hubel diagnose tries twenty images alone"
        )
        if ratio is not None and ratio < 10 * _LOW_RATIO and not too_high:
            advice = f"the steps are too small: try --lr {rate * 10:g}"
        elif too_high or (ratio is not None and ratio > _HIGH_RATIO / 10):
            advice = f"the steps are too large: try --lr {rate / 10:g}"
        yield _verdict(
            progress,
            "stuck",
            "",
            f"nothing learned in {number} steps: the loss is {mean:.3g}, and knowing nothing "
            f"costs {self.chance:.3g}",
            advice,
        )

    def _units(self, progress: Progress) -> Iterator[Verdict]:
        """Units that never fire, or are flat."""
        probe, last = progress.shown.probe, progress.shown.earlier
        assert probe is not None
        before = {} if last is None else {each.layer: each for each in last.layers}
        for layer in probe.layers:
            # Units may come back to life: what two probes see is believed.
            most = _DEAD_FILTERS if layer.maps else _DEAD_OUTPUTS
            earlier = before[layer.layer].dead if layer.layer in before else None
            if layer.dead is not None and earlier is not None and min(layer.dead, earlier) > most:
                yield _verdict(
                    progress,
                    "dead-units",
                    layer.layer,
                    f"{_percent(layer.dead)} of {layer.layer} never fires",
                    "lower the learning rate, or use leaky0.01 for relu; look at the biases before "
                    "it",
                )
            if layer.saturated is not None and layer.saturated > _SATURATED:
                yield _verdict(
                    progress,
                    "saturated",
                    layer.layer,
                    f"{_percent(layer.saturated)} of {layer.layer}'s outputs lie where "
                    f"{layer.function} is flat",
                    "lower the learning rate, put bn before it, or use relu",
                )

    def _standing_still(self, progress: Progress) -> Iterator[Verdict]:
        probe, last = progress.shown.probe, progress.shown.earlier
        assert probe is not None
        weights = [each for each in probe.weights if each.parameter not in self.frozen]
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
                yield _verdict(progress, "frozen", layer, f"{each.parameter} does not change", why)

    def _crawling(self, progress: Progress) -> Iterator[Verdict]:
        ratio, number = _usual_ratio(progress.shown), steps_before(progress, self.steps)
        if ratio is None or number < 30:
            return
        rate, now = self.chosen.rate, learning_rate(self.chosen, number - 1, self.steps)
        if ratio * rate < _LOW_RATIO * now:
            yield _verdict(
                progress,
                "rate-too-low",
                "",
                f"learning rate too low: a step changes the weights by {ratio:.1g} of their size, "
                "1e-3 is usual",
                f"try --lr {rate * 10:g}",
            )

    def _leaping(self, progress: Progress) -> Iterator[Verdict]:
        ratio = _usual_ratio(progress.shown)
        if ratio is not None and ratio > _HIGH_RATIO:
            yield _verdict(
                progress,
                "rate-too-high",
                "",
                f"learning rate too high: a step changes the weights by {ratio:.1g} of their size, "
                "1e-3 is usual",
                f"try --lr {self.chosen.rate / 10:g}",
            )

    def _order(self, progress: Progress, measured: Evaluation) -> Iterator[Verdict]:
        """Whether the classes of validation are the network's in another order."""
        confusion = np.array(measured.confusion)
        pairs = _assigned(confusion)
        moved = [pair for pair in pairs if pair[0] != pair[1]]
        matched = sum(int(confusion[pair]) for pair in pairs) / measured.count
        if len(moved) < 2 or matched < max(measured.accuracy + 0.15, 1.5 * measured.accuracy):
            return
        yield _verdict(
            progress,
            "class-order",
            "",
            f"{_percent(measured.accuracy)} of the validation images are right, and "
            f"{_percent(matched)} would be if {len(moved)} classes stood in another order there",
            "see that validation has the classes of training, in the same order",
        )

    def _unrelated(
        self, progress: Progress, row: EpochDone, measured: Evaluation
    ) -> Iterator[Verdict]:
        """Whether what is learned on training images says nothing about validation images."""
        if progress.shown.has_said("class-order"):
            return
        _, high = wilson(measured.correct, measured.count)
        if high > measured.baseline * 1.1 or row.accuracy < 2 * high or row.accuracy < 0.5:
            return
        yield _verdict(
            progress,
            "unrelated",
            "",
            f"{_percent(row.accuracy)} of the training images are right, but only "
            f"{_percent(measured.accuracy)} of the validation images, no more than always naming "
            "the most frequent class",
            "the images were learned by heart: see that each label belongs to its image",
        )

    def _overfitting(self, progress: Progress, row: EpochDone) -> Iterator[Verdict]:
        assert row.validation_loss is not None
        assert row.validation_accuracy is not None
        rows = (*progress.history, row)
        losses = [each.validation_loss for each in rows if each.validation_loss is not None]
        best = int(np.argmin(losses))
        worse = len(losses) - 1 - best
        gap = row.accuracy - row.validation_accuracy
        if worse < _EPOCHS_WORSE or gap < _GAP or losses[-1] < _RISEN * losses[best]:
            return
        yield _verdict(
            progress,
            "overfitting",
            "",
            f"overfitting: training {_percent(row.accuracy)}, validation "
            f"{_percent(row.validation_accuracy)}, and the validation loss has risen from "
            f"{losses[best]:.3g} to {losses[-1]:.3g} in {worse} epochs",
            "augment (--flip --crop 4), --weight-decay 5e-4, drop0.5, or a smaller network",
        )


def _unsaid(
    progress: Progress, rules: Sequence[Callable[[Progress], Iterator[Verdict]]]
) -> Generator[Verdict, None, Progress]:
    """What rules find and was not said before; returns the progress with all of it."""
    for rule in rules:
        for verdict in rule(progress):
            if not progress.shown.has_said(verdict.code, verdict.layer):
                progress = progress.after(verdict)
                yield verdict
    return progress


def _verdict(progress: Progress, code: str, layer: str, message: str, advice: str) -> Verdict:
    return Verdict(progress.epoch + 1, progress.step, code, layer, message, advice)


def _usual_ratio(shown: Shown) -> float | None:
    """The median of update by weight over weights of dot products, as they were last probed."""
    probe = shown.probe or shown.earlier
    ratios = [each.ratio for each in probe.weights if _is_weight(each.parameter)] if probe else []
    return float(np.median(ratios)) if ratios else None


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
