"""Pictures of tokens and of slides for people: what the encoder saw, small, at the level that costs least.

A token grid does not know where its slide lies, for privacy; the caller says it, and the slide must be the one that was
embedded. Where a picture cannot be had, there is a hatched one in its place and a sentence why.
"""

from __future__ import annotations

import contextlib
import math
import operator
import os
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_prospector.errors import (
    FileFormatError,
    InvalidInputError,
    MismatchError,
    MissingFileError,
    ProspectorError,
)
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.slides import Slide, open_slide
from napari_prospector.tokens.store import TokenGrid
from napari_prospector.tokens.tilereader import TileReader

__all__ = [
    "Place",
    "TilePicture",
    "TilePictures",
    "no_picture",
    "open_slide_of",
    "slide_thumbnail",
    "tile_picture",
    "tile_pictures",
]

Place = tuple[int, int, int]
"""A token of one of many slides: number of the slide, row, col."""

_MOST_PX = 4096
_PATCH_CONTEXT = 3.0
_MOST_READ_PX = 16_000_000  # 48 MB; without a pyramid surroundings are read at full size
_GROUND, _HATCH, _HATCH_PX = 238, 214, 8


@dataclass(frozen=True, eq=False)
class TilePicture:
    """A picture of a tile.

    Attributes
    ----------
    pixels
        Shape (size_px, size_px, 3), uint8; hatched where there is no picture.
    problem
        Why there is none, a sentence; None where there is one.
    """

    pixels: NDArray[np.uint8]
    problem: str | None = None


def no_picture(size_px: int = 96) -> NDArray[np.uint8]:
    """Return what is shown where there is no picture: light grey with darker diagonal lines, (size_px, size_px, 3)."""
    size = _size("size_px", size_px)
    rows, cols = np.indices((size, size))
    grey = np.where((rows + cols) % _HATCH_PX < 2, _HATCH, _GROUND).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def tile_picture(
    slide: Slide, geometry: GridGeometry, row: int, col: int, context: float = 1.0, size_px: int = 96
) -> NDArray[np.uint8]:
    """Return the tile of a token as it was scanned, with surroundings where wanted.

    At context 1 and the encoder's own `tile_px` these are the very pixels that the encoder got, before any stain
    normalization.

    Parameters
    ----------
    slide
        Open.
    geometry
        Of the tokens; of the tiles, for tokens that are patches of tiles.
    row, col
        The token.
    context
        Width of the picture in widths of the tile, around its centre.
    size_px
        Width of the picture in pixels, 1 to 4096.

    Returns
    -------
    ndarray
        RGB, shape (size_px, size_px, 3), uint8; white outside of the slide.

    Raises
    ------
    InvalidInputError
        There is no such token, a number is impossible, or so many surroundings would take too much memory.
    FileFormatError
        The slide is damaged there.
    """
    window = _window(geometry, row, col, context, size_px)
    reader = TileReader(slide, window)
    # 1 px is read beside a tile whose edges lie between pixels
    side = window.tile / slide.levels[reader.level].downsample + 2
    if side**2 > max(_MOST_READ_PX, (2 * size_px) ** 2):
        raise InvalidInputError(
            f"context must be smaller for {slide.name}, which has no coarse level to read {context:g} widths of a tile"
            f" from; {math.ceil(side)} px a side would be read. Pass a smaller context."
        )
    tiles = reader.read(np.zeros((1, 2), np.int64))
    if tiles.reasons:
        raise FileFormatError(tiles.reasons[0])
    return np.asarray(tiles.pixels[0])


def tile_pictures(
    slide: Slide, geometry: GridGeometry, tokens: ArrayLike, context: float = 1.0, size_px: int = 96
) -> Iterator[tuple[int, TilePicture]]:
    """Read the tiles of many tokens of one slide, in the order of the file.

    Parameters
    ----------
    slide, geometry, context, size_px
        As for `tile_picture`.
    tokens
        (n, 2), row and col of each.

    Yields
    ------
    tuple
        Index into `tokens`, and the picture; where the slide cannot be read, none and why.
    """
    wanted = np.asarray(tokens, dtype=np.int64).reshape(-1, 2)
    for index in np.lexsort((wanted[:, 1], wanted[:, 0])).tolist():
        row, col = wanted[index].tolist()
        try:
            picture = TilePicture(tile_picture(slide, geometry, row, col, context, size_px))
        except ProspectorError as error:
            picture = TilePicture(no_picture(size_px), _without_folder(str(error), slide.path))
        yield index, picture


