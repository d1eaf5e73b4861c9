"""Token graphs, and what lies within a few hops of a token.

A `TokenGraph` holds the tokens of one datum (slide, structure, document): their embeddings, their
positions and the edges between them. `count` turns it into the features of the datum, `convolve` into
its prospect map; both count hops along edges, so a hole in the tissue is a hole.

Source: Machiraju et al., *Prospector heads*, ICML 2024, arXiv 2402.11729, sections 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_prospector.core import adjacency
from napari_prospector.core.checks import (
    checked_adjacency,
    checked_edges,
    checked_embeddings,
    checked_length,
    checked_mask,
    checked_positions,
    checked_subset,
    checked_whole,
    refuse_repeated_edges,
)
from napari_prospector.core.neighbourhood import ball, convolve, count, n_features, neighbour_counts
from napari_prospector.errors import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "TokenGraph",
    "ball",
    "chain_graph",
    "convolve",
    "count",
    "grid_graph",
    "join_graphs",
    "n_features",
    "neighbour_counts",
    "radius_graph",
]


@dataclass(frozen=True, eq=False)
class TokenGraph:
    """The tokens of one datum and the edges between them.

    Parameters
    ----------
    embeddings
        (n_tokens, n_dims) float16, float32 or float64, finite. Whole numbers become float32. Not copied.
    positions
        (n_tokens, n_axes) float64, in whatever unit the builder states.
    indptr, indices
        Adjacency in CSR form, (n_tokens + 1,) int64 and (2 n_edges,) int32: undirected, no self loops,
        each row ascending.
    mask
        (rows, cols) bool where the graph is the full 8-neighbour lattice over the True cells, numbered
        row by row; else None. It lets `count` and `convolve` take a faster path to the same numbers.

    Raises
    ------
    InvalidInputError
        If the arrays do not describe such a graph.

    See Also
    --------
    grid_graph, radius_graph, chain_graph, TokenGraph.from_edges : they build the adjacency.

    Examples
    --------
    >>> import numpy as np
    >>> g = TokenGraph.from_edges([[0, 1], [1, 2]], np.ones((3, 5), np.float32))
    >>> g.indices.tolist()
    [1, 0, 2, 1]
    """

    embeddings: NDArray[np.floating[Any]]
    positions: NDArray[np.float64]
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    mask: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        """Check all five arrays and keep read-only views of them."""
        embeddings = checked_embeddings(self.embeddings)
        indptr, indices = checked_adjacency(self.indptr, self.indices, len(embeddings))
        mask = None if self.mask is None else checked_mask(self.mask)
        if mask is not None:
            lattice = adjacency.lattice_adjacency(mask)
            if not (np.array_equal(lattice[0], indptr) and np.array_equal(lattice[1], indices)):
                raise InvalidInputError(
                    f"mask must be given only for the full 8-neighbour lattice over its {mask.sum()} True cells; "
                    f"indptr and indices are another graph, of {len(embeddings)} tokens. Omit it, or use grid_graph."
                )
        self._keep(embeddings, checked_positions(self.positions, len(embeddings)), indptr, indices, mask)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make read-only again what copies and other processes receive writeable."""
        self._keep(**state)

    def _keep(
        self,
        embeddings: NDArray[np.floating[Any]],
        positions: NDArray[np.float64],
        indptr: NDArray[np.int64],
        indices: NDArray[np.int32],
        mask: NDArray[np.bool_] | None,
    ) -> None:
        """Store read-only views of arrays that are known to be sound."""
        parts = {"embeddings": embeddings, "positions": positions, "indptr": indptr, "indices": indices, "mask": mask}
        for name, array in parts.items():
            view = None if array is None else array.view()
            if view is not None:
                view.flags.writeable = False
            object.__setattr__(self, name, view)

    @classmethod
    def _sound(
        cls,
        embeddings: NDArray[np.floating[Any]],
        positions: NDArray[np.float64],
        neighbours: tuple[NDArray[np.int64], NDArray[np.int32]],
        mask: NDArray[np.bool_] | None = None,
    ) -> TokenGraph:
        """Graph of arrays that a builder has already checked or made."""
        graph = cls.__new__(cls)
        graph._keep(embeddings, positions, *neighbours, mask)
        return graph

    @classmethod
    def from_edges(cls, edges: ArrayLike, embeddings: ArrayLike, positions: ArrayLike | None = None) -> TokenGraph:
        """Graph of any edges.

        Parameters
        ----------
        edges
            (n_edges, 2) integers: undirected, each pair once, no token joined to itself. May be empty.
        embeddings
            (n_tokens, n_dims).
        positions
            (n_tokens, n_axes); default: the token's number.

        Returns
        -------
        TokenGraph

        Raises
        ------
        InvalidInputError
            If an edge leaves the tokens, joins a token to itself or comes twice.
        """
        embeddings = checked_embeddings(embeddings)
        n_tokens = len(embeddings)
        pairs = checked_edges(edges, n_tokens)
        neighbours = adjacency.edge_adjacency(n_tokens, pairs)
        refuse_repeated_edges(pairs, *neighbours)
        places = np.arange(n_tokens)[:, None] if positions is None else positions
        return cls._sound(embeddings, checked_positions(places, n_tokens), neighbours)

    @property
    def n_tokens(self) -> int:
        """Number of tokens."""
        return len(self.embeddings)

    @property
    def n_dims(self) -> int:
        """Length of a token's embedding."""
        return int(self.embeddings.shape[1])

    @property
    def n_edges(self) -> int:
        """Number of undirected edges."""
        return self.indices.size // 2

    def with_embeddings(self, embeddings: ArrayLike) -> TokenGraph:
        """Return the same graph with other embeddings (n_tokens, any n_dims)."""
        checked = checked_embeddings(embeddings, self.n_tokens, "the tokens of this graph")
        return TokenGraph._sound(checked, self.positions, (self.indptr, self.indices), self.mask)

    def subset(self, tokens: ArrayLike) -> TokenGraph:
        """Return the graph of some of the tokens, with the edges between them; what is left out is a hole.

        Parameters
        ----------
        tokens
            Their numbers, ascending, or (n_tokens,) bool.

        Returns
        -------
        TokenGraph
            Tokens in the same order, positions as they are. A mask is kept, cut to the rows and columns that hold them.

        Raises
        ------
        InvalidInputError
            If there is no token, or numbers do not ascend or name no token.

        Examples
        --------
        >>> import numpy as np
        >>> chain_graph(np.ones((5, 3)), reach=1).subset([0, 1, 4]).indices.tolist()
        [1, 0]
        """
        kept = checked_subset(tokens, self.n_tokens)
        positions, embeddings = self.positions[kept], self.embeddings[kept]
        if self.mask is not None:
            cells = np.zeros_like(self.mask)
            cells[tuple(np.argwhere(self.mask)[kept].T)] = True
            rows, cols = np.flatnonzero(cells.any(axis=1)), np.flatnonzero(cells.any(axis=0))
            cells = cells[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1].copy()
            return TokenGraph._sound(embeddings, positions, adjacency.lattice_adjacency(cells), cells)
        return TokenGraph._sound(embeddings, positions, adjacency.subset_adjacency(self.indptr, self.indices, kept))


