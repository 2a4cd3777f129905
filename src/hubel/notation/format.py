"""Spec to text: the shortest way to write a network, on one line."""

from __future__ import annotations

from collections.abc import Sequence

from hubel.notation.kinds import KINDS
from hubel.notation.spec import Branches, Fit, Item, Layer, Repeat, Spec

__all__ = ["format", "replace", "token"]

_FITS: dict[Fit, str] = {"strict": "", "floor": "~", "ceil": "^"}


def format(spec: Spec) -> str:  # noqa: A001 - read as format.format(spec)
    """The network on one line, defaults left out; `parse` of it gives an equal Spec.

    >>> from hubel.notation.parse import parse
    >>> format(parse("[conv3x3-8p1s1|]  relu  # a residual block"))
    '[conv3-8p1 | ] relu'
    """
    return _sequence(spec.items)


def token(layer: Layer) -> str:
    """The token of one layer, defaults left out.

    >>> token(Layer("pool", size=(3, 3), stride=(2, 2), fit="floor"))
    'pool3s2~'
    """
    kind = KINDS[layer.kind]
    text = layer.kind
    if layer.size is not None:
        text += _pair(layer.size)
    if layer.count is not None:
        text += f"-{layer.count}" if kind.size else f"{layer.count}"
    if layer.value is not None and layer.value != kind.default:
        text += repr(layer.value).removesuffix(".0")
    default = layer.size if kind.stride_default == "size" else (1, 1)
    if layer.stride != default:
        text += f"s{_pair(layer.stride)}"
    if layer.padding == "same":
        text += "same"
    elif layer.padding != (0, 0):
        text += f"p{_pair(layer.padding)}"
    if layer.dilation != (1, 1):
        text += f"d{_pair(layer.dilation)}"
    if layer.groups != 1:
        text += f"g{layer.groups}"
    if not layer.bias:
        text += "b0"
    return text + _FITS[layer.fit]


def replace(text: str, span: tuple[int, int], new: str) -> str:
    """The text with the token at `span` written `new`, everything else as it was.

    >>> replace("conv5-10 relu  # first", (0, 8), "conv5-10p2")
    'conv5-10p2 relu  # first'
    """
    start, stop = span
    return text[:start] + new + text[stop:]


def _sequence(items: Sequence[Item]) -> str:
    return " ".join(_item(item) for item in items)


def _item(item: Item) -> str:
    match item:
        case Repeat():
            return f"({_sequence(item.body)})x{item.times}"
        case Branches():
            inside = " | ".join(_sequence(branch) for branch in item.branches)
            return f"[{inside}]" if item.join == "add" else f"{{{inside}}}"
        case _:
            return token(item)


def _pair(pair: tuple[int, int]) -> str:
    height, width = pair
    return f"{height}" if height == width else f"{height}x{width}"