def slide_thumbnail(slide: Slide, most_px: int = 160) -> NDArray[np.uint8]:
    """Return the whole slide, small; its label and macro pictures are never shown.

    Parameters
    ----------
    slide
        Open.
    most_px
        Of the longer side, 1 to 4096; a smaller slide stays as it is.

    Returns
    -------
    ndarray
        RGB, shape (rows, cols, 3), uint8, in the proportions of level 0 to the nearest pixel. A few milliseconds where
        the slide has a coarse level; without a pyramid all of it is read.
    """
    longest = max(slide.shape)
    size = min(_size("most_px", most_px), longest)
    rows, cols = (max(1, round(side * size / longest)) for side in slide.shape)
    image = slide.thumbnail(2 * size)  # a whole factor finer, so that the rest of the way is an average too
    if image.shape[:2] == (rows, cols):
        return image
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((cols, rows), Image.Resampling.HAMMING))


def open_slide_of(grid: TokenGrid, path: str | os.PathLike[str] | None, mpp: float | None = None) -> Slide:
    """Open the slide that a token grid was made from.

    Parameters
    ----------
    grid
        The token grid.
    path
        Where the slide lies; None: nobody knows.
    mpp
        As for `open_slide`.

    Returns
    -------
    Slide
        Close it, or use it in a ``with`` block.

    Raises
    ------
    MissingFileError
        It is not there.
    MismatchError
        It is another slide.
    ProspectorError
        As `open_slide`.
    """
    name = str(grid.attrs["slide_name"])
    if path is None:
        raise MissingFileError(f"Where {name} lies is not known; there is only its token grid. Say where the slide is.")
    place = Path(path)
    if not place.exists():
        raise MissingFileError(
            f"{place.name} is not there any more; there is only its token grid. Bring the slide back."
        )
    with contextlib.ExitStack() as stack:
        slide = stack.enter_context(open_slide(place, mpp))
        if slide.fingerprint() != grid.attrs["slide_fingerprint"]:
            raise MismatchError(
                f"{place.name} must be the slide that {grid.path.name} was made from; its content is another."
                " Name the right file, or embed this one."
            )
        stack.pop_all()
    return slide


