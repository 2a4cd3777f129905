"""A network that is known to fit: the checked text that models, engines and views start from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hubel.errors import NetworkError
from hubel.graph.build import Built
from hubel.graph.check import check
from hubel.graph.op import Graph, Shape
from hubel.graph.report import Report
from hubel.notation.spec import Fit

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Network"]


@dataclass(frozen=True, init=False)
class Network:
    """A network on images of one size, checked.

    Two are equal when text, input size, classes and rounding are. `classes` is the number of scores
    unless it was given; what prints is the table of its layers.

    >>> Network("conv5-6 relu pool2 fc10", input=(32, 32, 3)).output
    (10,)
    """

    text: str
    input: tuple[int, int, int]
    classes: int
    fit: Fit
    report: Report = field(repr=False, compare=False)
    built: Built = field(repr=False, compare=False)

    def __init__(
        self,
        net: str | Path,
        input: tuple[int, int, int] | None = None,
        classes: int | None = None,
        fit: Fit = "strict",
    ) -> None:
        """Check a text, .hub file or shipped name; raises NetworkError with every problem.

        Raises UsageError for arguments that make no sense and for files that are not there.
        """
        report = check(net, input, classes=classes, fit=fit)
        if report.built is None or not report.ok:
            raise NetworkError(report.problems, report.text)
        scores = report.rows[-1].output[-1]
        values = {
            "text": report.text,
            "input": report.input,
            "classes": scores if report.classes is None else report.classes,
            "fit": report.fit,
            "report": report,
            "built": report.built,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def graph(self) -> Graph:
        """The forward graph."""
        return self.built.graph

    @property
    def output(self) -> Shape:
        """The size of what comes out, (scores,) for a classifier."""
        return self.report.rows[-1].output

    def __str__(self) -> str:
        return str(self.report)
