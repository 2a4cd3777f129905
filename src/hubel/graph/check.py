"""Text to Report: all that is wrong with a network or worth knowing, before anything runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from hubel.errors import NetworkError, Problem, UsageError
from hubel.graph.build import Built, build
from hubel.graph.layers import LARGEST_SIDE
from hubel.graph.report import Report, rows_of
from hubel.graph.shape import describe
from hubel.graph.warn import warnings_of
from hubel.notation.named import find, read_header
from hubel.notation.parse import parse
from hubel.notation.spec import Fit, Spec

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["check"]


def check(
    net: str | Path,
    input: tuple[int, int, int] | None = None,
    *,
    classes: int | None = None,
    fit: Fit = "strict",
    batch_size: int = 128,
    optimizer_slots: int = 1,
    object_size: tuple[int, int] | None = None,
) -> Report:
    """Check a network's text, .hub file or shipped name on images of (height, width, depth).

    What is wrong with the network is in the report and never raised. A network whose comments give
    `input` and `classes`, as shipped ones do, needs neither. `batch_size` and `optimizer_slots`,
    the arrays that an optimizer keeps for each parameter, are for the memory of training;
    `object_size` is the (height, width) of what the network must recognise, by default the image.
    Raises UsageError for arguments that make no sense and for files that are not there.

    >>> report = check("conv5-10p2", input=(32, 32, 3))
    >>> report.ok, report.rows[0].output, report.rows[0].parameter_formula
    (True, (32, 32, 10), '(5·5·3 + 1)·10 = 760')
    >>> print(check("conv3-8s3", input=(7, 7, 1)).problems[0].formula)
    (7 − 3)/3 + 1 = 2.33
    """
    text, name = find(str(net))
    header = read_header(text)
    if input is None and header.input is None:
        raise UsageError(
            "the size of the images is not known",
            hint="give it: --input 32x32x3, or input=(32, 32, 3) in Python",
        )
    report = Report(
        text=text,
        name=name,
        input=_image_size(header.input if input is None else input),
        classes=header.classes if classes is None else _whole("classes", classes),
        fit=_fit(fit),
        batch_size=_whole("batch_size", batch_size),
        optimizer_slots=_whole("optimizer_slots", optimizer_slots, least=0),
    )
    if object_size is not None:
        object_size = _object_size(object_size)
    try:
        spec = parse(text)
    except NetworkError as error:
        return replace(report, problems=_before(report, error.problems) + error.problems)
    built = build(spec, report.input, report.classes, report.fit)
    misfit = _other_scores(built, report.classes)
    return replace(
        report,
        rows=rows_of(built, text),
        problems=_mended(spec, built, report) + misfit,
        warnings=warnings_of(spec, built, object_size),
        built=built,
    )


def _before(report: Report, misread: tuple[Problem, ...]) -> tuple[Problem, ...]:
    """What does not fit in front of the first token that could not be read."""
    cut = min((problem.span[0] for problem in misread if problem.span is not None), default=0)
    try:
        spec = parse(report.text[:cut])
    except NetworkError:
        return ()
    built = build(spec, report.input, report.classes, report.fit)
    found = _mended(spec, built, report)
    rest = report.text[cut:]
    return tuple(
        replace(one, fixes=tuple(replace(fix, text=fix.text + rest) for fix in one.fixes))
        for one in found
    )


def _mended(spec: Spec, built: Built, report: Report) -> tuple[Problem, ...]:
    """The problems with their fixes, whose search only a network with problems imports."""
    if not built.problems:
        return ()
    from hubel.graph.fixes import with_fixes

    return with_fixes(spec, built, report.input, report.classes, report.fit)


def _other_scores(built: Built, classes: int | None) -> tuple[Problem, ...]:
    if classes is None or not built.graph.outputs or not built.layers:
        return ()
    last = built.layers[-1]
    scores = last.output[-1]
    if last.output[:-1] not in ((), (1, 1)) or scores == classes:
        return ()
    ends_in_fc = last.layer is not None and last.layer.kind == "fc"
    message = f"it gives {scores} scores, but there are {classes} classes: " + (
        f"write fc or fc{classes}"
        if ends_in_fc
        else f"give the last layer with weights {classes} filters, or end in fc"
    )
    return (Problem("scores", "error", message, last.name, last.span),)


def _image_size(size: Any) -> tuple[int, int, int]:
    if not isinstance(size, tuple | list) or len(size) != 3:
        raise UsageError(
            f"input must be (height, width, depth), not {size!r}",
            hint="a grey image has depth 1, as in (28, 28, 1)",
        )
    height, width, depth = (_whole("input", side) for side in size)
    if max(height, width) > LARGEST_SIDE:
        raise UsageError(
            f"input {describe((height, width, depth))} has a side of more than {LARGEST_SIDE}",
            hint="images are given as (height, width, depth)",
        )
    return height, width, depth


def _object_size(size: Any) -> tuple[int, int]:
    if not isinstance(size, tuple | list) or len(size) != 2:
        raise UsageError(f"object_size must be (height, width), not {size!r}")
    height, width = (_whole("object_size", side) for side in size)
    return height, width


def _whole(what: str, number: Any, least: int = 1) -> int:
    if isinstance(number, bool) or not hasattr(number, "__index__") or number < least:
        kind = "a positive whole number" if least else "a whole number, 0 or more"
        where = f"each number of {what}" if what in ("input", "object_size") else what
        raise UsageError(f"{where} must be {kind}, not {number!r}")
    return int(number)


def _fit(fit: Any) -> Fit:
    kinds: tuple[Fit, ...] = get_args(Fit)
    for known in kinds:
        if fit == known:
            return known
    raise UsageError(f'fit must be "strict", "floor" or "ceil", not {fit!r}')
