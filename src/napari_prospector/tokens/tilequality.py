"""Quality measures of a tile, taken from its pixels while they are at hand.

Each is a number from 0 to 1, the greater the worse. The formulas are our own; the ideas are named at each of them.
HistoQC (Janowczyk et al., JCO Clinical Cancer Informatics 3, 2019) looks for the same artefacts on whole slides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numba
import numpy as np
from numpy.typing import NDArray

from napari_prospector.tokens.quality import MEASURES, THRESHOLDS

__all__ = ["QualityGauge"]

# Side of the cells in which density and evenness are judged: smaller than the gaps of a single layer of tissue.
_CELL_UM = 4.0
_LEAST_CELL_PX, _MOST_CELL_PX = 4, 32
_NOISE = 1.0  # variance of camera and JPEG, in squared grey levels
_LEAST_TISSUE = 0.1  # optical density; paler cells say nothing about focus
_FOLD_DENSITY, _FOLD_CHROMA = 2.0, 0.25
_RIM_DENSITY, _RIM_CHROMA, _RIM_ROUGHNESS = 0.2, 0.3, 120.0
_MOST_INK = 0.2
_MOST_INK_GREY = 80

_jit = numba.njit(nogil=True, cache=True)


@dataclass(frozen=True)
class QualityGauge:
    """Measures the quality of tiles of one slide.

    Parameters
    ----------
    light
        Red, green and blue of empty light, 0 to 255.
    tissue_density
        Median optical density (log10, mean of the channels) of the slide's tissue at about 8 µm per pixel; NaN where
        it is not known, folds are then not measured.
    """

    light: tuple[float, float, float] = (255.0, 255.0, 255.0)
    tissue_density: float | None = None

    @property
    def record(self) -> dict[str, Any]:
        """What a store remembers: names, thresholds of the flags, and on what the measures depend; JSON types."""
        return {"measures": list(MEASURES), "thresholds": dict(THRESHOLDS), "gauge": asdict(self)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return the gauge of a record; KeyError or TypeError where it holds none."""
        gauge = record["gauge"]
        red, green, blue = (float(value) for value in gauge["light"])
        density = gauge["tissue_density"]
        return cls((red, green, blue), None if density is None else float(density))

    def measure(self, tiles: NDArray[np.uint8], mpp: float) -> NDArray[np.float32]:
        """Measure tiles.

        pen
            Share of pixels that are marker ink. Blue and green ink absorb red more than green light, which
            hematoxylin, eosin and DAB do not; black is dark without colour; red ink absorbs green and blue alike and
            almost no red, where eosin takes green above all. Blood can look like red ink.
        blur
            1 - sqrt(L / 20 V), with L the energy of the Laplacian of the luminance and V its variance within cells of
            4 µm, both over cells with tissue and less the noise of a camera: 0 for white noise, 1 where nothing is
            finer than a cell. After Pech-Pacheco et al., ICPR 2000 (variance of the Laplacian), made relative to
            the contrast, so that pale tissue is not taken for blurred. NaN without tissue.
        fold
            Share of squares of 8 µm that are coloured, and in all four quarters more than twice as dense as the
            median of this slide's tissue: a second layer fills the gaps of the first, which crowded nuclei leave. NaN
            where the density of the slide's tissue is unknown.
        bubble
            Share of cells of 4 µm that are dark, nearly colourless and smooth: the rim of an air bubble, the edge of a
            cover slip. Cells with ink do not count, here and for folds.

        Parameters
        ----------
        tiles
            (n, rows, cols, 3) uint8.
        mpp
            Width of their pixels in µm.

        Returns
        -------
        ndarray
            (n, 4) float32 in the order of `MEASURES`; 0 to 1, or NaN.
        """
        cell_px = int(min(max(round(_CELL_UM / mpp), _LEAST_CELL_PX), _MOST_CELL_PX, *tiles.shape[1:3]))
        greys = np.maximum(np.arange(256), 1)
        light = np.maximum(np.array(self.light), 1)
        tables = np.maximum(np.log10(light[:, None] / greys), 0).astype(np.float32)
        density = np.nan if self.tissue_density is None else self.tissue_density
        measured = np.empty((len(tiles), len(MEASURES)), np.float32)
        for tile, row in zip(tiles, measured, strict=True):
            _measure(tile, tables, cell_px, density, row)
        return measured


