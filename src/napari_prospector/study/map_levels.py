"""Coarser levels of maps at grid resolution: means of scores, the most frequent of concepts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["COARSEST", "MEAN", "MOST_FREQUENT", "label_levels", "n_levels", "score_levels"]

# the coarsest level has at most this many cells a side
COARSEST = 256
# cells that are looked at in one step, so that a large map needs little more memory than itself
_BAND_CELLS = 4 * 2**20

MEAN = "A cell is the mean of the scores of all tokens below it; NaN where there is none."
MOST_FREQUENT = (
    "A cell is the most frequent of the (up to four) concepts below it on the next finer level; of several as frequent"
    " the lowest; 0 where there is none."
)


def n_levels(shape: tuple[int, ...]) -> int:
    """Return how many levels a map of (rows, cols) has, itself among them; each halves the one before, rounded up."""
    count, longest = 1, max(shape)
    while longest > COARSEST:
        count, longest = count + 1, -(-longest // 2)
    return count


def score_levels(scores: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Yield a map and its coarser levels, finest first.

    Parameters
    ----------
    scores
        Shape (rows, cols); NaN where there is no token.

    Yields
    ------
    NDArray[np.float32]
        The map; then means over squares of 2, 4, 8, … tokens a side, as `MEAN` says.
    """
    yield scores
    more = n_levels(scores.shape) - 1
    if not more:
        return
    bands = [(_pooled(np.nan_to_num(band, nan=0.0)), _pooled(~np.isnan(band))) for band in _bands(scores)]
    sums, counts = (np.concatenate(parts) for parts in zip(*bands, strict=True))
    for level in range(more):
        if level:
            sums, counts = _pooled(sums), _pooled(counts)
        means = np.full(sums.shape, np.nan)
        yield np.divide(sums, counts, out=means, where=counts > 0).astype(np.float32)


def label_levels(labels: NDArray[np.unsignedinteger[Any]]) -> Iterator[NDArray[np.unsignedinteger[Any]]]:
    """Yield labels and their coarser levels, finest first.

    Parameters
    ----------
    labels
        Shape (rows, cols); 0 where there is no token.

    Yields
    ------
    NDArray
        The labels; then levels as `MOST_FREQUENT` says. A cell is 0 only where no token lies below it, as with
        `score_levels`.
    """
    yield labels
    for _ in range(n_levels(labels.shape) - 1):
        labels = np.concatenate([_most_frequent(band) for band in _bands(labels)])
        yield labels


def _bands(cells: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Cut cells (rows, cols) into bands of an even number of rows."""
    height = 2 * max(1, _BAND_CELLS // (2 * cells.shape[1]))
    for start in range(0, cells.shape[0], height):
        yield cells[start : start + height]


def _pooled(cells: NDArray[Any]) -> NDArray[np.float64]:
    """Return the sums over squares of 2 x 2 cells; at the last row and column of an odd number, over what is there."""
    rows, cols = (np.arange(0, length, 2) for length in cells.shape)
    by_rows = np.add.reduceat(cells, rows, axis=0, dtype=np.float64)
    return np.asarray(np.add.reduceat(by_rows, cols, axis=1))


def _most_frequent(labels: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.unsignedinteger[Any]]:
    """Return the most frequent label of squares of 2 x 2 cells; see `MOST_FREQUENT`."""
    rows, cols = labels.shape
    even = np.pad(labels, ((0, rows % 2), (0, cols % 2)))
    four = np.sort(np.stack([even[row::2, col::2] for row in (0, 1) for col in (0, 1)]), axis=0)
    votes = sum((four == other).astype(np.uint8) for other in four) * (four > 0)
    return np.asarray(np.take_along_axis(four, votes.argmax(axis=0)[None], axis=0)[0])
