"""Nets and numbers on which every engine must agree with the reference."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import numpy as np

from hubel.engine.session import Array, Session
from hubel.graph.build import Built, Placed, build
from hubel.graph.modes import with_gradients, with_loss
from hubel.graph.op import Graph
from hubel.graph.ops.loss import CrossEntropy
from hubel.notation.parse import parse

__all__ = [
    "CASES",
    "CLASSES",
    "Case",
    "built",
    "feeds",
    "gradient_graph",
    "random_cases",
    "start_values",
    "write_all",
]

CLASSES = 5
CHANNELS = (1, 3, 5, 17, 33)
BATCHES = (1, 2, 3, 7, 16, 17, 33)


@dataclass(frozen=True, slots=True)
class Case:
    """A net, the size of its images and how many of them: a failure that shows it reproduces it."""

    text: str
    input: tuple[int, int, int]
    batch: int

    def __str__(self) -> str:
        return f"{self.text} on {self.batch}×{'×'.join(map(str, self.input))}"


CASES: tuple[Case, ...] = (
    # Convolution: channel counts, batch sizes, shapes of filters and images.
    Case("conv3-10 fc", (7, 7, 3), 2),
    Case("conv1-17 fc", (4, 4, 33), 17),
    Case("conv5-6 fc", (9, 9, 1), 7),
    Case("conv2x5-3 fc", (6, 11, 5), 3),
    Case("conv5x1-33 fc", (8, 3, 17), 16),
    Case("conv1x4-5b0 fcb0", (5, 9, 3), 33),
    Case("conv3-16p1 conv3-32p1 fc", (8, 8, 16), 4),
    Case("conv7-1 fc", (7, 7, 3), 1),
    # Strides, also larger than the filter; rounding down and up.
    Case("conv3-5s2 fc", (7, 9, 3), 3),
    Case("conv1-5s3 fc", (7, 10, 3), 3),
    Case("conv2-4s3~ fc", (9, 10, 5), 2),
    Case("conv2-4s3^ fc", (9, 10, 5), 2),
    Case("conv3-4s2x1 fc", (9, 6, 3), 2),
    Case("conv3-6s4p1~ fc", (14, 11, 3), 2),
    # Padding, also as large as the filter and larger.
    Case("conv3-4p3 fc", (4, 5, 3), 2),
    Case("conv2-3p5 fc", (3, 3, 1), 3),
    Case("conv1-3p2 fc", (3, 4, 5), 2),
    Case("conv3-3p2x0 fc", (4, 7, 3), 2),
    Case("conv3-4same fc", (6, 7, 3), 2),
    Case("conv4-4s2same fc", (7, 9, 3), 2),
    # Dilation and groups, down to one channel a group.
    Case("conv3-4d2 fc", (8, 9, 3), 2),
    Case("conv3x2-4d3x2p3s2~ fc", (9, 8, 5), 3),
    Case("conv3-6g3p1 fc", (5, 6, 3), 2),
    Case("conv3-17g17p1b0 fc", (6, 5, 17), 3),
    Case("conv2-66g33s2~ fc", (5, 5, 33), 2),
    Case("conv1-10g5 fc", (3, 4, 15), 7),
    Case("conv3-8g2s2d2p2~ fc", (9, 9, 6), 2),
    # Groups of two, four and eight channels, with a ReLU and a gate.
    Case("conv3-32g8p1 relu conv3-32g4p1b0 relu fc", (6, 12, 32), 16),
    Case("conv3-16g8s2p1~ bn relu conv5-16g2p2b0 relu fc", (9, 10, 16), 3),
    # One filter a channel: with a ReLU and a gate, batch sizes, strides, dilation, odd channels.
    Case("conv3-32g32p1 relu conv3-32g32p1b0 relu fc", (6, 12, 32), 16),
    Case("conv3-32g32s2p1~ bn relu conv1-17 fc", (9, 10, 32), 6),
    Case("conv3-17g17p1 relu conv3-17g17s2~ fc", (9, 11, 17), 1),
    Case("conv5-6g6p2 relu conv5x2-6g6s3x2p2~ fc", (9, 10, 6), 6),
    Case("conv3-20g20d2p2 conv3x4-20g20d3x2p3s2~ fc", (9, 10, 20), 16),
    Case("conv7-35g35same fc", (7, 19, 35), 1),
    Case("conv1-5g5s2~ conv1-5g5s3~ fc", (9, 10, 5), 6),
    Case("conv3-1p1 relu conv3-1p1 fc", (6, 7, 1), 7),
    Case("conv3-34g17p1 fc", (5, 6, 17), 2),
    # Pooling.
    Case("pool2 fc", (6, 8, 3), 3),
    Case("pool3s2 fc", (7, 9, 5), 2),
    Case("pool2s3~ fc", (9, 10, 17), 2),
    Case("pool3s2~ fc", (8, 10, 3), 2),
    Case("pool3s2^ fc", (8, 10, 3), 2),
    Case("pool2^ fc", (5, 7, 33), 1),
    Case("pool3s2p1^ fc", (8, 7, 3), 2),
    Case("pool3x2s1x2 fc", (5, 6, 3), 2),
    Case("pool3s1same fc", (5, 6, 5), 16),
    Case("avgpool2 fc", (6, 8, 3), 3),
    Case("avgpool3s2p1~ fc", (8, 10, 5), 2),
    Case("avgpool3s2p1^ fc", (8, 10, 5), 2),
    Case("avgpool2s3^ fc", (6, 9, 3), 2),
    Case("avgpool3s2same fc", (6, 7, 3), 2),
    Case("gap fc", (5, 7, 17), 3),
    Case("conv3-5 gap", (6, 5, 3), 4),
    # Every function of one number, on images and on vectors, and those with parameters.
    *(
        Case(f"conv3-5 {function} fc7 {function} fc", (5, 6, 3), 3)
        for function in (
            "relu",
            "leaky0.01",
            "leaky0.2",
            "prelu",
            "elu1",
            "elu0.5",
            "selu",
            "gelu",
            "silu",
            "sigmoid",
            "tanh",
        )
    ),
    Case("conv3-6 maxout2 fc9 maxout3 fc", (5, 6, 3), 3),
    Case("conv3-33 maxout33 fc", (4, 5, 5), 2),
    # Normalisation and dropout.
    Case("conv3-5b0 bn relu fc9 bn relu fc", (5, 6, 3), 16),
    Case("conv3-5p1 bn relu avgpool2 fc", (6, 8, 3), 5),
    Case("bn fc", (7, 5, 33), 3),
    Case("conv3-16p1b0 bn relu pool2 conv3-5p1 bn pool2 fc", (8, 12, 3), 16),
    Case("conv3-7p1 bn relu pool2~ conv3-3p1 bn pool2~ fc", (9, 7, 3), 6),
    Case("conv3-32p1 bn relu pool3s2p1~ fc", (7, 6, 3), 4),
    Case("conv3-6 ln relu fc9 ln fc", (5, 6, 3), 7),
    Case("conv3-32p1 gn8 relu pool2 conv3-17 ln fc32 gn2 fc", (8, 8, 3), 16),
    Case("gn33 conv1-12 gn3 avgpool2 fc", (6, 4, 33), 33),
    Case("ln gn2 fc", (40, 36, 32), 2),
    Case("conv3-5 drop0.5 relu fc17 drop0.2 fc", (5, 6, 3), 7),
    Case("drop0.9 drop0 fc", (4, 4, 1), 33),
    # Branches: values that are read more than once, identities, nesting.
    Case("[conv3-3p1 relu | ] fc", (5, 6, 3), 2),
    Case("conv3-5p1 [conv3-5p1 bn relu conv3-5p1 bn | ] relu fc", (5, 6, 3), 7),
    Case("[conv3-6s2p1 | conv1-6s2] relu fc", (5, 7, 3), 2),
    Case("[[ | relu] | tanh | ] fc", (3, 3, 3), 2),
    Case("{ | tanh} fc", (3, 4, 5), 2),
    # Where nothing is dropped these read one value twice.
    Case("[drop0.5 | ] {drop0.2 | } fc", (3, 4, 5), 2),
    Case("{conv1-3 | conv3-5p1 | pool3s1p1 | } relu fc", (5, 6, 17), 3),
    Case("[{conv1-2 | conv1-3} | {conv1-4 | [conv1-1 | conv1-1]}] fc", (4, 3, 3), 2),
    Case("[relu | tanh] {drop0.5 | sigmoid} fc", (4, 3, 5), 3),
    Case("fc7 [fc7 | relu] {fc3 | fc4} fc", (3, 3, 3), 3),
    # Whole nets.
    Case("conv5-6p2 relu pool2 conv5-16 relu pool2 fc20 relu fc14 relu fc", (16, 16, 1), 7),
    Case("(conv3-8p1 bn relu conv3-8p1 relu pool2)x2 fc", (8, 12, 3), 17),
    Case("fc", (5, 5, 3), 2),
    Case("fc9 fc", (3, 2, 5), 33),
    # A factor.
    Case("conv3-5 scale0.5 fc7 scale3 fc scale0.1", (5, 6, 3), 3),
)
"""What can go wrong in a kernel, each in a net small enough to look at."""


def random_cases(seed: int, count: int) -> tuple[Case, ...]:
    """Nets of one to four random layers, all of which build, on images of random sizes."""
    rng = random.Random(seed)
    return tuple(_random_case(rng) for _ in range(count))


def _random_case(rng: random.Random) -> Case:
    image = (rng.randint(3, 13), rng.randint(3, 13), rng.choice(CHANNELS))
    batch = rng.choice(BATCHES)
    wanted = rng.randint(1, 4)
    tokens: list[str] = []
    depth = image[2]
    while len(tokens) < wanted:
        token = rng.choice(_RANDOM_LAYERS)(rng, depth)
        made = build(parse(" ".join((*tokens, token))), image, CLASSES)
        # Normalising over a handful of numbers is ill-conditioned, whatever the engine.
        if made.problems or ("bn" in token and batch * prod(made.layers[-1].output[:-1]) < 8):
            continue
        if made.layers[-1].op == "group_norm" and _numbers_of_group(made.layers[-1]) < 8:
            continue
        tokens.append(token)
        depth = made.layers[-1].output[-1]
    return Case(" ".join((*tokens, "fc")), image, batch)


def _numbers_of_group(placed: Placed) -> int:
    assert placed.layer is not None
    return prod(placed.output) // (placed.layer.count or 1)


def _random_conv(rng: random.Random, depth: int) -> str:
    dividing = [groups for groups in range(1, depth + 1) if depth % groups == 0]
    groups = rng.choice((1, 1, rng.choice(dividing)))
    filters = groups * rng.choice((1, 2)) if groups > 1 else rng.choice((*CHANNELS, 8, 16))
    padding = rng.choice(("", f"p{rng.randint(0, 6)}", f"p{rng.randint(0, 3)}x0", "same"))
    fit = "" if padding == "same" else rng.choice("~^")
    return (
        f"conv{rng.randint(1, 5)}x{rng.randint(1, 5)}-{filters}"
        f"s{rng.randint(1, 4)}x{rng.randint(1, 4)}{padding}d{rng.choice((1, 1, 2, 3))}g{groups}"
        f"{rng.choice(('', 'b0'))}{fit}"
    )


def _random_pool(rng: random.Random, depth: int) -> str:
    size = rng.randint(1, 4)
    padding = rng.choice(("", f"p{rng.randint(0, size // 2)}"))
    return f"{rng.choice(('pool', 'avgpool'))}{size}s{rng.randint(1, 4)}{padding}{rng.choice('~^')}"


def _random_activation(rng: random.Random, depth: int) -> str:
    names = ["relu", "leaky0.1", "prelu", "elu1", "selu", "gelu", "silu", "sigmoid", "tanh"]
    dividing = [f"maxout{pieces}" for pieces in range(2, 12) if depth % pieces == 0]
    dividing += [f"gn{groups}" for groups in range(1, depth) if depth % groups == 0]
    return rng.choice([*names, "drop0.3", "bn", "ln", "gap", "fc9", *dividing])


def _random_branches(rng: random.Random, depth: int) -> str:
    return rng.choice(
        (
            f"[conv3-{depth}p1 relu | ]",
            f"[conv3-{depth}p1 bn | conv1-{depth}]",
            f"{{conv1-{rng.choice(CHANNELS)} | pool3s1p1 | }}",
            "{ | tanh }",
            "[drop0.4 | ]",
        )
    )


_RANDOM_LAYERS = (_random_conv, _random_conv, _random_pool, _random_activation, _random_branches)


@cache
def built(case: Case) -> Built:
    """The case's net, which must build without a problem."""
    made = build(parse(case.text), case.input, CLASSES)
    assert not made.problems, (case, made.problems)
    return made


