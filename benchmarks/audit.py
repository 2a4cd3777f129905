"""How many planted copies the audit finds, and how many images it takes for copies that are none.

    python -m benchmarks.audit DATA [--images N] [--seed S]

Copies of half of the images at most are planted, of every kind as many; the search knows
neither splits nor classes. Writes a table in Markdown to the standard output.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from hubel.data import load
from hubel.data.copies import Copies, find_copies

__all__ = ["KINDS", "main", "plant", "recall"]

_MOST_OF_A_KIND = 500


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


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--images", type=int, help="so many, drawn at random [all]")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    data = load(given.data, seed=given.seed)
    splits = [data.train, data.validation, *([data.test] if data.test else [])]
    images = np.concatenate([split.images for split in splits])
    held_out = np.arange(len(images)) >= len(data.train)
    random = np.random.default_rng(given.seed)
    if given.images is not None:
        kept = np.sort(random.permutation(len(images))[: given.images])
        images, held_out = images[kept], held_out[kept]
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
