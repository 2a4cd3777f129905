"""Ten layers deep: what CS231n's lecture 6 shows of each initialisation."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from hubel.data import load
from hubel.data.dataset import Dataset
from hubel.errors import UsageError
from hubel.study.initialisations import BINS, DEPTH, Begun, Depth, _verdict, look
from hubel.train.initialise import INITIALISATIONS
from hubel.views.canvas import to_svg
from hubel.views.initialisations import as_dict, lines, shapes, size


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


DENSE = [method for method in INITIALISATIONS if method != "dirac"]  # there it is the same as he


def by_method(rows: tuple[Begun, ...], methods: list[str] = DENSE) -> dict[str, Begun]:
    assert [row.method for row in rows] == methods
    return {row.method: row for row in rows}


def test_with_tanh_small_numbers_vanish_and_xavier_keeps_some_spread(digits: Dataset) -> None:
    found = by_method(look(digits))
    small = [layer.deviation for layer in found["small-random"].layers]
    # 100 inputs of deviation d times weights of deviation 0.01: the next has 0.1·d.
    assert small[5] == pytest.approx(0.1 * small[4], rel=0.2)
    assert found["small-random"].verdict.startswith("vanishes: at layer 2 the outputs differ by")
    assert all(layer.deviation > 0.15 for layer in found["xavier"].layers)
    assert found["he"].verdict.startswith("keeps its spread through 10 layers (from 0.7")
    assert found["zero"].verdict.startswith("all outputs of layer 1 are alike")
    for row in found.values():
        assert (row.low, row.high, len(row.layers)) == (-1, 1, DEPTH)
        for layer in row.layers:
            assert len(layer.shares) == BINS
            assert sum(layer.shares) == pytest.approx(1)


def test_with_relu_he_keeps_what_xavier_halves(digits: Dataset) -> None:
    found = by_method(look(digits, activation="relu"))
    he, xavier = ([layer.deviation for layer in found[name].layers] for name in ("he", "xavier"))
    assert min(he) > 0.3
    assert xavier[9] < 0.1 * xavier[0]
    assert found["he"].low == 0


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "elu1"])
def test_convolutions_and_other_functions_too(digits: Dataset, activation: str) -> None:
    found = by_method(look(digits, kind="conv", activation=activation), list(INITIALISATIONS))
    assert found["he"].net == f"(conv3-16p1 {activation})x10 fc"
    assert all(layer.deviation > 0 for layer in found["he"].layers)


def test_what_is_no_layer_and_no_function_of_one_number_is_refused(digits: Dataset) -> None:
    with pytest.raises(UsageError, match="the layers are 'pool', not one of fc, conv"):
        look(digits, kind="pool")
    for token in ("maxout2", "conv3-8", "relu tanh", "bn"):
        with pytest.raises(UsageError, match=r"is no function of one number.*try tanh or relu"):
            look(digits, activation=token)


def test_table_picture_and_json_show_all_layers(digits: Dataset) -> None:
    rows = look(digits)
    table = list(lines(rows))
    assert len(table) == 1 + 3 * len(DENSE)
    assert len(table[1].split()) == 2 + DEPTH
    root = ElementTree.fromstring(to_svg(shapes(rows), *size(rows)))
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert all(row.verdict in words for row in rows)
    assert [f"layer {number}" in words for number in range(1, DEPTH + 1)] == [True] * DEPTH
    assert as_dict(rows)[0]["layers"][9]["layer"] == "tanh10"


@pytest.mark.parametrize(
    ("deviations", "saturated", "verdict"),
    [
        ((0.9, 0.8, 0.7), 0.1, "keeps its spread through 3 layers (from 0.9 to 0.7)"),
        ((0.9, 0.5, 0.3), 0.1, "shrinks to 33% of its spread through 3 layers (from 0.9 to 0.3)"),
        ((0.9, 0.5, 0.001), 0.1, "vanishes: at layer 3 the outputs differ by 1.0e-03 only"),
        ((9.0, 90.0, 900.0), 0.0, "explodes: at layer 3 the outputs differ by 9.0e+02"),
        ((0.9, 0.9, 0.9), 0.7, "saturates: 70% of layer 1 are at the bounds"),
        ((0.9, 0.0, 0.0), 0.0, "all outputs of layer 2 are alike: no filter can become unlike"),
    ],
)
def test_the_verdict_names_the_layer(
    deviations: tuple[float, ...], saturated: float, verdict: str
) -> None:
    layers = tuple(Depth("tanh", 0.0, each, saturated, ()) for each in deviations)
    assert _verdict(layers).startswith(verdict)
