"""Batches that fit in memory: what does not is halved and tried again."""

from __future__ import annotations

import gc
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import NotEnoughMemoryError, ProspectorError, ProspectorWarning
from napari_prospector.tokens.stopping import check_stop

__all__ = ["BatchSize", "in_turns", "is_out_of_memory"]

# torch says "CUDA out of memory", "MPS backend out of memory", "DefaultCPUAllocator: can't allocate memory" and, on
# Windows, "DefaultCPUAllocator: not enough memory"; cuDNN and cuBLAS fail to allocate in words of their own.
_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")

Encode = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass
class BatchSize:
    """How many tiles an encoder takes at once; it only ever shrinks.

    Parameters
    ----------
    name
        Of the encoder, for what is told.
    tiles
        At least 1.
    """

    name: str
    tiles: int
    _told: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def halve(self, n_tiles: int, reason: str) -> None:
        """Make room after `n_tiles` at once did not fit; tell it the first time.

        Raises
        ------
        NotEnoughMemoryError
            It was a single tile.
        """
        if n_tiles <= 1:
            raise NotEnoughMemoryError(
                f"Encoder {self.name!r} must have memory for one tile at a time; there is too little: {reason}."
                " Close what else uses the device, or pass device='cpu' (--device cpu) or a smaller encoder."
                " What was embedded is kept; the same call goes on."
            )
        with self._lock:
            self.tiles = min(self.tiles, n_tiles // 2)
            told, self._told = self._told, True
        if not told:
            warnings.warn(
                f"Encoder {self.name!r}: {n_tiles} tiles at once do not fit in memory; it goes on with"
                f" {self.tiles}, and fewer if need be. No tile is lost.",
                ProspectorWarning,
                stacklevel=3,
            )


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception means that memory, of the machine or of a device, did not suffice."""
    if isinstance(error, ProspectorError):
        return False
    is_told = isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)
    return is_told or isinstance(error, MemoryError)


def in_turns(encode: Encode, tiles: NDArray[np.uint8], size: BatchSize) -> NDArray[np.float32]:
    """Encode tiles, at most `size.tiles` at once, and fewer where these do not fit in memory.

    Parameters
    ----------
    encode
        Takes tiles (n, tile_px, tile_px, 3), returns one row a tile.
    tiles
        Any number but zero.
    size
        Shrinks for good, so that a batch that failed is not tried again and again.

    Returns
    -------
    ndarray of float32
        What `encode` returned, joined: one row a tile, in their order.

    Raises
    ------
    NotEnoughMemoryError
        Not even one tile fits.
    """
    parts: list[NDArray[np.float32]] = []
    start = 0
    while start < len(tiles):
        check_stop()
        part = tiles[start : start + size.tiles]
        problem = None
        try:
            parts.append(encode(part))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            problem = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        # outside of `except`, whose traceback would keep the tensors of the batch that failed
        if problem is None:
            start += len(part)
        else:
            _free_cached()
            size.halve(len(part), problem)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _free_cached() -> None:
    """Give back what torch keeps of its devices' memory, if torch is in use."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
