"""The built-in encoder `stain-texture`: what a tile of H&E looks like, in numbers with names.

No download and no network weights: stain separation, then the shapes and textures of two levelled
planes at several scales, and a little colour. Each feature is brought to a comparable range by a
formula that is fixed; nothing is fitted.

The planes are *darkness* (mean optical density) and *blueness* (hematoxylin less half the eosin),
both levelled (see `stains.level`). Level 0 of a pyramid is the tile, each further one half as fine.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import InvalidInputError
from napari_prospector.tokens.encoders.cards import EncoderCard
from napari_prospector.tokens.encoders.ranges import SPREAD, TYPICAL
from napari_prospector.tokens.encoders.shapes import GRAIN_MEASURES, boundary_and_euler, gap_shares, grain_measures
from napari_prospector.tokens.encoders.stains import level, quantiles, separate
from napari_prospector.tokens.encoders.texture import N_PATTERNS, binary_patterns, oriented_energies, pyramid

__all__ = ["FEATURE_NAMES", "SMALLEST_TILE_PX", "StainTextureEncoder", "raw_features"]

SMALLEST_TILE_PX = 64
_N_LEVELS = 5
# Shares of the tile that are lighter than what counts as a shape: from all but glass to the darkest nuclei.
_THRESHOLDS = (0.15, 0.3, 0.5, 0.7, 0.85)
_N_PATTERN_LEVELS = 4
# For each level, at how many coarser scales the arrangement of gradients is measured.
_ENERGY_SCALES = (4, 4, 3, 2)
_GAP_LIMITS_PX = (1.5, 2.5, 4.0, 6.0, 9.0, 13.0, 20.0, 30.0)
_CONTRAST_QUANTILES = (0.15, 0.30, 0.50, 0.70, 0.85)
_COLOUR_QUANTILES = (0.25, 0.50, 0.75)

# A kind with many features that say similar things counts for less, colour for least: patients
# differ in stain more than diseases do.
_WEIGHTS = (
    (_N_LEVELS * len(_THRESHOLDS) * 2, 0.34),  # boundaries and Euler numbers
    (_N_PATTERN_LEVELS * N_PATTERNS, 0.40),
    (len(_ENERGY_SCALES) + 2 * sum(_ENERGY_SCALES), 0.43),
    (len(_GAP_LIMITS_PX), 0.60),
    (len(GRAIN_MEASURES), 0.58),
    (2 * len(_CONTRAST_QUANTILES), 0.56),
    (3 * len(_COLOUR_QUANTILES), 0.20),
)
_WEIGHT = np.repeat([weight for _, weight in _WEIGHTS], [n_features for n_features, _ in _WEIGHTS])
# What lies farther than this many spreads from the typical tile is brought near: a blank tile or
# the edge of the tissue must not fill the concepts.
_REACH = 2.0

_Plane = NDArray[np.float32]
_Pyramid = list[tuple[_Plane, _Plane]]


def _shape_features(levelled: Sequence[_Plane]) -> Iterable[float]:
    """Describe what lies above each threshold at each level: boundary and Euler number."""
    for plane in levelled:
        for threshold in _THRESHOLDS:
            boundary, euler = boundary_and_euler(plane, threshold)
            yield np.log(boundary + 0.01)
            yield np.arcsinh(200 * euler)


def _pattern_features(levels: _Pyramid) -> Iterable[float]:
    """Describe the finest texture of each level: local binary patterns."""
    for plane, _ in levels[:_N_PATTERN_LEVELS]:
        yield from np.sqrt(binary_patterns(plane, 0.01))


def _energy_features(levels: _Pyramid) -> Iterable[float]:
    """Describe the gradients of each level and how they are arranged."""
    for (plane, _), n_scales in zip(levels, _ENERGY_SCALES, strict=True):
        mean, changes = oriented_energies(plane, n_scales)
        yield np.log(mean)
        yield from np.log(changes + 0.02)


def _nucleus_features(levelled: _Plane) -> Iterable[float]:
    """Describe the darkest things: how far apart, how large and of what form."""
    yield from np.sqrt(gap_shares(levelled, _THRESHOLDS[-1], _GAP_LIMITS_PX))
    yield from grain_measures(levelled, _THRESHOLDS[-1])


def _contrast_features(plane: _Plane) -> Iterable[float]:
    """Describe where the quantiles of a plane lie between its 5th and 95th percentile."""
    low, *inner, high = quantiles(plane, (0.05, *_CONTRAST_QUANTILES, 0.95))
    for value in inner:
        yield (value - low) / (high - low + 0.1)


def _colour_features(plane: _Plane) -> Iterable[float]:
    """Describe how much of a stain there is."""
    yield from quantiles(plane, _COLOUR_QUANTILES)


def raw_features(tile: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the features of a tile (tile_px, tile_px, 3) in the order of `FEATURE_NAMES`, each in its own unit."""
    hematoxylin, eosin, residual, density = separate(tile)
    darkness = pyramid(level(density), _N_LEVELS)
    blueness = pyramid(level(hematoxylin - np.float32(0.5) * eosin), len(_ENERGY_SCALES))
    # Smoothing narrows the range of values, the more the finer the texture: level again.
    levelled = [level(smoothed, softness=0.05, span=(0.0, 1.0)) for _, smoothed in darkness]
    features = (
        *_shape_features(levelled),
        *_pattern_features(darkness),
        *_energy_features(blueness),
        *_nucleus_features(levelled[0]),
        *_contrast_features(density),
        *_contrast_features(hematoxylin),
        *_colour_features(hematoxylin),
        *_colour_features(eosin),
        *_colour_features(residual),
    )
    return np.array(features)


