"""Encoders of patches without weights: mean colours, and a convolution that sees beyond its patch."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from napari_prospector.tokens.encoders.cards import EncoderCard

PATCH_PX, N_PATCHES, MPP = 4, 5, 0.5
TILE_PX = PATCH_PX * N_PATCHES


def patch_means(pixels: np.ndarray, patch_px: int = PATCH_PX) -> np.ndarray:
    """Mean colour of every whole patch of images (..., rows, cols, 3), a double loop apart from the library."""
    rows, cols = pixels.shape[-3] // patch_px, pixels.shape[-2] // patch_px
    means = np.empty((*pixels.shape[:-3], rows, cols, 3), np.float32)
    for row in range(rows):
        for col in range(cols):
            patch = pixels[..., row * patch_px : (row + 1) * patch_px, col * patch_px : (col + 1) * patch_px, :]
            means[..., row, col, :] = patch.astype(np.float64).mean((-3, -2))
    return means


class MeanColours:
    """The mean colour of each patch; of a tile, that of the whole, and a fourth number that patches lack."""

    def __init__(self, batch_size: int = 3, **changes: Any) -> None:
        entries = {"name": "means", "loader": "fake", "source": "tests", "tile_px": TILE_PX, "mpp": MPP, "n_dims": 4}
        self.card = EncoderCard(**(entries | changes))
        self.batch_size = batch_size
        self.n_tiles = 0

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        """Return (n, 4)."""
        means = tiles.astype(np.float64).mean((1, 2))
        return np.concatenate([means, np.ones((len(tiles), 1))], axis=1).astype(np.float32)

    def encode_patches(self, tiles: np.ndarray) -> np.ndarray:
        """Return (n, 5, 5, 3)."""
        self.n_tiles += len(tiles)
        return patch_means(tiles)


class Blurred(MeanColours):
    """Mean colours of a blurred tile: a patch sees 2 px beyond its edge, and white beyond the tile's."""

    def encode_patches(self, tiles: np.ndarray) -> np.ndarray:
        """Return (n, 5, 5, 3)."""
        self.n_tiles += len(tiles)
        return patch_means(blurred(tiles))


def blurred(pixels: np.ndarray) -> np.ndarray:
    """Average over 5 x 5 px; white lies outside."""
    size = (*(1 for _ in pixels.shape[:-3]), 5, 5, 1)
    return ndimage.uniform_filter(pixels.astype(np.float64), size, mode="constant", cval=255.0)
