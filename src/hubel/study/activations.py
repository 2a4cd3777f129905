"""Activation functions side by side: the same network with each, on the same images and seed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubel.data import preprocess as preprocessing
from hubel.data.dataset import Dataset
from hubel.engine.reference.pointwise import SLOPES
from hubel.errors import HubelError, UsageError
from hubel.graph.build import Placed
from hubel.graph.ops.pointwise import FUNCTIONS
from hubel.model import Model
from hubel.network import Network
from hubel.notation.format import format as format_spec
from hubel.notation.parse import parse
from hubel.notation.spec import Branches, Item, Layer, Repeat
from hubel.train.events import StepDone
from hubel.train.forward import Forward

__all__ = ["ACTIVATIONS", "Compared", "Learned", "Seen", "compare", "pattern", "with_activation"]

ACTIVATIONS = (
    "sigmoid",
    "tanh",
    "relu",
    "leaky0.01",
    "prelu",
    "elu1",
    "maxout2",
    "selu",
    "gelu",
    "silu",
)
"""The lecture's functions (CS231n lecture 6) and today's, as the notation writes them."""

FLAT = 0.05
"""A function is flat where its slope is less: hardly any gradient passes there."""

_IMAGES = 256
_BATCH = 64
_KINDS = (*FUNCTIONS, "prelu", "maxout")
_BETWEEN = ("bn", "ln", "gn", "drop")

# Outputs whose slopes are looked at: the exact erf of GELU takes its time.
_NUMBERS = 1 << 19


@dataclass(frozen=True, slots=True)
class Seen:
    """What one activation layer makes of images before training.

    `mean`, `deviation` and the share that is `positive` are those of its outputs; `flat` is the
    share of them where its slope is below FLAT, and `dead` that of its units, a map or a number of
    a vector, where it is so on every image.
    """

    layer: str
    mean: float
    deviation: float
    positive: float
    flat: float
    dead: float


@dataclass(frozen=True, slots=True)
class Learned:
    """One activation function: its network, what its layers make, how it learns.

    `first` and `last` are the norms of the loss's gradient by the weights of the first and of the
    last dot product, before training. `losses` are those of the steps taken, in `seconds` in all;
    `failed` says why there are no more, where the numbers ceased to be finite.
    """

    token: str
    net: str
    parameters: int
    layers: tuple[Seen, ...]
    first: float
    last: float
    losses: tuple[float, ...]
    seconds: float
    failed: str = ""

    def loss(self, step: int) -> float:
        """The mean of up to ten losses before that step, counted from 1."""
        return float(np.mean(self.losses[max(0, step - 10) : step]))


@dataclass(frozen=True, slots=True)
class Compared:
    """All functions that could be compared after as many `steps`, and why others could not."""

    images: int
    steps: int
    rows: tuple[Learned, ...]
    left_out: tuple[tuple[str, str], ...]


def pattern(height: int, width: int) -> str:
    """A small network without normalisation, which would hide what a function does to its input.

    >>> pattern(8, 8)
    'conv3-16p1 relu conv3-16p1 relu pool2~ conv3-32p1 relu conv3-32p1 relu pool2~ fc64 relu fc'
    """
    parts = []
    if min(height, width) > 64:
        parts.append("conv7-16s4p3~ relu")
        height, width = (height + 3) // 4, (width + 3) // 4
    for filters in (16, 32):
        parts.append(f"conv3-{filters}p1 relu conv3-{filters}p1 relu")
        if min(height, width) >= 2:
            parts.append("pool2~")
            height, width = height // 2, width // 2
    return " ".join([*parts, "fc64 relu fc"])


def with_activation(net: str, token: str) -> str:
    """The network with another function in place of each of its own.

    Maxout takes the largest of so many maps, so what makes them gets as many times the filters: a
    layer has as many outputs with it as with the others. Raises UsageError where no filters of its
    own stand before a function, and for a network without any.

    >>> with_activation("(conv3-8 bn relu)x2 fc10", "maxout2")
    '(conv3-16 bn maxout2)x2 fc10'
    """
    (wanted,) = parse(token).items
    assert isinstance(wanted, Layer)
    spec = parse(net)
    items, count = _replaced(spec.items, wanted)
    if not count:
        raise UsageError(
            "the network has no activation function to replace",
            hint="put one behind a convolution, as in conv3-16 relu fc",
        )
    return format_spec(replace(spec, items=items))


def _replaced(items: Sequence[Item], wanted: Layer) -> tuple[tuple[Item, ...], int]:
    made: list[Item] = []
    count = 0
    for item in items:
        match item:
            case Layer() if item.kind in _KINDS:
                _resize(made, item, wanted)
                made.append(replace(wanted, span=item.span))
                count += 1
            case Layer():
                made.append(item)
            case Repeat():
                body, inside = _replaced(item.body, wanted)
                made.append(replace(item, body=body))
                count += inside
            case Branches():
                parts = [_replaced(branch, wanted) for branch in item.branches]
                made.append(replace(item, branches=tuple(branch for branch, _ in parts)))
                count += sum(inside for _, inside in parts)
    return tuple(made), count


def _resize(made: list[Item], before: Layer, wanted: Layer) -> None:
    """Give the layer that feeds a function as many filters as its pieces need."""
    had = before.count or 1
    needs = wanted.count or 1
    if had == needs:
        return
    for place in range(len(made) - 1, -1, -1):
        item = made[place]
        if not isinstance(item, Layer):
            break
        if item.kind in ("conv", "fc") and item.count is not None and not item.count * needs % had:
            made[place] = replace(item, count=item.count * needs // had)
            return
        if item.kind not in _BETWEEN:
            break
    raise UsageError(
        f"{wanted.kind} needs {needs} times the filters right before it, and what one of the "
        f"functions reads has none of its own"
    )


def compare(
    data: Dataset,
    net: str | None = None,
    *,
    tokens: Sequence[str] = ACTIVATIONS,
    steps: int = 100,
    seconds: float = 60.0,
    seed: int = 0,
    **choices: Any,
) -> Compared:
    """Look at each function before training, then train for so many steps, `seconds` in all.

    Without `net` it is `pattern`'s. Every function begins from the same seed, with the same weights
    where their shapes agree, and sees the same batches; `choices` are those of training. Where time
    runs out, functions are compared after the fewest steps that one of them took.
    """
    if steps < 1 or not seconds > 0:
        raise UsageError(f"{steps} steps in {seconds:g} s compare nothing", hint="give more")
    height, width, depth = data.train.images.shape[1:]
    text = net or pattern(height, width)
    rows, left_out = [], []
    for token in tokens:
        try:
            named = Network(with_activation(text, token), (height, width, depth), len(data.classes))
        except UsageError as error:
            if token.startswith("maxout"):
                left_out.append((token, error.what))
                continue
            raise
        rows.append(_learned(data, named, token, steps, seconds / len(tokens), seed, choices))
    taken = [len(row.losses) for row in rows if not row.failed]
    count = min(len(data.train), _IMAGES)
    return Compared(count, min(taken, default=0), tuple(rows), tuple(left_out))


def _learned(
    data: Dataset,
    network: Network,
    token: str,
    steps: int,
    seconds: float,
    seed: int,
    choices: dict[str, Any],
) -> Learned:
    model = Model(network, seed=seed, classes=data.classes)
    method = choices.get("preprocess", "normalise")
    if method is not None:
        model.preprocess = preprocessing.fit(data.train.images, method)
    images, labels = data.train.images[:_IMAGES], data.train.labels[:_IMAGES]
    # A function may stand first: what it reads are the images.
    seen = Forward(model.session, network.input, model.preprocess).prepared(images)
    layers = tuple(_seen(model, {"input": seen, **model.activations(images)}))
    _, gradients = model.gradients(images, labels)
    dots = [placed for placed in network.built.layers if placed.op in ("conv", "dense")]
    first, last = (
        float(np.linalg.norm(gradients[f"{placed.name}.weight"].astype(np.float64)))
        for placed in (dots[0], dots[-1])
    )
    losses: list[float] = []
    failed, begun = "", time.monotonic()
    chosen = {"batch_size": _BATCH, "lr": 0.003, "schedule": "constant", **choices}
    events = model.train(data, seed=seed, epochs=steps, **chosen)
    with closing(events):
        try:
            for event in events:
                if isinstance(event, StepDone):
                    losses.append(event.loss)
                if len(losses) >= steps or time.monotonic() - begun > seconds:
                    break
        except HubelError as error:
            failed = error.what
    spent = time.monotonic() - begun
    parameters = network.report.parameters
    return Learned(
        token, network.text, parameters, layers, first, last, tuple(losses), spent, failed
    )


def _seen(model: Model, made: dict[str, NDArray[Any]]) -> list[Seen]:
    found = []
    for placed in model.network.built.layers:
        if placed.layer is None or placed.layer.kind not in _KINDS:
            continue
        (source,) = placed.sources
        outputs = made[placed.name].astype(np.float64)
        some = max(1, _NUMBERS // outputs[0].size)
        given = made[source][:some].astype(np.float64)
        flat = _slopes(model, placed, given, outputs[:some]) < FLAT
        found.append(
            Seen(
                placed.name,
                float(outputs.mean()),
                float(outputs.std()),
                float((outputs > 0).mean()),
                float(flat.mean()),
                float(flat.all(axis=tuple(range(flat.ndim - 1))).mean()),
            )
        )
    return found


def _slopes(
    model: Model, placed: Placed, given: NDArray[np.float64], outputs: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How steep the function is at each of its inputs, by its size; of maxout 1, for a piece."""
    assert placed.layer is not None
    kind = placed.layer.kind
    if kind == "maxout":
        return np.ones_like(outputs)
    if kind == "prelu":
        learned = model.session.read(f"{placed.name}.weight")
        return np.abs(np.where(given > 0, 1.0, learned))
    side = given if FUNCTIONS[kind] == "input" else outputs
    return np.abs(np.asarray(SLOPES[kind](side, placed.layer.value or 0.0), np.float64))
