"""Where a token lies: token → level-0 pixel → micrometre → napari world.

This is the only place that knows. Two conventions, stated once:

- Axes are (row, col). Pixel centres lie at whole numbers, so level-0 pixel ``p`` is at ``p * slide_mpp`` µm,
  which is also napari's world when the slide's layer has scale ``slide_mpp`` and no translation. The
  slide's upper left *corner* is therefore at ``-slide_mpp / 2``.
- Token ``(i, j)`` looks at the level-0 pixels of the half-open box that starts at ``origin + (i, j) * stride``
  and is ``tile`` wide. Its centre, ``(tile - 1) / 2`` further, is where a cell of a layer at grid resolution is drawn.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_prospector.errors import FileFormatError, InvalidInputError, MismatchError, PixelSizeError

__all__ = ["GridGeometry"]

_FIELDS = ("rows", "cols", "tile", "stride", "origin", "slide_mpp", "tile_px")


@dataclass(frozen=True)
class GridGeometry:
    """A regular grid of tokens over a slide.

    Parameters
    ----------
    rows, cols
        Number of tokens along each axis, at least 1.
    tile
        Width of the square that a token looks at, in level-0 pixels, at least 1.
    stride
        Distance between neighbouring tokens in level-0 pixels. Smaller than `tile`: tokens overlap.
    origin
        (row, col) of the first tile's upper left level-0 pixel.
    slide_mpp
        Width of a level-0 pixel in µm.
    tile_px
        Width in pixels to which a tile is resized for the encoder; 0 (the default) means `tile`, no resizing.

    Raises
    ------
    InvalidInputError
        A count or width is not a whole number of at least 1.
    PixelSizeError
        `slide_mpp` is not a positive finite number.

    Examples
    --------
    >>> grid = GridGeometry(rows=5, cols=7, tile=448, stride=448, origin=(0, 0), slide_mpp=0.25, tile_px=224)
    >>> grid.box(2, 3)
    (896, 1344, 1344, 1792)
    >>> grid.token_at(900, 1791)
    (2, 3)
    >>> grid.tile_mpp
    0.5
    """

    rows: int
    cols: int
    tile: int
    stride: int
    origin: tuple[int, int]
    slide_mpp: float
    tile_px: int = 0

    def __post_init__(self) -> None:
        """Check every field, and turn numpy scalars into Python numbers so that equality and JSON are exact."""
        for name in ("rows", "cols", "tile", "stride"):
            object.__setattr__(self, name, _whole(name, getattr(self, name), least=1))
        object.__setattr__(self, "tile_px", _whole("tile_px", self.tile_px, least=0) or self.tile)
        if len(self.origin) != 2:
            raise InvalidInputError(f"origin must be (row, col) in level-0 pixels; got {self.origin!r}.")
        object.__setattr__(self, "origin", tuple(_whole("origin", value, least=None) for value in self.origin))
        object.__setattr__(self, "slide_mpp", _pixel_size("slide_mpp", self.slide_mpp))

    @classmethod
    def cover(
        cls,
        slide_shape: tuple[int, int],
        slide_mpp: float,
        tile_px: int,
        tile_mpp: float,
        stride_px: int | None = None,
    ) -> GridGeometry:
        """Lay the grid of an encoder's tiles over a whole slide, from its upper left corner.

        A tile that crosses the right or lower edge belongs to the grid only if its centre is inside; the
        pixels outside the slide are white.

        Parameters
        ----------
        slide_shape
            (rows, cols) of level 0.
        slide_mpp
            Width of a level-0 pixel in µm.
        tile_px, tile_mpp
            What the encoder wants: a square of `tile_px` pixels, each `tile_mpp` µm wide. A tile becomes
            ``round(tile_px * tile_mpp / slide_mpp)`` level-0 pixels; the effective size is `GridGeometry.tile_mpp`.
        stride_px
            Distance between tiles in the encoder's pixels; None: `tile_px`, tiles side by side.

        Returns
        -------
        GridGeometry
            With origin (0, 0).

        Raises
        ------
        InvalidInputError
            The tile is larger than the slide, or a width is below 1.
        PixelSizeError
            A pixel size is not a positive finite number.

        Examples
        --------
        >>> GridGeometry.cover((1000, 1500), slide_mpp=0.25, tile_px=224, tile_mpp=0.5).tile
        448
        """
        slide_mpp, tile_mpp = _pixel_size("slide_mpp", slide_mpp), _pixel_size("tile_mpp", tile_mpp)
        tile_px = _whole("tile_px", tile_px, least=1)
        tile = max(1, math.floor(tile_px * tile_mpp / slide_mpp + 0.5))
        stride = tile
        if stride_px is not None:
            stride = max(1, math.floor(_whole("stride_px", stride_px, least=1) * tile / tile_px + 0.5))
        if tile > min(slide_shape):
            raise InvalidInputError(
                f"A tile must fit the slide; {tile_px} px at {tile_mpp:g} µm per pixel are {tile} level-0 pixels"
                f" at {slide_mpp:g} µm, and the slide has {slide_shape[0]} x {slide_shape[1]}."
                " Check the slide's pixel size, or pass a smaller tile_px or tile_mpp."
            )
        # centre inside: i * stride + tile / 2 < extent, in whole numbers
        rows, cols = (-(-(2 * extent - tile) // (2 * stride)) for extent in slide_shape)
        return cls(rows, cols, tile, stride, (0, 0), slide_mpp, tile_px)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of tokens as (rows, cols)."""
        return self.rows, self.cols

    @property
    def tile_mpp(self) -> float:
        """Width in µm of one pixel of a tile as the encoder sees it; what rounding made of the wish."""
        return self.tile * self.slide_mpp / self.tile_px

    @property
    def stride_px(self) -> float:
        """Distance between neighbouring tokens in the encoder's pixels."""
        return self.stride * self.tile_px / self.tile

    @property
    def scale_um(self) -> tuple[float, float]:
        """`scale` of a napari layer with one cell per token, in µm (row, col)."""
        return self.stride * self.slide_mpp, self.stride * self.slide_mpp

    @property
    def translate_um(self) -> tuple[float, float]:
        """`translate` of a napari layer with one cell per token: the centre of token (0, 0), in µm (row, col)."""
        row, col = self.origin
        half = (self.tile - 1) / 2
        return (row + half) * self.slide_mpp, (col + half) * self.slide_mpp

    def box(self, row: int, col: int) -> tuple[int, int, int, int]:
        """Return the half-open box of one token in level-0 pixels.

        Parameters
        ----------
        row, col
            The token; it may lie outside the grid, the box then does too.

        Returns
        -------
        tuple
            (row0, col0, row1, col1).
        """
        return self.region((row, col), (row + 1, col + 1))

    def region(self, first: tuple[int, int], stop: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return the smallest half-open box of level-0 pixels that holds a block of tokens.

        Parameters
        ----------
        first, stop
            (row, col) of the first token, and of the one after the last.

        Returns
        -------
        tuple
            (row0, col0, row1, col1).
        """
        row0, col0 = (int(o) + int(f) * self.stride for o, f in zip(self.origin, first, strict=True))
        row1, col1 = (int(o) + (int(s) - 1) * self.stride + self.tile for o, s in zip(self.origin, stop, strict=True))
        return row0, col0, row1, col1

    def centre_px(self, rows: ArrayLike, cols: ArrayLike) -> NDArray[np.float64]:
        """Return the centres of tokens in level-0 pixels (pixel centres at whole numbers).

        Parameters
        ----------
        rows, cols
            Token indices; arrays of one shape, or numbers.

        Returns
        -------
        ndarray
            Shape (..., 2), (row, col).
        """
        tokens = np.stack(np.broadcast_arrays(np.asarray(rows), np.asarray(cols)), axis=-1)
        return np.asarray(tokens * self.stride + np.asarray(self.origin) + (self.tile - 1) / 2, dtype=np.float64)

    def centre_um(self, rows: ArrayLike, cols: ArrayLike) -> NDArray[np.float64]:
        """Return the centres of tokens in µm, napari's world; shapes as in `centre_px`."""
        return self.centre_px(rows, cols) * self.slide_mpp

    def token_at(self, row_px: float, col_px: float) -> tuple[int, int] | None:
        """Return the token that looks at a level-0 pixel.

        Where tokens overlap it is the one whose centre is nearest (the later one on a tie).

        Parameters
        ----------
        row_px, col_px
            A place in level-0 pixels, pixel centres at whole numbers.

        Returns
        -------
        tuple or None
            (row, col) of the token; None outside every tile.
        """
        found = []
        for place, start, count in ((row_px, self.origin[0], self.rows), (col_px, self.origin[1], self.cols)):
            nearest = math.floor((place - start - (self.tile - 1) / 2) / self.stride + 0.5)
            index = min(max(nearest, 0), count - 1)
            first = start + index * self.stride
            if not first - 0.5 <= place < first + self.tile - 0.5:
                return None
            found.append(index)
        return found[0], found[1]

    def token_at_um(self, row_um: float, col_um: float) -> tuple[int, int] | None:
        """Return the token at a place of napari's world, in µm; see `token_at`."""
        return self.token_at(row_um / self.slide_mpp, col_um / self.slide_mpp)

    def ngff(self, n_extra: int = 0) -> dict[str, Any]:
        """Return axes and transforms of an array with one cell per token, as OME-NGFF writes them.

        Parameters
        ----------
        n_extra
            Axes that follow row and col and have no place in the slide, such as the embedding's dimensions.

        Returns
        -------
        dict
            "axes" and "coordinateTransformations" (scale, then translation; micrometres), in array order.
        """
        axes: list[dict[str, str]] = [{"name": name, "type": "space", "unit": "micrometer"} for name in ("y", "x")]
        axes += [{"name": "c" if n_extra == 1 else f"c{i}", "type": "channel"} for i in range(n_extra)]
        scale = [*self.scale_um, *[1.0] * n_extra]
        translation = [*self.translate_um, *[0.0] * n_extra]
        return {
            "axes": axes,
            "coordinateTransformations": [
                {"type": "scale", "scale": scale},
                {"type": "translation", "translation": translation},
            ],
        }

    def check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise `MismatchError` unless the first two axes of an array called `name` are this grid's."""
        if tuple(shape[:2]) != self.shape:
            raise MismatchError(
                f"{name} must have one cell per token, shape {self.shape}; got {tuple(shape)}."
                " Make it from this grid's geometry."
            )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON types; `from_json` gives back an equal geometry, exactly."""
        return {**asdict(self), "origin": list(self.origin)}

    @classmethod
    def from_json(cls, fields: Any) -> GridGeometry:
        """Read what `to_json` wrote.

        Raises
        ------
        FileFormatError
            A field is missing, unknown or impossible.
        """
        if not isinstance(fields, Mapping) or set(fields) != set(_FIELDS):
            came = sorted(fields) if isinstance(fields, Mapping) else fields
            raise FileFormatError(f"A grid geometry must hold the fields {', '.join(_FIELDS)}; got {came!r}.")
        try:
            return cls(**{**fields, "origin": tuple(fields["origin"])})
        except (InvalidInputError, TypeError) as error:
            raise FileFormatError(f"The stored grid geometry is damaged: {error}") from error


def _whole(name: str, value: Any, least: int | None) -> int:
    """Return `value` as an int, refusing fractions and what is below `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or (least is not None and number < least):
        bound = "" if least is None else f" of at least {least}"
        raise InvalidInputError(f"{name} must be a whole number{bound}; got {value!r}.")
    return number


def _pixel_size(name: str, value: Any) -> float:
    """Return `value` as a float, refusing what cannot be a pixel's width."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 < float(value) < math.inf:
        raise PixelSizeError(f"{name} must be a positive width in µm per pixel; got {value!r}.")
    return float(value)
