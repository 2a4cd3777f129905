"""One image file to one array of 8-bit pixels, the same way in training and in prediction.

What is done, in this order: the first frame is taken; 16-bit greys are scaled (v / 257, rounded;
clipping would turn them white), floats in 0..1 are scaled to 0..255; CMYK, YCbCr, LAB, HSV and
palettes become RGB; transparency is composited on white; the EXIF orientation is applied; colour
becomes grey or grey becomes colour where the number of channels asks for it (ITU-R 601-2 luma);
the size is changed bilinearly, with anti-aliasing where it shrinks. Images with no agreed scale
(32-bit integers beyond 16 bits, floats outside 0..1) are refused rather than guessed at.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias, get_args

import numpy as np
from PIL import Image, UnidentifiedImageError

from hubel.data.dataset import printable
from hubel.data.preprocess import Resize
from hubel.errors import DataError, UsageError

__all__ = [
    "FORMATS",
    "SUFFIXES",
    "Picture",
    "Source",
    "check_wanted",
    "decode",
    "decoder_warnings",
    "measure",
    "read",
    "resized",
]

Source: TypeAlias = "str | os.PathLike[str] | BinaryIO | Image.Image | np.ndarray"

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
    # No image that can be read, but one that somebody will miss.
    | {".avif", ".heic", ".heif", ".jp2", ".jxl"}
)
"""How the names of images end, for where other files lie among them."""

_HINT = "save it again as JPEG or PNG"
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F"})
_ORIENTATION_TAG = 0x0112
_BITS_PER_SAMPLE_TAG = 258
# EXIF 2.32, table "Orientation": how to undo each.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What people take for images, by the bytes at a place in the file.
_KNOWN_STRANGERS = (
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyp", "HEIC or a video"),
    (0, b"%PDF", "PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"8BPS", "Photoshop"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "SVG or XML"),
    (0, b"<!DOCTYPE", "HTML"),
    (0, b"<html", "HTML"),
    (0, b"PK\x03\x04", "ZIP"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """Pixels (H, W, C) in 8 bits, what was done to get them, and what the file held.

    `size` is the upright (height, width) in the file, `grey` says whether it stores no colour.
    """

    pixels: np.ndarray
    conversions: tuple[str, ...]
    size: tuple[int, int]
    grey: bool


def read(
    source: Source,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    resize: Resize = "squash",
) -> np.ndarray:
    """Return the pixels of an image, uint8 (H, W, C), upright, in `size` (height, width).

    Without `size` or `channels` they are the image's own. `squash` changes the aspect ratio, `pad`
    keeps it and fills up with black, `crop` keeps it and cuts what overlaps, both centred. A
    JPEG at least four times as large as needed is decoded at a half, a quarter or an eighth. Raises
    `DataError`, with the file's name and the reason, for anything that is not a whole image.

    >>> read(np.full((2, 4, 1), 7, np.uint8), size=(2, 2), channels=3).shape
    (2, 2, 3)
    """
    check_wanted(size, channels, resize)
    with decoder_warnings():
        return decode(source, size, channels, resize).pixels


def check_wanted(size: tuple[int, int] | None, channels: int | None, resize: str) -> None:
    """Raise `UsageError` for what no image can be brought to."""
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise UsageError(f"the size is {size}, not a height and a width of at least 1")
    if channels not in (None, 1, 3):
        raise UsageError(f"channels is {channels!r}, not 1 (grey) or 3 (colour)")
    if resize not in get_args(Resize):
        raise UsageError(f"resize is {resize!r}, not one of {', '.join(get_args(Resize))}")


def decode(
    source: Source,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    resize: Resize = "squash",
) -> Picture:
    """Do as `read` does and tell what was done.

    Call it within `decoder_warnings`, with arguments that `check_wanted` has seen.
    """
    if isinstance(source, np.ndarray):
        return _convert(_from_array(source), size, channels, resize)
    if isinstance(source, Image.Image):
        return _convert(source, size, channels, resize)
    with _opened(source) as image:
        return _convert(image, size, channels, resize)


def measure(source: Source) -> tuple[tuple[int, int], bool]:
    """Return the upright (height, width) of an image and whether it is grey, decoding as little
    as that takes; call it within `decoder_warnings`."""
    if isinstance(source, np.ndarray | Image.Image):
        picture = decode(source)
        return picture.size, picture.grey
    with _opened(source) as image:
        orientation, _ = _orientation(image)
        return _upright_size(image.size, orientation), _is_grey(image)


@contextmanager
def decoder_warnings() -> Iterator[None]:
    """Turn the warning about decompression bombs into an error and keep the other ones quiet.

    The filters belong to the whole process: enter it once around threads, not within each.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def resized(image: Image.Image, size: tuple[int, int], resize: Resize) -> Image.Image:
    """Return an image of 8-bit channels in `size` (height, width)."""
    target = (size[1], size[0])
    if image.size == target:
        return image
    width, height = image.size
    if resize == "squash":
        return image.resize(target, Image.Resampling.BILINEAR)
    if resize == "crop":
        # Cutting before scaling: a 65,500 x 1 strip scaled to its shorter side would not fit
        # into memory.
        scale = min(width / target[0], height / target[1])
        cut = (min(width, target[0] * scale), min(height, target[1] * scale))
        left, top = (width - cut[0]) / 2, (height - cut[1]) / 2
        box = (left, top, min(width, left + cut[0]), min(height, top + cut[1]))
        return image.resize(target, Image.Resampling.BILINEAR, box)
    scale = min(target[0] / width, target[1] / height)
    inner = (
        min(target[0], max(1, round(width * scale))),
        min(target[1], max(1, round(height * scale))),
    )
    canvas = Image.new(image.mode, target)
    place = ((target[0] - inner[0]) // 2, (target[1] - inner[1]) // 2)
    canvas.paste(image.resize(inner, Image.Resampling.BILINEAR), place)
    return canvas


@contextmanager
def _opened(source: str | os.PathLike[str] | BinaryIO) -> Iterator[Image.Image]:
    """Open an image file and name it in every error that decoding it raises."""
    try:
        if isinstance(source, str | os.PathLike):
            with _regular_file(source) as file, Image.open(file, formats=FORMATS) as image:
                yield image
        else:
            with Image.open(source, formats=FORMATS) as image:
                yield image
    except Exception as error:  # decoders of damaged files raise whatever they stumble over
        where = "the image"
        if isinstance(source, str | os.PathLike):
            where = printable(os.fspath(source))
        what, hint = _what_broke(source, error)
        raise DataError(what, where=where, hint=hint) from error


def _what_broke(source: str | os.PathLike[str] | BinaryIO, error: Exception) -> tuple[str, str]:
    if isinstance(error, DataError):
        return error.what, error.hint
    if isinstance(error, UnidentifiedImageError):
        return _stranger(source), _HINT
    if isinstance(error, FileNotFoundError):
        return "there is no such file", ""
    if isinstance(error, PermissionError):
        return "reading it is not permitted", ""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"it has more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels", "scale it down first"
    # Decoders meet damaged bytes with a dozen types of exception (struct.error, SyntaxError,
    # zlib.error, KeyError …); each means the same here, and its text is passed on.
    return f"it cannot be decoded ({printable(str(error)) or type(error).__name__})", _HINT


@contextmanager
def _regular_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    # Opening a pipe would wait for its writer for ever, hence the flag and the look at what it is.
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise DataError("it is not a regular file")
        if status.st_size == 0:
            raise DataError("the file is empty", hint="delete it or copy it again")
        yield file


def _stranger(source: str | os.PathLike[str] | BinaryIO) -> str:
    if isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as file:
            head = file.read(16)
    else:
        source.seek(0)
        head = source.read(16)
    for offset, magic, kind in _KNOWN_STRANGERS:
        if head[offset : offset + len(magic)] == magic:
            return f"it is {kind}, not one of {', '.join(FORMATS)}"
    return f"it is not an image in one of {', '.join(FORMATS)}, or its beginning is damaged"


def _from_array(array: np.ndarray) -> Image.Image:
    pixels = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if (
        pixels.ndim not in (2, 3)
        or 0 in pixels.shape
        or (pixels.ndim == 3 and len(pixels.T) not in (3, 4))
    ):
        raise DataError(
            f"an array of shape {array.shape} is not an image: (H, W) or (H, W, C) with C 1, 3 or 4"
        )
    if pixels.dtype == np.uint8 or (pixels.dtype == np.uint16 and pixels.ndim == 2):
        return Image.fromarray(np.ascontiguousarray(pixels))
    if pixels.dtype.kind == "f":
        scaled = _unit_to_bytes(pixels)
        return Image.fromarray(scaled)
    raise DataError(
        f"an image array of type {array.dtype} has no agreed scale",
        hint="give uint8 in 0..255 or floats in 0..1",
    )


def _convert(
    image: Image.Image, size: tuple[int, int] | None, channels: int | None, resize: Resize
) -> Picture:
    conversions = []
    if getattr(image, "is_animated", False):
        image.seek(0)
        conversions.append("first frame")
    orientation, damaged = _orientation(image)
    if damaged:
        conversions.append("unreadable EXIF")
    if orientation != 1 or _turned_by_pillow(image):
        conversions.append("exif rotated")
    upright_size = _upright_size(image.size, orientation)
    if size is not None and image.format == "JPEG":
        # Twice the target is left for the bilinear filter to average over.
        height, width = size if orientation < 5 else (size[1], size[0])
        if image.width >= 4 * width and image.height >= 4 * height:
            image.draft(None, (2 * width, 2 * height))
    grey = _is_grey(image)
    flat, done = _to_bytes(image, grey)
    conversions += done
    if orientation != 1:
        flat = flat.transpose(_UPRIGHT[orientation])
    if channels is not None and flat.mode != (mode := "L" if channels == 1 else "RGB"):
        flat = flat.convert(mode)
        conversions.append("colour to grey" if channels == 1 else "grey to colour")
    if size is not None and upright_size != size:
        flat = resized(flat, size, resize)
        conversions.append("resized")
    pixels = np.asarray(flat)
    return Picture(
        pixels if pixels.ndim == 3 else pixels[..., None], tuple(conversions), upright_size, grey
    )


def _to_bytes(image: Image.Image, grey: bool) -> tuple[Image.Image, list[str]]:
    """Return the image in mode L or RGB and the names of what that took."""
    mode = image.mode
    target = "L" if grey else "RGB"
    if mode == target and not image.has_transparency_data:
        return image, []
    if mode == "F":
        return Image.fromarray(_unit_to_bytes(np.asarray(image))), ["float"]
    if mode == "I" or mode.startswith("I;16"):
        return Image.fromarray(_16_bit_to_bytes(image)), ["16-bit"]
    done = []
    if mode in ("P", "PA"):
        done.append("palette")
    elif mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        done.append(mode.lower())
    elif mode == "1":
        done.append("1-bit")
    if image.has_transparency_data or mode in ("La", "RGBa"):
        # Pillow knows La only as a neighbour of LA.
        pixels = np.asarray((image.convert("LA") if mode == "La" else image).convert("RGBA"))
        if (pixels[..., 3] < 255).any():
            done.append("alpha composited")
        return Image.fromarray(_on_white(pixels)).convert(target), done
    return image.convert(target), done


def _on_white(rgba: np.ndarray) -> np.ndarray:
    colour, alpha = rgba[..., :3].astype(np.uint32), rgba[..., 3:].astype(np.uint32)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _16_bit_to_bytes(image: Image.Image) -> np.ndarray:
    values = np.asarray(image).astype(np.int64)
    tags = getattr(image, "tag_v2", None)
    bits = int(tags.get(_BITS_PER_SAMPLE_TAG, (16,))[0]) if tags is not None else 16
    # TIFF keeps 9 to 15 bits in 16 without scaling them.
    largest = 2**bits - 1 if 8 < bits < 16 else 65535
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > largest:
        raise DataError(
            f"its values are {low} to {high}, beyond 16 bits, and have no agreed scale",
            hint="save it with 16 or 8 bits per channel",
        )
    return ((values * 255 + largest // 2) // largest).astype(np.uint8)


def _unit_to_bytes(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # also where they are not numbers
        raise DataError(
            f"its floats are {low:g} to {high:g}, outside 0..1, and have no agreed scale",
            hint="scale them to 0..1 or save them with 8 or 16 bits",
        )
    return np.rint(values * 255.0).astype(np.uint8)


def _orientation(image: Image.Image) -> tuple[int, bool]:
    """Return the orientation that is left to undo (1: none) and whether the EXIF is damaged."""
    without = image.format == "JPEG" and "exif" not in image.info and "xmp" not in image.info
    if without or _turned_by_pillow(image):
        return 1, False
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # EXIF is a TIFF within the file and breaks in as many ways; pixels are fine
        return 1, True
    return (orientation if orientation in _UPRIGHT else 1), False


def _turned_by_pillow(image: Image.Image) -> bool:
    # Pillow undoes the orientation of a TIFF itself, when it decodes it, and of no other format.
    return image.format == "TIFF" and image.getexif().get(_ORIENTATION_TAG, 1) in _UPRIGHT


def _upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return size if orientation >= 5 else (size[1], size[0])


def _is_grey(image: Image.Image) -> bool:
    """Say whether the file stores no colour: by its mode or, with a palette, the colours used."""
    if image.mode in ("P", "PA"):
        palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        used = np.unique(np.asarray(image)[..., 0] if image.mode == "PA" else np.asarray(image))
        colours = palette[used[used < len(palette)]]
        return bool((colours == colours[:, :1]).all())
    return image.mode in _GREY_MODES or image.mode.startswith("I;16")
