from __future__ import annotations

import pytest
from hypothesis import given

from hubel.notation.expand import count_layers, expand
from hubel.notation.format import format, replace, token  # noqa: A004 - what is tested
from hubel.notation.named import NETS, find
from hubel.notation.parse import parse
from hubel.notation.spec import Branches, Item, Layer, Repeat, Spec
from tests.notation.strategies import layers, specs


@given(specs())
def test_a_formatted_network_reads_as_itself(spec: Spec) -> None:
    text = format(spec)
    assert parse(text) == spec
    assert format(parse(text)) == text


@given(layers())
def test_the_span_of_a_layer_is_its_token(layer: Layer) -> None:
    text = f"  {token(layer)}\n relu"
    start, stop = parse(text).items[0].span
    assert text[start:stop] == token(layer)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("conv3x3-8s1p0d1g1", "conv3-8"),
        ("conv3-8~b0g2d2p1s2", "conv3-8s2p1d2g2b0~"),
        ("conv3-8p1x1s2x1", "conv3-8s2x1p1"),
        ("pool2s2", "pool2"),
        ("pool3s1", "pool3s1"),
        ("pool3x2s3x2 pool3x2s3", "pool3x2 pool3x2s3"),
        ("leaky0.01 leaky.2 elu1.0 elu1.50 drop0", "leaky leaky0.2 elu elu1.5 drop0"),
        ("[ conv3-8same bn|]relu # tail", "[conv3-8same bn | ] relu"),
        ("{|fc}", "{ | fc}"),
        ("( relu\n(bn)x2)  x3", "(relu (bn)x2)x3"),
    ],
)
def test_canonical_text(written: str, canonical: str) -> None:
    assert format(parse(written)) == canonical
    assert parse(canonical) == parse(written)


def test_replace_leaves_everything_else_as_it_was() -> None:
    text = "conv3-8  # first\nrelu conv5-9 bn"
    layer = parse(text).items[2]
    assert replace(text, layer.span, "conv5-9p2") == "conv3-8  # first\nrelu conv5-9p2 bn"


def test_expand_unrolls_repeats_inside_branches_and_keeps_the_spans() -> None:
    text = "([(conv3-8 relu)x2 | (bn)x3])x2 fc"
    spec = expand(parse(text))
    assert format(spec) == " ".join(["[conv3-8 relu conv3-8 relu | bn bn bn]"] * 2) + " fc"
    branches = spec.items[1]
    assert isinstance(branches, Branches)
    assert {text[slice(*item.span)] for item in branches.branches[0]} == {"conv3-8", "relu"}
    assert text[slice(*branches.span)] == "[(conv3-8 relu)x2 | (bn)x3]"
    assert spec.text == text


@given(specs())
def test_expand_leaves_no_repeat_and_as_many_layers(spec: Spec) -> None:
    def walk(items: tuple[Item, ...]) -> int:
        assert not any(isinstance(item, Repeat) for item in items)
        return sum(
            sum(walk(branch) for branch in item.branches) if isinstance(item, Branches) else 1
            for item in items
        )

    assert walk(expand(spec).items) == count_layers(spec.items)
    assert expand(expand(spec)) == expand(spec)


@pytest.mark.parametrize("name", NETS)
def test_shipped_nets_read_as_their_canonical_text(name: str) -> None:
    spec = parse(find(name)[0])
    assert parse(format(spec)) == spec
