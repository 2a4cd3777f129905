"""Batches as the network sees them: an engine's assembly, and the matrix of a preprocessing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hubel import engine
from hubel.data.preprocess import Preprocess
from hubel.engine import Array, Session
from hubel.graph.op import Graph, Node, Value

if TYPE_CHECKING:
    from hubel.data.batches import Assemble

__all__ = ["assembler"]


def assembler(session: Session, preprocess: Preprocess | None) -> Assemble:
    """The session's `assemble`, with the product by the preprocessing's matrix behind it, if any.

    The engine multiplies, on a session of its own: unlike NumPy it gives the same bits however many
    threads there are.
    """
    if preprocess is None or preprocess.matrix is None:
        return session.assemble
    own = engine.alone(session)
    own.write("matrix", preprocess.matrix)
    product = _product(len(preprocess.matrix))

    def assemble(*given: Any) -> Array:
        batch = session.assemble(*given)
        flat = batch.reshape(len(batch), -1)
        rotated = own.run(product, {"input": flat})["product"]
        return rotated.reshape(batch.shape).astype(np.float32, copy=False)

    return assemble


def _product(size: int) -> Graph:
    values = {
        "input": Value("input", (size,), "input"),
        "matrix": Value("matrix", (size, size), "parameter", batched=False),
        "product": Value("product", (size,), "activation"),
    }
    return Graph(
        values, (Node("dense", "product", ("input", "matrix"), ("product",)),), ("product",)
    )
