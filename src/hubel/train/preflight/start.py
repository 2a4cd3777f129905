"""Checks of a network at its start: weights, first loss, activations and gradients."""

from __future__ import annotations

import math

import numpy as np

from hubel.data.checks import Check
from hubel.graph import modes
from hubel.graph.op import Graph, Node, Value
from hubel.graph.ops.loss import Penalty
from hubel.train.preflight.subject import Subject, sample
from hubel.train.probe import dead_share, observed, rms, saturated_share
from hubel.train.step import frozen

__all__ = [
    "activations",
    "dead_units",
    "first_loss",
    "gradients",
    "independence",
    "regularisation",
    "scores_free",
    "weights_differ",
]

# How far scores of a usual initialisation take the first loss above that of equal scores: scores
# of variance v cost v/2 more; He's (2015) has v = 2 behind a ReLU, and max pooling adds to it.
_LOSS_ABOVE, _LOSS_BELOW = 6.0, 0.3
# The same of the hinge loss, as factors.
_HINGE_ABOVE, _HINGE_BELOW = 3.0, 0.7

_VANISHING, _EXPLODING = 1e-3, 1e3
_GRADIENT_SPAN = 1e-4
_SATURATED, _DEAD = 0.5, 0.4


def first_loss(subject: Subject) -> Check:
    """Whether the first loss is near that of knowing nothing: ln(classes), classes − 1 for hinge.

    A network that has not learned should prefer no class (CS231n, "Babysitting").
    """
    loss, classes = float(subject.look["loss"]), subject.classes
    if subject.chosen.loss == "hinge":
        nothing = classes - 1.0
        low, high = _HINGE_BELOW * nothing, _HINGE_ABOVE * nothing
    else:
        nothing = math.log(classes)
        low, high = nothing - _LOSS_BELOW, nothing + _LOSS_ABOVE
    expected = f"{low:.2f} to {high:.2f}"
    if low <= loss <= high:
        return Check("first-loss", True, loss, expected)
    if loss < low:
        return Check(
            "first-loss",
            False,
            loss,
            expected,
            f"the loss of a network that has learned nothing is {nothing:.3g} for {classes} "
            "classes, and this one is lower: it was trained before, or the images hold labels",
            "see what the images hold",
        )
    return Check(
        "first-loss",
        False,
        loss if math.isfinite(loss) else None,
        expected,
        f"the scores are large before anything is learned: knowing nothing costs {nothing:.3g}",
        "normalise the images (--preprocess normalise), use --init he or xavier, or put bn into "
        "the net",
    )


def regularisation(subject: Subject) -> Check:
    """Whether the loss rises with the factor of regularisation (CS231n, "Babysitting")."""
    weights = [value for value in subject.graph.with_role("parameter") if modes.decays(value)]
    l2, l1 = subject.chosen.weight_decay, subject.chosen.l1
    if not l2 and not l1:
        l2 = 1e-3
    expected = "above 0"
    if not weights:
        return Check("regularisation", True, 0.0, "0: the network has no weights to regularise")
    rises = _penalty(subject, weights, l2, l1)
    if rises > 0:
        return Check("regularisation", True, rises, expected)
    return Check(
        "regularisation",
        False,
        rises,
        expected,
        "the loss does not rise with regularisation: all weights are zero",
        "start from --init he",
    )


def _penalty(subject: Subject, weights: list[Value], l2: float, l1: float) -> float:
    names = tuple(value.name for value in weights)
    values = {value.name: value for value in weights}
    values["input"] = subject.graph["input"]
    values["penalty"] = Value("penalty", (), "result", batched=False)
    node = Node("penalty", "penalty", names, ("penalty",), Penalty(l2, l1))
    graph = Graph(values, (node,), ("penalty",))
    batch = subject.assembled(np.zeros(1, np.int64))
    return float(subject.session.run(graph, {"input": batch.images})["penalty"])


def weights_differ(subject: Subject) -> Check:
    """Whether the filters of each layer differ: equal ones get equal gradients for ever."""
    expected = "0 layers whose filters are all alike"
    alike = []
    for value in subject.graph.with_role("parameter"):
        if not modes.decays(value):
            continue
        weight = subject.session.read(value.name)
        if weight.shape[-1] > 1 and not np.ptp(weight, axis=-1).any():
            alike.append(value.name)
    if not alike:
        return Check("weights", True, 0.0, expected)
    return Check(
        "weights",
        False,
        float(len(alike)),
        expected,
        f"all filters of {alike[0]} are the same, so they get the same gradient and stay the same",
        "start from random weights: --init he",
    )


def scores_free(subject: Subject) -> Check:
    """Whether the scores take both signs: the loss has a softmax of its own.

    Scores between 0 and 1 cost at least ln(1 + (classes − 1)/e) each, however sure they are.
    """
    (name,) = subject.graph.outputs
    scores = subject.look[name]
    least, most = float(scores.min()), float(scores.max())
    expected = "below 0: scores may be any number"
    if least < 0 or not scores.any():
        return Check("scores", True, least, expected)
    kind = (
        "lie between 0 and 1: a softmax or sigmoid" if most <= 1 else "are never negative: a relu"
    )
    return Check(
        "scores",
        False,
        least,
        expected,
        f"the scores {kind} stands before the loss, which makes probabilities of scores by itself",
        "end the net with its last fc",
    )


