"""How much of each cell of a grid polygons cover: exact areas, in one walk along their sides.

Every side adds to the cells that it crosses the area between itself and the right border of the cell, signed by its
direction, and its height to all cells further right: the sums are the covered areas. It is how outline fonts are drawn
without jagged edges (M. Kallio's and FreeType's rasterizers), on a grid whose lines may lie anywhere.
"""

# numba compiles these functions from their source: they index arrays where Python would iterate.
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["box_areas", "covered_areas"]


def covered_areas(
    rings: Sequence[NDArray[np.float64]], row_lines: NDArray[np.float64], col_lines: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the area of each cell that rings enclose.

    Parameters
    ----------
    rings
        Each (n, 2), (row, col), last point not repeated. Outer rings run from rows to columns (positive by the shoelace
        formula row x col), holes the other way.
    row_lines, col_lines
        Ascending: the borders of the cells, one more than there are cells.

    Returns
    -------
    NDArray[np.float64]
        Shape (len(row_lines) - 1, len(col_lines) - 1), exact but for rounding.

    Examples
    --------
    >>> import numpy as np
    >>> ring = np.array([[0.5, 0], [2, 0], [2, 1.5], [0.5, 1.5]])
    >>> covered_areas([ring], np.arange(3.0), np.arange(3.0)).tolist()
    [[0.5, 0.25], [1.0, 0.5]]
    """
    sums = np.zeros((len(row_lines) - 1, len(col_lines) - 1))
    heights = np.zeros_like(sums)
    for ring in rings:
        _add_ring(np.ascontiguousarray(ring), row_lines, col_lines, sums, heights)
    # what a side adds to the cells right of its own
    further = np.cumsum(heights, axis=1)
    sums[:, 1:] += further[:, :-1] * np.diff(col_lines)[1:]
    return sums


def box_areas(
    rings: Sequence[NDArray[np.float64]],
    row_boxes: NDArray[np.float64],
    col_boxes: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the area of each box that rings enclose; boxes may overlap or leave gaps.

    Parameters
    ----------
    rings
        As in `covered_areas`.
    row_boxes, col_boxes
        (n, 2), start and stop of the boxes along each axis.

    Returns
    -------
    NDArray[np.float64]
        Shape (len(row_boxes), len(col_boxes)).
    """
    row_lines, col_lines = np.unique(row_boxes), np.unique(col_boxes)
    integral = np.zeros((len(row_lines), len(col_lines)))
    integral[1:, 1:] = covered_areas(rings, row_lines, col_lines).cumsum(axis=0).cumsum(axis=1)
    rows, cols = np.searchsorted(row_lines, row_boxes), np.searchsorted(col_lines, col_boxes)
    bands = integral[rows[:, 1]] - integral[rows[:, 0]]
    return np.asarray(bands[:, cols[:, 1]] - bands[:, cols[:, 0]])


@njit(nogil=True, cache=True)
def _add_ring(
    ring: NDArray[np.float64],
    row_lines: NDArray[np.float64],
    col_lines: NDArray[np.float64],
    sums: NDArray[np.float64],
    heights: NDArray[np.float64],
) -> None:
    """Add the sides of one ring to the sums (rows, cols) of areas and heights."""
    n_points, n_rows = ring.shape[0], sums.shape[0]
    for point in range(n_points):
        following = point + 1 if point + 1 < n_points else 0
        row_a, col_a, row_b, col_b = ring[point, 0], ring[point, 1], ring[following, 0], ring[following, 1]
        # a positive ring runs down its left sides, and it is these that add area to their right
        sign = 1.0
        if row_a > row_b:
            row_a, col_a, row_b, col_b, sign = row_b, col_b, row_a, col_a, -1.0
        if row_a == row_b or row_b <= row_lines[0] or row_a >= row_lines[n_rows]:
            continue
        row = max(int(np.searchsorted(row_lines, row_a, side="right")) - 1, 0)
        while row < n_rows and row_lines[row] < row_b:
            top, bottom = max(row_a, row_lines[row]), min(row_b, row_lines[row + 1])
            slope = (col_b - col_a) / (row_b - row_a)
            left = col_a if top == row_a else col_a + (top - row_a) * slope
            right = col_b if bottom == row_b else col_a + (bottom - row_a) * slope
            _add_side(sums[row], heights[row], col_lines, sign * (bottom - top), min(left, right), max(left, right))
            row += 1


@njit(nogil=True, cache=True)
def _add_side(
    sums: NDArray[np.float64],
    heights: NDArray[np.float64],
    col_lines: NDArray[np.float64],
    height: float,
    left: float,
    right: float,
) -> None:
    """Add a piece of a side that lies within one row of cells, between the columns left and right."""
    n_cols = sums.shape[0]
    first = col_lines[0]
    if left < first:  # what lies left of all cells has all of them on its right
        share = 1.0 if right <= first else (first - left) / (right - left)
        sums[0] += share * height * (col_lines[1] - first)
        heights[0] += share * height
    col = max(int(np.searchsorted(col_lines, left, side="right")) - 1, 0)
    while col < n_cols and col_lines[col] <= right and first <= right:
        start, stop = max(left, col_lines[col]), min(right, col_lines[col + 1])
        share = 1.0 if left == right else (stop - start) / (right - left)
        sums[col] += share * height * (col_lines[col + 1] - (start + stop) / 2)
        heights[col] += share * height
        if stop >= right:
            break
        col += 1
