"""The picture of the learning rates tried."""

from __future__ import annotations

from xml.etree import ElementTree

from hubel.train.preflight import Rates
from hubel.views.rates import rates_chart, rates_svg

RATES = tuple(10.0 ** (-6 + 7 * k / 29) for k in range(30))
FALLING = tuple(2.3 - 0.05 * k if k < 22 else 2.3 + k for k in range(30))
TRIED = Rates(RATES, FALLING, 0.01)
SVG = "{http://www.w3.org/2000/svg}"


def test_the_chart_has_a_bar_a_rate_and_both_marks() -> None:
    *bars, marks, axis = rates_chart(TRIED, 1e-4)
    assert len(bars) == 6
    assert max(map(len, bars)) == len("      ") + 9 + 30
    assert bars[-1].lstrip().startswith("1.25 ")
    assert marks.index("c") < marks.index("s")
    assert axis.endswith("c chosen: 0.0001, s suggested: 0.01")


def test_the_picture_is_well_formed_and_says_what_it_shows() -> None:
    root = ElementTree.fromstring(rates_svg(TRIED, 1e-4))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"chosen 0.0001", "suggested 0.01", "learning rate", "loss, smoothed"} <= set(texts)
    left, right = 0.0, float(root.attrib["viewBox"].split()[2])
    for text in root.iter(f"{SVG}text"):
        assert left <= float(text.attrib["x"]) <= right


def test_a_rate_at_which_nothing_was_finite_draws_an_empty_frame() -> None:
    nothing = Rates((), (), None)
    assert list(rates_chart(nothing, 0.1)) == []
    assert ElementTree.fromstring(rates_svg(nothing, 0.1)) is not None