class TilePictures:
    """Pictures of the tokens of many slides; the last ones are kept in memory, none on disk.

    May be used from several threads; every call opens each slide that it needs once, and closes it.

    Parameters
    ----------
    grids
        One for each slide.
    slides
        Where the slide of each grid lies; None: unknown.
    mpps
        Pixel size of each slide, where it states none or a wrong one.
    context
        Width of a picture in widths of a token. None: 1; and 3 where tokens are patches of tiles, too small to tell
        anything without what is beside them.
    size_px
        As for `tile_picture`.
    most_kept
        Pictures to keep; 1000 of 96 px take 28 MB.

    Raises
    ------
    MismatchError
        Lengths differ.
    """

    def __init__(
        self,
        grids: Sequence[TokenGrid],
        slides: Sequence[str | os.PathLike[str] | None],
        mpps: Sequence[float | None] | None = None,
        *,
        context: float | None = None,
        size_px: int = 96,
        most_kept: int = 1000,
    ) -> None:
        self._grids, self._slides = tuple(grids), tuple(slides)
        self._mpps = (None,) * len(self._grids) if mpps is None else tuple(mpps)
        if not len(self._grids) == len(self._slides) == len(self._mpps):
            raise MismatchError(
                f"grids, slides and mpps must have one entry for each slide; got {len(self._grids)},"
                f" {len(self._slides)} and {len(self._mpps)}."
            )
        self.context, self.size_px = context, _size("size_px", size_px)
        self._most_kept = most_kept
        self._kept: OrderedDict[Place, TilePicture] = OrderedDict()
        self._lock = threading.Lock()

    def picture(self, slide: int, row: int, col: int) -> TilePicture:
        """Return the picture of one token; see `pictures`."""
        return next(picture for _, picture in self.pictures([(slide, row, col)]))

    def pictures(self, places: Iterable[Place]) -> Generator[tuple[int, TilePicture]]:
        """Return the pictures of tokens: kept ones first, then slide by slide in the order of the file.

        Parameters
        ----------
        places
            Number of the slide, row and col of each token.

        Yields
        ------
        tuple
            Index into `places`, and the picture. What is wrong with a slide is in the picture, and tried again next
            time.

        Raises
        ------
        InvalidInputError
            There is no such slide or token.
        """
        wanted = [(operator.index(slide), operator.index(row), operator.index(col)) for slide, row, col in places]
        missing: dict[int, dict[tuple[int, int], list[int]]] = {}
        for index, (slide, row, col) in enumerate(wanted):
            if not 0 <= slide < len(self._grids):
                raise InvalidInputError(f"slide must be a number from 0 to {len(self._grids) - 1}; got {slide}.")
            kept = self._recall((slide, row, col))
            if kept is None:
                missing.setdefault(slide, {}).setdefault((row, col), []).append(index)
            else:
                yield index, kept
        for slide in sorted(missing):
            for token, picture in self._read(slide, list(missing[slide])):
                yield from ((index, picture) for index in missing[slide][token])

    def _read(self, number: int, tokens: list[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], TilePicture]]:
        """Read tokens (row, col) of one slide."""
        grid, path = self._grids[number], self._slides[number]
        for row, col in tokens:
            _check_token(grid.geometry, row, col)
        try:
            slide = open_slide_of(grid, path, self._mpps[number])
        except ProspectorError as error:
            problem = str(error) if path is None else _without_folder(str(error), Path(path))
            yield from ((token, TilePicture(no_picture(self.size_px), problem)) for token in tokens)
            return
        with slide:
            is_patch = grid.tiles.tile > grid.geometry.tile
            context = (_PATCH_CONTEXT if is_patch else 1.0) if self.context is None else self.context
            for index, picture in tile_pictures(slide, grid.geometry, tokens, context, self.size_px):
                row, col = tokens[index]
                self._keep((number, row, col), picture)
                yield tokens[index], picture

    def _recall(self, place: Place) -> TilePicture | None:
        """Return a picture that is kept, and remember that it was wanted."""
        with self._lock:
            if place in self._kept:
                self._kept.move_to_end(place)
            return self._kept.get(place)

    def _keep(self, place: Place, picture: TilePicture) -> None:
        """Keep a picture, and let the one go that was not wanted for longest."""
        with self._lock:
            self._kept[place] = picture
            while len(self._kept) > self._most_kept:
                self._kept.popitem(last=False)


def _without_folder(problem: str, path: Path) -> str:
    """Name a file without its folder: sentences travel with pages."""
    return problem.replace(str(path.absolute()), path.name).replace(str(path), path.name)


def _window(geometry: GridGeometry, row: int, col: int, context: Any, size_px: int) -> GridGeometry:
    """Return a grid of one token that looks at the tile of a token and its surroundings."""
    _check_token(geometry, row, col)
    if isinstance(context, bool) or not isinstance(context, int | float) or not 0 < context <= _MOST_PX:
        raise InvalidInputError(f"context must be a number above 0, in widths of the tile; got {context!r}.")
    # even steps on both sides: the centre stays where it is, to the pixel
    margin = max(round(geometry.tile * (context - 1) / 2), -((geometry.tile - 1) // 2))
    row0, col0, _, _ = geometry.box(row, col)
    width = geometry.tile + 2 * margin
    size = _size("size_px", size_px)
    return GridGeometry(1, 1, width, width, (row0 - margin, col0 - margin), geometry.slide_mpp, size)


def _check_token(geometry: GridGeometry, row: int, col: int) -> None:
    """Refuse a token outside of the grid."""
    if not (0 <= row < geometry.rows and 0 <= col < geometry.cols):
        raise InvalidInputError(
            f"row and col must lie in a grid of {geometry.rows} x {geometry.cols} tokens; got ({row}, {col})."
        )


def _size(name: str, px: Any) -> int:
    """Check the width of a picture."""
    if isinstance(px, bool) or not isinstance(px, int | np.integer) or not 1 <= px <= _MOST_PX:
        raise InvalidInputError(f"{name} must be a whole number from 1 to {_MOST_PX}; got {px!r}.")
    return int(px)
