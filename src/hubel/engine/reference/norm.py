"""Batch normalisation, by the batch's own statistics and by running ones, and that of groups."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from hubel.engine.reference.call import Call, Rule, pixels_of
from hubel.engine.session import Array

__all__ = ["RULES"]


def _batch_norm(call: Call) -> tuple[Array, ...]:
    x, weight, bias = call.inputs
    flat = pixels_of(x)
    mean, variance = flat.mean(0), flat.var(0)
    if call.state:
        count = len(flat)
        unbiased = variance * count / max(count - 1, 1)
        for running, new in zip(call.state, (mean, unbiased), strict=True):
            running += call.attributes.momentum * (new - running)
    inverse = 1 / np.sqrt(variance + call.attributes.epsilon)
    return weight * (x - mean) * inverse + bias, mean, inverse


def _batch_norm_apply(call: Call) -> tuple[Array, ...]:
    x, weight, bias, mean, variance = call.inputs
    return (weight * (x - mean) / np.sqrt(variance + call.attributes.epsilon) + bias,)


def _batch_norm_apply_grad(call: Call) -> tuple[Array, ...]:
    dy, weight, variance = call.inputs
    return (dy * weight / np.sqrt(variance + call.attributes.epsilon),)


def _batch_norm_grad(call: Call) -> tuple[Array, ...]:
    x, dy, weight, mean, inverse = call.inputs
    normal = (x - mean) * inverse
    d_weight = pixels_of(dy * normal).sum(0)
    d_bias = pixels_of(dy).sum(0)
    count = x.size // x.shape[-1]
    dx = weight * inverse * (dy - d_bias / count - normal * d_weight / count)
    return dx, d_weight, d_bias


def _group_norm(call: Call) -> tuple[Array, ...]:
    x, weight, bias = call.inputs
    grouped = _grouped(x, call.attributes.groups)
    mean, variance = grouped.mean((1, 3)), grouped.var((1, 3))
    inverse = 1 / np.sqrt(variance + call.attributes.epsilon)
    normal = (grouped - mean[:, None, :, None]) * inverse[:, None, :, None]
    return weight * normal.reshape(x.shape) + bias, mean, inverse


def _group_norm_grad(call: Call) -> tuple[Array, ...]:
    x, dy, weight, mean, inverse = call.inputs
    groups = call.attributes.groups
    inverse = inverse[:, None, :, None]
    normal = (_grouped(x, groups) - mean[:, None, :, None]) * inverse
    slopes = _grouped(dy * weight, groups)
    even = slopes.mean((1, 3), keepdims=True)
    slope = (slopes * normal).mean((1, 3), keepdims=True)
    dx = inverse * (slopes - even - normal * slope)
    d_weight = pixels_of(dy * normal.reshape(x.shape)).sum(0)
    return dx.reshape(x.shape), d_weight, pixels_of(dy).sum(0)


def _grouped(x: Array, groups: int) -> Array:
    """(N, pixels, groups, channels of a group)."""
    return x.reshape(len(x), -1, groups, x.shape[-1] // groups)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "batch_norm": _batch_norm,
        "batch_norm_apply": _batch_norm_apply,
        "batch_norm_apply_grad": _batch_norm_apply_grad,
        "batch_norm_grad": _batch_norm_grad,
        "group_norm": _group_norm,
        "group_norm_grad": _group_norm_grad,
    }
)