@_jit
def _measure(
    tile: NDArray[np.uint8],
    tables: NDArray[np.float32],
    cell_px: int,
    tissue_density: float,
    measured: NDArray[np.float32],
) -> None:
    """Fill `measured` (4,) for one tile; `tables` (3, 256) turn grey levels into optical densities."""
    rows, cols = tile.shape[:2]
    grey = np.empty((rows, cols), np.float32)
    ink = np.zeros((rows // cell_px + 1, cols // cell_px + 1), np.int32)
    n_ink = 0
    for row in range(rows):
        for col in range(cols):
            red, green, blue = tile[row, col, 0], tile[row, col, 1], tile[row, col, 2]
            grey[row, col] = np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
            # ink takes most of the red or the green light; most pixels need no closer look
            if (red < _MOST_INK_GREY or green < _MOST_INK_GREY) and _is_ink(red, green, blue, tables):
                n_ink += 1
                ink[row // cell_px, col // cell_px] += 1
    n_down, n_across = rows // cell_px, cols // cell_px
    dense = np.zeros((n_down, n_across), np.uint8)
    n_tissue, n_rim = 0, 0
    detail, contrast = 0.0, 0.0
    for down in range(n_down):
        for across in range(n_across):
            density, chroma, rough, variance = _cell(tile, grey, down * cell_px, across * cell_px, cell_px, tables)
            if density > _LEAST_TISSUE:
                n_tissue += 1
                detail += rough
                contrast += variance
            if ink[down, across] > _MOST_INK * cell_px * cell_px:
                continue
            dense[down, across] = density > _FOLD_DENSITY * tissue_density and chroma > _FOLD_CHROMA
            n_rim += density > _RIM_DENSITY and chroma < _RIM_CHROMA and rough < _RIM_ROUGHNESS
    measured[0] = n_ink / (rows * cols)
    measured[1] = np.nan
    if n_tissue:
        signal = max(detail / (20 * n_tissue) - _NOISE, 0.0)
        measured[1] = 1 - min(1.0, np.sqrt(signal / max(contrast / n_tissue, 1e-3)))
    measured[2] = _share_of_squares(dense) if tissue_density > 0 else np.nan
    measured[3] = n_rim / (n_down * n_across)


@_jit
def _share_of_squares(dense: NDArray[np.uint8]) -> float:
    """Return the share of squares of 2 x 2 cells that are dense in all four."""
    n_squares, n_dense = 0, 0
    for down in range(0, dense.shape[0] - 1, 2):
        for across in range(0, dense.shape[1] - 1, 2):
            n_squares += 1
            n_dense += dense[down : down + 2, across : across + 2].sum() == 4
    return n_dense / max(n_squares, 1)


@_jit
def _is_ink(red: int, green: int, blue: int, tables: NDArray[np.float32]) -> bool:
    """Whether a pixel is marker ink."""
    in_red, in_green, in_blue = tables[0, red], tables[1, green], tables[2, blue]
    if in_red > 0.65 and in_red > 1.1 * in_green:
        return True
    most, least = max(red, green, blue), min(red, green, blue)
    if most < 80 and most - least < 25:
        return True
    return bool(in_green > 0.6 and in_blue > 0.8 * in_green and in_red < 0.2 * in_green)


@_jit
def _cell(
    tile: NDArray[np.uint8],
    grey: NDArray[np.float32],
    top: int,
    left: int,
    side: int,
    tables: NDArray[np.float32],
) -> tuple[float, float, float, float]:
    """Return density and relative chroma of a cell's mean colour, mean squared Laplacian, and variance of grey."""
    rows, cols = grey.shape
    red, green, blue = 0, 0, 0
    total, squares, fine = np.float32(0), np.float32(0), np.float32(0)
    centre = grey[top, left]  # squares of differences from it do not lose digits
    for row in range(top, top + side):
        for col in range(left, left + side):
            red += tile[row, col, 0]
            green += tile[row, col, 1]
            blue += tile[row, col, 2]
            off = grey[row, col] - centre
            total += off
            squares += off * off
    for row in range(max(top, 1), min(top + side, rows - 1)):
        for col in range(max(left, 1), min(left + side, cols - 1)):
            around = grey[row - 1, col] + grey[row + 1, col] + grey[row, col - 1] + grey[row, col + 1]
            bend = np.float32(4) * grey[row, col] - around
            fine += bend * bend
    n_px = side * side
    in_red, in_green, in_blue = tables[0, red // n_px], tables[1, green // n_px], tables[2, blue // n_px]
    density = (in_red + in_green + in_blue) / 3
    chroma = (max(in_red, in_green, in_blue) - min(in_red, in_green, in_blue)) / max(density, np.float32(1e-3))
    return density, chroma, float(fine / n_px), float(squares / n_px - (total / n_px) ** 2)
