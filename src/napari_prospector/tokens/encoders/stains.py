"""Stain separation of tiles, and the planes that the texture features look at.

Staining, scanner and section thickness change how dark everything is, in every plane alike. What a
pathologist reads is the arrangement. So the features look at *levelled* planes: each value is
replaced by the share of the tile that is below it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["STAIN_VECTORS", "UNMIXING", "level", "quantiles", "separate"]

# Rows: hematoxylin, eosin, residual (their cross product); columns: optical density in red, green, blue.
# Ruifrok and Johnston 2001, table 1, each row of unit length.
_HEMATOXYLIN = np.array([0.650, 0.704, 0.286])
_EOSIN = np.array([0.072, 0.990, 0.105])
STAIN_VECTORS = np.stack([_HEMATOXYLIN, _EOSIN, np.cross(_HEMATOXYLIN, _EOSIN)])
STAIN_VECTORS /= np.linalg.norm(STAIN_VECTORS, axis=1, keepdims=True)
UNMIXING = np.linalg.inv(STAIN_VECTORS).astype(np.float32)

# Optical density, natural logarithm, of every value of a byte: 0 for white, 5.5 for black.
_DENSITY = -np.log((np.arange(256) + 1) / 256).astype(np.float32)
# Density of one stain runs from about -1.5 (the other stain alone) to 5.
_DENSITY_SPAN = (-2.0, 4.0)
_N_BINS = 1024


@numba.njit(nogil=True, cache=True, fastmath=True)
def _separate(
    tile: NDArray[np.uint8], density: NDArray[np.float32], unmixing: NDArray[np.float32], planes: NDArray[np.float32]
) -> None:
    """Fill planes (4, rows, cols) with hematoxylin, eosin, residual and mean optical density."""
    rows, cols = tile.shape[:2]
    for row in range(rows):
        for col in range(cols):
            red, green, blue = density[tile[row, col, 0]], density[tile[row, col, 1]], density[tile[row, col, 2]]
            for stain in range(3):
                planes[stain, row, col] = (
                    red * unmixing[0, stain] + green * unmixing[1, stain] + blue * unmixing[2, stain]
                )
            planes[3, row, col] = (red + green + blue) / np.float32(3)


def separate(tile: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the planes of a tile.

    Parameters
    ----------
    tile
        Shape (rows, cols, 3), red green blue.

    Returns
    -------
    ndarray of float32
        Shape (4, rows, cols): hematoxylin, eosin, residual, mean optical density, in units of the
        natural logarithm; zero for white. The first three may be negative.
    """
    planes = np.empty((4, *tile.shape[:2]), np.float32)
    _separate(tile, _DENSITY, UNMIXING, planes)
    return planes


@numba.njit(nogil=True, cache=True)
def _cumulate(plane: NDArray[np.float32], lowest: float, highest: float, n_bins: int) -> NDArray[np.int64]:
    """Count the pixels of a plane (rows, cols) below each edge of the bins, shape (n_bins + 1,)."""
    scale, shift = np.float32(n_bins / (highest - lowest)), np.float32(lowest)
    cumulated = np.zeros(n_bins + 1, np.int64)
    for row in range(plane.shape[0]):
        for col in range(plane.shape[1]):
            cumulated[min(max(int((plane[row, col] - shift) * scale), 0), n_bins - 1) + 1] += 1
    for edge in range(n_bins):
        cumulated[edge + 1] += cumulated[edge]
    return cumulated


@numba.njit(nogil=True, cache=True)
def _soften(cumulated: NDArray[np.int64], half: int) -> NDArray[np.float32]:
    """Return the share below each bin, averaged over the edges up to `half` away, shape (n_bins,)."""
    n_bins = cumulated.size - 1
    shares = np.empty(n_bins, np.float32)
    total = cumulated[0] * (half + 1)
    for edge in range(half):
        total += cumulated[min(edge, n_bins)]
    for place in range(n_bins):
        total += cumulated[min(place + half, n_bins)]
        shares[place] = total / ((2 * half + 1) * cumulated[n_bins])
        total -= cumulated[max(place - half, 0)]
    return shares


@numba.njit(nogil=True, cache=True, fastmath=True)
def _look_up(
    plane: NDArray[np.float32], lowest: float, highest: float, shares: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the share of each pixel's bin, shape (rows, cols)."""
    scale, shift = np.float32(shares.size / (highest - lowest)), np.float32(lowest)
    levelled = np.empty(plane.shape, np.float32)
    for row in range(plane.shape[0]):
        for col in range(plane.shape[1]):
            levelled[row, col] = shares[min(max(int((plane[row, col] - shift) * scale), 0), shares.size - 1)]
    return levelled


def level(
    plane: NDArray[np.float32], softness: float = 0.3, span: tuple[float, float] = _DENSITY_SPAN
) -> NDArray[np.float32]:
    """Replace every value by the share of the plane that is below it.

    The result does not depend on how strong or in what proportion a stain took, so long as darker
    stays darker.

    Parameters
    ----------
    plane
        Shape (rows, cols), optical density or another quantity.
    softness
        Distance in the same unit over which shares are averaged. It keeps noise noise: the values of
        a blank tile, all within 0.01, become values that are all within about 0.01 / softness.
    span
        Lowest and highest value that are told apart.

    Returns
    -------
    ndarray of float32
        Shape (rows, cols), 0 to 1.
    """
    half = max(int(softness * _N_BINS / (span[1] - span[0]) / 2), 1)
    return _look_up(plane, *span, _soften(_cumulate(plane, *span, _N_BINS), half))


def quantiles(plane: NDArray[np.float32], shares: Sequence[float]) -> NDArray[np.float64]:
    """Return the densities below which given shares of a plane lie, exact to 0.006.

    Parameters
    ----------
    plane
        Shape (rows, cols), optical density.
    shares
        Shape (n_shares,), 0 to 1.

    Returns
    -------
    ndarray of float64
        Shape (n_shares,), from -2 to 4.
    """
    below = _cumulate(plane, *_DENSITY_SPAN, _N_BINS) / plane.size
    return np.interp(shares, below, np.linspace(*_DENSITY_SPAN, _N_BINS + 1))
