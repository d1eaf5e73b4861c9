"""What is found in a TIFF before its pixels are read: the pages of each level of the main image, and their places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from napari_prospector.tokens.slides import PixelSize
from napari_prospector.tokens.tiff_pages import page_shape

__all__ = ["LevelPages", "PlacedPage", "Pyramid", "is_level_below"]


@dataclass(frozen=True)
class PlacedPage:
    """A page of tifffile, and the (row, col) of its upper left pixel in its level."""

    page: Any
    row: int = 0
    col: int = 0


@dataclass(frozen=True)
class LevelPages:
    """A level: its (rows, cols), level-0 pixels per pixel where the maker states them, and its pages.

    One page that begins at (0, 0) is the level; of several, each covers its part and the rest is white.
    """

    shape: tuple[int, int]
    scale: float | None
    pages: tuple[PlacedPage, ...]

    @classmethod
    def of(cls, page: Any, shape: tuple[int, int], scale: float | None = None) -> LevelPages:
        """Make a level of one page."""
        return cls(shape, scale, (PlacedPage(page),))


@dataclass(frozen=True)
class Pyramid:
    """The main image of a file, finest level first."""

    format: str
    levels: tuple[LevelPages, ...]
    stated: PixelSize
    scanner: str | None


def is_level_below(page: Any, above: Any, first: Any) -> bool:
    """Whether a page can be a level: smaller than the one above it, and of the first one's proportions."""
    (rows, cols), (rows_above, cols_above), (rows0, cols0) = (page_shape(each) for each in (page, above, first))
    if rows * cols >= rows_above * cols_above:
        return False
    wanted = rows * cols0 / rows0
    return bool(abs(cols - wanted) <= 2 + 0.01 * wanted)
