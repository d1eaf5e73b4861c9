"""Texture of a levelled plane: local binary patterns, and oriented energies of first and second order.

Everything runs in compiled kernels that release the GIL and add up in one fixed order, so that the
same tile gives the same bits on any number of threads.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["N_PATTERNS", "binary_patterns", "halve", "oriented_energies", "pyramid", "smooth"]

N_PATTERNS = 10
_ANGLES = np.arange(4) * np.pi / 4
_COSINES, _SINES = np.cos(_ANGLES).astype(np.float32), np.sin(_ANGLES).astype(np.float32)
# Added to a sum of gradients of a levelled plane, whose range is 1: what camera noise amounts to.
_NOISE = 1e-3

_jit = numba.njit(nogil=True, cache=True, fastmath=True)


@_jit
def smooth(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Smooth a plane (rows, cols) with the binomial 1 4 6 4 1 along both axes; edges are repeated."""
    rows, cols = plane.shape
    four, six, sixteenth = np.float32(4), np.float32(6), np.float32(1 / 16)
    smoothed = np.empty((rows, cols), np.float32)
    padded = np.empty(cols + 4, np.float32)
    for row in range(rows):
        up2, up1 = plane[max(row - 2, 0)], plane[max(row - 1, 0)]
        down1, down2 = plane[min(row + 1, rows - 1)], plane[min(row + 2, rows - 1)]
        here = plane[row]
        for col in range(cols):
            padded[col + 2] = sixteenth * (up2[col] + down2[col] + four * (up1[col] + down1[col]) + six * here[col])
        padded[0] = padded[1] = padded[2]
        padded[cols + 2] = padded[cols + 3] = padded[cols + 1]
        for col in range(cols):
            smoothed[row, col] = sixteenth * (
                padded[col] + padded[col + 4] + four * (padded[col + 1] + padded[col + 3]) + six * padded[col + 2]
            )
    return smoothed


