"""A collapsed network as text and as what JSON can hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from hubel.graph.linear import list_names
from hubel.study.collapse import Collapsed, Merged

__all__ = ["as_dict", "lines"]


def lines(result: Collapsed, shown: str) -> Iterator[str]:
    """What became one, what stayed apart and why, and the proof; `shown` are its images."""
    for merged in result.merged:
        yield from _merged_lines(merged)
    for kept in result.kept:
        yield f"{list_names(kept.layers)} stay apart: {kept.reason}"
    if not result.merged:
        yield "No stack of linear layers can be made one: the network stays as it is"
        return
    yield f"Network: {result.network.text}"
    yield (
        f"Largest difference of the scores on {result.images} {shown}: {result.difference:.1e} in "
        f"float64, {result.rounded:.1e} as kept in float32; the largest score is "
        f"{result.largest:.3g}"
    )


def _merged_lines(merged: Merged) -> Iterator[str]:
    yield f"{list_names(merged.layers)} = {merged.into}: {merged.text} = {merged.token}"
    before, after = merged.parameters
    work, left = merged.multiply_adds
    yield (
        f"    parameters {before:,} → {after:,}, multiply-adds an image {work:,} → {left:,}"
        f"{_more(merged)}"
    )
    if merged.dropout:
        yield f"    as in inference: {list_names(merged.dropout)} would still drop in training"


def _more(merged: Merged) -> str:
    """A warning where one layer is dearer than the several that it equals."""
    before, after = merged.multiply_adds
    return "" if after <= before else ": the several are cheaper"


def as_dict(result: Collapsed) -> dict[str, Any]:
    """The same for programs; pairs are (before, after)."""
    return {
        "net": result.network.text,
        "merged": [asdict(merged) for merged in result.merged],
        "kept": [asdict(kept) for kept in result.kept],
        "images": result.images,
        "difference": result.difference,
        "difference_float32": result.rounded,
        "largest_score": result.largest,
    }
