"""Every kind of image file to 8-bit pixels, and every kind of damage to a reason."""

from __future__ import annotations

import io
import os
import struct
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from hubel.data.image import decode, decoder_warnings, measure, read
from hubel.data.pool import Wanted, decode_chunk
from hubel.errors import DataError, UsageError

RNG = np.random.default_rng(0)


def noise(height: int = 12, width: int = 20, channels: int = 3) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, channels), np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack(
        [rows * 255 // height, columns * 255 // width, (rows + columns) % 256], -1
    ).astype(np.uint8)


def conversions(source: Path | Image.Image | np.ndarray, **kwargs: object) -> tuple[str, ...]:
    with decoder_warnings():
        return decode(source, **kwargs).conversions


def reason(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    assert caught.value.where == str(path)
    return caught.value.what


@pytest.mark.parametrize("suffix", ["PNG", "bmp", "gif", "webp", "tiff", "ppm"])
def test_lossless_formats_give_their_pixels(tmp_path: Path, suffix: str) -> None:
    pixels = np.repeat(noise(channels=1), 3, axis=2) if suffix == "gif" else noise()
    Image.fromarray(pixels).save(path := tmp_path / f"a.{suffix}", lossless=True)
    assert np.array_equal(read(path, channels=3), pixels)
    with decoder_warnings():
        assert measure(path) == ((12, 20), suffix == "gif")


def test_content_decides_not_the_suffix(tmp_path: Path) -> None:
    pixels = noise()
    Image.fromarray(pixels).save(path := tmp_path / "a.JPG", format="PNG")
    assert np.array_equal(read(path), pixels)


def test_the_same_pixels_from_a_path_a_file_an_image_and_an_array(tmp_path: Path) -> None:
    pixels = noise(30, 50)
    Image.fromarray(pixels).save(path := tmp_path / "a.png")
    expected = read(path, (16, 16), 1, "pad")
    assert expected.shape == (16, 16, 1)
    for source in (str(path), io.BytesIO(path.read_bytes()), Image.fromarray(pixels), pixels):
        assert np.array_equal(read(source, (16, 16), 1, "pad"), expected)


def test_grey_becomes_colour_and_colour_grey_by_luma() -> None:
    grey = noise(channels=1)
    assert np.array_equal(read(grey, channels=3), np.repeat(grey, 3, 2))
    red = np.zeros((1, 1, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    assert read(red, channels=1).item() == 76  # 0.299 * 255, ITU-R 601-2
    assert conversions(grey, channels=3) == ("grey to colour",)
    assert conversions(red, channels=1) == ("colour to grey",)


@pytest.mark.parametrize(("suffix", "dtype"), [("png", "<u2"), ("tiff", "<u2"), ("tiff", ">u2")])
def test_16_bit_is_scaled_exactly_not_clipped(tmp_path: Path, suffix: str, dtype: str) -> None:
    values = np.array([[0, 1, 128, 129, 257, 32767, 40000, 65406, 65407, 65535]], dtype)
    image = Image.fromarray(values)
    image.save(path := tmp_path / f"a.{suffix}")
    assert read(path)[0, :, 0].tolist() == np.rint(values[0] / 257).astype(int).tolist()
    assert read(path)[0, 6, 0] == 156
    assert conversions(path) == ("16-bit",)


def test_every_16_bit_value_rounds_to_the_nearest() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(read(values)[..., 0], np.rint(values / 257).astype(np.uint8))


def test_12_bit_tiff_fills_the_range(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 2048, 4095]], np.uint16))
    image.tag_v2 = {258: (12,)}
    assert read(image)[0, :, 0].tolist() == [0, 128, 255]


def test_16_bit_pgm_and_mode_i(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 3 1 65535\n" + struct.pack(">3H", 0, 257 * 7, 65535))
    assert read(path)[0, :, 0].tolist() == [0, 7, 255]
    assert read(Image.fromarray(np.array([[0, 25700]], np.int32)))[0, :, 0].tolist() == [0, 100]
    for values in ([[0, 65536]], [[-1, 5]]):
        with pytest.raises(DataError, match=r"beyond 16 bits, and have no agreed scale"):
            read(Image.fromarray(np.array(values, np.int32)))


def test_floats_in_0_to_1_are_scaled_and_others_refused() -> None:
    assert read(Image.fromarray(np.array([[0, 0.5, 1]], np.float32)))[0, :, 0].tolist() == [
        0,
        128,
        255,
    ]
    assert read(np.full((2, 2, 3), 0.2))[0, 0].tolist() == [51, 51, 51]
    for bad in (1.5, -0.1, np.nan, np.inf):
        with pytest.raises(DataError, match=r"outside 0\.\.1, and have no agreed scale"):
            read(Image.fromarray(np.array([[0, bad]], np.float32)))


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBA", "RGBa"])
def test_alpha_is_composited_on_white(mode: str) -> None:
    rgba = Image.fromarray(
        np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [0, 0, 0, 51], [0, 0, 0, 255]]], np.uint8)
    )
    image = rgba.convert("LA").convert(mode) if mode in ("LA", "La") else rgba.convert(mode)
    if mode == "PA":
        image = Image.new("P", (4, 1))
        image.putalpha(rgba.getchannel("A"))
    assert image.mode == mode
    assert read(image, channels=3)[0, :, 0].tolist() == [255, 0, 204, 0]
    assert "alpha composited" in conversions(image)


