"""Shapes in a levelled plane: boundaries, Euler numbers and the gaps between dark things."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["boundary_and_euler", "gap_shares"]

_jit = numba.njit(nogil=True, cache=True, fastmath=True)


@_jit
def _count_cells(plane: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    """Count pixels, pairs, diagonal pairs, squares and full squares above a threshold; see `boundary_and_euler`."""
    rows, cols = plane.shape
    limit = np.float32(threshold)
    counts = np.zeros(5, np.int64)
    for row in range(rows - 1):
        here, below = plane[row], plane[row + 1]
        for col in range(cols - 1):
            a, b = np.int32(here[col] > limit), np.int32(here[col + 1] > limit)
            c, d = np.int32(below[col] > limit), np.int32(below[col + 1] > limit)
            total = a + b + c + d
            counts[0] += (a ^ b) + (a ^ c)
            counts[1] += (a ^ d) + (b ^ c)
            counts[2] += np.int32(total == 1)
            counts[3] += np.int32(total == 3)
            counts[4] += np.int32(total == 2) & (a ^ b) & (a ^ c)
    return counts


def boundary_and_euler(plane: NDArray[np.float32], threshold: float) -> tuple[float, float, float]:
    """Measure what lies above a threshold: the Minkowski functionals beside its area.

    Parameters
    ----------
    plane
        Shape (rows, cols). If it is levelled, the area above the threshold is the same in all tiles.
    threshold
        What is greater belongs to the set.

    Returns
    -------
    boundary : float
        Length of the boundary per pixel, by Crofton's formula over four directions.
    euler_four, euler_eight : float
        Components less holes per pixel, by Gray's quads, where pixels touch along edges, or along
        edges and corners. Above zero: separate grains; below: a web with holes.
    """
    changes, diagonal_changes, ones, threes, crossed = _count_cells(plane, threshold).tolist()
    n_squares = (plane.shape[0] - 1) * (plane.shape[1] - 1)
    boundary = np.pi / 8 * (changes + diagonal_changes / np.sqrt(2)) / n_squares
    euler = (ones - threes) / 4
    return float(boundary), (euler + crossed / 2) / n_squares, (euler - crossed / 2) / n_squares


@_jit
def _chamfer(plane: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """Return the distance of every pixel to the nearest one above the threshold, at most rows + cols."""
    rows, cols = plane.shape
    one, root, limit = np.float32(1), np.float32(np.sqrt(2)), np.float32(threshold)
    # A frame of far pixels spares the loops every question about the edge.
    far = np.float32(rows + cols)
    distances = np.full((rows + 2, cols + 2), far, np.float32)
    for row in range(1, rows + 1):
        for col in range(1, cols + 1):
            if plane[row - 1, col - 1] > limit:
                distances[row, col] = 0
                continue
            above = min(distances[row - 1, col - 1], distances[row - 1, col + 1]) + root
            straight = min(distances[row - 1, col], distances[row, col - 1]) + one
            distances[row, col] = min(far, above, straight)
    for row in range(rows, 0, -1):
        for col in range(cols, 0, -1):
            below = min(distances[row + 1, col - 1], distances[row + 1, col + 1]) + root
            straight = min(distances[row + 1, col], distances[row, col + 1]) + one
            distances[row, col] = min(distances[row, col], below, straight)
    return distances[1:-1, 1:-1]


def gap_shares(plane: NDArray[np.float32], threshold: float, limits_px: Sequence[float]) -> NDArray[np.float64]:
    """Return how wide the gaps between dark things are.

    Parameters
    ----------
    plane
        Shape (rows, cols), darker is greater.
    threshold
        What is greater is a dark thing.
    limits_px
        Distances in pixels, shape (n_limits,).

    Returns
    -------
    ndarray of float64
        Shape (n_limits,): of all pixels outside dark things, the share that is farther than each
        limit from the nearest one; zero if nothing lies outside.
    """
    distances = _chamfer(plane, threshold)
    n_outside = max(int(np.count_nonzero(distances)), 1)
    return np.array([np.count_nonzero(distances > limit) / n_outside for limit in limits_px])
