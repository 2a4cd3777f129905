"""What is timed: a net's training step or inference, with the same numbers for everybody."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hubel import Network
from hubel.train.initialise import initial

__all__ = ["INFERENCE", "PRECISIONS", "RATE", "TRAINING", "Case", "Task", "case"]

RATE = 0.001
"""The learning rate of every timed step."""

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class Case:
    """A net with the size of its images, (height, width, depth), its classes, and a batch."""

    net: str
    input: tuple[int, int, int]
    classes: int
    batch: int


TRAINING = (
    Case("cs231n", (32, 32, 3), 10, 128),
    Case("resnet20", (32, 32, 3), 10, 128),
    Case("lenet5", (28, 28, 1), 10, 64),
    Case("resnet18", (224, 224, 3), 1000, 16),
    Case("mobilenet", (96, 96, 3), 1000, 32),
)
"""The training steps that the results are about."""

INFERENCE = tuple(
    Case(net, size, classes, batch)
    for net, size, classes in (
        ("cs231n", (32, 32, 3), 10),
        ("resnet18", (224, 224, 3), 1000),
        ("mobilenet", (224, 224, 3), 1000),
    )
    for batch in (1, 128)
)
"""The same for inference: one image for its latency, many for the throughput."""


def case(text: str) -> Case:
    """A case of one's own, written NET@HEIGHTxWIDTHxDEPTH@CLASSES@BATCH.

    >>> case("conv3-8 relu fc@8x8x3@10@32")
    Case(net='conv3-8 relu fc', input=(8, 8, 3), classes=10, batch=32)
    """
    try:
        net, size, classes, batch = text.split("@")
        height, width, depth = (int(side) for side in size.split("x"))
        return Case(net, (height, width, depth), int(classes), int(batch))
    except ValueError:
        raise ValueError(f"{text!r} is not NET@32x32x3@10@128") from None


@dataclass(frozen=True, slots=True)
class Task:
    """A case as "training" or "inference", in a precision, on so many threads."""

    case: Case
    work: str
    precision: str
    threads: int

    def to_json(self) -> str:
        """The task on one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Task:
        """What `to_json` wrote."""
        given: dict[str, Any] = json.loads(line)
        one = given.pop("case")
        return cls(Case(**{**one, "input": tuple(one["input"])}), **given)

    def network(self) -> Network:
        """The net, checked."""
        return Network(self.case.net, self.case.input, self.case.classes)

    def images(self) -> Any:
        """The batch (N, H, W, C) in float32, the same for everybody."""
        numbers = np.random.default_rng(0)
        return numbers.standard_normal((self.case.batch, *self.case.input), np.float32)

    def labels(self) -> Any:
        """The classes (N,) of the batch."""
        return np.random.default_rng(1).integers(0, self.case.classes, self.case.batch)

    def parameters(self) -> Mapping[str, Any]:
        """The weights that everybody begins from, by name, in Hubel's shapes."""
        started = initial(self.network().built.parameters)
        return {name: array.astype(np.float32) for name, array in started.items()}
