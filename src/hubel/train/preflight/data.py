"""Checks of what goes in: images and labels before any weight has seen them."""

from __future__ import annotations

from itertools import islice

import numpy as np
from numpy.typing import NDArray

from hubel.data.alike import thumbnails
from hubel.data.batches import batches
from hubel.data.checks import Check
from hubel.data.copies import digest
from hubel.data.dataset import Split, printable
from hubel.train.metrics import wilson
from hubel.train.preflight.subject import Subject, sample

__all__ = ["batches_mixed", "inputs", "labels_learnable", "splits_apart"]

_IMAGES = 512
_OFF_CENTRE = 0.5
_DEVIATIONS = (0.1, 5.0)

_NEIGHBOURS, _SIDE, _QUERIES, _REFERENCES = 5, 12, 500, 4000

_BATCHES = 20


def inputs(subject: Subject) -> Check:
    """Whether the numbers that the net sees are zero-centred and of unit scale (CS231n, lecture 6).

    The mean may be off by half a deviation, and the deviation lie between 0.1 and 5.
    """
    batch = subject.assembled(sample(subject.training.labels, _IMAGES, subject.chosen.seed))
    numbers = batch.images.astype(np.float64).reshape(-1, batch.images.shape[-1])
    mean, deviation = numbers.mean(axis=0), float(numbers.std())
    worst = float(mean[np.abs(mean).argmax()])
    low, high = _DEVIATIONS
    expected = f"mean within half a deviation of 0, deviation {low:g} to {high:g}"
    method = subject.preprocess.method if subject.preprocess else "no preprocessing"
    advice = "train with --preprocess normalise"
    if not low <= deviation <= high:
        cause = f"the numbers have the deviation {deviation:.3g} after {method}: weights are drawn "
        return Check("inputs", False, deviation, expected, cause + "for a deviation near 1", advice)
    if abs(worst) > _OFF_CENTRE * deviation:
        cause = f"a channel has the mean {worst:.3g} at a deviation of {deviation:.3g} after "
        cause += f"{method}: all gradients of a filter then tend to have one sign"
        return Check("inputs", False, worst, expected, cause, advice)
    return Check("inputs", True, worst, expected)


def labels_learnable(subject: Subject) -> Check:
    """Whether images that look alike have the same class more often than by chance.

    Some training images are classified by their nearest others, made small (leave one out). Where
    that is no better than naming the most frequent class, labels may not belong to their images.
    """
    labels = subject.training.labels
    chosen = sample(labels, _QUERIES + _REFERENCES, subject.chosen.seed)
    small = _small(subject.training.images[np.sort(chosen)])
    own = labels[np.sort(chosen)]
    asked = np.linspace(0, len(own) - 1, min(_QUERIES, len(own))).round().astype(np.int64)
    right = sum(_vote(small, own, int(place)) == own[place] for place in asked)
    _, counts = np.unique(own, return_counts=True)
    chance = float(counts.max() / len(own))
    low, _ = wilson(int(right), len(asked))
    accuracy = right / len(asked)
    expected = f"above {chance:.3g}, that of naming the most frequent class, beyond doubt"
    if low > chance:
        return Check("labels", True, accuracy, expected)
    return Check(
        "labels",
        False,
        accuracy,
        expected,
        "images that look alike do not have the same class more often than by chance: labels may "
        "be shuffled or read in another order than the images, or the classes differ in details "
        "alone",
        "look at some images beside their labels: hubel show-batch",
    )


def _small(images: NDArray[np.generic]) -> NDArray[np.float32]:
    """Images averaged down to at most 12 × 12, each of zero mean and unit length."""
    flat = thumbnails(images, _SIDE).reshape(len(images), -1)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.sqrt(np.square(flat).sum(axis=1, keepdims=True))
    return np.asarray(flat / np.maximum(length, 1e-6), np.float32)


def _vote(small: NDArray[np.float32], labels: NDArray[np.int64], place: int) -> int:
    nearness = small @ small[place]
    nearness[place] = -np.inf
    nearest = np.argsort(-nearness, kind="stable")[:_NEIGHBOURS]
    return int(np.bincount(labels[nearest]).argmax())


def batches_mixed(subject: Subject) -> Check:
    """Whether batches hold as many classes as a random choice of images would."""
    labels, chosen = subject.training.labels, subject.chosen
    share = np.bincount(labels) / len(labels)
    order = batches(len(labels), chosen.batch_size, chosen.seed, 0, chosen.shuffle)
    found, meant = 0.0, 0.0
    for indices in islice(order, _BATCHES):
        found += len(np.unique(labels[indices]))
        meant += float((1.0 - (1.0 - share) ** len(indices)).sum())
    value, expected = found / meant, "near 1: the classes in a batch, by those in a random one"
    if value >= 0.6:
        return Check("batches", True, value, expected)
    return Check(
        "batches",
        False,
        value,
        expected,
        "the images come sorted by class, and each step unlearns what the one before it learned",
        "shuffle the images: leave shuffle at True",
    )


def splits_apart(subject: Subject) -> Check:
    """Whether validation images are not training images as well, to the pixel."""
    expected = "0 of the validation images are among the training images"
    if subject.validation is None:
        return Check("leak", True, 0.0, expected)
    known = {digest(image): place for place, image in enumerate(subject.training.images)}
    keys = map(digest, subject.validation.images)
    twins = [(place, known[key]) for place, key in enumerate(keys) if key in known]
    share = len(twins) / len(subject.validation)
    if not twins:
        return Check("leak", True, 0.0, expected)
    place, twin = twins[0]
    return Check(
        "leak",
        False,
        share,
        expected,
        f"{len(twins)} of {len(subject.validation)} validation images are training images too, "
        f"such as {_called(subject.validation, place)} and {_called(subject.training, twin)}: the "
        "validation accuracy tells nothing about these",
        "leave them out of one of both; hubel audit lists them all",
    )


def _called(split: Split, place: int) -> str:
    return printable(split.files[place]) if split.files else f"image {place} (from 0)"
