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

__all__ = ["chain_adjacency", "edge_adjacency", "lattice_adjacency", "subset_adjacency", "transposed"]


def lattice_adjacency(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """8-neighbour lattice over the True cells of mask (rows, cols), numbered row by row: (indptr, indices)."""
    touching = (
        (mask[:, 1:], mask[:, :-1]),
        (mask[1:], mask[:-1]),
        (mask[1:, 1:], mask[:-1, :-1]),
        (mask[1:, :-1], mask[:-1, 1:]),
    )
    n_edges = sum(int(np.count_nonzero(one & other)) for one, other in touching)
    indptr, indices = _join_cells(mask, int(np.count_nonzero(mask)), 2 * n_edges)
    return indptr, indices


@njit(nogil=True, cache=True)
def _join_cells(mask: NDArray[np.bool_], n_tokens: int, n_directed: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Fill the adjacency of a lattice whose size is known."""
    rows, cols = mask.shape
    number = np.full((3, cols + 2), -1, np.int32)  # tokens of the rows above, here and below, with a border
    indptr = np.zeros(n_tokens + 1, np.int64)
    # Every neighbour is written and only those that exist are kept: there is no branch to mispredict at holes.
    indices = np.empty(n_directed + 1, np.int32)
    edge = n_numbered = token = 0
    for below in range(rows + 1):
        number[below % 3] = -1
        if below < rows:
            for col in range(cols):
                if mask[below, col]:
                    number[below % 3, col + 1] = n_numbered
                    n_numbered += 1
        if below == 0:
            continue
        for col in range(cols):
            if mask[below - 1, col]:
                for row in range(below - 2, below + 1):
                    line = number[row % 3]
                    for near in range(col, col + 3):
                        indices[edge] = line[near]
                        edge += line[near] >= 0 and line[near] != token
                token += 1
                indptr[token] = edge
    return indptr, indices[:n_directed]


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


@njit(nogil=True, cache=True)
def subset_adjacency(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], kept: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Adjacency among the tokens `kept` (n_kept,), ascending, numbered anew: (indptr, indices)."""
    number = np.full(indptr.size - 1, -1, np.int32)
    most = 0
    for token in range(kept.size):
        number[kept[token]] = token
        most += indptr[kept[token] + 1] - indptr[kept[token]]
    ends = np.zeros(kept.size + 1, np.int64)
    near = np.empty(most, np.int32)
    edge = 0
    for token in range(kept.size):
        for place in range(indptr[kept[token]], indptr[kept[token] + 1]):
            other = number[indices[place]]
            if other >= 0:
                near[edge] = other
                edge += 1
        ends[token + 1] = edge
    return ends, near[:edge].copy()