def gradient_graph(case: Case, op: str = "softmax_cross_entropy") -> tuple[Graph, dict[str, str]]:
    """The case's loss and its gradients; and for each parameter and the input, which output it is.

    The scores are an output too, under their own name.
    """
    graph = built(case).graph
    attributes = CrossEntropy(0.1) if op == "softmax_cross_entropy" else None
    lossy = with_loss(graph, op, attributes)
    lossy = Graph(lossy.values, lossy.nodes, (*graph.outputs, *lossy.outputs))
    wrt = ("input", *(parameter.name for parameter in built(case).parameters))
    graded = with_gradients(lossy, wrt)
    return graded, dict(zip(wrt, graded.outputs[len(lossy.outputs) :], strict=True))


def start_values(case: Case, seed: int = 0) -> dict[str, Array]:
    """Random numbers for every parameter and statistic, exact in float32, of a scale that keeps
    activations near 1.
    """
    rng = np.random.default_rng(seed)
    made = {}
    for parameter in built(case).parameters:
        drawn = rng.normal(size=parameter.shape)
        made[parameter.name] = (
            drawn / np.sqrt(parameter.fan_in)
            if parameter.start == "random"
            else parameter.start + 0.2 * drawn
        )
    for statistic in built(case).graph.with_role("statistic"):
        made[statistic.name] = rng.uniform(0.5, 1.5, statistic.shape)
    return {name: _representable(array) for name, array in made.items()}


def feeds(case: Case, seed: int = 0) -> dict[str, Any]:
    """Random images and labels, exact in float32, and the scalars of a first step."""
    rng = np.random.default_rng(seed + 1)
    return {
        "input": _representable(rng.normal(size=(case.batch, *case.input))),
        "labels": rng.integers(0, CLASSES, case.batch),
        "targets": _representable(rng.uniform(0, 1, (case.batch, CLASSES))),
        "rate": 0.125,
        "step": 1,
        "seed": 7,
    }


def _representable(array: Array) -> Array:
    return array.astype(np.float32).astype(np.float64)


def write_all(session: Session, values: dict[str, Array]) -> None:
    """Every value written."""
    for name, array in values.items():
        session.write(name, array)
