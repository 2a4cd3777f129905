"""A Report as text: a table of layers, totals, and every problem with its place and its fixes."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from hubel.errors import Problem, excerpt
from hubel.graph.report import Report, Row
from hubel.graph.shape import describe

__all__ = ["render"]

_NARROWEST = 40
_GAP = "  "
_INDENT = "    "
_BOLD, _DIM, _RED, _YELLOW, _GREEN = "1", "2", "31", "33", "32"


def render(report: Report, width: int | None = None, color: bool = False) -> str:
    """The report in at most `width` columns, by default those of the terminal.

    Where the table is too wide the arithmetic stands below its layer, and where it still is memory,
    then multiply-adds are left out of it; the totals always show both.
    """
    if width is None:
        width = shutil.get_terminal_size((100, 24)).columns
    width = max(width, _NARROWEST)
    paint = _painted if color else _plain
    blocks = [_title(report, width, paint)]
    if report.rows:
        blocks.append(_table(report, width, paint))
        blocks.append(_totals(report, width))
    for severity, problems in (("warning", report.warnings), ("error", report.problems)):
        blocks += [_problem(one, severity, report.text, width, paint) for one in problems]
    blocks.append(_verdict(report, paint))
    return "\n\n".join(blocks)


_Paint = Callable[[str, str], str]


def _plain(text: str, code: str) -> str:
    return text


def _painted(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"


def _title(report: Report, width: int, paint: _Paint) -> str:
    name = report.name or "Network"
    classes = "" if report.classes is None else f", {report.classes} classes"
    fit = "" if report.fit == "strict" else f", windows rounded: {report.fit}"
    title = f"{name} on {describe(report.input)} images{classes}{fit}"
    return "\n".join(paint(line, _BOLD) for line in textwrap.wrap(title, width))


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the table; the `header` is written over several lines where room is short."""

    header: tuple[str, ...]
    cell: Callable[[Row], str]
    right: bool = False


def _layer_cell(row: Row, longest: int) -> str:
    token = {"add": "[ | ]", "concat": "{ | }"}.get(row.kind, row.text)
    return f"{row.name:<{longest}}  {token}"


def _field_cell(row: Row) -> str:
    field = _side(row.receptive_field)
    return f"{field} / {_side(row.receptive_stride)}" if len(row.output) == 3 else field


def _side(size: int | tuple[int, int]) -> str:
    return str(size) if isinstance(size, int) else describe(size)


_OUTPUT = _Column(("Output",), lambda row: describe(row.output))
_ARITHMETIC = _Column(("Arithmetic",), lambda row: row.formula)
_PARAMETERS = _Column(("Parameters",), lambda row: row.parameter_formula)
_MACS = _Column(("Multiply-", "adds"), lambda row: _count(row.macs) if row.macs else "", right=True)
_FIELD = _Column(("Receptive ", "field / stride"), _field_cell, right=True)
_MEMORY = _Column(("Memory",), lambda row: _bytes(row.activation_bytes), right=True)


