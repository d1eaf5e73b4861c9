"""Finished blocks on their way to the disk, while the next ones are computed."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.tokens.gridblocks import Block
from napari_prospector.tokens.store import TokenGrid

__all__ = ["BlockWriter"]

# Bounds the memory; a disk that is slower than this many blocks slows the encoder down.
_MOST_WAITING = 2


class BlockWriter:
    """Writes blocks in one thread of its own, in the order in which they come.

    What a store promises holds as before: each block is written by `TokenGrid.write_block`, its state after its
    embeddings, and no two blocks at once. A block that has come but is not written yet is lost when the process is
    killed, like one that is being computed: its state still says pending.

    Parameters
    ----------
    grid
        Open for writing; it must stay so until the ``with`` block ends.
    """

    def __init__(self, grid: TokenGrid) -> None:
        self._grid = grid
        self._waiting: deque[Future[None]] = deque()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="blocks")

    def write(
        self,
        block: Block,
        embeddings: NDArray[np.floating[Any]],
        state: NDArray[np.uint8],
        quality: NDArray[np.float32] | None = None,
    ) -> None:
        """Take a block to be written; the arrays, as for `TokenGrid.write_block`, must not change any more.

        Raises
        ------
        StorageError
            An earlier block could not be written.
        """
        while len(self._waiting) >= _MOST_WAITING:
            self._finish_first()
        self._waiting.append(self._pool.submit(self._grid.write_block, block, embeddings, state, quality))

    def flush(self) -> None:
        """Wait until all that came is on the disk.

        Raises
        ------
        StorageError
            A block could not be written.
        """
        while self._waiting:
            self._finish_first()

    def _finish_first(self) -> None:
        """Wait for the oldest block; when it fails, drop those behind it."""
        try:
            self._waiting.popleft().result()
        except BaseException:
            while self._waiting:
                self._waiting.popleft().cancel()
            raise

    def __enter__(self) -> BlockWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # whoever cancels keeps what is finished; an error that is under way already is the one to tell
            if kind is None:
                self.flush()
        finally:
            self._pool.shutdown(wait=True)
