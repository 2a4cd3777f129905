"""The one table of operations; each family's file holds its shape, gradient and cost rules."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hubel.graph.op import Op
from hubel.graph.ops import conv, dense, join, loss, norm, pointwise, pool, update

__all__ = ["OPS"]

OPS: Mapping[str, Op] = MappingProxyType(
    {
        op.name: op
        for family in (conv, dense, pool, pointwise, norm, join, loss, update)
        for op in family.OPS
    }
)
