from __future__ import annotations

import re
from pathlib import Path

import pytest

from hubel.notation.kinds import KINDS, SUFFIXES
from hubel.notation.parse import parse
from hubel.notation.token import read_layer
from tests.graph.known_nets import KNOWN_NETS

PAGE = (Path(__file__).parents[2] / "docs" / "notation.md").read_text(encoding="utf-8")
FIRST_CELLS = re.findall(r"^\| ((?:`[^`]+` ?)+)\|", PAGE, re.MULTILINE)
CODES = [
    code.replace(r"\|", "|") for cell in FIRST_CELLS for code in re.findall(r"`([^`]+)`", cell)
]
WRITTEN_SUFFIXES = ["s2", "s2x1", "p2", "p1x2", "same", "d2", "d1x2", "g4", "b0", "~", "^"]
TEXTS = [code for code in CODES if code not in {*WRITTEN_SUFFIXES, *KNOWN_NETS}]


@pytest.mark.parametrize("text", TEXTS)
def test_every_text_in_the_tables_can_be_read(text: str) -> None:
    assert parse(text).items


@pytest.mark.parametrize("suffix", WRITTEN_SUFFIXES)
def test_every_suffix_in_the_table_can_be_read(suffix: str) -> None:
    assert suffix in CODES
    assert parse(f"conv3-8{suffix}") != parse("conv3-8")


def test_every_kind_and_suffix_has_its_row() -> None:
    layers = [read_layer(text).layer for text in TEXTS]
    assert {layer.kind for layer in layers if layer is not None} == set(KINDS)
    assert {one for usual in SUFFIXES.values() for one in usual.split()} <= set(CODES)


@pytest.mark.parametrize("name", KNOWN_NETS)
def test_the_table_of_shipped_nets_has_the_known_numbers(name: str) -> None:
    (height, width, depth), parameters = KNOWN_NETS[name]
    row = f"| `{name}` | {height}×{width}×{depth} | "
    assert f"{row}{10 if height < 224 else 1000} | {parameters:,} | " in PAGE