def _comparable(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bring features (n_dims,) to comparable ranges, none beyond `_REACH` times its weight."""
    comparable: NDArray[np.float64] = _WEIGHT * _REACH * np.tanh((raw - TYPICAL) / (_REACH * SPREAD))
    return comparable


def _feature_names() -> Iterable[str]:
    """Yield a name for every feature."""
    for step in range(_N_LEVELS):
        for threshold in _THRESHOLDS:
            what = f"darkest {100 - 100 * threshold:.0f} % at level {step}"
            yield from (f"boundary of {what}", f"Euler number of {what}")
    for step in range(_N_PATTERN_LEVELS):
        yield from (f"{ones} darker neighbours in a run, level {step}" for ones in range(N_PATTERNS - 1))
        yield f"darker neighbours in several runs, level {step}"
    for step, n_scales in enumerate(_ENERGY_SCALES):
        yield f"gradient of blueness, level {step}"
        for scale in range(n_scales):
            yield f"its change along itself over {2 ** (scale + 1)} px of level {step}"
            yield f"its change across itself over {2 ** (scale + 1)} px of level {step}"
    yield from (f"share farther than {limit:g} px from the darkest 15 %" for limit in _GAP_LIMITS_PX)
    yield from (f"darkest 15 %: {measure}" for measure in GRAIN_MEASURES)
    for plane in ("density", "hematoxylin"):
        yield from (f"relative quantile {quantile:g} of {plane}" for quantile in _CONTRAST_QUANTILES)
    for plane in ("hematoxylin", "eosin", "residual"):
        yield from (f"quantile {quantile:g} of {plane}" for quantile in _COLOUR_QUANTILES)


FEATURE_NAMES = tuple(_feature_names())


class StainTextureEncoder:
    """Shapes, textures and a little colour of a tile; see `FEATURE_NAMES`.

    Parameters
    ----------
    card
        `tile_px` at least 64; any `mpp` (0.5 is what the scales were chosen for).
    n_threads
        Threads of one call of `encode`; None: one a core. The embeddings do not depend on it.
    """

    batch_size = 64

    def __init__(self, card: EncoderCard, n_threads: int | None = None) -> None:
        if card.tile_px < SMALLEST_TILE_PX:
            raise InvalidInputError(
                f"tile_px of {card.name!r} must be at least {SMALLEST_TILE_PX}; got {card.tile_px}."
            )
        self.card = dataclasses.replace(card, n_dims=len(FEATURE_NAMES))
        self.feature_names = FEATURE_NAMES
        self.n_threads = n_threads or os.cpu_count() or 1

    def encode(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the embeddings of tiles.

        Parameters
        ----------
        tiles
            Shape (n, tile_px, tile_px, 3), red green blue.

        Returns
        -------
        ndarray of float32
            Shape (n, n_dims), always finite.

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
        if self.n_threads == 1 or len(tiles) < 2:
            raw: Iterable[NDArray[np.float64]] = map(raw_features, tiles)
        else:
            with ThreadPoolExecutor(self.n_threads) as pool:
                raw = list(pool.map(raw_features, tiles))
        for embedding, features in zip(embeddings, raw, strict=True):
            embedding[:] = _comparable(features)
        return embeddings
