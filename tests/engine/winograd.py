"""F(4×4, 3×3) in float64 with rounding errors where Winograd's algorithm makes them.

Sources: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016 (the algorithm);
Parker, "Monte Carlo Arithmetic", 1997 (random rounding errors).
"""

from __future__ import annotations

import numpy as np

from hubel.engine.session import Array

__all__ = ["Winograd"]

B = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float64,
)
G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
A = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])


class Winograd:
    """Convolutions whose every sum is off by at most eps·√length of the magnitudes it adds up."""

    def __init__(self, eps: float, rng: np.random.Generator) -> None:
        self._eps = eps
        self._rng = rng

    def forward(
        self, x: Array, weight: Array, padding: tuple[int, int], places: tuple[int, int]
    ) -> Array:
        """The outputs (N, P, Q, K); `padding` is (top, left), `places` (P, Q)."""
        inputs = self._sandwich(B, _tiles(x, padding, places))
        filters = self._sandwich(G, weight[None, None, None])[0, 0, 0]
        # The sum over channels meets each number of either side.
        depth = weight.shape[2]
        sums = _by_point(self._off(inputs, depth)) @ _flat(self._off(filters, depth))
        n, down, along = inputs.shape[:3]
        sums = sums.reshape(6, 6, n, down, along, -1).transpose(2, 3, 4, 0, 1, 5)
        outputs = self._sandwich(A, sums)
        whole: Array = outputs.transpose(0, 1, 3, 2, 4, 5).reshape(n, 4 * down, 4 * along, -1)
        return whole[:, : places[0], : places[1]]

    def input_grad(
        self, dy: Array, weight: Array, padding: tuple[int, int], places: tuple[int, int]
    ) -> Array:
        """The gradient by x, of `places` pixels: the same with the filters turned round."""
        turned = weight[::-1, ::-1].transpose(0, 1, 3, 2)
        return self.forward(dy, turned, (2 - padding[0], 2 - padding[1]), places)

    def weight_grad(self, x: Array, dy: Array, padding: tuple[int, int]) -> Array:
        """The gradient by the filters (3, 3, C, K)."""
        places = (dy.shape[1], dy.shape[2])
        inputs = self._sandwich(B, _tiles(x, padding, places))
        n, down, along = inputs.shape[:3]
        room = np.zeros((n, 4 * down, 4 * along, dy.shape[3]))
        room[:, : places[0], : places[1]] = dy
        cut = room.reshape(n, down, 4, along, 4, -1).transpose(0, 1, 3, 2, 4, 5)
        gradients = self._sandwich(A.T, cut)
        length = n * down * along
        inputs, gradients = self._off(inputs, length), self._off(gradients, length)
        sums = _by_point(inputs).transpose(0, 2, 1) @ _by_point(gradients)
        sums = sums.reshape(1, 1, 1, 6, 6, *sums.shape[1:])
        return self._sandwich(G.T, sums)[0, 0, 0]

    def _off(self, numbers: Array, length: int) -> Array:
        return self._moved(numbers, numbers, length)

    def _moved(self, numbers: Array, magnitudes: Array, length: int) -> Array:
        size = self._eps * np.sqrt(length)
        moved: Array = numbers + magnitudes * self._rng.uniform(-size, size, numbers.shape)
        return moved

    def _sandwich(self, matrix: Array, numbers: Array) -> Array:
        """M x Mᵀ over the fourth and fifth axis, whose errors are in parts of |M||x||Mᵀ|."""
        made, magnitudes = (
            np.einsum("ip,ntupq...,jq->ntuij...", m, x, m, optimize=True)
            for m, x in ((matrix, numbers), (np.abs(matrix), np.abs(numbers)))
        )
        terms = int(np.count_nonzero(matrix, 1).max()) ** 2
        return self._moved(made, magnitudes, terms)


def _flat(numbers: Array) -> Array:
    """(6, 6, a, b) as (36, a, b)."""
    found: Array = numbers.reshape(36, *numbers.shape[2:])
    return found


def _by_point(tiles: Array) -> Array:
    """(N, tiles down, tiles along, 6, 6, C) as (36, tiles, C)."""
    found: Array = tiles.transpose(3, 4, 0, 1, 2, 5).reshape(36, -1, tiles.shape[5])
    return found


def _tiles(x: Array, padding: tuple[int, int], places: tuple[int, int]) -> Array:
    """The 6×6 inputs of every 4×4 outputs, (N, tiles down, tiles along, 6, 6, C)."""
    n, height, width, depth = x.shape
    down, along = (-(-count // 4) for count in places)
    room = np.zeros((n, 4 * down + 2 + height, 4 * along + 2 + width, depth))
    room[:, padding[0] : padding[0] + height, padding[1] : padding[1] + width] = x
    windows = np.lib.stride_tricks.sliding_window_view(room, (6, 6), (1, 2))
    found: Array = windows[:, : 4 * down : 4, : 4 * along : 4].transpose(0, 1, 2, 4, 5, 3)
    return found
