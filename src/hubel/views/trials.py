"""A search on the terminal: a line a trial while it runs, and the table of them at the end."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from hubel.notation.ranges import Range
from hubel.train.events import Started, StepDone
from hubel.trials.events import (
    Refused,
    SearchEnded,
    SearchEvent,
    SearchStarted,
    StageStarted,
    Trial,
    TrialDone,
    TrialStarted,
    TrialTrained,
)
from hubel.views.progress import interval_text, percent

__all__ = ["called", "edges", "numbers_text", "shown", "table"]

_HEAD = ("trial", "stage", "accuracy", "95 % interval", "epochs", "seconds", "state")
_WORDS = _HEAD.index("state")
_INDENT = " " * 7
_BOLD, _DIM = "1", "2"
# A winner this near to an end of a range, as a share of it, may have a better one beyond.
_NEAR = 1 / 20


def called(name: str) -> str:
    """A searched number as people call it.

    >>> called("weight_decay")
    'weight decay'
    """
    return name.replace("_", " ")


def numbers_text(numbers: Mapping[str, float]) -> str:
    """The numbers of a trial in words.

    >>> numbers_text({"lr": 0.0012, "conv1 filters": 32})
    'lr 0.0012, conv1 filters 32'
    """
    return ", ".join(f"{called(name)} {value:g}" for name, value in numbers.items())


def table(trials: Sequence[Trial], width: int | None = None, color: bool = False) -> str:
    """A row a trial in the order given, in at most `width` columns, None for as many as it takes.

    Where it is too wide the numbers of a trial stand below its row.
    """
    if not trials:
        return "No trial was begun."
    names = list(trials[0].numbers)
    figures = [_cells(trial) for trial in trials]
    numbers = [[f"{trial.numbers[name]:g}" for name in names] for trial in trials]
    beside = [[*first, *second] for first, second in zip(figures, numbers, strict=True)]
    above, head = zip(*(called(name).rpartition(" ")[::2] for name in names), strict=True)
    lines = _aligned([[""] * len(_HEAD) + list(above), [*_HEAD, *head]], beside)
    if width is not None and max(map(len, lines)) > width:
        head_line, *rows = _aligned([_HEAD], figures)
        below = [_wrapped(trial, width) for trial in trials]
        body = [line for row, more in zip(rows, below, strict=True) for line in (row, *more)]
        heads = [head_line]
    else:
        heads, body = [line for line in lines[:2] if line], lines[2:]
    rule = "─" * max(map(len, (*heads, *body)))
    if color:
        heads = [f"\x1b[{_BOLD}m{line}\x1b[0m" for line in heads]
        rule = f"\x1b[{_DIM}m{rule}\x1b[0m"
    return "\n".join([*heads, rule, *body])


def edges(best: Trial, ranges: Mapping[str, Range]) -> Iterator[str]:
    """Where the winner lies at an end of a range, beyond which there may be a better one."""
    for name, one in ranges.items():
        if one.values:
            continue
        place = one.share(best.numbers[name])
        if min(place, 1 - place) < _NEAR:
            end = "low" if place < _NEAR else "high"
            yield (
                f"{called(name)} {best.numbers[name]:g} lies at the {end} end of {one}: "
                f"beyond it may be better ones"
            )


def shown(
    events: Generator[SearchEvent, None, None], stream: TextIO, *, bar: bool, color: bool
) -> Generator[SearchEvent, None, None]:
    """Pass the events of a search on, and show them on a stream on the way."""
    with closing(events), _display(stream, bar, color) as show:
        for event in events:
            show(event)
            yield event


class _Display:
    """Prints what is over, and shows on a bar, if there is one, what is going on."""

    def __init__(self, say: Callable[[str], None], bar: Progress | None) -> None:
        self.say = say
        self.bar = bar
        self.task = None if bar is None else bar.add_task("", total=None, figures="")
        self.trials = self.stages = 0
        self.started: Started | None = None
        # Many candidates may fail for one reason, which is told once.
        self.refused: set[str] = set()

    def __call__(self, event: SearchEvent) -> None:
        match event:
            case SearchStarted():
                self.trials, self.stages = event.trials, event.stages
                if event.done:
                    self.say(f"Going on after {_counted(event.done, 'trial')} of {event.trials}")
            case StageStarted():
                self.say(self._stage(event))
            case Refused() if event.problem and event.reason not in self.refused:
                self.refused.add(event.reason)
                self.say(f"no trial with {numbers_text(event.numbers)}: {event.reason}")
            case TrialDone():
                self.say(self._done(event))
            case SearchEnded(reason="exhausted"):
                self.say("All that could be tried was tried")
            case TrialStarted() | TrialTrained() if self.bar is not None:
                self._progress(event)

    def _stage(self, event: StageStarted) -> str:
        ranges = ", ".join(f"{called(name)} {one}" for name, one in event.ranges.items())
        return (
            f"Stage {event.stage} of {self.stages}: {_counted(event.trials, 'trial')} of "
            f"{_counted(event.epochs, 'epoch')}, {ranges}"
        )

    def _done(self, event: TrialDone) -> str:
        trial = event.trial
        parts = [f"trial {trial.number:>{len(str(self.trials))}}/{self.trials}"]
        if trial.accuracy is not None:
            parts.append(f"accuracy {percent(trial.accuracy):>8}")
        parts.append(f"{trial.seconds:5.1f} s  {numbers_text(trial.numbers)}")
        if trial.reason:
            parts.append(f"{trial.state}: {trial.reason}")
        return "  ".join(parts) + ("  best" if event.best else "")

    def _progress(self, event: TrialStarted | TrialTrained) -> None:
        assert self.bar is not None
        assert self.task is not None
        name = f"trial {event.number}/{self.trials}"
        if isinstance(event, TrialStarted):
            self.bar.update(self.task, description=name, completed=0, figures="")
        elif isinstance(event.event, Started):
            self.started = event.event
        elif isinstance(event.event, StepDone):
            assert self.started is not None
            step, started = event.event, self.started
            self.bar.update(
                self.task,
                description=f"{name}, epoch {step.epoch}/{started.epochs}",
                completed=(step.epoch - 1) * started.steps + step.step,
                total=started.epochs * started.steps,
                figures=f"loss {step.mean_loss:.4f}  {percent(step.accuracy)}",
            )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


@contextmanager
def _display(stream: TextIO, bar: bool, color: bool) -> Iterator[_Display]:
    if not bar:
        yield _Display(lambda line: print(line, file=stream, flush=True), None)
        return
    console = Console(file=stream, no_color=not color, highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console, transient=True, refresh_per_second=8) as progress:
        yield _Display(lambda line: console.print(line, soft_wrap=True, markup=False), progress)


def _cells(trial: Trial) -> list[str]:
    share, interval = "", ""
    if trial.accuracy is not None and trial.interval is not None:
        share = percent(trial.accuracy)
        interval = interval_text(trial.interval)
    return [
        str(trial.number),
        str(trial.stage),
        share,
        interval,
        str(trial.epochs),
        f"{trial.seconds:.1f}",
        trial.state,
    ]


def _wrapped(trial: Trial, width: int) -> list[str]:
    """The numbers of a trial in lines, none of which is broken within a number's name."""
    kept = numbers_text(trial.numbers).replace(" ", "\xa0").replace(",\xa0", ", ")
    lines = textwrap.wrap(kept, width, initial_indent=_INDENT, subsequent_indent=_INDENT)
    return [line.replace("\xa0", " ") for line in lines]


def _aligned(head: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns, words flush left and numbers flush right."""
    widths = [max(map(len, column)) for column in zip(*head, *rows, strict=True)]
    return [
        "  ".join(
            f"{cell:<{size}}" if place == _WORDS else f"{cell:>{size}}"
            for place, (cell, size) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (*head, *rows)
    ]
