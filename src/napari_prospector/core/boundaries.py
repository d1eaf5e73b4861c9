"""Boundaries of the True cells of a mask, as closed rings along the borders of cells.

Cells belong together where they share a side (4 neighbours); the hole of one component may reach another one, or the
outside, through a corner. Where two cells of one component meet at a corner only, the ring does not pass through:
so no ring meets itself, and an outer ring with its holes is a polygon that every geometry library calls valid.
"""

# numba compiles these functions from their source: they index arrays where Python would iterate.
from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

from napari_prospector.core.checks import checked_cells

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Boundaries", "component_labels", "simplified_corners", "trace_boundaries"]


class Boundaries(NamedTuple):
    """The rings of all components.

    Attributes
    ----------
    corners
        Shape (n, 2) int32, (row, col) of the corners of all rings, one after the other: cell (0, 0) lies between
        corners (0, 0) and (1, 1). Only where a ring turns; the first is not repeated.
    starts
        Shape (n_rings + 1,) int64: where each ring begins in `corners`.
    owner
        Shape (n_rings,) int32: the component that a ring belongs to, 1 and up; its first ring is the outer one, all
        others are holes.
    """

    corners: NDArray[np.int32]
    starts: NDArray[np.int64]
    owner: NDArray[np.int32]


def component_labels(mask: ArrayLike) -> tuple[NDArray[np.int32], int]:
    """Return the component of each cell of a mask (rows, cols), 0 where it is False, and how many there are.

    Components are numbered by their first cell, row by row.
    """
    from scipy import ndimage

    labels, n_components = ndimage.label(checked_cells(mask), output=np.int32)
    return labels, int(n_components)


def trace_boundaries(labels: NDArray[np.int32]) -> Boundaries:
    """Return the rings around components.

    Parameters
    ----------
    labels
        Shape (rows, cols), as from `component_labels`: two components never share a side.

    Returns
    -------
    Boundaries

    Examples
    --------
    >>> import numpy as np
    >>> labels, _ = component_labels(np.array([[True, True], [True, False]]))
    >>> trace_boundaries(labels).corners.tolist()
    [[0, 0], [0, 2], [1, 2], [1, 1], [2, 1], [2, 0]]
    """
    framed = np.pad(labels, 1)
    inside = framed > 0
    # every corner lies on a side that runs up or down, and no such side has more than its two ends
    n_sides = int(np.count_nonzero(inside[:, 1:] != inside[:, :-1]))
    corners, starts, owner = _trace(framed, 2 * n_sides)
    return Boundaries(corners, starts, owner)


@njit(nogil=True, cache=True)
def _trace(
    labels: NDArray[np.int32], most_corners: int
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]:
    """Walk around components with the inside on the right hand; labels have a frame of zeros."""
    rows, cols = labels.shape
    down, right = (0, 1, 0, -1), (1, 0, -1, 0)  # heading to the right, down, left, up
    corners = np.empty((most_corners, 2), np.int32)
    starts = np.zeros(most_corners // 4 + 1, np.int64)
    owner = np.empty(most_corners // 4, np.int32)
    walked = np.zeros((rows, cols), np.bool_)  # the upper side of a cell
    n_corners = n_rings = 0
    for row in range(1, rows):
        for col in range(1, cols):
            label = labels[row, col]
            if label == 0 or labels[row - 1, col] > 0 or walked[row, col]:
                continue
            # (y, x) is the corner between cells (y - 1, x - 1) and (y, x); the first side is the leftmost of its run
            y, x, heading = row, col, 0
            while True:
                corners[n_corners, 0], corners[n_corners, 1] = y - 1, x - 1
                n_corners += 1
                turn = 0
                while turn == 0:
                    if heading == 0:
                        walked[y, x] = True
                    y, x = y + down[heading], x + right[heading]
                    # the cells ahead, on either hand
                    on_right = labels[y - (heading >= 2), x - (heading in {1, 2})]
                    on_left = labels[y - (heading in {0, 3}), x - (heading >= 2)]
                    if on_right == 0:
                        turn = 3 if on_left == label else 1
                    elif on_left > 0:
                        turn = 3
                heading = (heading + turn) % 4
                if y == row and x == col and heading == 0:
                    break
            owner[n_rings] = label
            n_rings += 1
            starts[n_rings] = n_corners
    return corners[:n_corners], starts[: n_rings + 1], owner[:n_rings]


def simplified_corners(bounds: Boundaries, tolerance: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say which corners of rings are enough to stay near all of them.

    Parameters
    ----------
    bounds
        Of `trace_boundaries`.
    tolerance
        Shape (n_rings,), in cells: no point of a simplified ring is farther from the ring that it stands for, and none
        of that ring farther from the simplified one. 0 keeps all corners.

    Returns
    -------
    NDArray[np.bool_]
        Shape (n,), the corners to keep. A ring of fewer than 3 of them encloses nothing any more, and rings may meet:
        who calls looks.

    Notes
    -----
    Douglas and Peucker's algorithm between two corners that stay, the first of a ring and the one farthest from it.
    """
    return np.asarray(_simplified(bounds.corners.astype(np.float64), bounds.starts, tolerance))


@njit(nogil=True, cache=True)
def _simplified(
    corners: NDArray[np.float64], starts: NDArray[np.int64], tolerance: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Mark the corners (n, 2) to keep, ring by ring."""
    kept = np.ones(corners.shape[0], np.bool_)
    waiting = np.empty((corners.shape[0] + 2, 2), np.int64)
    for ring in range(starts.size - 1):
        if tolerance[ring] <= 0:
            continue
        first, stop = starts[ring], starts[ring + 1]
        kept[first:stop] = False
        far = first + _farthest(corners, first, first, first, stop)[0]
        kept[first] = kept[far] = True
        n_waiting = 2
        waiting[0], waiting[1] = (first, far), (far, stop)  # stop stands for the first corner, come round
        while n_waiting:
            n_waiting -= 1
            begin, end = waiting[n_waiting]
            last = first if end == stop else end
            place, distance = _farthest(corners, begin, last, begin + 1, end)
            if distance > tolerance[ring] ** 2:
                middle = begin + 1 + place
                kept[middle] = True
                waiting[n_waiting] = (begin, middle)
                waiting[n_waiting + 1] = (middle, end)
                n_waiting += 2
    return kept


@njit(nogil=True, cache=True)
def _farthest(corners: NDArray[np.float64], begin: int, last: int, low: int, high: int) -> tuple[int, float]:
    """Return which of the corners low ... high lies farthest from the side begin-last, and its squared distance."""
    row, col = corners[begin]
    along_row, along_col = corners[last, 0] - row, corners[last, 1] - col
    length = along_row**2 + along_col**2
    place, most = 0, -1.0
    for corner in range(low, high):
        away_row, away_col = corners[corner, 0] - row, corners[corner, 1] - col
        share = 0.0
        if length > 0:
            share = min(max((away_row * along_row + away_col * along_col) / length, 0.0), 1.0)
        distance = (away_row - share * along_row) ** 2 + (away_col - share * along_col) ** 2
        if distance > most:
            place, most = corner - low, distance
    return place, most