def test_opaque_alpha_changes_and_counts_nothing() -> None:
    pixels = noise(channels=4)
    pixels[..., 3] = 255
    assert np.array_equal(read(pixels), pixels[..., :3])
    assert conversions(pixels) == ()


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(path := tmp_path / "a.png")
    assert read(path)[0].tolist() == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    assert conversions(path) == ("palette",)
    image.save(path, transparency=1)
    assert read(path)[0].tolist() == [[10, 20, 30], [255, 255, 255], [70, 80, 90]]
    assert conversions(path) == ("palette", "alpha composited")
    image.save(path, transparency=b"\xff\x00\x80")
    assert read(path)[0, :2].tolist() == [[10, 20, 30], [255, 255, 255]]


def test_a_grey_palette_is_grey(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 2]], np.uint8), "P")
    image.putpalette([10, 10, 10, 40, 50, 60, 70, 70, 70])
    image.save(path := tmp_path / "a.png")
    assert read(path).tolist() == [[[10], [70]]]


def test_transparent_colour_of_png_grey_and_rgb(tmp_path: Path) -> None:
    Image.fromarray(np.array([[9, 200]], np.uint8)).save(path := tmp_path / "a.png", transparency=9)
    assert read(path).tolist() == [[[255], [200]]]


@pytest.mark.parametrize("mode", ["1", "CMYK", "YCbCr", "LAB", "HSV"])
def test_other_modes_become_what_they_show(mode: str) -> None:
    colour = Image.fromarray(np.full((4, 4, 3), (200, 40, 60), np.uint8))
    if mode == "LAB":
        from PIL import ImageCms

        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(colour, srgb, lab, outputMode="LAB")
        assert image is not None
    else:
        image = colour.convert(mode)
    found = read(image)
    if mode == "1":
        assert set(np.unique(found)) <= {0, 255}
        assert found.shape == (4, 4, 1)
    else:
        assert np.abs(found.astype(int) - [200, 40, 60]).max() <= 6
    assert conversions(image) == ("1-bit" if mode == "1" else mode.lower(),)


def test_cmyk_jpeg_is_not_inverted(tmp_path: Path) -> None:
    colour = Image.fromarray(np.full((16, 16, 3), (200, 40, 60), np.uint8))
    colour.convert("CMYK").save(path := tmp_path / "a.jpg", quality=95)
    assert b"Adobe" in path.read_bytes()
    assert np.abs(read(path).astype(int) - [200, 40, 60]).max() <= 8
    assert conversions(path) == ("cmyk",)
    colour.convert("CMYK").save(path := tmp_path / "a.tif")
    assert np.abs(read(path).astype(int) - [200, 40, 60]).max() <= 2


def with_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp", "jpg"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise(8, 16)).save(path, exif=with_orientation(orientation), lossless=True)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(read(path), expected)
    assert ("exif rotated" in conversions(path)) == (2 <= orientation <= 8)
    with decoder_warnings():
        assert measure(path)[0] == expected.shape[:2]


def test_orientation_of_a_large_jpeg_decoded_at_a_fraction(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth(800, 400)).save(path, exif=with_orientation(6), quality=95)
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).resize((64, 32), Image.Resampling.BILINEAR)
    found = read(path, (32, 64))
    assert np.abs(found.astype(int) - np.asarray(upright)).mean() < 3


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"]
)
def test_garbage_exif_is_survived(tmp_path: Path, exif: bytes) -> None:
    pixels = smooth(16, 16)
    Image.fromarray(pixels).save(path := tmp_path / "a.jpg", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(path).shape == (16, 16, 3)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(np.full((4, 4, 3), value, np.uint8)) for value in (10, 200)]
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    assert (read(path, channels=3) == 10).all()
    assert "first frame" in conversions(path)


