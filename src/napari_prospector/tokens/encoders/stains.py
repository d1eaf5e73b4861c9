"""Stain separation of tiles: from red green blue to the planes that the texture features look at."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["STAIN_VECTORS", "UNMIXING", "separate"]

# Rows: hematoxylin, eosin, residual (their cross product); columns: optical density in red, green, blue.
# Ruifrok and Johnston 2001, table 1, each row of unit length.
_HEMATOXYLIN = np.array([0.650, 0.704, 0.286])
_EOSIN = np.array([0.072, 0.990, 0.105])
STAIN_VECTORS = np.stack([_HEMATOXYLIN, _EOSIN, np.cross(_HEMATOXYLIN, _EOSIN)])
STAIN_VECTORS /= np.linalg.norm(STAIN_VECTORS, axis=1, keepdims=True)
UNMIXING = np.linalg.inv(STAIN_VECTORS).astype(np.float32)

# Optical density, natural logarithm, of every value of a byte: 0 for white, 5.5 for black.
_DENSITY = -np.log((np.arange(256) + 1) / 256).astype(np.float32)


@numba.njit(nogil=True, cache=True)
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
