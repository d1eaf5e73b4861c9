"""Shapes in a levelled plane: boundaries, Euler numbers, dark grains and the gaps between them."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["GRAIN_MEASURES", "boundary_and_euler", "gap_shares", "grain_measures"]

GRAIN_MEASURES = (
    "log of grains per 1000 px",
    "mean log area",
    "spread of log area",
    "mean log area by area",
    "mean elongation",
    "spread of elongation",
    "mean elongation by area",
    "mean fullness",
    "mean fullness by area",
)
# A smaller grain is more often noise or a cut edge than a nucleus.
_SMALLEST_GRAIN_PX = 8

_jit = numba.njit(nogil=True, cache=True, fastmath=True)


@_jit
def _count_cells(plane: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    """Count pixels, pairs, diagonal pairs, squares and full squares above a threshold; see `boundary_and_euler`."""
    rows, cols = plane.shape
    limit = np.float32(threshold)
    changes, diagonal_changes, ones, threes, crossed = 0, 0, 0, 0, 0
    for row in range(rows - 1):
        here, below = plane[row], plane[row + 1]
        for col in range(cols - 1):
            a, b = int(here[col] > limit), int(here[col + 1] > limit)
            c, d = int(below[col] > limit), int(below[col + 1] > limit)
            total = a + b + c + d
            changes += (a ^ b) + (a ^ c)
            diagonal_changes += (a ^ d) + (b ^ c)
            ones += int(total == 1)
            threes += int(total == 3)
            crossed += int(total == 2) & (a ^ b) & (a ^ c)
    return np.array([changes, diagonal_changes, ones, threes, crossed])


def boundary_and_euler(plane: NDArray[np.float32], threshold: float) -> tuple[float, float]:
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
    euler : float
        Components less holes per pixel, by Gray's quads, where pixels touch along edges. Above zero:
        separate grains; below: a web with holes.
    """
    changes, diagonal_changes, ones, threes, crossed = _count_cells(plane, threshold).tolist()
    n_squares = (plane.shape[0] - 1) * (plane.shape[1] - 1)
    boundary = np.pi / 8 * (changes + diagonal_changes / np.sqrt(2)) / n_squares
    return float(boundary), (ones - threes + 2 * crossed) / 4 / n_squares


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


@_jit
def _count_farther(distances: NDArray[np.float32], limits: NDArray[np.float32]) -> NDArray[np.int64]:
    """Count the pixels of distances (rows, cols) that are farther than each of the limits (n_limits,)."""
    counts = np.zeros(limits.size, np.int64)
    for row in range(distances.shape[0]):
        line = distances[row]
        for i in range(limits.size):
            limit, n_farther = limits[i], 0
            for col in range(line.size):
                n_farther += int(line[col] > limit)
            counts[i] += n_farther
    return counts


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
    n_outside, *n_farther = _count_farther(_chamfer(plane, threshold), np.array((0, *limits_px), np.float32)).tolist()
    return np.array([n_pixels / max(n_outside, 1) for n_pixels in n_farther])


@_jit
def _root(parents: NDArray[np.int32], label: int) -> int:
    """Follow a label to the one that stands for its grain."""
    while parents[label] != label:
        label = parents[label]
    return label


@_jit
def _label_grains(plane: NDArray[np.float32], threshold: float) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Label pixels above the threshold (zero elsewhere) and tell which labels touch along edges."""
    rows, cols = plane.shape
    labels = np.zeros((rows + 1, cols + 1), np.int32)
    parents = np.zeros(rows * cols // 2 + 2, np.int32)
    limit, n_labels = np.float32(threshold), 0
    for row in range(1, rows + 1):
        for col in range(1, cols + 1):
            if plane[row - 1, col - 1] <= limit:
                continue
            above, left = labels[row - 1, col], labels[row, col - 1]
            if above == 0 and left == 0:
                n_labels += 1
                parents[n_labels] = n_labels
                labels[row, col] = n_labels
            elif min(above, left) == 0 or above == left:
                labels[row, col] = max(above, left)
            else:
                one, other = _root(parents, above), _root(parents, left)
                parents[max(one, other)] = min(one, other)
                labels[row, col] = min(one, other)
    return labels, parents[: n_labels + 1]


@_jit
def _grain_moments(labels: NDArray[np.int32], parents: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return number of pixels, sums of row and col, and of their squares and product, a row a label."""
    sums = np.zeros((parents.size, 6))
    # A parent is always smaller than its child: one pass in order flattens the tree.
    for label in range(1, parents.size):
        parents[label] = parents[parents[label]]
    for row in range(labels.shape[0]):
        for col in range(labels.shape[1]):
            if labels[row, col] > 0:
                grain = sums[parents[labels[row, col]]]
                grain[0] += 1
                grain[1] += row
                grain[2] += col
                grain[3] += row * row
                grain[4] += col * col
                grain[5] += row * col
    return sums


def grain_measures(plane: NDArray[np.float32], threshold: float) -> NDArray[np.float64]:
    """Measure size and form of dark grains: nuclei where they stand apart, clumps where they crowd.

    Parameters
    ----------
    plane
        Shape (rows, cols), darker is greater.
    threshold
        What is greater belongs to a grain; pixels of a grain touch along edges. Grains of less than
        8 pixels are left out.

    Returns
    -------
    ndarray of float64
        Shape (9,), named in `GRAIN_MEASURES`. Elongation is 0 for a disc and 1 for a line; fullness
        is the area over that of the ellipse with the same second moments, near 1 for anything convex;
        *by area* weighs each grain by its area. All but the first are zero if there is no grain.
    """
    sums = _grain_moments(*_label_grains(plane, threshold))
    sums = sums[sums[:, 0] >= _SMALLEST_GRAIN_PX]
    density = np.log(len(sums) / plane.size * 1000 + 0.1)
    if len(sums) == 0:
        return np.array([density, *np.zeros(len(GRAIN_MEASURES) - 1)])
    area = sums[:, 0]
    mean_row, mean_col = sums[:, 1] / area, sums[:, 2] / area
    # 1/12 is the second moment of a pixel itself.
    down, right = sums[:, 3] / area - mean_row**2 + 1 / 12, sums[:, 4] / area - mean_col**2 + 1 / 12
    mixed = sums[:, 5] / area - mean_row * mean_col
    elongation = np.sqrt((down - right) ** 2 + 4 * mixed**2) / (down + right)
    fullness = area / (4 * np.pi * np.sqrt(np.maximum(down * right - mixed**2, 1e-3)))
    log_area, share = np.log(area), area / area.sum()
    return np.array(
        [
            density,
            log_area.mean(),
            log_area.std(),
            share @ log_area,
            elongation.mean(),
            elongation.std(),
            share @ elongation,
            fullness.mean(),
            share @ fullness,
        ]
    )
