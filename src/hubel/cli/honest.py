"""What an accuracy is worth: a linear classifier's on the same images, and that without leaks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hubel.data.alike import thumbnails
from hubel.data.audit import audit
from hubel.data.dataset import Dataset, Split
from hubel.model import Model
from hubel.train.metrics import Evaluation
from hubel.views.progress import interval_text, percent

__all__ = ["Comparison", "compared", "comparison_lines", "leaks_in"]

_STEPS = 800
_MOST_EPOCHS = 100
_BATCH = 128
# Adam's rate for N inputs of unit variance is this by √N: 95 % of digits, 91 % of MNIST and 37 % of
# CIFAR-10 are right then.
_RATE = 0.1
_SIDE = 32
_MOST_IMAGES = 10_000
# Multiply-adds of the whole training: a second or two on one core.
_MOST_WORK = 5e10


@dataclass(frozen=True, slots=True)
class Comparison:
    """A linear classifier's score, how it was `trained`, and the model's without leaked images.

    `clean` is None where no image is left out, or none is left.
    """

    linear: Evaluation
    trained: str
    leaked: int
    clean: Evaluation | None

    def as_dict(self) -> dict[str, Any]:
        """All of it as what JSON can hold."""
        return {
            "linear": {**self.linear.as_dict(), "trained": self.trained},
            "leaked": self.leaked,
            "without_leaked": None if self.clean is None else self.clean.as_dict(),
        }


def compared(
    model: Model,
    training: Split,
    scored: Mapping[str, tuple[Split, Evaluation]],
    leaked: Mapping[str, tuple[int, ...]],
    seed: int,
    tta: str | None = None,
) -> dict[str, Comparison]:
    """Compare the scores of a model, in the views `tta`, on splits; `leaked` are places in them."""
    linear, trained = _linear(model, training, seed)
    made = {}
    for name, (split, measured) in scored.items():
        places = sorted(set(leaked.get(name, ())))
        without = len(places)
        clean = None
        if 0 < without < len(split):
            flattering = model.measure(split.images[places], split.labels[places], tta=tta)
            clean = measured.without(flattering)
        small = _small(split.images)
        made[name] = Comparison(linear.measure(small, split.labels), trained, without, clean)
    return made


def comparison_lines(made: Comparison, of: str) -> Iterator[str]:
    """The same in words; `of` says which images were scored."""
    yield f"      a linear classifier {_share(made.linear)}; {made.trained}"
    if not made.leaked:
        return
    what = "image that is" if made.leaked == 1 else "images that are"
    left = "none is left" if made.clean is None else _share(made.clean)
    yield f"      without {made.leaked:,} {of} {what} in training too: {left}"


def leaks_in(training: Dataset, split: Split, name: str) -> tuple[int, ...]:
    """The places in a split of what is in the training images too, whatever it comes from."""
    for own, part in (("validation", training.validation), ("test", training.test)):
        if name == own and part is not None and part.images is split.images:
            return audit(training).leaked[own]
    digest = hashlib.sha256(training.fingerprint.encode())
    for image in split.images:
        digest.update(np.ascontiguousarray(image).reshape(-1).view(np.uint8).data)
    digest.update(split.labels.astype("<i8").tobytes())
    both = Dataset(
        training.name, training.classes, training.train, split, fingerprint=digest.hexdigest()
    )
    return audit(both).leaked["validation"]


def _share(measured: Evaluation) -> str:
    return (
        f"{percent(measured.accuracy)} of {measured.count:,} "
        f"(95 % interval {interval_text(measured.interval)})"
    )


def _linear(model: Model, training: Split, seed: int) -> tuple[Model, str]:
    """A linear classifier of thumbnails, trained for a second or two, and what was done."""
    height, width, depth = training.images.shape[1:]
    inputs = min(height, _SIDE) * min(width, _SIDE) * depth
    step = 3 * _BATCH * inputs * len(model.classes)
    steps = min(_STEPS, max(1, int(_MOST_WORK / step)))
    count = min(len(training), _MOST_IMAGES, steps * _BATCH)
    epochs = min(_MOST_EPOCHS, max(1, round(steps * _BATCH / count)))
    rows = np.sort(np.random.default_rng(seed).permutation(len(training))[:count])
    small = _small(training.images[rows])
    linear = Model(
        "fc",
        small.shape[1:],
        seed=seed,
        classes=model.classes,
        threads=getattr(model.session, "threads", None),
    )
    linear.fit(
        small,
        training.labels[rows],
        epochs=epochs,
        batch_size=_BATCH,
        lr=_RATE / inputs**0.5,
        seed=seed,
    )
    return linear, (
        f"{epochs} epochs on {count:,} training images of {small.shape[1]}×{small.shape[2]}"
    )


def _small(images: np.ndarray) -> np.ndarray:
    if max(images.shape[1:3]) <= _SIDE:
        return images
    small = thumbnails(images, _SIDE)
    return np.rint(small).astype(np.uint8) if images.dtype == np.uint8 else small
