"""The gradient check: a gradient against central differences, in double precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hubel.data.checks import Check
from hubel.engine import start
from hubel.graph import modes
from hubel.train.losses import LOSSES
from hubel.train.preflight.subject import Subject, sample

__all__ = ["gradient_check", "gradients_right"]

_IMAGES = 4
# A ReLU that the step takes across its kink costs about this much; a wrong rule costs far more.
_TOLERANCE = 1e-4
# Short, so that few kinks are crossed; rounding then takes all but nine digits.
_STEP = 1e-7


def gradient_check(
    value: Callable[..., float], gradients: Sequence[ArrayLike], *at: ArrayLike, seed: int = 0
) -> tuple[float, ...]:
    """The relative error of the gradient of a function by each of its arguments.

    `value(*at)` is a number, `gradients` are those claimed, shaped like the arguments. Each is
    held, along two random directions, against (f(x + h·v) − f(x − h·v))/2h in float64 (CS231n,
    "Gradient checks"); below 1e-6 is right, above 1e-2 wrong, and between may be a kink.

    >>> x = np.array([1.0, 2.0, 3.0])
    >>> right, = gradient_check(lambda x: (x ** 3).sum(), [3 * x ** 2], x)
    >>> wrong, = gradient_check(lambda x: (x ** 3).sum(), [2 * x ** 2], x)
    >>> right < 1e-8, wrong > 0.1
    (True, True)
    """
    points = [np.array(each, np.float64) for each in at]
    random = np.random.default_rng(seed)
    errors = []
    for place, claimed in enumerate(gradients):
        worst = 0.0
        for _ in range(2):
            way = random.standard_normal(points[place].shape)
            worst = max(worst, _error(value, points, place, way, np.asarray(claimed, np.float64)))
        errors.append(worst)
    return tuple(errors)


def _error(
    value: Callable[..., float],
    points: list[NDArray[np.float64]],
    place: int,
    way: NDArray[np.float64],
    claimed: NDArray[np.float64],
) -> float:
    size = _STEP * max(1.0, float(np.abs(points[place]).max(initial=0.0)))
    ends = []
    for sign in (1.0, -1.0):
        moved = [*points]
        moved[place] = points[place] + sign * size * way
        ends.append(float(value(*moved)))
    numeric = (ends[0] - ends[1]) / (2 * size)
    analytic = float((claimed * way).sum())
    # Along a direction parts cancel, and below the rounding of the function there is no gradient.
    rounding = np.finfo(np.float64).eps * max(map(abs, ends)) / size
    least = max(1e-3 * float(np.abs(claimed * way).sum()), 1e6 * rounding, 1e-300)
    return abs(numeric - analytic) / max(abs(numeric), abs(analytic), least)


def gradients_right(subject: Subject) -> Check:
    """Whether the gradient by every parameter and by the image is right, in double precision."""
    session = start("reference")
    for role in ("parameter", "statistic"):
        for value in subject.graph.values.values():
            if value.role == role:
                session.write(value.name, subject.session.read(value.name))
    loss = LOSSES[subject.chosen.loss]
    plain = modes.without_updates(modes.without_dropout(subject.graph))
    whole = modes.with_loss(plain, loss.op, loss.attributes(subject.chosen))
    names = [value.name for value in subject.graph.with_role("parameter")]
    graph = modes.with_gradients(whole, ["input", *names])
    labels = subject.training.labels
    batch = subject.assembled(sample(labels, min(_IMAGES, len(labels)), subject.chosen.seed))
    feeds: dict[str, Any] = {"labels": batch.labels, "seed": subject.chosen.seed}
    images = batch.images.astype(np.float64)
    results = session.run(graph, {**feeds, "input": images})
    worst, where = 0.0, "input"
    for name, made in zip(["input", *names], graph.outputs[len(whole.outputs) :], strict=True):

        def value_at(point: NDArray[np.float64], name: str = name) -> float:
            if name == "input":
                return float(session.run(whole, {**feeds, "input": point})["loss"])
            session.write(name, point)
            return float(session.run(whole, {**feeds, "input": images})["loss"])

        point = images if name == "input" else session.read(name)
        (error,) = gradient_check(value_at, [results[made]], point)
        if name != "input":
            session.write(name, point)
        if error > worst:
            worst, where = error, name
    expected = f"relative error below {_TOLERANCE:g}"
    if worst < _TOLERANCE:
        return Check("gradient-check", True, worst, expected)
    return Check(
        "gradient-check",
        False,
        worst,
        expected,
        f"the gradient by {where} is not what central differences give",
        "report it with the network's text: the gradient of a layer is wrong",
    )
