"""Batches out of images, pixel by pixel: what every engine's `assemble` must give, to the bit."""

from __future__ import annotations

import numpy as np

from hubel.engine.feeds import check_choice
from hubel.engine.session import Array, Factors, Places

__all__ = ["assemble"]


def assemble(images: Array, indices: Array, places: Places | None, factors: Factors) -> Array:
    """See `Session.assemble`."""
    check_choice(images, indices, places)
    batch = images[indices]
    if places is not None:
        rows, columns = places
        image = np.arange(len(batch))[:, None, None]
        batch = batch[image, rows[:, :, None], columns[:, None, :]]
        batch[(rows < 0)[:, :, None] | (columns < 0)[:, None, :]] = 0
    scale, shift = factors
    # Numbers of a byte are exact in float32, so that the product is the first that is rounded.
    scaled: Array = batch.astype(np.float32) * scale
    return scaled + shift
