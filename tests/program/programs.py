"""Programs to test with: whole training steps of nets."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from hubel.graph.build import build
from hubel.graph.modes import Update, with_loss, with_updates
from hubel.graph.op import Graph
from hubel.graph.ops.loss import CrossEntropy
from hubel.graph.ops.update import Sgd
from hubel.notation.parse import parse
from hubel.program.make import make
from hubel.program.program import Program

__all__ = ["STEPS", "shipped", "step", "step_graph"]


def shipped(name: str) -> str:
    """The text of a shipped net."""
    return (files("hubel") / "notation" / "nets" / f"{name}.hub").read_text("utf-8")


STEPS = (
    (shipped("lenet5"), (28, 28, 1), 32),
    (shipped("cs231n"), (32, 32, 3), 128),
    (shipped("resnet20"), (32, 32, 3), 16),
    ("{conv1-4 | conv3-4p1 | pool3s1p1} bn relu [conv3-11p1 | ] drop0.5 gap fc", (9, 9, 3), 7),
)


def step_graph(text: str, image: tuple[int, int, int]) -> Graph:
    """A step of gradient descent with momentum, for ten classes."""
    built = build(parse(text), image, 10)
    assert not built.problems
    lossy = with_loss(built.graph, "softmax_cross_entropy", CrossEntropy())
    return with_updates(lossy, lambda _: Update("sgd", Sgd(momentum=0.9), ("velocity",)))


@cache
def step(text: str, image: tuple[int, int, int], batch: int) -> Program:
    """The program of such a step."""
    return make(step_graph(text, image), batch)