def grid_graph(mask: ArrayLike, embeddings: ArrayLike, positions: ArrayLike | None = None) -> TokenGraph:
    """Lattice of 8 neighbours over the True cells of a mask.

    Parameters
    ----------
    mask
        (rows, cols) bool: where there is a token. A hole is a hole: hops go around it.
    embeddings
        (n_tokens, n_dims), row by row over the True cells.
    positions
        (n_tokens, n_axes); default: (row, col) of each cell.

    Returns
    -------
    TokenGraph

    Raises
    ------
    InvalidInputError
        If mask is not a 2-D bool array, holds no token, or does not match the embeddings.

    Examples
    --------
    >>> import numpy as np
    >>> grid_graph(np.ones((2, 3), bool), np.ones((6, 5))).n_edges
    11
    """
    cells = checked_mask(mask)
    checked = checked_embeddings(embeddings, int(cells.sum()), "the True cells of mask")
    if positions is None:
        places = np.argwhere(cells).astype(np.float64)
    else:
        places = checked_positions(positions, len(checked))
    own = cells.copy()  # the caller may go on drawing in the mask
    return TokenGraph._sound(checked, places, adjacency.lattice_adjacency(own), own)


def radius_graph(coords: ArrayLike, cutoff: float, embeddings: ArrayLike) -> TokenGraph:
    """Join the tokens that are at most `cutoff` apart.

    Parameters
    ----------
    coords
        (n_tokens, 2) or (n_tokens, 3), finite; they become the positions.
    cutoff
        Largest distance of an edge (inclusive), > 0, in the unit of coords.
    embeddings
        (n_tokens, n_dims).

    Returns
    -------
    TokenGraph

    Raises
    ------
    InvalidInputError
        If coords or cutoff are not such, or do not match the embeddings.

    Examples
    --------
    >>> import numpy as np
    >>> radius_graph([[0.0, 0.0], [3.0, 4.0], [6.0, 8.1]], 5.0, np.ones((3, 2))).n_edges
    1
    """
    from scipy.spatial import cKDTree

    checked = checked_embeddings(embeddings)
    places = checked_positions(coords, len(checked), "coords")
    limit = checked_length("cutoff", cutoff)
    if places.shape[1] not in (2, 3):
        raise InvalidInputError(
            f"coords must have shape (n_tokens, 2) or (n_tokens, 3); got {places.shape}. Pass one point a token."
        )
    pairs = cKDTree(places).query_pairs(limit, output_type="ndarray").astype(np.int64, copy=False)
    return TokenGraph._sound(checked, places, adjacency.edge_adjacency(len(checked), pairs))


