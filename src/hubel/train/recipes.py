"""What suits images where nothing is chosen, and recipes: a network and all choices in one word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hubel.data.dataset import Dataset
from hubel.errors import UsageError

__all__ = ["RECIPES", "Recipe", "check_recipe", "default_net", "recipe", "usual", "whitened_net"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A network, and what goes with it: `choices` are fields of the settings of training."""

    net: str
    choices: Mapping[str, Any]
    initialisation: str = "he"
    precision: str = "float32"

    def around(self, net: str) -> Recipe:
        """The same choices for another network, whose first filters may not be made from images."""
        others = {name: value for name, value in self.choices.items() if name != "whiten"}
        return replace(self, net=net, choices=others)


@dataclass(frozen=True, slots=True)
class _Effort:
    """The filters of a recipe's first stage and of the others, and how many images it sees in all.

    `blanked` is the side of the square that is cut out of each, as a part of the image's.
    """

    filters: int
    wide: int
    views: int
    blanked: float = 0.0


_EFFORTS = {
    "fast": _Effort(filters=32, wide=160, views=360_000),
    "best": _Effort(filters=64, wide=256, views=720_000, blanked=1 / 4),
}

RECIPES = tuple(_EFFORTS)
"""The recipes by name: `fast` reaches most of what `best` does, in a fraction of the time."""

# Larger images are first made four times smaller, which keeps training on a CPU affordable.
_LARGE = 64
_WIDEST = 256

_BATCH, _FEWEST_BATCHES = 128, 8
# However few the images are, more epochs teach nothing new.
_MOST_EPOCHS = 100
# Images are moved by up to this part of their side.
_MOVED = 1 / 8
# Maps are pooled until they are smaller than this.
_POOLED = 6


def usual(height: int, width: int) -> Recipe:
    """What is taken where no recipe is named: `default_net`, and what it learns well with.

    >>> usual(28, 28).choices
    {'optimizer': 'adam', 'lr': 0.003}
    """
    return Recipe(default_net(height, width), {"optimizer": "adam", "lr": 0.003})


def check_recipe(name: str) -> None:
    """Raise UsageError where there is no recipe of a name."""
    if name not in _EFFORTS:
        raise UsageError(f"recipe (--recipe) is {name!r}, not one of {', '.join(RECIPES)}")


def recipe(name: str, data: Dataset) -> Recipe:
    """The recipe of a name for the images of a data set, after Jordan 2024.

    That is filters which whiten, a start near the identity, Muon, smooth labels, a mean of weights,
    mirror images in turn and several views at the end ("94% on CIFAR-10 in 3.29 Seconds on a Single
    GPU"). Grey images, which are often writing, are not mirrored. Raises UsageError for a name that
    is none.

    >>> from hubel.data import load
    >>> made = recipe("fast", load("digits"))
    >>> made.choices["epochs"], made.choices["optimizer"], made.choices["flip"]
    (100, 'muon', False)
    """
    check_recipe(name)
    effort = _EFFORTS[name]
    images, (height, width, depth) = len(data.train), data.train.images.shape[1:]
    batch = max(1, min(_BATCH, images // _FEWEST_BATCHES))
    epochs = min(max(effort.views // images, 1), _MOST_EPOCHS)
    coloured = depth == 3
    # Grey images have a third of the numbers, and half the filters tell them apart.
    part = 1 if coloured else 2
    return Recipe(
        whitened_net(height, width, depth, effort.filters // part, effort.wide // part),
        {
            "epochs": epochs,
            "batch_size": batch,
            "optimizer": "muon",
            "lr": 0.04,
            "momentum": 0.6,
            "bias_lr_factor": 16.0,
            "label_smoothing": 0.1,
            "schedule": "triangle",
            "average": 0.99,
            "whiten": True,
            "flip": coloured,
            "crop": round(min(height, width) * _MOVED),
            "border": "reflect",
            "cutout": round(min(height, width) * effort.blanked),
            "tta": "crops" if coloured else "none",
        },
        initialisation="dirac",
        precision="auto",
    )


def whitened_net(height: int, width: int, depth: int, filters: int, wide: int) -> str:
    """A first layer that may whiten, then CONV-POOL-BN-GELU CONV-BN-GELU until the maps are small.

    As Jordan 2024, for images of any size: `filters` in the first such stage, `wide` in all others.
    The first layer has less than half the directions of its windows, those in which the images vary
    most: the others are what JPEG has left of the colours, and noise.

    >>> print(whitened_net(32, 32, 3, 64, 256))
    conv3-24p1 gelu
    conv3-64p1 pool2 bn gelu conv3-64p1 bn gelu
    conv3-256p1 pool2 bn gelu conv3-256p1 bn gelu
    conv3-256p1 pool2 bn gelu conv3-256p1 bn gelu
    pool4 fc scale0.2
    """
    if min(height, width) > _LARGE:
        lines = [f"conv4-{8 * depth}s4~ gelu"]
        height, width = height // 4, width // 4
    else:
        lines = [f"conv3-{8 * depth}p1 gelu"]
    while min(height, width) >= _POOLED:
        pool = "pool2~" if height % 2 or width % 2 else "pool2"
        lines.append(f"conv3-{filters}p1 {pool} bn gelu conv3-{filters}p1 bn gelu")
        height, width, filters = height // 2, width // 2, wide
    size = f"{height}" if height == width else f"{height}x{width}"
    return "\n".join([*lines, f"pool{size} fc scale0.2"])


def default_net(height: int, width: int) -> str:
    """CONV-BN-RELU twice, then pooling, again and again until the maps are small, then FC.

    Filters double at each stage, from 32 to 256. Large images are first made four times smaller,
    as ResNet does (He 2015).

    >>> print(default_net(28, 28))
    conv3-32p1 bn relu conv3-32p1 bn relu pool2
    conv3-64p1 bn relu conv3-64p1 bn relu pool2
    conv3-128p1 bn relu conv3-128p1 bn relu pool2~
    fc
    """
    lines = []
    if min(height, width) > _LARGE:
        lines.append("conv7-32s2p3~ bn relu pool2~")
        height, width = (height + 1) // 4, (width + 1) // 4
    filters = 32
    while True:
        block = f"conv3-{filters}p1 bn relu"
        pooled = min(height, width) >= 4
        pool = (" pool2~" if height % 2 or width % 2 else " pool2") if pooled else ""
        lines.append(f"{block} {block}{pool}")
        height, width = height // 2, width // 2
        if min(height, width) < 4:
            break
        filters = min(2 * filters, _WIDEST)
    return "\n".join([*lines, "fc"])
