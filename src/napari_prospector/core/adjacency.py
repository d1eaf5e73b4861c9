"""Adjacency of token graphs in CSR form: undirected, without self loops, every row ascending.

All three builders are linear in tokens and edges. Nothing here checks what a user passed; `graph` does.
"""

# numba compiles these functions from their source: they index arrays where Python would iterate.
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["chain_adjacency", "edge_adjacency", "lattice_adjacency", "transposed"]


@njit(nogil=True, cache=True)
def lattice_adjacency(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """8-neighbour lattice over the True cells of mask (rows, cols), numbered row by row: (indptr, indices)."""
    rows, cols = mask.shape
    number = np.full((3, cols + 2), -1, np.int32)  # tokens of the rows above, here and below, with a border
    n_tokens = mask.sum()
    indptr = np.zeros(n_tokens + 1, np.int64)
    indices = np.empty(8 * n_tokens, np.int32)
    n_numbered = n_edges = token = 0
    for below in range(rows + 1):
        line = number[below % 3]
        line[:] = -1
        if below < rows:
            for col in range(cols):
                if mask[below, col]:
                    line[col + 1] = n_numbered
                    n_numbered += 1
        for col in range(cols if below > 0 else 0):
            if not mask[below - 1, col]:
                continue
            for row in range(below - 2, below + 1):
                for near in range(col, col + 3):
                    other = number[row % 3, near]
                    if other >= 0 and other != token:
                        indices[n_edges] = other
                        n_edges += 1
            token += 1
            indptr[token] = n_edges
    return indptr, indices[:n_edges].copy()


@njit(nogil=True, cache=True)
def chain_adjacency(n_tokens: int, reach: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Every token joined to the `reach` tokens before it and after it: (indptr, indices)."""
    indptr = np.zeros(n_tokens + 1, np.int64)
    for token in range(n_tokens):
        indptr[token + 1] = indptr[token] + min(token, reach) + min(n_tokens - 1 - token, reach)
    indices = np.empty(indptr[n_tokens], np.int32)
    edge = 0
    for token in range(n_tokens):
        for other in range(max(0, token - reach), min(n_tokens, token + reach + 1)):
            if other != token:
                indices[edge] = other
                edge += 1
    return indptr, indices


@njit(nogil=True, cache=True)
def transposed(indptr: NDArray[np.int64], indices: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """CSR of the transposed matrix; its rows ascend, whatever the order within the rows that came."""
    n_tokens = indptr.size - 1
    turned = np.zeros(n_tokens + 1, np.int64)
    for edge in range(indices.size):
        turned[indices[edge] + 1] += 1
    for token in range(n_tokens):
        turned[token + 1] += turned[token]
    place = turned[:-1].copy()
    sources = np.empty(indices.size, np.int32)
    for token in range(n_tokens):
        for edge in range(indptr[token], indptr[token + 1]):
            sources[place[indices[edge]]] = token
            place[indices[edge]] += 1
    return turned, sources


@njit(nogil=True, cache=True)
def edge_adjacency(n_tokens: int, edges: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Both directions of edges (n_edges, 2): (indptr, indices). A pair that comes twice is kept twice."""
    indptr = np.zeros(n_tokens + 1, np.int64)
    for edge in range(edges.shape[0]):
        indptr[edges[edge, 0] + 1] += 1
        indptr[edges[edge, 1] + 1] += 1
    for token in range(n_tokens):
        indptr[token + 1] += indptr[token]
    place = indptr[:-1].copy()
    indices = np.empty(2 * edges.shape[0], np.int32)
    for edge in range(edges.shape[0]):
        for side in range(2):
            token = edges[edge, side]
            indices[place[token]] = edges[edge, 1 - side]
            place[token] += 1
    # The matrix is symmetric: transposing changes nothing but the order within each row.
    return transposed(indptr, indices)
