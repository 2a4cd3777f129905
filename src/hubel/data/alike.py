"""Which images are nearly the same: re-encoded, scaled there and back, a little lighter.

No distance tells that by itself: two different ones of handwriting may be closer than a photograph
and its copy. So distances are measured against how far an image's unrelated neighbours are.

* An image becomes a thumbnail of mean 0 and length 1, which brightness and contrast do not change,
  and of that the 24 coordinates in which the images differ most: there a copy's noise is least.
* Its *scale* is the distance of its tenth neighbour. That is measured among 2048 images drawn at
  random, and for all N extrapolated by (2048/N)^(1/D), where D is the images' intrinsic dimension
  (Levina and Bickel, "Maximum Likelihood Estimation of Intrinsic Dimension", 2004).
* Pairs closer than a part of both scales are then compared pixel by pixel, at up to 32×32: what
  of one is left unexplained by the other, by its Laplacian and by the Laplacian of that. The two
  explain what blurring and sharpening change, of one image and not of another; so what is left
  of scaled copies is next to nothing. This too is held against the image's unrelated neighbours.
  Small images, whose copies may be further away than others, have more neighbours compared.

The constants are chosen by `python -m benchmarks.audit`; docs/audit.md shows what they find.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["near_pairs", "thumbnails"]

_SIDE = 16
_COORDINATES = 24
_FEWEST = 4
_SAMPLE = 2048
_NEIGHBOUR = 10
# No image counts as lying in a denser place than that: many copies of it would make it so.
_SCALE_FLOOR = 0.25
_INDISTINCT = 1e-3
_CLOSE = 0.37  # coordinates that much closer than the scale are those of a copy …
_CONFIRMED = 0.75  # … if the pixels do not deny it,
_EXPLAINED = 0.36  # and so are pixels explained that well,
_CANDIDATE = 0.95  # for pairs that the coordinates do not tell apart for sure.
_NEAREST = 2  # neighbours of every image are compared pixel by pixel,
_PIXELS = 1024  # and of smaller images than that as many more as take the same work,
_MOST = 16  # but not more than so many times as many, which are not …
_WIDEST = 2.0  # … looked for further away than that, times as far.
_FINE_SIDE = 32
_ROWS = 1024
_PAIRS = 4096
_CHUNK_FLOATS = 2**22
_TINY = np.finfo(np.float32).tiny


def near_pairs(parts: Sequence[np.ndarray], rows: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of rows, the closest first, that show the same picture; no image may be constant.

    Rows number the images of all `parts`, (N, H, W, C) of one size and type, and no two images of
    `rows` (M,) may have the same pixels.
    """
    count = len(rows)
    if count < _FEWEST:
        return []
    source = _Source(parts)
    random = np.random.default_rng(0)
    sample = random.permutation(count)[:_SAMPLE]
    points = _coordinates(source, rows, sample)
    scale, dimension, distant = _scales(points, sample)
    height, width = source.parts[0].shape[1:3]
    more = min(max(1, _PIXELS // (height * width)), _MOST)
    # A ball of that dimension, in which so many times as many lie.
    radius = _CANDIDATE * min(more ** (1 / dimension), _WIDEST)
    # Where ten others look the same, as of two pixels, nothing can be told.
    told = np.flatnonzero(scale > _INDISTINCT)
    first, second, ratio = _candidates(points[told], scale[told], radius)
    first, second = told[first], told[second]
    kept = _decisive(first, second, ratio, _NEAREST * more)
    first, second, close = first[kept], second[kept], ratio[kept] <= _CLOSE
    left = _unexplained(source, rows[first], rows[second])
    # No neighbour leaves more than 1 unexplained: the others need not be looked at.
    possible = np.flatnonzero(left <= np.where(close, _CONFIRMED, _EXPLAINED))
    first, second, left, close = (a[possible] for a in (first, second, left, close))
    ends, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    unrelated = [_unexplained(source, rows[ends], rows[distant[ends, i]]) for i in range(3)]
    usual = np.median(unrelated, axis=0)[places.reshape(2, -1)].min(axis=0)
    drawn = sample[:_ROWS]
    anywhere = np.median(_unexplained(source, rows[drawn], rows[distant[drawn, 0]]))
    fine = left / np.maximum(usual, _SCALE_FLOOR * max(float(anywhere), _INDISTINCT))
    same = fine <= np.where(close, _CONFIRMED, _EXPLAINED)
    order = np.argsort(left[same], kind="stable")
    pairs = np.sort(np.stack([rows[first[same]], rows[second[same]]], axis=1)[order], axis=1)
    return [(a, b) for a, b in pairs.tolist()]


class _Source:
    """Images of several arrays by their row in all of them."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = [part for part in parts if len(part)]
        self.starts = np.cumsum([0, *map(len, self.parts)])

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Images (K, H, W, C)."""
        part = np.searchsorted(self.starts, rows, side="right") - 1
        images = np.empty((len(rows), *self.parts[0].shape[1:]), self.parts[0].dtype)
        for number in np.unique(part).tolist():
            mine = part == number
            images[mine] = self.parts[number][rows[mine] - self.starts[number]]
        return images

    def thumbnails(self, rows: np.ndarray, side: int) -> np.ndarray:
        """Thumbnails of mean 0 and length 1, (K, h, w, C)."""
        made = thumbnails(self.take(rows), side)
        made -= made.mean(axis=(1, 2, 3), keepdims=True)
        length = np.sqrt((made * made).sum(axis=(1, 2, 3), keepdims=True))
        made /= np.maximum(length, _TINY)
        return made


def thumbnails(images: np.ndarray, side: int) -> np.ndarray:
    """Images (N, H, W, C) in float32, averaged over areas to at most `side` pixels a side.

    >>> thumbnails(np.arange(4.0).reshape(1, 2, 2, 1), 1).item()
    1.5
    """
    _, height, width, depth = images.shape
    down, across = _areas(height, side), _areas(width, side)
    made = np.empty((len(images), len(down), len(across), depth), np.float32)
    step = max(1, _CHUNK_FLOATS // (height * width * depth))
    for start in range(0, len(images), step):
        some = images[start : start + step].astype(np.float32)
        lower = (down @ some.reshape(len(some), height, -1)).reshape(-1, width, depth)
        made[start : start + step] = (across @ lower).reshape(len(some), *made.shape[1:])
    return made


def _areas(length: int, side: int) -> np.ndarray:
    """The matrix (n, length) that averages `length` pixels to n = min(length, side) areas."""
    count = min(length, side)
    edges = np.linspace(0, length, count + 1)
    ends = np.minimum(edges[1:, None], np.arange(1, length + 1))
    shared = np.maximum(ends - np.maximum(edges[:-1, None], np.arange(length)), 0)
    areas: np.ndarray = (shared * count / length).astype(np.float32)
    return areas


def _coordinates(source: _Source, rows: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """The principal coordinates (M, 24) of thumbnails: axes are those of the sample."""
    drawn = source.thumbnails(rows[sample], _SIDE).reshape(len(sample), -1)
    mean = drawn.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov((drawn - mean).T, ddof=0).reshape(len(mean), len(mean)))
    axes = np.ascontiguousarray(axes[:, ::-1][:, :_COORDINATES], np.float32)
    points = np.empty((len(rows), axes.shape[1]), np.float32)
    for start in range(0, len(rows), _ROWS):
        some = source.thumbnails(rows[start : start + _ROWS], _SIDE)
        points[start : start + _ROWS] = (some.reshape(len(some), -1) - mean) @ axes
    return points


def _scales(points: np.ndarray, sample: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Each image's scale (M,), the dimension, and (M, 3) images that are about as far from each."""
    neighbour = min(_NEIGHBOUR, max(1, (len(sample) - 1) // 3))
    distance = np.empty((len(points), neighbour + 1), np.float32)
    nearest = np.empty((len(points), neighbour + 1), np.int64)
    right = _right_sides(points[sample]).T
    for start in range(0, len(points), _ROWS):
        squares = _left_sides(points[start : start + _ROWS]) @ right
        places = np.argpartition(squares, neighbour, axis=1)[:, : neighbour + 1]
        there = np.take_along_axis(squares, places, axis=1)
        order = np.argsort(there, axis=1, kind="stable")
        distance[start : start + _ROWS] = np.take_along_axis(there, order, axis=1)
        nearest[start : start + _ROWS] = sample[np.take_along_axis(places, order, axis=1)]
    distance = np.sqrt(np.maximum(distance, 0))
    # An image of the sample finds itself first: its neighbours are one place further on.
    inside = np.zeros(len(points), np.int64)
    inside[sample] = 1
    last = (neighbour - 1 + inside)[:, None]
    scale = np.take_along_axis(distance, last, axis=1)[:, 0]
    shares = distance[:, 1:-1] / np.maximum(distance[:, -1:], _TINY)
    spread = -np.log(np.maximum(shares, 1e-3)).mean() if neighbour > 1 else 1.0
    dimension = 1 / max(spread, 1e-3)
    scale *= (len(sample) / len(points)) ** (1 / dimension)
    scale = np.maximum(scale, _SCALE_FLOOR * np.median(scale))
    around = np.maximum(last - np.arange(3), 0)
    return scale, dimension, np.take_along_axis(nearest, around, axis=1)


def _candidates(
    points: np.ndarray, scale: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs closer than a share of both scales, and their distance in the smaller one."""
    # Sorted by the first coordinate, whatever may be close enough lies side by side.
    order = np.argsort(points[:, 0], kind="stable")
    points, radius = points[order], share * scale[order]
    left, right = _left_sides(points, radius), _right_sides(points)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for start in range(0, len(points), _ROWS):
        stop = min(start + _ROWS, len(points))
        reach = points[stop - 1, 0] + radius[start:stop].max()
        end = int(np.searchsorted(points[:, 0], reach, side="right"))
        beyond = left[start:stop] @ right[start:end].T
        near, other = np.divmod(np.flatnonzero(beyond.reshape(-1) <= 0), end - start)
        near, other = near + start, other + start
        kept = near < other
        near, other = near[kept], other[kept]
        distance = np.sqrt(((points[near] - points[other]) ** 2).sum(axis=1))
        ratio = share * distance / np.minimum(radius[near], radius[other])
        kept = ratio <= share
        found.append((order[near[kept]], order[other[kept]], ratio[kept]))
    none = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    first, second, ratio = (np.concatenate(ones) for ones in zip(none, *found, strict=True))
    return first, second, ratio


def _left_sides(points: np.ndarray, radius: np.ndarray | None = None) -> np.ndarray:
    """With `_right_sides`, one product gives the squared distances (minus those of a radius)."""
    squares = (points * points).sum(axis=1)
    if radius is not None:
        squares -= radius * radius
    return np.concatenate([-2 * points, squares[:, None], np.ones_like(squares)[:, None]], axis=1)


def _right_sides(points: np.ndarray) -> np.ndarray:
    squares = (points * points).sum(axis=1)
    return np.concatenate([points, np.ones_like(squares)[:, None], squares[:, None]], axis=1)


def _decisive(first: np.ndarray, second: np.ndarray, ratio: np.ndarray, nearest: int) -> np.ndarray:
    """Which pairs to compare pixel by pixel: close ones, and the nearest few of every image."""
    kept = ratio <= _CLOSE
    ends = np.concatenate([first, second])
    by_end = np.lexsort((np.tile(ratio, 2), ends))
    starts = np.searchsorted(ends[by_end], ends[by_end], side="left")
    kept[by_end[np.arange(len(ends)) - starts < nearest] % max(1, len(first))] = True
    return np.flatnonzero(kept)


def _unexplained(source: _Source, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The share (K,) of one image's length that the other, blurred or sharpened, cannot explain."""
    left = np.empty(len(first))
    for start in range(0, len(first), _PAIRS):
        some = slice(start, start + _PAIRS)
        ends, places = np.unique(np.stack([first[some], second[some]]), return_inverse=True)
        bases = _bases(source, ends)
        here, there = places.reshape(2, -1)
        shared = (bases[here] @ bases[there].transpose(0, 2, 1)).astype(np.float64)
        # Images without detail have Laplacians of next to nothing: the equations stay solvable.
        grams = (bases @ bases.transpose(0, 2, 1)).astype(np.float64)
        size = np.trace(grams, axis1=1, axis2=2)[:, None, None]
        grams += (1e-6 * size + _TINY) * np.eye(3)
        left[some] = np.minimum(
            _residual(grams[here], shared[:, :, :1]),
            _residual(grams[there], shared[:, :1].transpose(0, 2, 1)),
        )
    return left


def _bases(source: _Source, rows: np.ndarray) -> np.ndarray:
    """Grey thumbnails of length 1, their Laplacians, and the Laplacians of those: (K, 3, h·w)."""
    grey = source.thumbnails(rows, _FINE_SIDE).mean(axis=3)
    grey /= np.maximum(np.sqrt((grey * grey).sum(axis=(1, 2), keepdims=True)), _TINY)
    once = _laplacian(grey)
    bases = np.stack([grey, once, _laplacian(once)], axis=1).reshape(len(rows), 3, -1)
    bases -= bases.mean(axis=2, keepdims=True)
    return bases


def _residual(gram: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """The length that least squares leaves of a target of length 1, by their products (K, 3, 1)."""
    explained = (shared * np.linalg.solve(gram, shared)).sum(axis=(1, 2))
    left: np.ndarray = np.sqrt(np.maximum(1 - explained, 0))
    return left


def _laplacian(images: np.ndarray) -> np.ndarray:
    """The five-point Laplacian of images (K, h, w), mirrored at their edges."""
    _, height, width = images.shape
    down, across = _second_difference(height), _second_difference(width)
    made: np.ndarray = down @ images + images @ across
    return made


def _second_difference(length: int) -> np.ndarray:
    matrix: np.ndarray = np.eye(length, k=1) + np.eye(length, k=-1) - 2 * np.eye(length)
    matrix[0, 0] += 1
    matrix[-1, -1] += 1
    return matrix.astype(np.float32)