def activations(subject: Subject) -> Check:
    """Whether the layers' outputs keep their size: they neither vanish, explode, nor saturate."""
    results = subject.look
    expected = f"deviation of each layer's outputs {_VANISHING:g} to {_EXPLODING:g}"
    worst, where = 1.0, ""
    for node in observed(subject.graph):
        made = results[node.outputs[0]]
        size = float(made.std(dtype=np.float64))
        if not where or abs(math.log(max(size, 1e-30))) > abs(math.log(max(worst, 1e-30))):
            worst, where = size, node.outputs[0]
        if not _VANISHING <= size <= _EXPLODING:
            what = "vanish" if size < _VANISHING else "explode"
            return Check(
                "activations",
                False,
                size if math.isfinite(size) else None,
                expected,
                f"the outputs {what}: {node.outputs[0]} is the first layer where their deviation "
                f"is {size:.2g}",
                "start from --init he (xavier for tanh and sigmoid), or put bn behind each layer",
            )
        flat = saturated_share(node, made)
        if flat is not None and flat > _SATURATED:
            return Check(
                "activations",
                False,
                flat,
                f"below {_SATURATED:g} of a layer's outputs where the function is flat",
                f"{flat:.0%} of {node.outputs[0]}'s outputs are saturated",
                "start from --init xavier, normalise the images, or use relu",
            )
    return Check("activations", True, worst, expected)


def gradients(subject: Subject) -> Check:
    """Whether gradients reach every layer: its weights' against the largest of those behind it."""
    results = subject.look
    kept = frozen(subject.graph, subject.chosen)
    names = [
        value.name
        for value in subject.graph.with_role("parameter")
        if modes.decays(value) and value.name not in kept
    ]
    parameters = [value.name for value in subject.graph.with_role("parameter")]
    made = dict(zip(parameters, subject.probing.outputs[-len(parameters) :], strict=True))
    sizes = {name: rms(results[made[name]]) for name in names}
    expected = f"above {_GRADIENT_SPAN:g} of the largest behind, in every layer"
    shares = [(1.0, "", 0.0)]
    largest = 0.0
    for name in reversed(names):
        largest = max(largest, sizes[name])
        shares.append((sizes[name] / largest if largest else 0.0, name, largest))
    # What is no number is worse than any.
    worst, name, behind = min(shares, key=lambda each: -1.0 if math.isnan(each[0]) else each[0])
    if worst > _GRADIENT_SPAN:
        return Check("gradients", True, worst, expected)
    return Check(
        "gradients",
        False,
        worst if math.isfinite(worst) else None,
        expected,
        f"the gradient of {name} is {sizes[name]:.2g}, that of one behind it {behind:.2g}: "
        "what is learned does not reach it",
        "start from --init he, use relu in place of sigmoid or tanh, or put bn behind each layer",
    )


def dead_units(subject: Subject) -> Check:
    """Whether the ReLUs' units fire for some image: one that never does gets no gradient."""
    results = subject.look
    expected = f"below {_DEAD:g} of each layer's units"
    worst, where = 0.0, ""
    for node in observed(subject.graph):
        dead = dead_share(node, results[node.outputs[0]])
        if dead is not None and dead > worst:
            worst, where = dead, node.outputs[0]
    if worst <= _DEAD:
        return Check("dead-units", True, worst, expected)
    return Check(
        "dead-units",
        False,
        worst,
        expected,
        f"{worst:.0%} of {where} never fires: what comes in is below zero for every image",
        "start from --init he and biases of zero, normalise the images, or use leaky0.01",
    )


def independence(subject: Subject) -> Check:
    """Whether an image's scores are the same alone as in a batch, when the network is used.

    They differ where batch normalisation is left in training mode.
    """
    labels = subject.training.labels
    batch = subject.assembled(sample(labels, min(16, len(labels)), subject.chosen.seed))
    (name,) = subject.inference.outputs
    together = subject.session.run(subject.inference, {"input": batch.images})[name]
    alone = np.concatenate(
        [
            subject.session.run(subject.inference, {"input": image[None]})[name]
            for image in batch.images[:4]
        ]
    )
    scale = float(np.abs(together).max())
    difference = float(np.abs(together[:4] - alone).max()) / scale if scale else 0.0
    # Bfloat16 keeps eight bits of each map; other batch sizes sum in another order.
    tolerance = 0.1
    expected = f"below {tolerance:g} of the largest score"
    if difference <= tolerance:
        return Check("independence", True, difference, expected)
    return Check(
        "independence",
        False,
        difference,
        expected,
        "the scores of an image depend on the images beside it: batch normalisation is left in "
        "training mode",
        "score with the running statistics",
    )