def _table(report: Report, width: int, paint: _Paint) -> str:
    """One line a layer, or where that is too wide the arithmetic on lines below its layer."""
    longest = max(len(row.name) for row in report.rows)
    layer = _Column(("Layer",), lambda row: _layer_cell(row, longest))
    whole = (layer, _OUTPUT, _ARITHMETIC, _PARAMETERS, _MACS, _FIELD, _MEMORY)
    cells = [[column.cell(row) for column in whole] for row in report.rows]
    lines = _aligned(whole, [["".join(column.header) for column in whole]], cells)
    if len(lines[1]) <= width:
        return "\n".join([paint(lines[0], _BOLD), paint(lines[1], _DIM), *lines[2:]])
    for columns in _STACKED:
        columns = (layer, *columns)
        headers = [list(header) for header in zip_longest(*_headers(columns), fillvalue="")]
        cells = [[column.cell(row) for column in columns] for row in report.rows]
        lines = _aligned(columns, headers, cells)
        rule = len(headers)
        if len(lines[rule]) <= width:
            break
    head = [paint(line, _BOLD) for line in lines[:rule]]
    tab = max(len("Arithmetic"), *(len(row.formula) for row in report.rows))
    tab = min(tab, width // 2 - len(_INDENT))
    header = f"{_INDENT}{'Arithmetic':<{tab}}{_GAP}Parameters"
    head += [paint(header, _BOLD), paint(lines[rule], _DIM)]
    body = []
    for row, line in zip(report.rows, lines[rule + 1 :], strict=True):
        body += [line, *_below(row, tab, width, paint)]
    return "\n".join(head + body)


_STACKED = ((_OUTPUT, _MACS, _FIELD, _MEMORY), (_OUTPUT, _MACS, _FIELD), (_OUTPUT, _FIELD))


def _headers(columns: Sequence[_Column]) -> list[tuple[str, ...]]:
    return [tuple(part.strip() for part in column.header) for column in columns]


def _below(row: Row, tab: int, width: int, paint: _Paint) -> list[str]:
    """The arithmetic of a layer on a line of its own, or on two; no formula is ever broken."""
    line = f"{_INDENT}{row.formula:<{tab}}{_GAP}{row.parameter_formula}".rstrip()
    if not line:
        return []
    if len(line) <= width:
        return [paint(line, _DIM)]
    formulas = (row.formula, row.parameter_formula)
    return [paint(_INDENT + formula, _DIM) for formula in formulas if formula]


def _aligned(
    columns: Sequence[_Column], headers: Sequence[Sequence[str]], cells: Sequence[Sequence[str]]
) -> list[str]:
    """Header lines, a rule as wide as the table, and a line for each row."""
    rows = [*headers, *cells]
    widths = [max(len(row[place]) for row in rows) for place in range(len(columns))]
    lines = [
        _GAP.join(
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ).rstrip()
        for row in rows
    ]
    rule = "─" * (sum(widths) + len(_GAP) * (len(widths) - 1))
    return [*lines[: len(headers)], rule, *lines[len(headers) :]]


def _totals(report: Report, width: int) -> str:
    totals = [
        ("Parameters", f"{report.parameters:,} ({_bytes(report.parameter_bytes)} in float32)"),
        ("Multiply-adds", f"{report.macs:,} an image"),
        ("Activations", f"{_bytes(report.activation_bytes)} an image"),
    ]
    if report.ok:
        totals.append(("Training", _training(report)))
    label = max(len(name) for name, _ in totals) + len(_GAP)
    lines = []
    for name, value in totals:
        lines += textwrap.wrap(
            value, width, initial_indent=name.ljust(label), subsequent_indent=" " * label
        )
    return "\n".join(lines)


def _training(report: Report) -> str:
    memory = report.training_memory()
    return (
        f"{_bytes(memory.total)} at batch size {report.batch_size}: "
        f"activations {_bytes(memory.activations)}, "
        f"their gradients {_bytes(memory.activation_gradients)}, "
        f"weights {_bytes(memory.weights)}, their gradients {_bytes(memory.gradients)}, "
        f"optimizer {_bytes(memory.optimizer)} "
        f"({_counted(report.optimizer_slots, 'array')} a parameter)"
    )


def _problem(one: Problem, severity: str, text: str, width: int, paint: _Paint) -> str:
    heading = f"{severity} {one.layer}: " if one.layer else f"{severity}: "
    body = textwrap.wrap(heading + one.message, width, subsequent_indent="  ")
    tone = _RED if severity == "error" else _YELLOW
    lines = [body[0].replace(severity, paint(severity, tone), 1), *body[1:]]
    if one.span:
        line, carets = excerpt(text, one.span, width - 4)
        lines += [f"    {line}", f"    {paint(carets, tone)}"]
    for detail in (one.formula, one.unread):
        lines += textwrap.wrap(detail, width, initial_indent="  ", subsequent_indent="    ")
    for place, fix in enumerate(one.fixes):
        label = "  fits: " if place == 0 else "        "
        wrapped = textwrap.wrap(fix.edit, width, initial_indent=label, subsequent_indent=" " * 10)
        lines += [wrapped[0].replace(label, paint(label, _GREEN), 1), *wrapped[1:]]
    return "\n".join(lines)


def _verdict(report: Report, paint: _Paint) -> str:
    warnings = _counted(len(report.warnings), "warning")
    if report.ok:
        return f"{paint('fits', _GREEN)}, {warnings}" if report.warnings else paint("fits", _GREEN)
    problems = paint(_counted(len(report.problems), "problem"), _RED)
    return (
        f"does not fit: {problems}, {warnings}" if report.warnings else f"does not fit: {problems}"
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _count(number: int) -> str:
    """A count in three digits and K, M, G or T."""
    return _scaled(float(number), 1000, ("", "K", "M", "G", "T"), "")


def _bytes(number: int) -> str:
    """Bytes in three digits and KiB, MiB, GiB or TiB."""
    return _scaled(float(number), 1024, ("B", "KiB", "MiB", "GiB", "TiB"), " ")


def _scaled(number: float, step: int, units: Sequence[str], gap: str) -> str:
    for unit in units[:-1]:
        if number < (999.5 if unit != units[0] else step):
            break
        number /= step
    else:
        unit = units[-1]
    if unit == units[0]:
        return f"{number:.0f}{gap}{unit}"
    digits = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{digits}f}{gap}{unit}"
