"""Streaming tokens of a cohort, and keeping the best of them: what `examples` and `nearest` share."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.head import ProspectorHead
from napari_prospector.errors import FileFormatError, InvalidInputError, MismatchError
from napari_prospector.study.cohort_graphs import CohortGraphs
from napari_prospector.tokens.store import TokenGrid

__all__ = [
    "BestTokens",
    "Example",
    "Grids",
    "Progress",
    "as_examples",
    "check_whole",
    "checked_grids",
    "slide_mark",
    "sorted_classes",
    "stream_tokens",
]

Progress = tuple[int, int]
"""Cells of grids that are done, and all of them."""
Grids = CohortGraphs | Sequence[TokenGrid]
"""The finished token grids of a cohort, one for each slide."""

_MOST_CELLS = 4096  # read at once: 16 MB of 1024 dims in float32
# what zarr makes of a damaged file; iter_blocks puts it in words
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RuntimeError, OSError)


@dataclass(frozen=True)
class Example:
    """A token of a cohort.

    Attributes
    ----------
    slide
        Number of its slide in the cohort.
    row, col
        Its place in the grid.
    concept
        Its concept.
    distance
        To the centre of the concept, or to the token that was asked about, in the space of the head's concepts.
    label
        Class of the slide.
    """

    slide: int
    row: int
    col: int
    concept: int
    distance: float
    label: Hashable


class BestTokens:
    """The `most` tokens with the smallest distances of each of several kinds; ties go to the first place."""

    def __init__(self, n_kinds: int, most: int) -> None:
        self.worst = np.full(n_kinds, np.inf)
        self._most = most
        self._kinds = np.empty(0, np.int64)
        self._distances = np.empty(0, np.float32)
        self._places = np.empty((0, 3), np.int64)

    def add(self, kinds: NDArray[Any], distances: NDArray[Any], places: NDArray[np.int64]) -> None:
        """Take what is better than the worst that is kept: kinds, distances (n,), places (n, 3)."""
        better = distances <= self.worst[kinds]
        kinds = np.concatenate([self._kinds, kinds[better]])
        distances = np.concatenate([self._distances, distances[better].astype(np.float32)])
        places = np.concatenate([self._places, places[better]])
        order = np.lexsort((places[:, 2], places[:, 1], places[:, 0], distances, kinds))
        sizes = np.bincount(kinds, minlength=len(self.worst))
        starts = np.cumsum(sizes) - sizes
        ranks = np.arange(len(order)) - starts[kinds[order]]
        order = order[ranks < self._most]
        self._kinds, self._distances, self._places = kinds[order], distances[order], places[order]
        full = np.flatnonzero(sizes >= self._most)
        last = np.searchsorted(self._kinds, full, side="right") - 1
        self.worst[full] = self._distances[last]

    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
        """Return all that is kept, as `add` takes it."""
        return self._kinds, self._distances, self._places

    def of(self, kind: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return distances and places of one kind, the nearest first."""
        own = self._kinds == kind
        return self._distances[own], self._places[own]


def as_examples(
    found: tuple[NDArray[np.float32], NDArray[np.int64]], labels: Sequence[Hashable], concepts: int | list[int]
) -> tuple[Example, ...]:
    """Return tokens as people meet them; `concepts` is one for all or one each."""
    distances, places = found
    own = [concepts] * len(places) if isinstance(concepts, int) else concepts
    return tuple(
        Example(slide, row, col, concept, float(distance), labels[slide])
        for (slide, row, col), distance, concept in zip(places.tolist(), distances, own, strict=True)
    )


def stream_tokens(
    grids: Sequence[TokenGrid], left_out: frozenset[int] = frozenset()
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[Any], Progress]]:
    """Stream the finished tokens of grids, many blocks at a time: a read of zarr costs more than what it brings.

    Parameters
    ----------
    grids
        Flags that they were opened without are left out.
    left_out
        Numbers of grids that are not read.

    Yields
    ------
    tuple
        Number of the grid, tokens (n, 2), embeddings (n, n_dims) as stored, and how far it is; no tokens at the end of
        each grid.

    Raises
    ------
    FileFormatError
        A grid is damaged.
    """
    sizes = [grid.geometry.rows * grid.geometry.cols for grid in grids]
    before, total = 0, sum(sizes)
    for slide, (grid, size) in enumerate(zip(grids, sizes, strict=True)):
        for tokens, embeddings, done in _parts(grid) if slide not in left_out else ():
            yield slide, tokens, embeddings, (before + done, total)
        before += size
        yield slide, np.empty((0, 2), np.int64), np.empty((0, grid.n_dims), np.float32), (before, total)


def _parts(grid: TokenGrid) -> Iterator[tuple[NDArray[np.int64], NDArray[Any], int]]:
    """Yield tokens, embeddings and how many cells are done, for parts of a grid of several blocks each."""
    wanted = grid.mask
    rows, cols = wanted.shape
    height, width = grid.embeddings.chunks[:2]
    width *= max(1, _MOST_CELLS // (height * width))
    for top in range(0, rows, height):
        for left in range(0, cols, width):
            part = slice(top, top + height), slice(left, left + width)
            here = wanted[part]
            if here.any():
                embeddings = _read(grid, part, here)
                end = min(left + width, cols)
                yield np.argwhere(here) + (top, left), embeddings, top * cols + min(height, rows - top) * end


def _read(grid: TokenGrid, part: tuple[slice, slice], here: NDArray[np.bool_]) -> NDArray[Any]:
    """Read the embeddings of the tokens of a part of a grid."""
    try:
        embeddings: NDArray[Any] = np.asarray(grid.embeddings[*part, :])[here]
    except _UNREADABLE:
        embeddings = np.full((1, 1), np.nan)
    if not np.isfinite(embeddings).all():
        for _ in grid.iter_blocks():  # raises, and says which file it is
            pass
        raise FileFormatError(f"{grid.path.name} changed while it was read. Try again when nobody writes it.")
    return embeddings


def checked_grids(
    head: ProspectorHead, graphs: Grids, labels: Sequence[Hashable]
) -> tuple[tuple[TokenGrid, ...], tuple[Hashable, ...]]:
    """Return grids and labels that belong together and to the head."""
    grids = graphs.grids if isinstance(graphs, CohortGraphs) else tuple(graphs)
    if not grids:
        raise InvalidInputError("graphs must hold at least one token grid; got none.")
    if len(labels) != len(grids):
        raise MismatchError(f"labels must hold one class for each of {len(grids)} grids; got {len(labels)}.")
    for grid in grids:
        head.check_encoder(grid.tokens_card)
    return grids, tuple(labels)


def slide_mark(grid: TokenGrid) -> str:
    """Return the fingerprint of the slide of a grid."""
    return str(grid.attrs["slide_fingerprint"])


def sorted_classes(labels: Sequence[Hashable]) -> tuple[Hashable, ...]:
    """Return the labels that occur, sorted as text."""
    return tuple(sorted(set(labels), key=str))


def check_whole(name: str, value: Any) -> None:
    """Refuse what is no whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InvalidInputError(f"{name} must be a whole number of at least 1; got {value!r}.")
