"""The built-in encoder `stain-texture`: what a tile of H&E looks like, in numbers with names.

No download and no network weights: stain separation, then statistics of colour and texture at
several scales, each brought to a comparable range by a fixed formula. Nothing is fitted.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import InvalidInputError
from napari_prospector.tokens.encoders.cards import EncoderCard
from napari_prospector.tokens.encoders.stains import separate
from napari_prospector.tokens.encoders.texture import (
    band_moments,
    binary_patterns,
    gradient_statistics,
    halve,
    smooth,
)

__all__ = ["FEATURE_NAMES", "StainTextureEncoder"]

SMALLEST_TILE_PX = 64
_N_LEVELS = 4
_PLANES = ("hematoxylin", "eosin", "residual", "density")
_PERCENTILES = (5, 25, 50, 75, 95)


def _features(tile: NDArray[np.uint8]) -> Iterator[tuple[str, float]]:
    """Yield the named features of one tile (tile_px, tile_px, 3)."""
    planes = separate(tile)
    yield from _colour(planes)
    for name, plane in zip(("hematoxylin", "density"), (planes[0], planes[3]), strict=True):
        low, high = np.percentile(plane[::2, ::2], (5, 95))
        level_plane = (plane - low) / np.float32(high - low + 0.2)
        for level in range(_N_LEVELS):
            yield from _texture(level_plane, f"{name} at {2**level} px")
            level_plane = halve(level_plane)


def _colour(planes: NDArray[np.float32]) -> Iterator[tuple[str, float]]:
    """Yield percentiles of the planes (4, rows, cols)."""
    for name, plane in zip(_PLANES, planes, strict=True):
        for percentile, value in zip(_PERCENTILES, np.percentile(plane[::2, ::2], _PERCENTILES), strict=True):
            yield f"{name}: percentile {percentile}", 2.0 * np.sqrt(max(value, 0.0))
    yield "share of glass", 3.0 * float(np.mean(planes[3] < 0.15))


def _texture(plane: NDArray[np.float32], name: str) -> Iterator[tuple[str, float]]:
    """Yield texture features of one level of a normalised plane."""
    deviation, skewness, kurtosis = band_moments(plane, smooth(plane))
    yield f"{name}: log band energy", 1.0 * np.log(deviation + 0.01)
    yield f"{name}: band skewness", float(np.arcsinh(skewness))
    yield f"{name}: band kurtosis", 0.5 * float(np.arcsinh(kurtosis))
    length, spread, coherence, coherence_spread = gradient_statistics(plane, 4)
    yield f"{name}: log gradient", 1.0 * np.log(length + 0.01)
    yield f"{name}: gradient spread", 2.0 * spread
    yield f"{name}: coherence", 5.0 * coherence
    yield f"{name}: coherence spread", 10.0 * coherence_spread
    for pattern, share in enumerate(binary_patterns(plane, 0.02)):
        yield f"{name}: pattern {pattern}", 2.0 * float(np.sqrt(share))


def _feature_names() -> tuple[str, ...]:
    """Return the names in the order of the embedding."""
    blank = np.full((SMALLEST_TILE_PX, SMALLEST_TILE_PX, 3), 255, np.uint8)
    return tuple(name for name, _ in _features(blank))


FEATURE_NAMES = _feature_names()


class StainTextureEncoder:
    """Named colour and texture statistics of a tile; see `FEATURE_NAMES`.

    Parameters
    ----------
    card
        `tile_px` at least 64; any `mpp` (the features are made for 0.5).
    n_threads
        Threads of one call of `encode`; None: one a core. The embeddings do not depend on it.
    """

    batch_size = 64

    def __init__(self, card: EncoderCard, n_threads: int | None = None) -> None:
        if card.tile_px < SMALLEST_TILE_PX:
            raise InvalidInputError(
                f"tile_px of 'stain-texture' must be at least {SMALLEST_TILE_PX}; got {card.tile_px}."
            )
        self.card = dataclasses.replace(card, n_dims=len(FEATURE_NAMES))
        self.feature_names = FEATURE_NAMES
        self.n_threads = n_threads or os.cpu_count() or 1

    def encode(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return embeddings, shape (n, n_dims), of tiles, shape (n, tile_px, tile_px, 3), red green blue.

        Raises
        ------
        InvalidInputError
            If `tiles` has another shape or dtype.
        """
        tile_px = self.card.tile_px
        if tiles.ndim != 4 or tiles.shape[1:] != (tile_px, tile_px, 3) or tiles.dtype != np.uint8:
            raise InvalidInputError(
                f"tiles must be uint8 of shape (n, {tile_px}, {tile_px}, 3); got {tiles.dtype} {tiles.shape}."
            )
        embeddings = np.empty((len(tiles), len(FEATURE_NAMES)), np.float32)

        def fill(index: int) -> None:
            embeddings[index] = [value for _, value in _features(tiles[index])]

        with ThreadPoolExecutor(self.n_threads) as pool:
            list(pool.map(fill, range(len(tiles))))
        return embeddings
