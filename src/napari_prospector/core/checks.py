"""What the arrays of a token graph must hold: checked once, at the public door of `graph` and `neighbourhood`.

Every function returns the argument in the one form that the kernels take, or refuses it with what must
hold, what came and what to do.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from napari_prospector.core.adjacency import transposed
from napari_prospector.errors import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "checked_adjacency",
    "checked_cells",
    "checked_concepts",
    "checked_edges",
    "checked_embeddings",
    "checked_kernel",
    "checked_length",
    "checked_mask",
    "checked_positions",
    "checked_subset",
    "checked_whole",
    "refuse_repeated_edges",
]

_BLOCK_VALUES = 1 << 22
"""Values looked at in one go when searching for NaN: bounds the memory that the check takes."""
_MOST_TOKENS = 2**31 - 1
"""Tokens are numbered by int32 in the adjacency."""


def checked_whole(name: str, value: SupportsIndex, least: int) -> int:
    """Whole number >= least."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, (bool, np.bool_)):
        raise InvalidInputError(f"{name} must be a whole number >= {least}; got {value!r}.")
    return number


def checked_length(name: str, value: float) -> float:
    """Finite length > 0."""
    try:
        length = float(value)
    except (TypeError, ValueError):
        length = math.nan
    if not 0 < length < math.inf:
        raise InvalidInputError(f"{name} must be a finite length > 0, in the unit of the coordinates; got {value!r}.")
    return length


def checked_embeddings(
    embeddings: ArrayLike, n_tokens: int | None = None, counted: str = ""
) -> NDArray[np.floating[Any]]:
    """(n_tokens, n_dims) finite float16, float32 or float64; `counted` says what n_tokens was counted from."""
    vectors = np.asarray(embeddings)
    if vectors.dtype.kind in "biu":
        vectors = vectors.astype(np.float32)
    if vectors.dtype.kind != "f" or vectors.dtype.itemsize not in (2, 4, 8):
        raise InvalidInputError(
            f"embeddings must be float16, float32, float64 or whole numbers; got dtype {vectors.dtype}."
        )
    vectors = vectors.astype(vectors.dtype.newbyteorder("="), copy=False)
    if vectors.ndim != 2 or 0 in vectors.shape:
        fix = " Pass one vector as embeddings[None]." if vectors.ndim == 1 and vectors.size else ""
        raise InvalidInputError(
            f"embeddings must have shape (n_tokens, n_dims) with at least one token and one dimension; "
            f"got {vectors.shape}.{fix}"
        )
    if n_tokens is not None and len(vectors) != n_tokens:
        raise InvalidInputError(
            f"embeddings must have shape ({n_tokens}, n_dims), one row for each of {counted}; got {vectors.shape}."
        )
    if len(vectors) > _MOST_TOKENS:
        raise InvalidInputError(f"A graph holds at most {_MOST_TOKENS} tokens; got {len(vectors)}. Split the datum.")
    _refuse_unfinite("embeddings", vectors)
    return vectors


