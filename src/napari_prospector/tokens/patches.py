"""Which tiles are read and which tokens become of them: whole tiles, or the patches of tiles stitched to one grid.

An encoder that gives patch tokens sees a tile and gives a vector for each of its ``k × k`` patches. Tiles lie side by
side, or overlap so that only their inner patches are kept; either way the patches that are kept tile the slide, and
each is a whole number of level-0 pixels, so that no seam and no rounding is left between tiles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import InvalidInputError, PixelSizeError
from napari_prospector.tokens.encoders.cards import EncoderCard
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.store import Block
from napari_prospector.tokens.tissue import TissueMask, tile_coverage

__all__ = ["Cells", "TokenLayout", "patches_along"]

# A patch is a whole number of level-0 pixels: how far its pixels may be from the size that was asked for.
_MOST_OFF = 0.05
# Bytes of a block of patch tokens, the unit of writing; tiles along a side of a block, at most.
_BLOCK_BYTES, _MOST_BLOCK_TILES = 16 * 2**20, 16
_STRIP_TOKENS = 1_000_000

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TokenLayout:
    """How the tokens of a slide come from its tiles.

    Parameters
    ----------
    tiles
        What is read and handed to the encoder. With overlap, it begins outside of the slide.
    tokens
        What is stored; the same grid with tile tokens.
    kept
        Tokens along each side of a tile that are stored: 1 with tile tokens. Tile (i, j) holds the tokens from
        (i * kept, j * kept) on; the last row and column of tiles may reach beyond the grid of tokens.

    Examples
    --------
    >>> card = EncoderCard("mine", "timm", "timm:mine", 224, 0.5, patch_px=14, tokens="patch")
    >>> layout = TokenLayout.of_card((10_000, 20_000), 0.25, card)
    >>> layout.tokens.tile, layout.tokens.shape, layout.tiles.shape, layout.kept
    (28, (357, 714), (23, 45), 16)
    """

    tiles: GridGeometry
    tokens: GridGeometry
    kept: int = 1

    @classmethod
    def of_card(
        cls, slide_shape: tuple[int, int], slide_mpp: float, card: EncoderCard, stride_px: int | None = None
    ) -> TokenLayout:
        """Lay tiles and tokens over a whole slide, from its upper left corner.

        Parameters
        ----------
        slide_shape
            (rows, cols) of level 0.
        slide_mpp
            Width of a level-0 pixel in µm.
        card
            Of the encoder. With patch tokens, a patch becomes ``round(patch_px * mpp / slide_mpp)`` level-0 pixels
            and belongs to the grid if its centre is inside the slide.
        stride_px
            Distance between tiles in pixels of the encoder, with tile tokens only.

        Raises
        ------
        InvalidInputError
            The tile is larger than the slide, the overlap is no whole number of patches or leaves none, or
            `stride_px` is given with patch tokens.
        PixelSizeError
            A pixel size is not a positive finite number, or rounding patches to whole level-0 pixels would change the
            scale by more than 5 %.
        """
        if card.tokens != "patch":
            grid = GridGeometry.cover(slide_shape, slide_mpp, card.tile_px, card.mpp, stride_px)
            return cls(grid, grid)
        if stride_px is not None:
            raise InvalidInputError(
                f"stride_px is for tile tokens; got {stride_px} with patch tokens. Patches lie side by side: leave it"
                " out, or let tiles overlap with overlap_px=… (--overlap)."
            )
        n_patches, n_dropped = patches_along(card)
        # also refuses pixel sizes that cannot be, and a tile that does not fit the slide
        GridGeometry.cover(slide_shape, slide_mpp, card.tile_px, card.mpp)
        patch_px = card.tile_px // n_patches
        patch = _whole_patch(card, patch_px, slide_mpp)
        kept = n_patches - n_dropped
        rows, cols = (-(-(2 * extent - patch) // (2 * patch)) for extent in slide_shape)
        start = -(n_dropped // 2) * patch
        stride, tile = kept * patch, n_patches * patch
        tiles = GridGeometry(-(-rows // kept), -(-cols // kept), tile, stride, (start, start), slide_mpp, card.tile_px)
        return cls(tiles, GridGeometry(rows, cols, patch, patch, (0, 0), slide_mpp, patch_px), kept)

    def coverage(self, tissue: TissueMask) -> Floats:
        """Return the share of each token's area that is tissue, (rows, cols), exactly; in strips, to bound memory."""
        rows, (row0, col0) = self.tokens.rows, self.tokens.origin
        height = max(1, _STRIP_TOKENS // self.tokens.cols)
        coverage = np.empty(self.tokens.shape, np.float32)
        for first in range(0, rows, height):
            n_rows = min(height, rows - first)
            strip = replace(self.tokens, rows=n_rows, origin=(row0 + first * self.tokens.stride, col0))
            coverage[first : first + n_rows] = tile_coverage(tissue, strip)
        return coverage

    def tiles_with(self, tokens: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which tiles hold any of some tokens.

        Parameters
        ----------
        tokens
            (rows, cols) of the tokens, or of a block of them that begins with a tile.

        Returns
        -------
        ndarray
            One cell a tile.
        """
        if self.kept == 1:
            return tokens
        rows = np.logical_or.reduceat(tokens, range(0, tokens.shape[0], self.kept), axis=0)
        return np.asarray(np.logical_or.reduceat(rows, range(0, tokens.shape[1], self.kept), axis=1))

    def block_side(self, n_dims: int, itemsize: int, tiles: int = _MOST_BLOCK_TILES) -> int:
        """Return the tokens along a side of a block: whole tiles, at most `tiles`, of patches at most 16 MiB."""
        if self.kept > 1:
            affordable = math.isqrt(_BLOCK_BYTES // (self.kept**2 * n_dims * itemsize))
            tiles = max(1, min(tiles, _MOST_BLOCK_TILES, affordable))
        return tiles * self.kept

    def tile_block(self, block: Block) -> Block:
        """Return the block of tiles behind a block of tokens."""
        rows, cols = (slice(part.start // self.kept, -(-part.stop // self.kept)) for part in block.tokens)
        return Block(block.index, rows, cols)

    def cells(self, block: Block, tiles: NDArray[np.int64], wanted: NDArray[np.bool_]) -> Cells:
        """Return where the tokens of tiles lie within their block.

        Parameters
        ----------
        block
            Of tokens.
        tiles
            (n, 2), (row, col) of tiles.
        wanted
            (rows, cols) of the block: tokens that are to be stored.
        """
        steps = np.arange(self.kept)
        first = tiles * self.kept - (block.rows.start, block.cols.start)
        rows, cols = np.broadcast_arrays(
            first[:, 0, None, None] + steps[:, None], first[:, 1, None, None] + steps[None, :]
        )
        # the last tiles may reach beyond the grid
        chosen = (rows < wanted.shape[0]) & (cols < wanted.shape[1])
        chosen[chosen] = wanted[rows[chosen], cols[chosen]]
        return Cells(rows, cols, chosen, (block.rows.start, block.cols.start))


@dataclass(frozen=True, eq=False)
class Cells:
    """Where the tokens of n tiles lie within a block.

    Parameters
    ----------
    rows, cols
        (n, kept, kept) each, counted from the block's first token.
    chosen
        (n, kept, kept): which of them are stored.
    first
        (row, col) of the block's first token in the grid.
    """

    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    chosen: NDArray[np.bool_]
    first: tuple[int, int]

    @property
    def n_tokens(self) -> int:
        """How many are stored."""
        return int(self.chosen.sum())

    def fill(self, block: NDArray[Any], values: NDArray[Any]) -> None:
        """Write values, (n, kept, kept, …) or what broadcasts to it, into an array of the block, (rows, cols, …)."""
        whole = np.broadcast_to(values, (*self.chosen.shape, *values.shape[3:]))
        block[self.rows[self.chosen], self.cols[self.chosen]] = whole[self.chosen]

    def first_of(self, where: NDArray[np.bool_], reasons: Mapping[int, str]) -> Iterator[tuple[int, int, str, int]]:
        """Yield row and col in the grid, reason, and number of the stored tokens `where` (n, kept, kept), by tile."""
        for tile, reason in reasons.items():
            inside = self.chosen[tile] & where[tile]
            if inside.any():
                row, col = self.rows[tile][inside][0] + self.first[0], self.cols[tile][inside][0] + self.first[1]
                yield int(row), int(col), reason, int(inside.sum())


def patches_along(card: EncoderCard) -> tuple[int, int]:
    """Return the patches along a side of a tile, and how many of them are dropped because neighbours overlap.

    Raises
    ------
    InvalidInputError
        The card states no patches that divide a tile, or the overlap is no whole number of them or leaves none.
    """
    patch_px = card.patch_px or 0
    if patch_px < 1 or card.tile_px % patch_px:
        raise InvalidInputError(
            f"Tiles must be a whole number of patches; encoder {card.name!r} has tiles of {card.tile_px} px and"
            f" patches of {card.patch_px} px. Pass another tile_px (--tile-px), or take tile tokens."
        )
    n_patches = card.tile_px // patch_px
    if card.overlap_px % patch_px or not 0 <= card.overlap_px < card.tile_px:
        raise InvalidInputError(
            f"overlap_px must be a whole number of patches, 0 to {card.tile_px - patch_px} in steps of {patch_px} for"
            f" {card.name!r}; got {card.overlap_px}."
        )
    return n_patches, card.overlap_px // patch_px


def _whole_patch(card: EncoderCard, patch_px: int, slide_mpp: float) -> int:
    """Return the level-0 pixels of a patch."""
    patch = max(1, math.floor(patch_px * card.mpp / slide_mpp + 0.5))
    mpp = patch * slide_mpp / patch_px
    if abs(mpp / card.mpp - 1) > _MOST_OFF:
        raise PixelSizeError(
            f"A patch must be a whole number of level-0 pixels; {patch_px} px at {card.mpp:g} µm per pixel are"
            f" {patch_px * card.mpp / slide_mpp:.3g} of {slide_mpp:g} µm, and {patch} would be"
            f" {100 * (mpp / card.mpp - 1):+.0f} %. Pass mpp={mpp:.4g} to load_encoder (--tile-mpp {mpp:.4g}), or take"
            " tile tokens."
        )
    return patch
