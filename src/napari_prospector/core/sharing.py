"""Scores shared between neighbours: what a token hears of those around it, by a learned amount."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from napari_prospector.core.graph import TokenGraph
from napari_prospector.errors import InvalidInputError

__all__ = ["adjacency_matrix", "neighbour_mean", "share_scores"]


def adjacency_matrix(graph: TokenGraph, dtype: Any = np.float64) -> csr_array:
    """Return the adjacency (n_tokens, n_tokens) of a graph, 1 for an edge."""
    ones = np.ones(graph.indices.size, dtype=dtype)
    return csr_array((ones, graph.indices, graph.indptr), shape=(graph.n_tokens, graph.n_tokens))


def neighbour_mean(
    graph: TokenGraph, values: NDArray[np.floating[Any]], rows: NDArray[np.int64] | None = None
) -> NDArray[np.floating[Any]]:
    """Average over the direct neighbours of tokens, the token itself left out.

    Parameters
    ----------
    graph
        Its edges say who is a neighbour.
    values
        Shape (n_tokens,) or (n_tokens, n_columns).
    rows
        Shape (n_rows,): the tokens wanted. None: all.

    Returns
    -------
    NDArray[np.floating]
        Shape (n_rows,) or (n_rows, n_columns), of the type of `values`; a token without neighbours keeps its own value.
    """
    own = values if rows is None else values[rows]
    adjacency = adjacency_matrix(graph, values.dtype)
    degree = np.diff(graph.indptr).astype(values.dtype)
    if rows is not None:
        adjacency, degree = adjacency[rows], degree[rows]
    if values.ndim == 2:
        degree = degree[:, None]
    return np.asarray(np.where(degree > 0, (adjacency @ values) / np.maximum(degree, 1), own))


def share_scores(graph: TokenGraph, scores: ArrayLike, amount: float) -> NDArray[np.float64]:
    """Mix the score of every token with the mean of its direct neighbours.

    Parameters
    ----------
    graph
        Its edges say who is a neighbour.
    scores
        Shape (n_tokens,).
    amount
        Share of the neighbours, 0 … 1: 0 leaves scores as they are. On the grid, 8/9 is the mean over 3 × 3 tokens.

    Returns
    -------
    NDArray[np.float64]
        Shape (n_tokens,): (1 - amount) · own + amount · mean of the neighbours.

    Raises
    ------
    InvalidInputError
        If `amount` lies outside 0 … 1.
    """
    if not 0 <= amount <= 1:
        raise InvalidInputError(f"amount must lie between 0 and 1; got {amount!r}.")
    own = np.asarray(scores, dtype=np.float64)
    return own if amount == 0 else (1 - amount) * own + amount * neighbour_mean(graph, own)