def test_squash_pad_and_crop() -> None:
    image = np.zeros((10, 20, 1), np.uint8)
    image[:, 10:] = 200
    squashed = read(image, (10, 10))
    assert squashed.shape == (10, 10, 1)
    assert squashed[0, [0, -1], 0].tolist() == [0, 200]
    padded = read(np.full((10, 20, 1), 200, np.uint8), (10, 10), resize="pad")[..., 0]
    assert padded[:, 0].tolist() == [0, 0, 200, 200, 200, 200, 200, 0, 0, 0]
    cropped = read(image, (10, 10), resize="crop")[0, :, 0]
    assert cropped.tolist() == [0] * 5 + [200] * 5


def test_shrinking_averages() -> None:
    checkers = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    assert np.abs(read(checkers, (8, 8)).astype(int) - 127).max() <= 2


@pytest.mark.parametrize("resize", ["squash", "pad", "crop"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 1), (3, 7)])
def test_extreme_shapes_resize(resize: str, shape: tuple[int, int]) -> None:
    pixels = np.full((*shape, 3), 9, np.uint8)
    found = read(pixels, (8, 6), resize=resize)
    assert found.shape == (8, 6, 3)
    assert found.max() == 9


def test_bad_arguments_are_named() -> None:
    with pytest.raises(UsageError, match="resize is 'stretch', not one of squash, pad, crop"):
        read(noise(), (2, 2), resize="stretch")
    with pytest.raises(UsageError, match=r"channels is 4, not 1 \(grey\) or 3 \(colour\)"):
        read(noise(), channels=4)
    with pytest.raises(DataError, match=r"shape \(2, 2, 5\) is not an image"):
        read(np.zeros((2, 2, 5), np.uint8))
    with pytest.raises(DataError, match="type int64 has no agreed scale"):
        read(np.zeros((2, 2), np.int64))


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tiff", "webp"])
@pytest.mark.parametrize("tenth", range(10))
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, tenth: int) -> None:
    Image.fromarray(noise(40, 40)).save(path := tmp_path / f"a.{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * tenth // 10])
    what = reason(path)
    if tenth == 0:
        assert what == "the file is empty"
    else:
        assert "cannot be decoded" in what or "is not an image" in what


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<!DOCTYPE html><html>", "it is HTML, not one of JPEG, PNG, BMP, GIF, WEBP, TIFF, PPM"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "it is PostScript, not one of JPEG"),
        (b"%PDF-1.7", "it is PDF, not one of JPEG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "it is HEIC or a video, not one of JPEG"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "it is AVIF, not one of JPEG"),
        (b"8BPS\0\1", "it is Photoshop, not one of JPEG"),
        (b"just text", "it is not an image in one of JPEG"),
        (bytes(range(256)) * 8, "it is not an image in one of JPEG"),
    ],
)
def test_strangers_are_named(tmp_path: Path, content: bytes, what: str) -> None:
    (path := tmp_path / "a.jpg").write_bytes(content)
    assert what in reason(path)


def test_random_damage_is_decoded_or_named(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for suffix in ("jpeg", "png", "gif", "tiff", "webp", "bmp"):
        buffer = io.BytesIO()
        Image.fromarray(noise(10, 10)).save(buffer, suffix)
        for _ in range(40):
            damaged = bytearray(buffer.getvalue())
            for offset in RNG.integers(0, len(damaged), 3):
                damaged[offset] = RNG.integers(256)
            path.write_bytes(damaged)
            with decoder_warnings():
                chunk = decode_chunk(0, [str(path)], Wanted((10, 10), 3, "squash"))
            assert len(chunk.images) + len(chunk.failed) == 1
            assert all(chunk.failed.values())


def test_a_decompression_bomb_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise(20, 20)).save(path := tmp_path / "a.png")
    for limit in (390, 100):  # Pillow warns above the limit and raises above its double
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert reason(path) == f"it has more than {limit} pixels"


def test_missing_folder_and_link(tmp_path: Path) -> None:
    assert reason(tmp_path / "none.png") == "there is no such file"
    (tmp_path / "folder.jpg").mkdir()
    reason(tmp_path / "folder.jpg")
    if os.name == "posix":
        (tmp_path / "link.png").symlink_to(tmp_path / "none.png")
        assert reason(tmp_path / "link.png") == "there is no such file"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert reason(tmp_path / "a.jpg") == "it is not a regular file"


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    Image.fromarray(noise()).save(path := tmp_path / "a.png")
    path.chmod(0)
    assert reason(path) == "reading it is not permitted"