@_jit
def halve(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the plane at half the resolution: means of 2 x 2 pixels; an odd last row or column is left out."""
    rows, cols = plane.shape[0] // 2, plane.shape[1] // 2
    halved = np.empty((rows, cols), np.float32)
    quarter = np.float32(0.25)
    for row in range(rows):
        for col in range(cols):
            halved[row, col] = quarter * (
                plane[2 * row, 2 * col]
                + plane[2 * row, 2 * col + 1]
                + plane[2 * row + 1, 2 * col]
                + plane[2 * row + 1, 2 * col + 1]
            )
    return halved


def pyramid(plane: NDArray[np.float32], n_levels: int) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return, for each level, the plane and the smoothed plane that the next level halves."""
    levels = []
    for _ in range(n_levels):
        smoothed = smooth(plane)
        levels.append((plane, smoothed))
        plane = halve(smoothed)
    return levels


def _pattern_classes() -> NDArray[np.uint8]:
    """Return the class of every 8-bit pattern: the number of ones if it is uniform, else 9."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    turns = np.count_nonzero(bits != np.roll(bits, 1, axis=1), axis=1)
    return np.where(turns <= 2, bits.sum(axis=1), 9).astype(np.uint8)


_PATTERN_CLASSES = _pattern_classes()


@_jit
def _count_patterns(plane: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    """Count the 256 patterns of the 8 neighbours of each inner pixel of a plane (rows, cols)."""
    rows, cols = plane.shape
    counts = np.zeros(256, np.int64)
    codes = np.empty(cols, np.uint8)
    limit = np.float32(threshold)
    for row in range(1, rows - 1):
        above, here, below = plane[row - 1], plane[row], plane[row + 1]
        for col in range(1, cols - 1):
            centre = here[col] + limit
            codes[col] = (
                np.uint8(above[col - 1] > centre)
                | np.uint8(above[col] > centre) << 1
                | np.uint8(above[col + 1] > centre) << 2
                | np.uint8(here[col + 1] > centre) << 3
                | np.uint8(below[col + 1] > centre) << 4
                | np.uint8(below[col] > centre) << 5
                | np.uint8(below[col - 1] > centre) << 6
                | np.uint8(here[col - 1] > centre) << 7
            )
        for col in range(1, cols - 1):
            counts[codes[col]] += 1
    return counts


def binary_patterns(plane: NDArray[np.float32], threshold: float) -> NDArray[np.float64]:
    """Return the shares of the rotation-invariant uniform local binary patterns of 8 neighbours.

    Ojala, Pietikäinen and Mäenpää, IEEE TPAMI 24 (2002), with the square instead of the circle, and
    with a threshold.

    Parameters
    ----------
    plane
        Shape (rows, cols), at least 3 x 3.
    threshold
        A neighbour counts as brighter only by more than this, so that noise on glass counts as flat.

    Returns
    -------
    ndarray of float64
        Shape (10,): shares of pixels with 0 to 8 brighter neighbours in one run, and with more runs.
    """
    counts = _count_patterns(plane, threshold)
    shares: NDArray[np.float64] = np.bincount(_PATTERN_CLASSES, weights=counts) / counts.sum()
    return shares


@_jit
def _first_order(
    plane: NDArray[np.float32], cosines: NDArray[np.float32], sines: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the lengths of the gradient along 4 directions, shape (4, rows // 2, cols // 2), means of 2 x 2 pixels."""
    rows, cols = plane.shape
    energies = np.zeros((4, rows // 2, cols // 2), np.float32)
    quarter = np.float32(0.25)
    for row in range(rows // 2 * 2):
        above, below = plane[max(row - 1, 0)], plane[min(row + 1, rows - 1)]
        here = plane[row]
        for col in range(cols // 2):
            for step in range(2):
                at = 2 * col + step
                down = below[at] - above[at]
                right = here[min(at + 1, cols - 1)] - here[max(at - 1, 0)]
                for angle in range(4):
                    energies[angle, row // 2, col] += quarter * abs(cosines[angle] * right + sines[angle] * down)
    return energies


@_jit
def _second_order(
    energies: NDArray[np.float32], cosines: NDArray[np.float32], sines: NDArray[np.float32]
) -> tuple[float, float]:
    """Return the mean change of each direction's energy (4, rows, cols) along and across that direction."""
    n_angles, rows, cols = energies.shape
    along, across = 0.0, 0.0
    for angle in range(n_angles):
        cosine, sine = cosines[angle], sines[angle]
        for row in range(rows):
            above, below = energies[angle, max(row - 1, 0)], energies[angle, min(row + 1, rows - 1)]
            here = energies[angle, row]
            for col in range(cols):
                down = below[col] - above[col]
                right = here[min(col + 1, cols - 1)] - here[max(col - 1, 0)]
                along += abs(cosine * right + sine * down)
                across += abs(cosine * down - sine * right)
    return along / energies.size, across / energies.size


@_jit
def _halve_each(energies: NDArray[np.float32]) -> NDArray[np.float32]:
    """Halve each of the planes (4, rows, cols)."""
    halved = np.empty((energies.shape[0], energies.shape[1] // 2, energies.shape[2] // 2), np.float32)
    for angle in range(energies.shape[0]):
        halved[angle] = halve(energies[angle])
    return halved


def oriented_energies(plane: NDArray[np.float32], n_scales: int) -> tuple[float, NDArray[np.float64]]:
    """Return how strong the gradients of a plane are, and how they are arranged at coarser scales.

    A scattering transform of two orders (Sifre and Mallat, CVPR 2013) with the simplest of wavelets,
    differences of neighbours: lengths of the gradient in four directions; then, at each coarser scale,
    how much each length changes along its own direction and across it. Averaged over directions, so
    that turning the tile changes nothing but discretization.

    Parameters
    ----------
    plane
        Shape (rows, cols).
    n_scales
        How many coarser scales: means over 2, 4, 8 ... pixels.

    Returns
    -------
    mean : float
        Mean length of the gradient, above zero.
    changes : ndarray of float64
        Shape (2 n_scales,): along and across for each scale, relative to the mean.
    """
    energies = _first_order(plane, _COSINES, _SINES)
    mean = float(energies.mean(dtype=np.float64)) + _NOISE
    changes: list[float] = []
    for scale in range(n_scales):
        if scale > 0:
            energies = _halve_each(energies)
        changes += _second_order(energies, _COSINES, _SINES)
    return mean, np.array(changes) / mean
