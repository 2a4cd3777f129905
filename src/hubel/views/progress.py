"""A training run on the terminal: a bar where lines can be overwritten, else a line an epoch."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from hubel.train.events import Ended, EpochDone, Event, Started, StepDone, Validating, Verdict
from hubel.train.metrics import Evaluation, wilson

__all__ = [
    "accuracy_line",
    "epoch_line",
    "evaluation_line",
    "interval_text",
    "percent",
    "shown",
    "thousands",
    "verdict_line",
]

# Columns from which there is room for a longer bar and for words.
_WIDE = 110


def percent(share: float) -> str:
    """A share in percent, to two decimals.

    >>> percent(0.98765)
    '98.77 %'
    """
    return f"{100 * share:.2f} %"


def interval_text(ends: tuple[float, float]) -> str:
    """Two shares in percent, to one decimal.

    >>> interval_text((0.8255, 0.9448))
    '82.5 to 94.5'
    """
    return " to ".join(f"{100 * end:.1f}" for end in ends)


def thousands(number: float) -> str:
    """A large number in a few digits.

    >>> thousands(950), thousands(12_345), thousands(4_500_000)
    ('950', '12.3 k', '4.5 M')
    """
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            return f"{number / min(size, 1e3 if unit == 'k' else size):.3g} {unit}"
    return f"{number:,.0f}"


def epoch_line(row: EpochDone, epochs: int) -> str:
    """An epoch's figures in one line, in columns that stay where they are."""
    parts = [
        f"epoch {row.epoch:>{len(str(epochs))}}/{epochs}",
        f"loss {row.loss:.4f}",
        f"accuracy {percent(row.accuracy):>8}",
    ]
    if row.validation_loss is not None and row.validation_accuracy is not None:
        parts.append(f"val loss {row.validation_loss:.4f}")
        parts.append(f"accuracy {percent(row.validation_accuracy):>8}")
    parts.append(f"lr {row.learning_rate:<7.2g}")
    if row.seconds is not None and row.images_per_second is not None:
        parts.append(f"{thousands(row.images_per_second):>6} images/s")
        parts.append(f"{row.seconds:5.1f} s")
    return "  ".join(parts) + ("  best" if row.best else "")


def verdict_line(verdict: Verdict) -> str:
    """What is off, since when, and what would mend it, in one line.

    >>> verdict_line(Verdict(2, 5, "dead-units", "relu3", "41 % of relu3 never fires", "use leaky"))
    '  ! epoch 2, step 5: 41 % of relu3 never fires; use leaky'
    """
    place = f"epoch {verdict.epoch}, step {verdict.step}"
    return f"  ! {place}: {verdict.message}; {verdict.advice}"


def evaluation_line(measured: Evaluation, split: str) -> str:
    """An accuracy with its 95 % interval, beside that of always naming the most frequent class.

    `split` says which images were scored; "all" of them are said to include training images.
    """
    of = "images, training images included" if split == "all" else f"{split} images"
    return accuracy_line(measured.correct, measured.count, measured.baseline, of)


def accuracy_line(correct: int, count: int, baseline: float, of: str) -> str:
    """So many of so many images right, with the 95 % interval of the share and its baseline.

    >>> accuracy_line(90, 100, 0.2, "test images")
    '90.00 % of 100 test images (95 % interval 82.6 to 94.5; the most frequent class alone 20.00 %)'
    """
    return (
        f"{percent(correct / count)} of {count:,} {of} "
        f"(95 % interval {interval_text(wilson(correct, count))}; "
        f"the most frequent class alone {percent(baseline)})"
    )


def shown(
    events: Generator[Event, None, None], stream: TextIO, *, bar: bool, color: bool
) -> Generator[Event, None, None]:
    """Pass the events of a run on, and show them on a stream on the way."""
    with closing(events), _bar(stream, color) if bar else _lines(stream) as show:
        for event in events:
            show(event)
            yield event


class _Lines:
    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.epochs = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self.epochs = event.epochs
            if event.epoch or event.step:
                print(_resumed(event), file=self.stream, flush=True)
        elif isinstance(event, EpochDone):
            print(epoch_line(event, self.epochs), file=self.stream, flush=True)
        elif isinstance(event, Verdict):
            print(verdict_line(event), file=self.stream, flush=True)
        elif isinstance(event, Ended) and (early := _early(event)):
            print(early, file=self.stream, flush=True)


def _early(event: Ended) -> str | None:
    """Why a run stopped before its last epoch."""
    if event.reason == "patience":
        return f"Stopped after epoch {event.epoch}: no new best since epoch {event.best_epoch}"
    if event.reason == "time":
        return f"Stopped after epoch {event.epoch}: the time is up; --resume goes on"
    return None


def _resumed(event: Started) -> str:
    steps = f" and step {event.step} of {event.steps}" if event.step else ""
    return f"Going on after epoch {event.epoch}{steps}"


@contextmanager
def _lines(stream: TextIO) -> Iterator[_Lines]:
    yield _Lines(stream)


class _Bar:
    """One bar for the epoch at hand; the epochs before it stay above as lines."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task = progress.add_task("", total=None, figures="")
        self.started: Started | None = None
        self.begun = time.monotonic()
        self.seen = 0
        self.steps = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self.started = event
            self.begun = time.monotonic()
            if event.epoch or event.step:
                self.progress.console.print(_resumed(event))
        assert self.started is not None
        epochs = self.started.epochs
        if isinstance(event, StepDone):
            self.seen += event.count
            self.steps += 1
            seconds = max(time.monotonic() - self.begun, 1e-9)
            left = (epochs - event.epoch) * self.started.steps + self.started.steps - event.step
            accuracy = "accuracy " if self.progress.console.width >= _WIDE else ""
            figures = (
                f"loss {event.mean_loss:.4f}  {accuracy}{percent(event.accuracy)}  "
                f"lr {event.learning_rate:.1g}  {thousands(self.seen / seconds)} images/s  "
                f"{_clock(left * seconds / self.steps)}"
            )
            self.progress.update(
                self.task,
                description=f"epoch {event.epoch}/{epochs}",
                completed=event.step,
                total=self.started.steps,
                figures=figures,
            )
        elif isinstance(event, Validating):
            self.progress.update(
                self.task,
                description="validating",
                completed=event.done,
                total=event.total,
            )
        elif isinstance(event, EpochDone):
            self.progress.console.print(epoch_line(event, epochs), soft_wrap=True)
        elif isinstance(event, Verdict):
            self.progress.console.print(verdict_line(event), soft_wrap=True, markup=False)
        elif isinstance(event, Ended) and (early := _early(event)):
            self.progress.console.print(early)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def _bar(stream: TextIO, color: bool) -> Iterator[_Bar]:
    console = Console(file=stream, no_color=not color, highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24 if console.width >= _WIDE else 8),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console, transient=True, refresh_per_second=8) as progress:
        yield _Bar(progress)
