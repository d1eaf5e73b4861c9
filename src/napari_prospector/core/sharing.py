"""Scores shared between neighbours: what a token hears of those around it, by a learned amount."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from napari_prospector.core.graph import TokenGraph
from napari_prospector.errors import InvalidInputError

__all__ = ["neighbour_mean", "share_scores"]


def neighbour_mean(graph: TokenGraph, values: ArrayLike) -> NDArray[np.float64]:
    """Average over the direct neighbours of every token, the token itself left out.

    Parameters
    ----------
    graph
        Its edges say who is a neighbour.
    values
        Shape (n_tokens,) or (n_tokens, n_columns).

    Returns
    -------
    NDArray[np.float64]
        Shape of `values`; a token without neighbours keeps its own value.
    """
    own = np.asarray(values, dtype=np.float64)
    edges = np.ones(graph.indices.size)
    adjacency = csr_array((edges, graph.indices, graph.indptr), shape=(graph.n_tokens, graph.n_tokens))
    degree = np.diff(graph.indptr).astype(np.float64)
    if own.ndim == 2:
        degree = degree[:, None]
    return np.where(degree > 0, (adjacency @ own) / np.maximum(degree, 1), own)


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
