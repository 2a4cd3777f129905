"""A run on the terminal: nothing cut off on 80 columns, no colour where none is wanted."""

from __future__ import annotations

import io
import re
from collections.abc import Generator

import pytest

from hubel.train.events import Ended, EpochDone, Event, Started, StepDone, Validating
from hubel.views.progress import epoch_line, shown

ROW = EpochDone(2, 0.1, 0.9876, 0.2, 0.95, 0.00123, 61.2, 12_345.0, True)


def run() -> Generator[Event, None, None]:
    yield Started(epochs=100, steps=2, images=200, validation_images=20, epoch=1, step=1)
    yield StepDone(2, 2, 100, 0.1, 99, 0.0, 0.1234, 0.9876, 0.00123, 1.5)
    yield Validating(2, 10, 20)
    yield ROW
    yield Ended("patience", 2, 1, 61.2)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_one_an_epoch() -> None:
    stream = io.StringIO()
    events = list(shown(run(), stream, bar=False, color=False))
    assert events == list(run())
    assert stream.getvalue().splitlines() == [
        "Going on after epoch 1 and step 1 of 2",
        "epoch   2/100  loss 0.1000  accuracy  98.76 %  val loss 0.2000  accuracy  95.00 %  "
        "lr 0.0012   12.3 k images/s   61.2 s  best",
        "Stopped after epoch 2: no new best since epoch 1",
    ]


@pytest.mark.parametrize("columns", [80, 160])
def test_a_bar_has_room_for_all_it_says(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    list(shown(run(), stream, bar=True, color=False))
    said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "…" not in said
    assert "loss 0.1234" in said
    assert "98.76 %" in said
    assert "lr 0.001" in said
    assert "images/s" in said
    assert epoch_line(ROW, 100) in said
    assert "\x1b[3" not in stream.getvalue()
    assert "\x1b[9" not in stream.getvalue()


def test_closing_what_is_shown_closes_the_run() -> None:
    events = run()
    stream = shown(events, io.StringIO(), bar=False, color=False)
    next(stream)
    stream.close()
    assert list(events) == []
