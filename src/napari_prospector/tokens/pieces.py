"""Connected pieces of a mask by their size, in one pass over its runs: no array of labels is made."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["without_small_pieces"]

_jit = numba.njit(nogil=True, cache=True)


def without_small_pieces(mask: NDArray[np.bool_], least_cells: float, neighbours: int) -> NDArray[np.bool_]:
    """Drop the connected pieces of a mask that have fewer cells.

    Parameters
    ----------
    mask
        (rows, cols) bool.
    least_cells
        Smallest piece that stays.
    neighbours
        8: cells that touch at a corner belong together; 4: those that share a side.

    Returns
    -------
    ndarray
        (rows, cols) bool; `mask` itself where every piece is large enough by definition.

    Notes
    -----
    Runs of True along a row are joined with those of the row above by union-find (Rosenfeld and Pfaltz 1966, on runs),
    so that time goes with the outline of the pieces and memory with the number of runs.
    """
    if least_cells <= 1 or not mask.any():
        return mask
    kept = np.ascontiguousarray(mask).copy()
    _drop(kept.view(np.uint8), int(np.ceil(least_cells)), 1 if neighbours == 8 else 0)
    return kept


@_jit
def _root(parents: NDArray[np.int32], run: int) -> int:
    """Follow a run to the one that stands for its piece, and shorten the way."""
    while parents[run] != run:
        parents[run] = parents[parents[run]]
        run = parents[run]
    return run


@_jit
def _count_runs(mask: NDArray[np.uint8]) -> int:
    """Count the runs of ones along rows."""
    n_runs = 0
    for row in range(mask.shape[0]):
        before = np.uint8(0)
        for col in range(mask.shape[1]):
            n_runs += mask[row, col] & (before ^ 1)
            before = mask[row, col]
    return n_runs


@_jit
def _drop(mask: NDArray[np.uint8], least: int, reach: int) -> None:
    """Clear small pieces of a mask (rows, cols) of 0 and 1; `reach` 1 joins runs that touch at a corner."""
    rows, cols = mask.shape
    n_runs = _count_runs(mask)
    starts, stops = np.empty(n_runs, np.int32), np.empty(n_runs, np.int32)
    parents, sizes = np.empty(n_runs, np.int32), np.zeros(n_runs, np.int64)
    firsts = np.zeros(rows + 1, np.int64)
    run, above, above_stop = 0, 0, 0
    for row in range(rows):
        firsts[row] = run
        col = 0
        while col < cols:
            if not mask[row, col]:
                col += 1
                continue
            start = col
            while col < cols and mask[row, col]:
                col += 1
            starts[run], stops[run], parents[run] = start, col, run
            while above < above_stop and stops[above] + reach <= start:
                above += 1
            other = above
            while other < above_stop and starts[other] < col + reach:
                one, two = _root(parents, run), _root(parents, other)
                parents[max(one, two)] = min(one, two)
                other += 1
            run += 1
        above, above_stop = firsts[row], run
    firsts[rows] = run
    for run in range(n_runs):
        sizes[_root(parents, run)] += stops[run] - starts[run]
    for row in range(rows):
        for run in range(firsts[row], firsts[row + 1]):
            if sizes[_root(parents, run)] < least:
                mask[row, starts[run] : stops[run]] = 0
