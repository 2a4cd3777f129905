"""Images so simple that a net of a few filters learns them in a second, for tests of training."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from hubel.model import Model
from hubel.network import Network

NET = "conv3-4p1 bn relu pool2 drop0.1 fc"
NAMES = ("left", "middle", "right")


def images(count: int = 50, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise (count, 6, 6, 1) with a bright pair of columns, and which pair of the three it is."""
    random = np.random.default_rng(seed)
    x = random.integers(0, 100, (count, 6, 6, 1)).astype(np.uint8)
    y = np.arange(count) % 3
    for image, place in zip(x, y, strict=True):
        image[:, 2 * place : 2 * place + 2] += 100
    return x, y


def model(net: str = NET, **choices: Any) -> Model:
    """A fresh model on such images, on the reference engine."""
    return Model(Network(net, input=(6, 6, 1), classes=3), **{"engine": "reference", **choices})


def bits(trained: Model) -> str:
    """A hash of every bit of the weights and statistics."""
    digest = hashlib.sha256()
    for name, array in sorted(trained.parameters.items()):
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()