def _refuse_unfinite(name: str, rows: NDArray[np.floating[Any]]) -> None:
    """Refuse NaN and inf, saying how many rows hold them and which is the first."""
    step = max(1, _BLOCK_VALUES // rows.shape[1])
    broken: list[int] = []
    for start in range(0, len(rows), step):
        finite = np.isfinite(rows[start : start + step])
        if not finite.all():
            broken.extend((start + np.flatnonzero(~finite.all(axis=1))).tolist())
    if broken:
        raise InvalidInputError(
            f"{name} must be finite; {len(broken)} of {len(rows)} tokens hold NaN or infinity, the first is token "
            f"{broken[0]}. Leave these tokens out, or make their {name} again."
        )


def checked_positions(positions: ArrayLike, n_tokens: int, name: str = "positions") -> NDArray[np.float64]:
    """(n_tokens, n_axes) finite float64."""
    places = np.asarray(positions)
    if places.dtype.kind not in "biuf" or places.ndim != 2 or len(places) != n_tokens or places.shape[1] == 0:
        raise InvalidInputError(
            f"{name} must be numbers of shape ({n_tokens}, n_axes), one row a token; "
            f"got {places.dtype} of shape {places.shape}."
        )
    places = np.ascontiguousarray(places, dtype=np.float64)
    _refuse_unfinite(name, places)
    return places


def checked_cells(mask: ArrayLike) -> NDArray[np.bool_]:
    """(rows, cols) bool."""
    cells = np.asarray(mask)
    if cells.dtype != np.bool_ or cells.ndim != 2:
        raise InvalidInputError(
            f"mask must be bool of shape (rows, cols); got {cells.dtype} of shape {cells.shape}. "
            f"Pass a condition such as coverage > 0.25."
        )
    return np.ascontiguousarray(cells)


def checked_mask(mask: ArrayLike) -> NDArray[np.bool_]:
    """(rows, cols) bool with a True cell at least."""
    cells = checked_cells(mask)
    if not cells.any():
        raise InvalidInputError(
            f"mask must have a True cell at least, or there is no token; all {cells.size} cells of shape "
            f"{cells.shape} are False. Look at the tissue mask."
        )
    return cells


def checked_edges(edges: ArrayLike, n_tokens: int) -> NDArray[np.int64]:
    """(n_edges, 2) int64 within 0 ... n_tokens - 1, no self loops."""
    pairs = np.asarray(edges)
    if pairs.size == 0 and pairs.ndim in (1, 2):
        return np.empty((0, 2), np.int64)
    if pairs.dtype.kind not in "iu" or pairs.ndim != 2 or pairs.shape[1] != 2:
        raise InvalidInputError(
            f"edges must be integers of shape (n_edges, 2); got {pairs.dtype} of shape {pairs.shape}."
            + (" Pass edges.T." if pairs.ndim == 2 and pairs.shape[0] == 2 else "")
        )
    outside = (pairs < 0) | (pairs >= n_tokens)
    if outside.any():
        row = int(np.flatnonzero(outside.any(axis=1))[0])
        raise InvalidInputError(
            f"edges must join tokens 0 ... {n_tokens - 1}; edges[{row}] is ({pairs[row, 0]}, {pairs[row, 1]})."
        )
    pairs = np.ascontiguousarray(pairs, dtype=np.int64)
    loops = np.flatnonzero(pairs[:, 0] == pairs[:, 1])
    if loops.size:
        raise InvalidInputError(
            f"edges must join two different tokens; edges[{loops[0]}] joins token {pairs[loops[0], 0]} to itself. "
            f"Drop it: every token is within 0 hops of itself already."
        )
    return pairs


def refuse_repeated_edges(pairs: NDArray[np.int64], indptr: NDArray[np.int64], indices: NDArray[np.int32]) -> None:
    """Refuse edges (n_edges, 2) that name a pair twice, in either direction; rows of indices ascend."""
    again = np.flatnonzero(indices[1:] == indices[:-1])
    starts = np.searchsorted(indptr, again + 1, side="right") - 1
    inside = again[starts == np.searchsorted(indptr, again, side="right") - 1]
    if inside.size:
        first = int(np.searchsorted(indptr, inside[0], side="right") - 1)
        second = int(indices[inside[0]])
        same = np.flatnonzero((np.sort(pairs, axis=1) == (first, second)).all(axis=1))
        raise InvalidInputError(
            f"edges must name each pair once, in one direction; ({first}, {second}) comes {same.size} times, "
            f"as edges[{same[0]}] and edges[{same[1]}]. Pass np.unique(np.sort(edges, axis=1), axis=0)."
        )


def checked_adjacency(
    indptr: ArrayLike, indices: ArrayLike, n_tokens: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Undirected CSR without self loops or repeats, rows ascending: (n_tokens + 1,) int64, (2 n_edges,) int32."""
    starts, others = np.asarray(indptr), np.asarray(indices)
    if starts.dtype.kind not in "iu" or starts.shape != (n_tokens + 1,):
        raise InvalidInputError(
            f"indptr must be integers of shape ({n_tokens + 1},), one more than tokens; "
            f"got {starts.dtype} of shape {starts.shape}."
        )
    if others.ndim != 1 or (others.size and others.dtype.kind not in "iu"):
        raise InvalidInputError(
            f"indices must be integers of shape (2 n_edges,); got {others.dtype} of shape {others.shape}."
        )
    if starts[0] != 0 or starts[-1] != others.size or (np.diff(starts.astype(np.int64)) < 0).any():
        raise InvalidInputError(
            f"indptr must rise from 0 to the {others.size} indices; it goes from {starts[0]} to {starts[-1]}."
        )
    if others.size and not (0 <= others.min() and others.max() < n_tokens):
        raise InvalidInputError(f"indices must lie in 0 ... {n_tokens - 1}; got {others.min()} ... {others.max()}.")
    starts = np.ascontiguousarray(starts, dtype=np.int64)
    others = np.ascontiguousarray(others, dtype=np.int32)
    rows = np.repeat(np.arange(n_tokens), np.diff(starts))
    falls = (np.diff(others) <= 0) & (np.diff(rows) == 0)
    if falls.any() or (rows == others).any() or not np.array_equal(transposed(starts, others)[1], others):
        raise InvalidInputError(
            "indptr and indices must be an undirected graph: each edge in both rows, rows ascending, no self loops, "
            "no repeats; they are not. Build it with TokenGraph.from_edges(edges, embeddings)."
        )
    return starts, others


def checked_subset(tokens: ArrayLike, n_tokens: int) -> NDArray[np.int64]:
    """Ascending numbers (n_kept,) int64 of at least one of n_tokens tokens, from numbers or (n_tokens,) bool."""
    chosen = np.asarray(tokens)
    if chosen.dtype == np.bool_ and chosen.shape == (n_tokens,):
        chosen = np.flatnonzero(chosen)
    if chosen.dtype.kind not in "iu" or chosen.ndim != 1 or not chosen.size:
        raise InvalidInputError(
            f"tokens must be numbers of at least one token, or bool of shape ({n_tokens},) with one True; "
            f"got {chosen.dtype} of shape {chosen.shape}."
        )
    numbers = chosen.astype(np.int64)
    if numbers[0] < 0 or numbers[-1] >= n_tokens or (np.diff(numbers) <= 0).any():
        raise InvalidInputError(
            f"tokens must ascend within 0 ... {n_tokens - 1}, each once; got {chosen[:5].tolist()} ... "
            f"{chosen[-1]}. Pass np.unique(tokens)."
        )
    return numbers


def checked_concepts(concepts: ArrayLike, n_concepts: int, n_tokens: int) -> NDArray[np.int32]:
    """(n_tokens,) int32 within 0 ... n_concepts - 1; read-only, as the arrays of a graph: one type to compile for."""
    ids = np.asarray(concepts)
    if ids.dtype.kind not in "iu" or ids.shape != (n_tokens,):
        raise InvalidInputError(
            f"concepts must be integers of shape ({n_tokens},), one a token; got {ids.dtype} of shape {ids.shape}."
        )
    least, most = int(ids.min()), int(ids.max())
    if least < 0 or most >= n_concepts:
        token = int(np.flatnonzero((ids < 0) | (ids >= n_concepts))[0])
        raise InvalidInputError(
            f"concepts must lie in 0 ... {n_concepts - 1}, as n_concepts is {n_concepts}; "
            f"got {ids[token]} at token {token}."
        )
    view = np.ascontiguousarray(ids, dtype=np.int32).view()
    view.flags.writeable = False
    return view


def checked_kernel(kernel: ArrayLike, radius: int) -> tuple[NDArray[np.float64], int]:
    """Finite float64 kernel and the number of concepts K that its length stands for at this radius."""
    weights = np.asarray(kernel)
    if weights.dtype.kind not in "biuf" or weights.ndim != 1 or weights.size == 0:
        raise InvalidInputError(f"kernel must be numbers of shape (p,); got {weights.dtype} of shape {weights.shape}.")
    n_concepts = weights.size if radius == 0 else _concepts_of(weights.size)
    weights = np.array(weights, dtype=np.float64)
    if not np.isfinite(weights).all():
        raise InvalidInputError(
            f"kernel must be finite; kernel[{np.flatnonzero(~np.isfinite(weights))[0]}] is not. Fit it again."
        )
    return weights, n_concepts


def _concepts_of(n_features: int) -> int:
    """Invert n_features = K + K (K + 1) / 2."""
    n_concepts = max(1, (math.isqrt(8 * n_features + 9) - 3) // 2)
    if n_concepts * (n_concepts + 3) // 2 != n_features:
        raise InvalidInputError(
            f"kernel must have length K + K (K + 1) / 2 for K concepts (2, 5, 9, 14, ...) where radius > 0; "
            f"got {n_features}. A kernel of K monograms alone belongs to radius 0."
        )
    return n_concepts
