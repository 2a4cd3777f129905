"""How many planted copies the audit finds, and how many images it takes for copies that are none.

    python -m benchmarks.audit DATA [--images N] [--seed S] [--sheets FOLDER [--pairs N]]

Copies of half of the images at most are planted, of every kind as many; the search knows
neither splits nor classes. Writes a table in Markdown to the standard output. Whether what is
found in the images as they are is true, only an eye can tell: `--sheets` draws pairs of it at
random, side by side and numbered, into FOLDER/1.png and so on, and measures nothing else.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from hubel.data import load
from hubel.data.copies import Copies, find_copies

__all__ = ["KINDS", "draw_sheets", "main", "plant", "recall"]

_MOST_OF_A_KIND = 500
_SHEET = (6, 5)  # rows and columns of pairs
_SHOWN = 128  # pixels a side, at least
_MARGIN = 16


def _pillow(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def _array(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _recoded(quality: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(image: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        _pillow(image).save(file, "JPEG", quality=quality)
        return _array(Image.open(file))

    return change


def _resized(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(image: np.ndarray) -> np.ndarray:
        height, width, _ = image.shape
        other = (max(1, round(width * factor)), max(1, round(height * factor)))
        there = _pillow(image).resize(other, Image.Resampling.BILINEAR)
        return _array(there.resize((width, height), Image.Resampling.BILINEAR))

    return change


def _brighter(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(image: np.ndarray) -> np.ndarray:
        return np.clip(np.rint(image * factor), 0, 255).astype(np.uint8)

    return change


KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exact": np.copy,
    "JPEG, quality 90": _recoded(90),
    "JPEG, quality 75": _recoded(75),
    "JPEG, quality 50": _recoded(50),
    "scaled to 3/4 and back": _resized(0.75),
    "scaled to 5/4 and back": _resized(1.25),
    "5 % brighter": _brighter(1.05),
    "5 % darker": _brighter(0.95),
}


def plant(images: np.ndarray, rows: np.ndarray, kind: str) -> np.ndarray:
    """Copies of some images (K, H, W, C), changed as the kind says."""
    return np.stack([KINDS[kind](images[row]) for row in rows])


def recall(copies: Copies, rows: np.ndarray, planted: np.ndarray) -> float:
    """The share of the planted rows that were found to be copies of the rows they were made of."""
    near = set(copies.near)
    pairs = np.sort(np.stack([copies.first[rows], copies.first[planted]]), axis=0).T.tolist()
    return float(np.mean([a == b or (a, b) in near for a, b in pairs]))


def draw_sheets(images: np.ndarray, pairs: np.ndarray, folder: Path) -> None:
    """Draw pairs of images (K, 2), numbered from 0, thirty to a PNG in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    times = -(-_SHOWN // max(images.shape[1:3]))
    height, width = (side * times for side in images.shape[1:3])
    down, across = _SHEET
    step = (2 * width + _MARGIN, height + _MARGIN)
    for sheet, start in enumerate(range(0, len(pairs), down * across), 1):
        page = Image.new("RGB", (across * step[0], down * step[1]), "white")
        write = ImageDraw.Draw(page)
        for place, pair in enumerate(pairs[start : start + down * across].tolist()):
            left, top = place % across * step[0], place // across * step[1]
            write.text((left, top), str(start + place), "black")
            for side, row in enumerate(pair):
                shown = _pillow(images[row]).resize((width, height), Image.Resampling.NEAREST)
                page.paste(shown, (left + side * width, top + _MARGIN))
        page.save(folder / f"{sheet}.png")


def main() -> None:
    """Measure, and print the table, or draw what there is to judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--images", type=int, help="so many, drawn at random [all]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheets", type=Path, help="draw found pairs for the eye, here")
    parser.add_argument("--pairs", type=int, default=150, help="so many [%(default)s]")
    given = parser.parse_args()
    data = load(given.data, seed=given.seed)
    splits = [data.train, data.validation, *([data.test] if data.test else [])]
    images = np.concatenate([split.images for split in splits])
    held_out = np.arange(len(images)) >= len(data.train)
    random = np.random.default_rng(given.seed)
    if given.images is not None:
        kept = np.sort(random.permutation(len(images))[: given.images])
        images, held_out = images[kept], held_out[kept]
    if given.sheets is not None:
        near = np.array(find_copies([images], np.zeros(len(images), bool)).near).reshape(-1, 2)
        drawn = np.sort(random.permutation(len(near))[: given.pairs])
        draw_sheets(images, near[drawn], given.sheets)
        print(f"{len(drawn)} of {len(near):,} pairs, seed {given.seed}, drawn in {given.sheets}")
        return
    print(*_table(data.name, images, held_out, random), sep="\n")


def _table(
    name: str, images: np.ndarray, held_out: np.ndarray, random: np.random.Generator
) -> Iterator[str]:
    started, worked = time.perf_counter(), time.process_time()
    clean = find_copies([images], np.zeros(len(images), bool))
    seconds, work = time.perf_counter() - started, time.process_time() - worked
    alike = {row for pair in clean.near for row in pair}
    leaks = clean.where(held_out, ~held_out, held_out.astype(int))
    leaked = len(leaks)
    yield f"### {name}, {len(images):,} images of {'×'.join(map(str, images.shape[1:]))}"
    yield ""
    yield (
        f"As they are: {len(alike):,} images ({len(alike) / len(images):.2%}) in "
        f"{len(clean.near):,} pairs taken for copies, {leaked:,} ({leaked / held_out.sum():.2%}) "
        f"of the {held_out.sum():,} held-out ones for copies of training images; "
        f"{seconds:.0f} s, {work:.0f} s of processor time."
    )
    yield ""
    yield "| planted | copies | found |"
    yield "|---|---:|---:|"
    count = min(_MOST_OF_A_KIND, len(images) // (2 * len(KINDS)))
    chosen = random.permutation(len(images))[: count * len(KINDS)].reshape(len(KINDS), count)
    made = [plant(images, rows, kind) for kind, rows in zip(KINDS, chosen, strict=True)]
    every = [images, *made]
    copies = find_copies(every, np.zeros(sum(map(len, every)), bool))
    for number, (kind, rows) in enumerate(zip(KINDS, chosen, strict=True)):
        planted = len(images) + number * count + np.arange(count)
        yield f"| {kind} | {count:,} | {recall(copies, rows, planted):.1%} |"


if __name__ == "__main__":
    main()