def chain_graph(embeddings: ArrayLike, reach: int = 2) -> TokenGraph:
    """Join every token to the `reach` tokens before and after it, as sentences in a document.

    Parameters
    ----------
    embeddings
        (n_tokens, n_dims), in reading order.
    reach
        How many tokens on either side, >= 1.

    Returns
    -------
    TokenGraph
        positions (n_tokens, 1): the token's number.

    Raises
    ------
    InvalidInputError
        If reach is not a whole number >= 1.

    Examples
    --------
    >>> import numpy as np
    >>> chain_graph(np.ones((5, 3)), reach=2).n_edges
    7
    """
    checked = checked_embeddings(embeddings)
    steps = min(checked_whole("reach", reach, 1), len(checked))
    places = np.arange(len(checked), dtype=np.float64)[:, None]
    return TokenGraph._sound(checked, places, adjacency.chain_adjacency(len(checked), steps))


def join_graphs(graphs: Sequence[TokenGraph]) -> TokenGraph:
    """Lay graphs side by side as one, without an edge between them: several slides of one patient, for example.

    Counts of the whole are the sum of the counts of its parts, and its maps are their maps, one after the other.

    Parameters
    ----------
    graphs
        At least one; embeddings of one width, positions of one number of axes.

    Returns
    -------
    TokenGraph
        Its tokens are those of the first graph, then of the second and so on. positions (n_tokens, 1 + n_axes): the
        number of the graph, then the position in it. mask: the masks one below the other, an empty row between
        them, where all graphs have one; else None.

    Raises
    ------
    InvalidInputError
        If there is no graph, or widths or numbers of axes differ.

    Examples
    --------
    >>> import numpy as np
    >>> both = join_graphs([chain_graph(np.ones((3, 2)), reach=1), chain_graph(np.ones((2, 2)))])
    >>> both.n_tokens, both.n_edges, both.positions[-1].tolist()
    (5, 3, [1.0, 1.0])
    """
    if not graphs:
        raise InvalidInputError("graphs must hold at least one graph; got none.")
    for name in ("embeddings", "positions"):
        widths = sorted({getattr(graph, name).shape[1] for graph in graphs})
        if len(widths) > 1:
            raise InvalidInputError(f"graphs must have {name} of one width; got widths {widths}.")
    tokens_before = np.cumsum([0, *(graph.n_tokens for graph in graphs)]).tolist()
    edges_before = np.cumsum([0, *(graph.indices.size for graph in graphs)]).tolist()
    places = [
        np.column_stack([np.full(graph.n_tokens, float(number)), graph.positions])
        for number, graph in enumerate(graphs)
    ]
    # rows of the adjacency stay ascending: each graph's tokens are all shifted by the same amount
    ends = [graph.indptr[1:] + start for graph, start in zip(graphs, edges_before, strict=False)]
    near = [graph.indices + np.int32(start) for graph, start in zip(graphs, tokens_before, strict=False)]
    neighbours = np.concatenate([[0], *ends]).astype(np.int64), np.concatenate(near).astype(np.int32)
    embeddings = np.concatenate([graph.embeddings for graph in graphs])
    masks = [graph.mask for graph in graphs if graph.mask is not None]
    mask = _stacked(masks) if len(masks) == len(graphs) else None
    return TokenGraph._sound(embeddings, np.concatenate(places), neighbours, mask)


def _stacked(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Return masks (rows, cols) one below the other; the empty row between two keeps their lattices apart."""
    stacked = np.zeros((sum(len(mask) + 1 for mask in masks) - 1, max(mask.shape[1] for mask in masks)), dtype=bool)
    start = 0
    for mask in masks:
        stacked[start : start + len(mask), : mask.shape[1]] = mask
        start += len(mask) + 1
    return stacked
