"""A search as text and as a picture: all figures there, in any width, each dot in its place."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from collections.abc import Generator
from dataclasses import replace

import pytest

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
    ranked,
    winner,
)
from hubel.views.scatter import scatter
from hubel.views.trials import edges, shown, table

RANGES = {
    "lr": Range(1e-4, 0.1, log=True),
    "weight_decay": Range(1e-6, 0.01, log=True),
    "conv1 filters": Range(8, 32, whole=True),
    "drop1 rate": Range(0.0, 0.5),
    "conv2 size": Range(3, 7, whole=True, values=(3, 7, 5)),
}
NUMBERS = {
    "lr": 0.01,
    "weight_decay": 1e-4,
    "conv1 filters": 20,
    "drop1 rate": 0.25,
    "conv2 size": 7,
}


def trial(number: int, **changes: object) -> Trial:
    usual = Trial(
        number, 1, NUMBERS, "fc", "done", f"trials/{number:03}", 100, "", 4, 3, 90, 0.3, 1.25
    )
    return replace(usual, **changes)


def lr(value: float) -> dict[str, float]:
    return {**NUMBERS, "lr": value}


TRIALS = ranked(
    [
        trial(1, numbers=lr(0.001), correct=70),
        trial(2, numbers=lr(0.0002), correct=30, state="stopped", epochs=1, reason="too slow"),
        trial(3, correct=91, stage=2),
        trial(4, correct=91, stage=2, loss=0.2, numbers=lr(0.02)),
        trial(5, numbers=lr(0.1), correct=None, state="diverged", epochs=0, best_epoch=None),
        trial(6, correct=None, state="unfinished", epochs=0),
        trial(7, correct=60),
        trial(8, correct=65, numbers=lr(0.05)),
    ]
)


def test_those_that_went_to_their_end_come_first_and_the_loss_decides_between_equals() -> None:
    assert [one.number for one in TRIALS] == [4, 3, 1, 8, 7, 2, 6, 5]
    best = winner(TRIALS)
    assert best is not None
    assert best.number == 4
    assert winner(TRIALS[5:]) is None


def squeezed(text: str) -> list[str]:
    """The lines of a text, with single spaces."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_a_wide_table_has_a_row_a_trial() -> None:
    lines = squeezed(table(TRIALS))
    assert lines[0] == "weight conv1 drop1 conv2"
    assert lines[1] == (
        "trial stage accuracy 95 % interval epochs seconds state lr decay filters rate size"
    )
    assert lines[3] == "4 2 91.00 % 83.8 to 95.2 4 1.2 done 0.02 0.0001 20 0.25 7"
    assert len(lines) == 3 + len(TRIALS)
    assert lines[-1] == "5 1 0 1.2 diverged 0.1 0.0001 20 0.25 7"


@pytest.mark.parametrize("width", [70, 80, 100])
def test_a_narrow_table_has_the_numbers_below_their_trial(width: int) -> None:
    lines = table(TRIALS, width).splitlines()
    assert max(map(len, lines)) <= width
    assert squeezed(lines[2])[0] == "4 2 91.00 % 83.8 to 95.2 4 1.2 done"
    assert lines[3].startswith("       lr 0.02, weight decay 0.0001,")
    # A number stays with its name.
    assert all(part in "\n".join(lines) for part in ("conv1 filters 20", "conv2 size 7"))


def test_a_table_of_nothing_says_so() -> None:
    assert table([]) == "No trial was begun."


def test_a_winner_at_the_end_of_a_range_is_told() -> None:
    assert list(edges(trial(1), RANGES)) == []
    said = list(edges(trial(1, numbers={**NUMBERS, "lr": 0.09, "drop1 rate": 0.0}), RANGES))
    assert said == [
        "lr 0.09 lies at the high end of 0.0001..0.1 log: beyond it may be better ones",
        "drop1 rate 0 lies at the low end of 0.0..0.5: beyond it may be better ones",
    ]


