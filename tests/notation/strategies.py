"""Random networks: any Spec that the notation can write, whether it fits an image or not."""

from __future__ import annotations

from hypothesis import strategies as st

from hubel.notation.kinds import KINDS
from hubel.notation.spec import Branches, Item, Layer, Repeat, Spec

__all__ = ["items", "layers", "pairs", "specs"]

_FITS = st.sampled_from(("strict", "floor", "ceil"))


def pairs(least: int = 1, most: int = 12) -> st.SearchStrategy[tuple[int, int]]:
    """Sizes (height, width), half of them square."""
    sides = st.integers(least, most)
    return st.one_of(sides.map(lambda side: (side, side)), st.tuples(sides, sides))


@st.composite
def layers(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(KINDS)) -> Layer:
    """One layer of any of the `kinds`, every field as the table allows."""
    name = draw(st.sampled_from(kinds))
    kind = KINDS[name]
    size = draw(pairs()) if kind.size else None
    stride = (1, 1)
    if "stride" in kind.suffixes:
        usual = size if kind.stride_default == "size" else (1, 1)
        stride = draw(st.one_of(st.just(usual), pairs()))
    count = None
    if kind.count:
        counts = st.integers(kind.least_count, 999_999_999)
        count = draw(counts if kind.count_needed else st.none() | counts)
    value = None
    if kind.value:
        value = draw(st.floats(0.0, min(kind.below, 1e12), exclude_max=True))
    return Layer(
        kind=name,
        size=size,
        count=count,
        value=value,
        stride=stride,
        padding=draw(st.just("same") | pairs(0)) if "padding" in kind.suffixes else (0, 0),
        dilation=draw(pairs()) if "dilation" in kind.suffixes else (1, 1),
        groups=draw(st.integers(1, 64)) if "groups" in kind.suffixes else 1,
        bias=draw(st.booleans()) if "bias" in kind.suffixes else True,
        fit=draw(_FITS) if "fit" in kind.suffixes else "strict",
    )


def items(layer: st.SearchStrategy[Layer], most: int = 4) -> st.SearchStrategy[tuple[Item, ...]]:
    """Sequences of layers, repeats and branches, nested a few times."""

    def groups(inner: st.SearchStrategy[Item]) -> st.SearchStrategy[Item]:
        sequence = st.lists(inner, min_size=1, max_size=most).map(tuple)
        branches = st.lists(sequence, min_size=2, max_size=3)
        with_identity = st.tuples(
            st.lists(sequence, min_size=1, max_size=2), st.integers(0, 2)
        ).map(lambda drawn: [*drawn[0][: drawn[1]], (), *drawn[0][drawn[1] :]])
        return st.one_of(
            st.builds(Repeat, sequence, st.integers(1, 3)),
            st.builds(
                Branches,
                st.sampled_from(("add", "concat")),
                st.one_of(branches, with_identity).map(tuple),
            ),
        )

    item = st.recursive(layer, groups, max_leaves=8)
    return st.lists(item, min_size=1, max_size=most).map(tuple)


def specs() -> st.SearchStrategy[Spec]:
    """Whole networks of layers of every kind."""
    return items(layers()).map(Spec)
