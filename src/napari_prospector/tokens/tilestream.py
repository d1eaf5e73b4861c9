"""Tiles in order, read by threads ahead of whoever asks for them, and cut into batches."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_prospector.tokens.store import BACKGROUND, Block
from napari_prospector.tokens.tilereader import TileReader, Tiles

__all__ = ["batches", "in_lanes", "tiles_ahead"]

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextlib.contextmanager
def tiles_ahead(
    reader: TileReader,
    read: Callable[[NDArray[np.int64]], Tiles],
    blocks: list[Block],
    state: NDArray[np.uint8],
    n_readers: int,
    beside: bool = True,
) -> Iterator[Iterator[tuple[Block, Tiles]]]:
    """Stream the tiles of blocks in order, read by threads that are a bounded number of reads ahead.

    Where whoever asks for them keeps every core busy, threads that read beside it make its own wait for each other, and
    cost several times what they need. Then (`beside` is False) they read while it waits, and rest while it works.
    """

    def parts() -> Iterator[tuple[Block, NDArray[np.int64]]]:
        for block in blocks:
            tokens = np.argwhere(state[block.tokens] != BACKGROUND) + (block.rows.start, block.cols.start)
            for part in reader.parts(tokens):
                yield block, part

    waiting: deque[tuple[Block, Future[Tiles]]] = deque()

    def stream(pool: ThreadPoolExecutor) -> Iterator[tuple[Block, Tiles]]:
        for block, tokens in parts():
            waiting.append((block, pool.submit(read, tokens)))
            if not beside and len(waiting) == n_readers:
                wait([future for _, future in waiting])
                while waiting:
                    first, future = waiting.popleft()
                    yield first, future.result()
            elif len(waiting) > n_readers:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()

    with ThreadPoolExecutor(n_readers, thread_name_prefix="tiles") as pool:
        try:
            yield stream(pool)
        finally:
            for _, future in waiting:
                future.cancel()


def batches(parts: Iterable[Tiles], batch_size: int) -> Iterator[Tiles]:
    """Cut the tiles of one block into batches, all but the last of the same size; few pixels are copied."""
    rest: Tiles | None = None
    for part in parts:
        if rest is not None:
            wanted = batch_size - len(rest.tokens)
            rest, part = _joined(rest, _cut(part, slice(0, wanted))), _cut(part, slice(wanted, None))  # noqa: PLW2901
        # one batch is kept back: which one is the last, and may be smaller, shows only at the end
        while len(part.tokens):
            if rest is not None:
                yield rest
            rest, part = _cut(part, slice(0, batch_size)), _cut(part, slice(batch_size, None))  # noqa: PLW2901
    if rest is not None:
        yield rest


def in_lanes(work: Callable[[Item], Result], items: Iterable[Item], n_lanes: int) -> Iterator[tuple[Item, Result]]:
    """Give each item with what the work makes of it, in order; up to `n_lanes` are worked on at once.

    One lane is the caller's own thread. Two keep a device busy: while one copies to it and from it, the other computes.
    """
    if n_lanes <= 1:
        for item in items:
            yield item, work(item)
        return
    running: deque[tuple[Item, Future[Result]]] = deque()
    with ThreadPoolExecutor(n_lanes, thread_name_prefix="encoder") as pool:
        try:
            for item in items:
                running.append((item, pool.submit(work, item)))
                if len(running) >= n_lanes:
                    first, future = running.popleft()
                    yield first, future.result()
            while running:
                first, future = running.popleft()
                yield first, future.result()
        finally:
            for _, future in running:
                future.cancel()


def _joined(first: Tiles, second: Tiles) -> Tiles:
    """Put tiles behind others."""
    reasons = {**first.reasons, **{len(first.tokens) + i: why for i, why in second.reasons.items()}}
    quality = None
    if first.quality is not None and second.quality is not None:
        quality = np.concatenate([first.quality, second.quality])
    tokens = np.concatenate([first.tokens, second.tokens])
    return Tiles(tokens, np.concatenate([first.pixels, second.pixels]), reasons, quality)


def _cut(tiles: Tiles, part: slice) -> Tiles:
    """Take a run of tiles."""
    kept = range(len(tiles.tokens))[part]
    reasons = {i - kept.start: why for i, why in tiles.reasons.items() if i in kept}
    quality = None if tiles.quality is None else tiles.quality[part]
    return Tiles(tiles.tokens[part], tiles.pixels[part], reasons, quality)
