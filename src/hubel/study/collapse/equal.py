"""The numbers of one layer that equals several: carried back through them, or filter by filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TypeAlias

import numpy as np

from hubel.engine.reference import RULES
from hubel.engine.reference.call import Call
from hubel.graph.linear import DOT_PRODUCTS
from hubel.study.collapse import affine
from hubel.study.collapse.affine import Affine, ApartError, Numbers
from hubel.study.collapse.elements import Element, Join, Leaf, leaves_of, values_of

__all__ = ["Arrays", "as_affine", "dense"]

Arrays: TypeAlias = Mapping[str, Numbers]
"""Weights, biases and statistics by name."""

# Numbers of maps that are carried back through a stack at once: memory stays bounded.
_AT_ONCE = 1 << 21


def dense(core: Sequence[Element], values: Arrays) -> tuple[Numbers, Numbers]:
    """The weights (in, out) and biases of the fully connected layer that equals these."""
    (outputs,) = core[-1].output
    numbers = max(prod(leaf.input) for leaf in leaves_of(core))
    at_once = max(1, _AT_ONCE // (16 * numbers))
    weights, biases = [], []
    for start in range(0, outputs, at_once):
        wanted = np.eye(outputs)[start : start + at_once]
        back, bias = _back(core, wanted, values)
        weights.append(back.reshape(len(wanted), -1).T)
        biases.append(bias)
    return np.concatenate(weights, 1), np.concatenate(biases)


def _back(elements: Sequence[Element], by: Numbers, values: Arrays) -> tuple[Numbers, Numbers]:
    """What each output takes of every number of the input, and all that biases add to it.

    `by` (outputs, …) is what it takes of what the elements make.
    """
    bias = np.zeros(len(by))
    for element in reversed(elements):
        if isinstance(element, Join):
            by, added = _back_branches(element, by, values)
        else:
            by, added = _back_layer(element, by, values)
        bias += added
    return by, bias


def _back_branches(join: Join, by: Numbers, values: Arrays) -> tuple[Numbers, Numbers]:
    parts = [by] * len(join.branches)
    if join.item.join == "concat":
        parts = np.split(by, np.cumsum(_depths(join))[:-1], axis=-1)
    ends = [_back(branch, part, values) for branch, part in zip(join.branches, parts, strict=True)]
    back = np.zeros((len(by), *join.input))
    for end, _ in ends:
        back = back + end
    return back, np.sum([bias for _, bias in ends], axis=0)


def _back_layer(leaf: Leaf, by: Numbers, values: Arrays) -> tuple[Numbers, Numbers]:
    name, kind = leaf.placed.name, leaf.item.kind
    if kind == "drop":
        return by, np.zeros(len(by))
    if kind == "scale":
        return by * leaf.node.attributes.alpha, np.zeros(len(by))
    by = by.reshape(len(by), *leaf.output)
    each = by.reshape(len(by), -1, by.shape[-1]).sum(axis=1)
    if kind == "bn":
        scale, shift = _normalisation(leaf, values)
        return by * scale, each @ shift
    bias = values.get(f"{name}.bias")
    weight = (values[f"{name}.weight"],) if kind in DOT_PRODUCTS else ()
    op = {"conv": "conv_input_grad", "fc": "dense_input_grad"}.get(kind, "average_pool_grad")
    shapes = ((len(by), *leaf.input),)
    (back,) = RULES[op](Call(leaf.node.attributes, (by, *weight), shapes, ()))
    return back, np.zeros(len(by)) if bias is None else each @ bias


def _normalisation(leaf: Leaf, values: Arrays) -> tuple[Numbers, Numbers]:
    """The factor and the shift of each channel, by the running statistics."""
    weight, bias, mean, variance = (values[name] for name in values_of(leaf.placed))
    scale = weight / np.sqrt(variance + leaf.node.attributes.epsilon)
    return scale, bias - mean * scale


def as_affine(element: Element, values: Arrays) -> Affine:
    """An element as a filter bank; raises ApartError where none equals it."""
    if isinstance(element, Join):
        parts = []
        for branch in element.branches:
            height, width, depth = element.input
            whole = affine.identity(height, width, depth)
            for each in branch:
                whole = affine.compose(whole, as_affine(each, values))
            parts.append(whole)
        return affine.total(parts) if element.item.join == "add" else affine.beside(parts)
    height, width, depth = element.input
    match element.item.kind:
        case "drop":
            return affine.identity(height, width, depth)
        case "scale":
            factor = np.full(depth, element.node.attributes.alpha)
            return affine.scaled((height, width), factor, np.zeros(depth))
        case "bn":
            return affine.scaled((height, width), *_normalisation(element, values))
        case "conv":
            return _filters(element, values)
        case _:
            return _average(element)


def _filters(leaf: Leaf, values: Arrays) -> Affine:
    window, groups = leaf.placed.window, leaf.item.groups
    assert window is not None
    weight = values[f"{leaf.placed.name}.weight"]
    bias = values.get(f"{leaf.placed.name}.bias")
    rows, columns, each, filters = weight.shape
    depth, (down, across) = each * groups, window.dilation
    shape = ((rows - 1) * down + 1, (columns - 1) * across + 1, depth, filters)
    kernel, taps = np.zeros(shape), np.zeros(shape)
    for group in range(groups):
        channels = slice(group * each, (group + 1) * each)
        own = slice(group * filters // groups, (group + 1) * filters // groups)
        kernel[::down, ::across, channels, own] = weight[..., own]
        taps[::down, ::across, channels, own] = 1
    return Affine(
        kernel,
        taps,
        np.zeros(filters) if bias is None else bias,
        bias is not None,
        (-window.padding[0], -window.padding[2]),
        window.stride,
        (leaf.input[0], leaf.input[1]),
        window.output,
    )


def _average(leaf: Leaf) -> Affine:
    window = leaf.placed.window
    assert window is not None
    height, width, depth = leaf.input
    top, bottom, left, right = window.padding
    for axis, side in enumerate((height + top + bottom, width + left + right)):
        if (window.output[axis] - 1) * window.stride[axis] + window.size[axis] > side:
            raise ApartError(
                f"{leaf.placed.name} divides by fewer numbers where its last window hangs over"
            )
    taps = np.tile(np.eye(depth), (*window.size, 1, 1))
    return Affine(
        taps / prod(window.size),
        taps,
        np.zeros(depth),
        False,
        (-top, -left),
        window.stride,
        (height, width),
        window.output,
    )


def _depths(join: Join) -> list[int]:
    """The depth that each branch ends with."""
    return [(branch[-1].output if branch else join.input)[-1] for branch in join.branches]
