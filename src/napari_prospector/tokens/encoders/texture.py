"""Texture of one plane at several scales: pyramids, bands, gradients, local binary patterns.

Everything runs in compiled kernels that release the GIL and add up in one fixed order, so that the
same tile gives the same bits on any number of threads.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["band_moments", "binary_patterns", "gradient_statistics", "halve", "smooth"]

_jit = numba.njit(nogil=True, cache=True, fastmath=True)


@_jit
def smooth(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Smooth a plane (rows, cols) with the binomial 1 4 6 4 1 along both axes; edges are repeated."""
    rows, cols = plane.shape
    across = np.empty((rows, cols), np.float32)
    smoothed = np.empty((rows, cols), np.float32)
    for row in range(rows):
        up2, up1 = max(row - 2, 0), max(row - 1, 0)
        down1, down2 = min(row + 1, rows - 1), min(row + 2, rows - 1)
        for col in range(cols):
            across[row, col] = np.float32(0.0625) * (
                plane[up2, col]
                + plane[down2, col]
                + np.float32(4) * (plane[up1, col] + plane[down1, col])
                + np.float32(6) * plane[row, col]
            )
    for row in range(rows):
        for col in range(cols):
            left2, left1 = max(col - 2, 0), max(col - 1, 0)
            right1, right2 = min(col + 1, cols - 1), min(col + 2, cols - 1)
            smoothed[row, col] = np.float32(0.0625) * (
                across[row, left2]
                + across[row, right2]
                + np.float32(4) * (across[row, left1] + across[row, right1])
                + np.float32(6) * across[row, col]
            )
    return smoothed


@_jit
def halve(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the plane at half the resolution: means of 2 x 2 pixels; an odd last row or column is left out."""
    rows, cols = plane.shape[0] // 2, plane.shape[1] // 2
    halved = np.empty((rows, cols), np.float32)
    for row in range(rows):
        for col in range(cols):
            halved[row, col] = np.float32(0.25) * (
                plane[2 * row, 2 * col]
                + plane[2 * row, 2 * col + 1]
                + plane[2 * row + 1, 2 * col]
                + plane[2 * row + 1, 2 * col + 1]
            )
    return halved


@_jit
def band_moments(plane: NDArray[np.float32], smoothed: NDArray[np.float32]) -> tuple[float, float, float]:
    """Return standard deviation, skewness and excess kurtosis of the band plane - smoothed."""
    second, third, fourth = 0.0, 0.0, 0.0
    for row in range(plane.shape[0]):
        for col in range(plane.shape[1]):
            value = np.float64(plane[row, col] - smoothed[row, col])
            square = value * value
            second += square
            third += square * value
            fourth += square * square
    second = second / plane.size + 1e-8
    third, fourth = third / plane.size, fourth / plane.size
    return np.sqrt(second), third / second**1.5, fourth / second**2 - 3.0


@_jit
def gradient_statistics(plane: NDArray[np.float32], cell: int) -> tuple[float, float, float, float]:
    """Return mean and relative spread of the gradient's length, and mean and spread of its coherence.

    Coherence is that of the structure tensor of square cells `cell` pixels wide: 0 where all
    directions occur alike, 1 where there is one direction.
    """
    rows, cols = plane.shape[0], plane.shape[1]
    length, squares, coherence, coherence_squares, n_cells = 0.0, 0.0, 0.0, 0.0, 0
    for row0 in range(1, rows - cell, cell):
        for col0 in range(1, cols - cell, cell):
            down, right, mixed = np.float32(1e-6), np.float32(1e-6), np.float32(0)
            for row in range(row0, row0 + cell):
                for col in range(col0, col0 + cell):
                    along_rows = plane[row + 1, col] - plane[row - 1, col]
                    along_cols = plane[row, col + 1] - plane[row, col - 1]
                    square = along_rows * along_rows + along_cols * along_cols
                    length += np.sqrt(square)
                    squares += square
                    down += along_rows * along_rows
                    right += along_cols * along_cols
                    mixed += along_rows * along_cols
            ordered = np.sqrt((down - right) ** 2 + np.float32(4) * mixed * mixed) / (down + right)
            coherence += ordered
            coherence_squares += ordered * ordered
            n_cells += 1
    n_pixels = n_cells * cell * cell
    length, squares = length / n_pixels, squares / n_pixels
    coherence, coherence_squares = coherence / n_cells, coherence_squares / n_cells
    spread = np.sqrt(max(squares - length * length, 0.0)) / (length + 1e-4)
    return length, spread, coherence, np.sqrt(max(coherence_squares - coherence * coherence, 0.0))


@_jit
def binary_patterns(plane: NDArray[np.float32], threshold: float) -> NDArray[np.float64]:
    """Return the shares, shape (10,), of the rotation-invariant uniform local binary patterns of 8 neighbours.

    A neighbour counts as brighter only by more than `threshold`, so that noise on glass counts as flat.
    Ojala, Pietikainen and Maenpaa, IEEE TPAMI 24 (2002), with the square instead of the circle.
    """
    counts = np.zeros(10, np.float64)
    rows, cols = plane.shape
    limit = np.float32(threshold)
    for row in range(1, rows - 1):
        for col in range(1, cols - 1):
            centre = plane[row, col] + limit
            a = plane[row - 1, col - 1] > centre
            b = plane[row - 1, col] > centre
            c = plane[row - 1, col + 1] > centre
            d = plane[row, col + 1] > centre
            e = plane[row + 1, col + 1] > centre
            f = plane[row + 1, col] > centre
            g = plane[row + 1, col - 1] > centre
            h = plane[row, col - 1] > centre
            turns = (a ^ b) + (b ^ c) + (c ^ d) + (d ^ e) + (e ^ f) + (f ^ g) + (g ^ h) + (h ^ a)
            ones = a + b + c + np.int64(d) + e + f + g + h
            counts[ones if turns <= 2 else 9] += 1.0
    counts /= (rows - 2) * (cols - 2)
    return counts
