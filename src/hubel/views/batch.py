"""A batch as a picture: each image as the network sees it, and what it is called."""

from __future__ import annotations

import math
from dataclasses import dataclass
from textwrap import wrap

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hubel.train.preview import Preview

__all__ = ["Pixels", "captions", "draw", "pixels"]

# Small images are enlarged to about this side, each pixel to a square of whole screen pixels.
_SIDE = 112
_GAP, _LINE, _FONT = 12, 17, 13
_PAPER, _INK = (255, 255, 255), (20, 20, 20)


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """Images (N, H, W, 1 or 3) for the eye; black stands for the pixel `black`, white for `white`.

    `channels` says which of the images' channels are shown, where these are not all.
    """

    images: NDArray[np.uint8]
    black: float
    white: float
    channels: str = ""

    @property
    def scale(self) -> str:
        """The scale in words."""
        said = f"Black is pixel {self.black:.4g}, white {self.white:.4g}"
        return f"{said}; {self.channels}." if self.channels else f"{said}."


def pixels(shown: Preview, count: int = 16) -> Pixels:
    """The first `count` images of a batch, mapped back through the preprocessing.

    A number becomes (number − shift)/scale, the pixel that it was. All images have one scale: of
    bytes black is 0 and white 255; of floats, which have no such ends, they are the least
    and the largest pixel there is.
    """
    scale, shift = (factor.astype(np.float64) for factor in shown.factors)
    back = (shown.batch.images[:count] - shift) / scale
    depth, channels = back.shape[3], ""
    if depth not in (1, 3):
        back, channels = back[..., :1], f"channel 1 of {depth} is shown"
    black, white = (0.0, 255.0) if shown.bytes else (float(back.min()), float(back.max()))
    share = (back - black) / ((white - black) or 1.0)
    return Pixels(np.rint(255 * share.clip(0, 1)).astype(np.uint8), black, white, channels)


def captions(shown: Preview, count: int = 16) -> tuple[tuple[str, ...], ...]:
    """The lines below each image: its class, or of mixed ones both with their shares."""
    return tuple(
        tuple(name if share == 1.0 else f"{name} {share:.2f}" for name, share in names if share)
        for names in shown.names[:count]
    )


def draw(shown: Preview, count: int = 16) -> Image.Image:
    """The first `count` images of a batch side by side, with their classes below."""
    found, lines = pixels(shown, count), captions(shown, count)
    number, height, width, _ = found.images.shape
    larger = max(1, round(_SIDE / max(height, width)))
    across = math.ceil(math.sqrt(number))
    tile = (
        max(larger * width, _SIDE) + _GAP,
        larger * height + max(map(len, lines)) * _LINE + _GAP,
    )
    title = (
        f"Epoch {shown.epoch}, step {shown.step}: {number} of {len(shown.batch.images)} images "
        f"as the network sees them. {found.scale}"
    )
    page_width = max(across * tile[0] + _GAP, 4 * _SIDE)
    heading = wrap(title, (page_width - 2 * _GAP) * 2 // _FONT)
    top = _GAP + len(heading) * _LINE + _GAP // 2
    page = Image.new("RGB", (page_width, top + math.ceil(number / across) * tile[1]), _PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(_FONT)
    for row, text in enumerate(heading):
        pen.text((_GAP, _GAP + row * _LINE), text, _INK, font)
    for place, (image, texts) in enumerate(zip(found.images, lines, strict=True)):
        x, y = _GAP + place % across * tile[0], top + place // across * tile[1]
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        page.paste(
            picture.resize((larger * width, larger * height), Image.Resampling.NEAREST), (x, y)
        )
        for row, text in enumerate(texts):
            below = y + larger * height + 2 + row * _LINE
            pen.text((x, below), _fitted(text, tile[0] - _GAP, font), _INK, font)
    return page


def _fitted(text: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """The text, its middle left out where it is too long, for the end may be a share."""
    kept = len(text)
    short = text
    while font.getlength(short) > width and kept > 2:
        kept -= 1
        short = f"{text[: kept // 2]}…{text[-(kept - kept // 2) :]}"
    return short
