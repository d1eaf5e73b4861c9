"""The blocks of a token grid: tokens that are computed and written together, one chunk of every array."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Block", "blocks_of"]


@dataclass(frozen=True)
class Block:
    """Tokens that are written together: rows `rows` and columns `cols` of the grid, chunk `index` of the store."""

    index: tuple[int, int]
    rows: slice
    cols: slice

    @property
    def tokens(self) -> tuple[slice, slice]:
        """What cuts the block out of an array with one cell per token."""
        return self.rows, self.cols


def blocks_of(shape: tuple[int, int], chunks: tuple[int, ...]) -> Iterator[Block]:
    """Yield all blocks of a grid of `shape` that is cut into `chunks`, (rows, cols) both, row by row."""
    height, width = chunks
    for row in range(0, shape[0], height):
        for col in range(0, shape[1], width):
            rows, cols = slice(row, min(row + height, shape[0])), slice(col, min(col + width, shape[1]))
            yield Block((row // height, col // width), rows, cols)
