"""Tiles of a slide at the width that an encoder wants, many at a time from one read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import FileFormatError
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.slides import WHITE, Slide
from napari_prospector.tokens.tilequality import QualityGauge

__all__ = ["TileReader", "Tiles"]

# A level this much coarser than wanted still does: 0.2527 µm files have their next level at 0.5054, not at 0.5.
_COARSER = 1.05
# Pixels of one read, 3 bytes each: bounds the memory, whatever the pyramid and the tile.
_MOST_REGION_PX = 16_000_000
# A read may cover this many times the cells that it is for, since ragged tissue leaves some out.
_MOST_IDLE = 3


@dataclass(frozen=True)
class Tiles:
    """Tiles that were read together.

    Parameters
    ----------
    tokens
        (n, 2), (row, col) of each in the grid.
    pixels
        (n, tile_px, tile_px, 3) uint8; white where a tile could not be read.
    reasons
        Why, by index into the tiles; empty when all went well.
    quality
        (n, n_measures), `QualityGauge.measure` of the tiles; NaN where a tile could not be read. None: not measured.
    """

    tokens: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    reasons: Mapping[int, str] = field(default_factory=dict)
    quality: NDArray[np.float32] | None = None

    def measured(self, gauge: QualityGauge, mpp: float) -> Tiles:
        """Return the same tiles with their quality; `mpp` is the width of their pixels in µm."""
        quality = gauge.measure(self.pixels, mpp)
        quality[list(self.reasons)] = np.nan
        return replace(self, quality=quality)


@dataclass(frozen=True)
class TileReader:
    """Reads the tiles of a grid from the best level of a slide, each resized by itself to `tile_px`.

    Parameters
    ----------
    slide
        Where from.
    geometry
        Which tiles.
    """

    slide: Slide
    geometry: GridGeometry

    @cached_property
    def level(self) -> int:
        """The coarsest level that still holds every pixel that the encoder sees."""
        return self.slide.level_for(self.geometry.tile / self.geometry.tile_px * _COARSER)

    @property
    def record(self) -> dict[str, Any]:
        """What a store remembers about reading."""
        return {"level": self.level, "downsample": self.slide.levels[self.level].downsample, "resampling": "area"}

    def parts(self, tokens: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Divide tokens into parts, each small and dense enough to be read at once; their order stays.

        Parameters
        ----------
        tokens
            (n, 2), row by row.

        Yields
        ------
        ndarray
            (m, 2), the next of them.
        """
        row0, col0, row1, col1 = self._region(tokens)
        rows, cols = np.ptp(tokens, axis=0) + 1
        is_small = (row1 - row0) * (col1 - col0) <= _MOST_REGION_PX and rows * cols <= _MOST_IDLE * len(tokens)
        if is_small or len(tokens) == 1:
            yield tokens
            return
        # rows first keeps the order; the columns of a single row do as well
        axis = 0 if rows > 1 else 1
        middle = (tokens[0, axis] + tokens[-1, axis] + 1) // 2
        for half in (tokens[tokens[:, axis] < middle], tokens[tokens[:, axis] >= middle]):
            yield from self.parts(half)

    def read(self, tokens: NDArray[np.int64]) -> Tiles:
        """Read tiles with one read of the slide; where that fails, tile by tile, so that only the damaged fail.

        Parameters
        ----------
        tokens
            (n, 2), one of `parts`.

        Returns
        -------
        Tiles
            In the order of the tokens.
        """
        tile_px = self.geometry.tile_px
        pixels = np.full((len(tokens), tile_px, tile_px, 3), WHITE, np.uint8)
        try:
            self._read_into(pixels, tokens)
        except FileFormatError as error:
            if len(tokens) == 1:
                return Tiles(tokens, pixels, {0: str(error)})
            return self._read_singly(tokens, pixels)
        return Tiles(tokens, pixels)

    def _read_singly(self, tokens: NDArray[np.int64], pixels: NDArray[np.uint8]) -> Tiles:
        """Read tiles one by one, and remember which cannot be read."""
        reasons = {}
        for i in range(len(tokens)):
            alone = self.read(tokens[i : i + 1])
            pixels[i] = alone.pixels[0]
            if alone.reasons:
                reasons[i] = alone.reasons[0]
        return Tiles(tokens, pixels, reasons)

    def _read_into(self, pixels: NDArray[np.uint8], tokens: NDArray[np.int64]) -> None:
        """Fill pixels (n, tile_px, tile_px, 3) from one region of the slide."""
        row0, col0, row1, col1 = self._region(tokens)
        region = self.slide.read(row0, col0, row1 - row0, col1 - col0, self.level)
        for tile, (row, col) in zip(pixels, tokens, strict=True):
            box = self._level_box(self.geometry.box(int(row), int(col)))
            first_row, first_col, stop_row, stop_col = _whole(box)
            crop = region[first_row - row0 : stop_row - row0, first_col - col0 : stop_col - col0]
            # relative to its own crop, so that a tile is the same from whichever region it comes
            inner = box[0] - first_row, box[1] - first_col, box[2] - first_row, box[3] - first_col
            tile[:] = _resized(crop, inner, self.geometry.tile_px)

    def _region(self, tokens: NDArray[np.int64]) -> tuple[int, int, int, int]:
        """Return the smallest whole box of level pixels that holds all tokens."""
        first, last = tokens.min(axis=0), tokens.max(axis=0)
        box = self.geometry.region((int(first[0]), int(first[1])), (int(last[0]) + 1, int(last[1]) + 1))
        return _whole(self._level_box(box))

    def _level_box(self, box: tuple[int, int, int, int]) -> tuple[float, float, float, float]:
        """Turn a box in level-0 pixels into one in pixels of the level that is read."""
        row_scale, col_scale = self.slide.levels[self.level].scale
        return box[0] / row_scale, box[1] / col_scale, box[2] / row_scale, box[3] / col_scale


def _whole(box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """Return the smallest box of whole pixels round a box."""
    return math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])


def _resized(crop: NDArray[np.uint8], box: tuple[float, float, float, float], tile_px: int) -> NDArray[np.uint8]:
    """Bring the pixels of a box to (tile_px, tile_px, 3): copied, averaged by a whole factor, or smoothly resized."""
    height, width = crop.shape[:2]
    is_whole = box == (0, 0, height, width)
    if is_whole and height == width == tile_px:
        return crop
    from PIL import Image

    image = Image.fromarray(crop)
    if is_whole and height == width and height % tile_px == 0:
        return np.asarray(image.reduce(height // tile_px))
    # Pillow widens the filter when it shrinks, so nothing aliases; Hamming is sharper than bilinear and never rings
    extent = (box[1], box[0], box[3], box[2])
    return np.asarray(image.resize((tile_px, tile_px), Image.Resampling.HAMMING, box=extent))
