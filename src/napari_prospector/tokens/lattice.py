"""Tiles that lie anywhere, brought to the cells of one regular grid; how far each had to be moved is told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import InvalidInputError

__all__ = ["Lattice", "fit_lattice"]

# A gap counts as a whole number of strides if it is this close to one, in level-0 pixels.
_NEAR_PX = 1.0


@dataclass(frozen=True, eq=False)
class Lattice:
    """A regular grid, and where each tile lies on it.

    Attributes
    ----------
    stride
        Distance between neighbouring cells in level-0 pixels.
    origin
        (row, col) of the upper left corner of cell (0, 0) in level-0 pixels.
    cells
        (n_tiles, 2) int64, (row, col) of the cell of each tile, from (0, 0) on.
    shifts
        (n_tiles, 2) level-0 pixels, (row, col): from the corner of its cell to the true corner of each tile.
    kept
        (n_tiles,) bool: False where a cell is wanted by two tiles and this one lies farther from it.
    """

    stride: int
    origin: tuple[int, int]
    cells: NDArray[np.int64]
    shifts: NDArray[np.float64]
    kept: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells along each axis."""
        rows, cols = (int(last) + 1 for last in self.cells.max(axis=0))
        return rows, cols

    @property
    def most_shift(self) -> float:
        """How far the tile that lies farthest from its cell is off along an axis, in level-0 pixels."""
        return float(np.abs(self.shifts[self.kept]).max())


def fit_lattice(corners: NDArray[np.float64], tile: float) -> Lattice:
    """Find the regular grid that most tiles lie on exactly, and the nearest cell of each of the others.

    Tools that lay tiles over each piece of tissue by itself (CLAM, LazySlide) have one grid a piece, with a common
    stride and different origins. The grid of the most tiles wins; the others are moved by at most half a stride.

    Parameters
    ----------
    corners
        (n_tiles, 2), (row, col) of the upper left corner of each tile in level-0 pixels.
    tile
        Width of a tile in level-0 pixels: the stride where no two tiles lie side by side.

    Returns
    -------
    Lattice

    Raises
    ------
    InvalidInputError
        There is no tile, or the tiles are no lattice: a stride of less than a pixel, or one that is no whole number
        of pixels and drifts by more than half a stride over the slide.

    Examples
    --------
    >>> lattice = fit_lattice(np.array([[7.0, 5.0], [7.0, 105.0], [207.0, 5.0]]), tile=100)
    >>> lattice.stride, lattice.origin, lattice.cells.tolist()
    (100, (7, 5), [[0, 0], [0, 1], [2, 0]])
    """
    if corners.ndim != 2 or corners.shape[1] != 2 or not len(corners) or not np.isfinite(corners).all():
        raise InvalidInputError(
            f"corners must be finite, of shape (n_tiles, 2), with at least one tile; got {corners.shape}."
            " Check the coordinates in the file."
        )
    exact = _stride(corners, tile)
    stride = round(exact)
    if stride < 1:
        raise InvalidInputError(f"Tiles must lie at least one pixel apart; these lie {exact:.3g} px apart.")
    places = np.floor((corners - _origin(corners, exact)) / exact + 0.5)
    cells = (places - places.min(axis=0)).astype(np.int64)
    offsets = corners - cells * stride
    origin = np.array([_most_common(offsets[:, axis]) for axis in range(2)])
    if abs(exact - stride) * cells.max() > 1:
        # what rounding the stride makes of far tiles is shared out between both ends
        origin = np.round((offsets.min(axis=0) + offsets.max(axis=0)) / 2)
    shifts = offsets - origin
    if np.abs(shifts).max() > stride / 2 + 1:
        raise InvalidInputError(
            f"Tiles must lie on a grid of whole level-0 pixels; a stride of {exact:.3f} px drifts by"
            f" {np.abs(shifts).max():.0f} px over this slide. Check the slide's pixel size."
        )
    return Lattice(stride, (int(origin[0]), int(origin[1])), cells, shifts, _nearest(cells, shifts))


def _stride(corners: NDArray[np.float64], tile: float) -> float:
    """Return the distance of neighbours in one row or column: the most common gap, made exact by all its multiples."""
    gaps = np.concatenate([_gaps(corners, along) for along in range(2)])
    if not len(gaps):
        return tile
    exact = _most_common(gaps)
    for most in (1, np.inf):  # neighbours first: only then do far tiles tell more digits
        multiples = np.maximum(np.round(gaps / exact), 1)
        near = (multiples <= most) & (np.abs(gaps - multiples * exact) <= _NEAR_PX)
        exact = float(gaps[near].sum() / multiples[near].sum())
    return exact


def _gaps(corners: NDArray[np.float64], along: int) -> NDArray[np.float64]:
    """Return the gaps between neighbours that share the other coordinate."""
    order = np.lexsort((corners[:, along], np.round(corners[:, 1 - along])))
    steps = np.diff(corners[order], axis=0)
    gaps = steps[:, along][np.abs(steps[:, 1 - along]) < 0.5]
    return np.asarray(gaps[gaps > 0.5], np.float64)


def _origin(corners: NDArray[np.float64], stride: float) -> NDArray[np.float64]:
    """Return a corner of the grid that most tiles lie on."""
    remainders = np.round(np.mod(corners, stride)).astype(np.int64)
    _, first, counts = np.unique(remainders, axis=0, return_index=True, return_counts=True)
    return np.asarray(corners[first[np.argmax(counts)]])


def _most_common(values: NDArray[np.float64]) -> float:
    """Return the value that occurs most often, rounded; the smallest of several."""
    found, counts = np.unique(np.round(values), return_counts=True)
    return float(found[np.argmax(counts)])


def _nearest(cells: NDArray[np.int64], shifts: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark, of the tiles that want one cell, the one that lies nearest to it; the first of several."""
    far = np.abs(shifts).max(axis=1)
    order = np.lexsort((np.arange(len(cells)), far))
    _, first = np.unique(cells[order], axis=0, return_index=True)
    kept = np.zeros(len(cells), bool)
    kept[order[first]] = True
    return kept
