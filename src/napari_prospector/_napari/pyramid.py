"""A slide as napari wants it: a list of arrays, finest first, that are read piece by piece."""

from __future__ import annotations

import operator
import weakref
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from numpy.typing import DTypeLike, NDArray

if TYPE_CHECKING:
    from napari_prospector.tokens.slides import Slide

__all__ = ["SlideLevel", "slide_levels"]

# napari widens what it asks for to whole chunks, so a pan by a few pixels reads nothing new
CHUNK_PX, MOST_CHUNK_PX = 256, 1024
# a coarsest level wider than this is halved further: napari keeps the coarsest level in memory
COARSEST_PX = 4096
# what one step of averaging reads at most, unless a single row of it is more
BAND_BYTES = 64 * 2**20

Key = SupportsIndex | slice | Any


class SlideLevel:
    """One level of a slide, an array (rows, cols, 3) of uint8 that is read when it is indexed.

    Parameters
    ----------
    slide
        An open slide.
    level
        Which of its levels.
    reduce
        Average squares of this many pixels of that level into one; 1 reads the level as it is.

    Attributes
    ----------
    shape
        (rows, cols, 3).
    chunks
        What napari reads at once, (rows, cols, 3).
    """

    ndim = 3
    dtype = np.dtype(np.uint8)

    def __init__(self, slide: Slide, level: int, reduce: int = 1) -> None:
        rows, cols = slide.levels[level].shape
        self._slide, self._level, self._reduce = slide, level, reduce
        self.shape = (-(-rows // reduce), -(-cols // reduce), 3)
        height, width = (min(max(CHUNK_PX, size), MOST_CHUNK_PX) for size in slide.levels[level].chunk)
        self.chunks = (max(1, height // reduce), max(1, width // reduce), 3)

    @property
    def size(self) -> int:
        """Number of values."""
        return self.shape[0] * self.shape[1] * 3

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"SlideLevel({self._slide.name!r}, level={self._level}, reduce={self._reduce}, shape={self.shape})"

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read the whole level."""
        return np.asarray(self[:], dtype=dtype)

    def __getitem__(self, key: Key | tuple[Key, ...]) -> NDArray[np.uint8]:
        """Read the smallest rectangle that `key` needs; integers, slices and one ellipsis, as numpy would."""
        rows, cols, channel = _complete(key if isinstance(key, tuple) else (key,))
        (row, height, rows_of), (col, width, cols_of) = (
            _span(part, extent) for part, extent in zip((rows, cols), self.shape[:2], strict=True)
        )
        if height == 0 or width == 0:
            piece = np.zeros((height, width, 3), np.uint8)
        else:
            piece = self._read(row, col, height, width)
        return np.asarray(piece[rows_of, cols_of, channel])

    def _read(self, row: int, col: int, height: int, width: int) -> NDArray[np.uint8]:
        """Read a rectangle in pixels of this array."""
        factor = self._reduce
        if factor == 1:
            return self._slide.read(row, col, height, width, level=self._level)
        out = np.empty((height, width, 3), np.uint8)
        band = max(1, BAND_BYTES // (3 * factor * factor * width))
        for start in range(0, height, band):
            rows = min(band, height - start)
            fine = self._slide.read(
                (row + start) * factor, col * factor, rows * factor, width * factor, level=self._level
            )
            squares = fine.reshape(rows, factor, width, factor, 3)
            out[start : start + rows] = squares.mean(axis=(1, 3), dtype=np.float32).round()
        return out


def slide_levels(slide: Slide) -> list[SlideLevel]:
    """Return a slide's levels for napari, finest first.

    Where the file's coarsest level is still wide, averaged ones follow. The slide is closed when the last of
    the arrays is gone.

    Parameters
    ----------
    slide
        An open slide; it belongs to the arrays from now on.

    Returns
    -------
    list of SlideLevel
        At least one.
    """
    levels = [SlideLevel(slide, index) for index in range(len(slide.levels))]
    coarsest, reduce = len(levels) - 1, 1
    while max(levels[-1].shape) > COARSEST_PX:
        reduce *= 2
        levels.append(SlideLevel(slide, coarsest, reduce))
    _close_with_last(levels, slide)
    return levels


def _close_with_last(levels: list[SlideLevel], slide: Slide) -> None:
    """Close the slide when none of the arrays is left."""
    left = len(levels)

    def one_gone() -> None:
        nonlocal left
        left -= 1
        if not left:
            slide.close()

    for level in levels:
        # at exit the process closes everything itself, and zarr or tifffile may be gone already
        weakref.finalize(level, one_gone).atexit = False


def _complete(key: tuple[Key, ...]) -> tuple[Key, Key, Key]:
    """Fill a key up to three axes."""
    given = list(key)
    for at, part in enumerate(key):
        if part is Ellipsis:
            given[at : at + 1] = [slice(None)] * (4 - len(given))
            break
    if len(given) > 3:
        raise IndexError(f"A slide has three axes (row, col, channel); got {len(given)} indices.")
    given += [slice(None)] * (3 - len(given))
    return given[0], given[1], given[2]


def _span(part: Key, extent: int) -> tuple[int, int, int | slice]:
    """Return (start, length) of what must be read along an axis, and the index into it."""
    if isinstance(part, slice):
        wanted = range(*part.indices(extent))
        if not wanted:
            return 0, 0, slice(None)
        first, last = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1])
        # with a negative step the end is before the first element
        stop = wanted[-1] - first + (1 if wanted.step > 0 else -1)
        return first, last - first + 1, slice(wanted[0] - first, None if stop < 0 else stop, wanted.step)
    index = operator.index(part)
    if not -extent <= index < extent:
        raise IndexError(f"index {index} is out of bounds for an axis of {extent} pixels.")
    return index % extent, 1, 0
