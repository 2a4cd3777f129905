"""A network for images of any size, where none is named: the lecture's pattern, as deep as fits."""

from __future__ import annotations

__all__ = ["CHOICES", "default_net"]

CHOICES = {"optimizer": "adam", "lr": 0.003}
"""What such a network, with batch normalisation throughout, learns best with in a few epochs."""

_WIDEST = 256


def default_net(height: int, width: int) -> str:
    """CONV-BN-RELU twice, then pooling, again and again until the maps are small, then FC.

    Filters double at each stage, from 32 to 256. Large images are first made four times smaller,
    as ResNet does (He 2015), which keeps training on a CPU affordable.

    >>> print(default_net(28, 28))
    conv3-32p1 bn relu conv3-32p1 bn relu pool2
    conv3-64p1 bn relu conv3-64p1 bn relu pool2
    conv3-128p1 bn relu conv3-128p1 bn relu pool2~
    fc
    """
    lines = []
    if min(height, width) > 64:
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
