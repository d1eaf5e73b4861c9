"""The nearest examples of one token in either class: what else looks like this, and in slides of which label.

Exactly among all tokens of a cohort (`nearest_tokens`, streaming), or at once among some of them that are held in
memory (`index_tokens`). How near two tokens are is measured where the head measures it (`core.conceptspace`).
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_prospector.core.conceptspace import ConceptSpace
from napari_prospector.core.head import ProspectorHead
from napari_prospector.errors import InvalidInputError
from napari_prospector.study.best_tokens import (
    BestTokens,
    Example,
    Grids,
    Progress,
    as_examples,
    check_whole,
    checked_grids,
    slide_mark,
    sorted_classes,
    stream_tokens,
)
from napari_prospector.tokens import gridfile
from napari_prospector.tokens.store import TokenGrid

__all__ = ["Example", "Query", "TokenIndex", "embedding_at", "index_tokens", "nearest_tokens"]

Query = ArrayLike | tuple[TokenGrid, int, int]
"""An embedding (n_dims,); or a token by its grid, row and col."""


def nearest_tokens(
    head: ProspectorHead,
    graphs: Grids,
    labels: Sequence[Hashable],
    query: Query,
    n: int = 6,
    not_of: str | None = None,
) -> Generator[Progress, None, dict[Hashable, tuple[Example, ...]]]:
    """Find the nearest tokens of each class, among all tokens of a cohort.

    Parameters
    ----------
    head, graphs, labels
        As for `typical_tokens`.
    query
        An embedding (n_dims,), or a token by its grid, row and col; that token itself is never among the answers.
    n
        Examples of each class.
    not_of
        Fingerprint of a slide whose tokens are left out (``grid.attrs["slide_fingerprint"]``).

    Yields
    ------
    Progress
        After each block.

    Returns
    -------
    dict
        For each class, sorted, its examples, the nearest first.

    Raises
    ------
    ProspectorError
        As `typical_tokens`; if there is no such token, or the embedding has not the width of the head's.
    """
    grids, classes = checked_grids(head, graphs, labels)
    check_whole("n", n)
    space = ConceptSpace(head.quantizer_)
    point, itself = _asked(space, query)
    kinds = sorted_classes(classes)
    left_out = _left_out(grids, not_of)
    best = BestTokens(len(kinds), n)
    concept_of: dict[tuple[int, int, int], int] = {}
    for slide, tokens, embeddings, progress in stream_tokens(grids, left_out):
        distances = np.linalg.norm(space.points(embeddings) - point, axis=1) if len(tokens) else np.empty(0)
        kind = kinds.index(classes[slide])
        near = np.flatnonzero(distances <= best.worst[kind])
        places = np.column_stack([np.full(len(near), slide), tokens[near]])
        if (own := itself.get(slide_mark(grids[slide]))) is not None:
            other = (places[:, 1:] != own).any(axis=1)
            near, places = near[other], places[other]
        if len(near):
            concept_of |= zip(map(tuple, places.tolist()), head.quantizer_.predict(embeddings[near]), strict=True)
            best.add(np.full(len(near), kind), distances[near], places)
        yield progress
    found = {}
    for number, name in enumerate(kinds):
        distances, places = best.of(number)
        concepts = [int(concept_of[tuple(place)]) for place in places.tolist()]
        found[name] = as_examples((distances, places), classes, concepts)
    return found


class TokenIndex:
    """Some tokens of a cohort in memory, so that their nearest are found at once; made by `index_tokens`.

    Attributes
    ----------
    n_tokens, nbytes
        How many there are, and what their points take in memory.
    """

    def __init__(
        self,
        head: ProspectorHead,
        points: NDArray[np.float32],
        places: NDArray[np.int64],
        concepts: NDArray[np.int32],
        slides: tuple[Sequence[str], tuple[Hashable, ...]],
    ) -> None:
        self._space = ConceptSpace(head.quantizer_)
        self._points, self._places, self._concepts = points, places, concepts
        self._marks, self._labels = slides
        self._squares = np.einsum("ij,ij->i", points, points)
        self.n_tokens, self.nbytes = len(points), points.nbytes

    def nearest(self, query: Query, n: int = 6, not_of: str | None = None) -> dict[Hashable, tuple[Example, ...]]:
        """Return the nearest tokens of each class among those of the index; as `nearest_tokens` does among all.

        Raises
        ------
        ProspectorError
            As `nearest_tokens`.
        """
        check_whole("n", n)
        point, itself = _asked(self._space, query)
        # the order of distances, fast; the nearest are then measured again without cancellation
        order = self._squares - 2 * (self._points @ point)
        for slide, mark in enumerate(self._marks):
            if mark == not_of:
                order[self._places[:, 0] == slide] = np.inf
            elif mark in itself:
                order[(self._places == (slide, *itself[mark])).all(axis=1)] = np.inf
        kinds = sorted_classes(self._labels)
        numbers = np.array([kinds.index(label) for label in self._labels])[self._places[:, 0]]
        found = {}
        for number, name in enumerate(kinds):
            members = np.flatnonzero((numbers == number) & np.isfinite(order))
            if len(members) > 4 * n:
                members = members[np.argpartition(order[members], 4 * n)[: 4 * n]]
            distances = np.linalg.norm(self._points[members] - point, axis=1)
            best = np.lexsort((*self._places[members].T[::-1], distances))[:n]
            chosen = members[best]
            found[name] = as_examples(
                (distances[best], self._places[chosen]), self._labels, self._concepts[chosen].tolist()
            )
        return found


def index_tokens(
    head: ProspectorHead,
    graphs: Grids,
    labels: Sequence[Hashable],
    n_tokens: int = 30_000,
    seed: int = 0,
) -> Generator[Progress, None, TokenIndex]:
    """Draw tokens evenly from all slides and keep them in memory; 30,000 of 384 dims take 46 MB.

    Parameters
    ----------
    head, graphs, labels
        As for `typical_tokens`.
    n_tokens
        Most of them. Each slide gives as many, or all that it has; at least one.
    seed
        The same seed draws the same tokens.

    Yields
    ------
    Progress
        After each block.

    Returns
    -------
    TokenIndex

    Raises
    ------
    ProspectorError
        As `typical_tokens`.
    """
    grids, classes = checked_grids(head, graphs, labels)
    check_whole("n_tokens", n_tokens)
    space = ConceptSpace(head.quantizer_)
    sizes: list[int] = []
    for grid in grids:
        sizes.append(int(grid.mask.sum()))
        yield 0, sum(one.geometry.rows * one.geometry.cols for one in grids)
    quota, current = _even_quota(sizes, n_tokens), -1
    points, places, concepts = [], [], []
    for slide, tokens, embeddings, progress in stream_tokens(grids):
        if slide != current:
            current, drawn = slide, _drawn(grids[slide].mask, quota, seed + slide)
        if len(tokens):
            chosen = drawn[tokens[:, 0], tokens[:, 1]]
            points.append(space.points(embeddings[chosen]))
            places.append(np.column_stack([np.full(int(chosen.sum()), slide), tokens[chosen]]))
            concepts.append(head.quantizer_.predict(embeddings[chosen]))
        yield progress
    marks = [slide_mark(grid) for grid in grids]
    joined = np.concatenate(points), np.concatenate(places), np.concatenate(concepts)
    return TokenIndex(head, *joined, (marks, classes))


def embedding_at(grid: TokenGrid, row: int, col: int) -> NDArray[np.floating[Any]]:
    """Read the embedding (n_dims,) of one token.

    Raises
    ------
    InvalidInputError
        There is no finished token at that place.
    FileFormatError
        The grid is damaged there.
    """
    rows, cols = grid.geometry.shape
    if 0 <= row < rows and 0 <= col < cols:
        with gridfile.damage(grid.path, f"the token at ({row}, {col})"):
            embedding: NDArray[np.floating[Any]] = np.asarray(grid.embeddings[row, col, :])
        if np.isfinite(embedding).all():
            return embedding
    raise InvalidInputError(
        f"row and col must be those of a finished token of {grid.path.name} ({rows} x {cols}); got ({row}, {col})."
    )


def _asked(space: ConceptSpace, query: Query) -> tuple[NDArray[np.float32], dict[str, tuple[int, int]]]:
    """Return the point (n_axes,) of a query, and the token that it is: (row, col) by fingerprint of its slide."""
    if isinstance(query, tuple) and len(query) == 3 and isinstance(query[0], TokenGrid):
        grid, row, col = query
        return space.points(embedding_at(grid, int(row), int(col))[None])[0], {slide_mark(grid): (int(row), int(col))}
    embedding = np.asarray(query)
    if embedding.ndim != 1 or not np.issubdtype(embedding.dtype, np.number) or not np.isfinite(embedding).all():
        raise InvalidInputError(
            f"query must be one finite embedding, shape (n_dims,), or (grid, row, col); got shape {embedding.shape}."
        )
    return space.points(embedding[None])[0], {}


def _left_out(grids: Sequence[TokenGrid], not_of: str | None) -> frozenset[int]:
    """Return the numbers of the grids of a slide."""
    return frozenset(number for number, grid in enumerate(grids) if slide_mark(grid) == not_of)


def _drawn(mask: NDArray[np.bool_], most: int, seed: int) -> NDArray[np.bool_]:
    """Return (rows, cols), where the tokens of a mask are that were drawn."""
    drawn = np.zeros(mask.shape, dtype=bool)
    tokens = np.flatnonzero(mask)
    drawn.flat[np.random.default_rng(seed).permutation(tokens)[:most]] = True
    return drawn


def _even_quota(sizes: Sequence[int], most: int) -> int:
    """Return the largest quota with which slides of these sizes give `most` tokens or fewer; at least 1."""
    left, n_left = most, len(sizes)
    for size in sorted(sizes):
        if size * n_left > left:
            return max(1, left // n_left)
        left, n_left = left - size, n_left - 1
    return max(sizes)