def story() -> Generator[SearchEvent, None, None]:
    numbers = {"lr": 0.01}
    yield SearchStarted("runs/x", 3, 1, 2)
    yield StageStarted(1, 2, 1, {"lr": RANGES["lr"]})
    for number in (1, 2):
        yield Refused(1, {"lr": 0.5 * number}, "it does not fit", problem=True)
    yield Refused(1, numbers, "the same as trial 1", problem=False)
    yield TrialStarted(2, 1, numbers, "fc")
    yield TrialTrained(2, Started(1, 4, 64, 8, 0, 0))
    yield TrialTrained(2, StepDone(1, 1, 16, 0.5, 8, 0.0, 0.5, 0.5, 0.01, 1.5))
    yield TrialDone(trial(2, numbers=numbers), best=True)
    yield TrialDone(trial(3, numbers=numbers, state="stopped", reason="too slow"), best=False)
    yield SearchEnded("exhausted", 2, 9.0)


def test_a_search_is_told_line_by_line() -> None:
    stream = io.StringIO()
    assert list(shown(story(), stream, bar=False, color=False)) == list(story())
    assert stream.getvalue().splitlines() == [
        "Going on after 1 trial of 3",
        "Stage 1 of 2: 2 trials of 1 epoch, lr 0.0001..0.1 log",
        "no trial with lr 0.5: it does not fit",
        "trial 2/3  accuracy  90.00 %    1.2 s  lr 0.01  best",
        "trial 3/3  accuracy  90.00 %    1.2 s  lr 0.01  stopped: too slow",
        "All that could be tried was tried",
    ]


def test_a_bar_tells_the_same_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    plain, barred = io.StringIO(), io.StringIO()
    list(shown(story(), plain, bar=False, color=False))
    list(shown(story(), barred, bar=True, color=False))
    for line in plain.getvalue().splitlines():
        assert line in barred.getvalue()


def drawn(trials: tuple[Trial, ...], ranges: dict[str, Range] = RANGES) -> ET.Element:
    return ET.fromstring(scatter(trials, ranges, "toy & more"))


NAME = "{http://www.w3.org/2000/svg}"


def test_the_picture_has_a_panel_a_number_with_every_trial_in_it() -> None:
    root = drawn(TRIALS)
    texts = ["".join(text.itertext()) for text in root.iter(f"{NAME}text")]
    assert {"toy & more", "lr (logarithmic)", "conv1 filters", "drop1 rate"} <= set(texts)
    assert {"0.0001", "0.001", "0.01", "0.1"} <= set(texts)
    panels = root.findall(f"{NAME}g")
    assert len(panels) == len(RANGES)
    for panel in panels:
        # Two trials are not on the picture's scale, one diverged, and one is unfinished.
        assert len(panel.findall(f"{NAME}circle")) == 5
        titles = {"".join(one.itertext()).strip() for one in panel.findall(f"{NAME}circle")}
        assert "trial 4: 91.00 %" in titles


def test_dots_lie_by_their_numbers_and_within_the_frame() -> None:
    panel = drawn(TRIALS).findall(f"{NAME}g")[0]
    x = {
        "".join(one.itertext()).split(":")[0]: float(one.attrib["cx"])
        for one in panel.findall(f"{NAME}circle")
    }
    assert all(0 <= value <= 300 for value in x.values())
    # 0.001, 0.01 and 0.05 of a range from 0.0001 to 0.1: a third, two thirds, and nine tenths.
    assert x["trial 3"] - x["trial 1"] == pytest.approx(0.9 * 300 / 3, abs=0.1)
    assert x["trial 1"] < x["trial 3"] < x["trial 4"] < x["trial 8"]


@pytest.mark.parametrize("count", range(1, 6))
def test_any_number_of_panels_lies_within_the_picture(count: int) -> None:
    ranges = dict(list(RANGES.items())[:count])
    root = drawn(TRIALS, ranges)
    width, height = (float(root.attrib[side]) for side in ("width", "height"))
    for panel in root.findall(f"{NAME}g"):
        x, y = map(float, panel.attrib["transform"].removeprefix("translate(")[:-1].split())
        assert x + 300 < width
        assert y + 220 < height


@pytest.mark.parametrize("trials", [(), TRIALS[6:], TRIALS[:1]])
def test_a_picture_of_few_trials_can_be_drawn(trials: tuple[Trial, ...]) -> None:
    assert len(drawn(trials).findall(f"{NAME}g")) == len(RANGES)
