"""Truth masks, carried over to tokens. For evaluation only: nothing that is fitted ever sees them.

A truth is a PNG aligned with the slide: pixel (i, j) of R x C covers the rectangle from (i H / R, j W / C) to
((i + 1) H / R, (j + 1) W / C) of a slide of H x W level-0 pixels. Above half of the full value is positive; where an
alpha channel is 0, the truth is unknown.

Or it is a GeoJSON of regions, as QuPath writes them: those of the target class are positive, all else is negative;
regions without a class, and of QuPath's classes that end in an asterisk, are unknown.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import FileFormatError, InvalidInputError, MismatchError, MissingFileError
from napari_prospector.study.cohort import Cohort
from napari_prospector.study.geojson import GEOJSON_SUFFIXES, read_geojson
from napari_prospector.study.region_tokens import region_truth
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.store import TokenGrid

__all__ = ["TruthMask", "cohort_truths", "covered_share", "read_truth", "token_truth"]

_MOST_STRETCHED = 0.05  # a mask that was shrunk is off by a pixel, one of another slide by more


@dataclass(frozen=True, eq=False)
class TruthMask:
    """A truth as it is in its file.

    Attributes
    ----------
    positive
        Shape (R, C), bool.
    known
        Shape (R, C), bool; None: all of it.
    """

    positive: NDArray[np.bool_]
    known: NDArray[np.bool_] | None = None


def read_truth(path: str | os.PathLike[str]) -> TruthMask:
    """Read a truth mask.

    Parameters
    ----------
    path
        PNG, grey or colour, with or without alpha, 1 to 16 bits. Of colours the brightest channel counts.

    Returns
    -------
    TruthMask

    Raises
    ------
    MissingFileError
        There is no such file.
    FileFormatError
        It is no PNG, or damaged.
    """
    import imagecodecs

    file = Path(path)
    try:
        pixels = np.asarray(imagecodecs.png_decode(file.read_bytes()))
    except FileNotFoundError as error:
        raise MissingFileError(f"There is no truth mask at {path}. Check column truth.") from error
    except (imagecodecs.PngError, ValueError) as error:
        raise FileFormatError(f"{file.name} must be a PNG mask; it cannot be read as one ({error}).") from error
    half = np.iinfo(pixels.dtype).max // 2
    if pixels.ndim == 2:
        return TruthMask(pixels > half)
    has_alpha = pixels.shape[2] in (2, 4)
    colors = pixels[..., :-1] if has_alpha else pixels
    known = pixels[..., -1] > 0 if has_alpha else None
    return TruthMask(colors.max(axis=2) > half, None if known is None or known.all() else known)


def covered_share(mask: NDArray[np.bool_], geometry: GridGeometry, slide_shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return the share of each tile that a mask covers, exactly.

    Parameters
    ----------
    mask
        Shape (R, C), aligned with the slide as above.
    geometry
        Where the tiles lie.
    slide_shape
        (rows, cols) of level 0.

    Returns
    -------
    NDArray[np.float64]
        Shape (rows, cols) of the grid, 0 to 1: covered area over the area of the tile within the slide.

    Raises
    ------
    InvalidInputError
        The mask is not two-dimensional or empty, or a tile lies outside the slide.
    """
    if mask.ndim != 2 or mask.size == 0:
        raise InvalidInputError(f"mask must have shape (rows, cols) and at least one pixel; got {mask.shape}.")
    row_spans = _spans([geometry.box(i, 0)[0::2] for i in range(geometry.rows)], slide_shape[0], mask.shape[0])
    col_spans = _spans([geometry.box(0, j)[1::2] for j in range(geometry.cols)], slide_shape[1], mask.shape[1])
    shares = np.empty(geometry.shape)
    edges = np.arange(mask.shape[1] + 1)
    for i, (start, stop) in enumerate(row_spans):
        first, last = int(np.floor(start)), min(int(np.ceil(stop)), mask.shape[0])
        rows = np.arange(first, last)
        height = np.minimum(rows + 1, stop) - np.maximum(rows, start)
        # the mask is constant within its pixels, so that its integral is linear between their edges
        integral = np.concatenate(([0.0], np.cumsum(height @ mask[first:last])))
        area = np.interp(col_spans[:, 1], edges, integral) - np.interp(col_spans[:, 0], edges, integral)
        shares[i] = area / ((stop - start) * (col_spans[:, 1] - col_spans[:, 0]))
    return shares.clip(0, 1)


def _spans(boxes: Sequence[Sequence[int]], n_slide: int, n_mask: int) -> NDArray[np.float64]:
    """Turn spans (start, stop) of level-0 pixels, cut to the slide, into spans of mask pixels, (n, 2)."""
    spans = np.clip(np.asarray(boxes, dtype=np.float64), 0, n_slide)
    if (spans[:, 1] <= spans[:, 0]).any():
        raise InvalidInputError(f"Every tile must reach into the slide of {n_slide} pixels; one does not.")
    return np.asarray(spans * (n_mask / n_slide))


def token_truth(
    truth: TruthMask, geometry: GridGeometry, slide_shape: tuple[int, int], min_share: float = 0.5
) -> NDArray[np.int8]:
    """Say of every token whether it is positive.

    Parameters
    ----------
    truth
        From `read_truth`.
    geometry, slide_shape
        As in `covered_share`.
    min_share
        A token is positive if more than this share of its tile is, counted where the truth is known.

    Returns
    -------
    NDArray[np.int8]
        Shape (rows, cols) of the grid: 1 positive, 0 negative, -1 where less than half of the tile is known.
    """
    if truth.known is None:
        return (covered_share(truth.positive, geometry, slide_shape) > min_share).astype(np.int8)
    known = covered_share(truth.known, geometry, slide_shape)
    positive = covered_share(truth.positive & truth.known, geometry, slide_shape)
    marks = (positive > min_share * known).astype(np.int8)
    marks[known < 0.5] = -1
    return marks


def cohort_truths(
    cohort: Cohort, grids: Sequence[TokenGrid], target: str, min_share: float = 0.5
) -> list[NDArray[np.int8] | None]:
    """Return the truth of the tokens of every datum, in the order of `TokenGrid.graph`.

    Parameters
    ----------
    cohort
        Its rows name the truths: PNG masks, or GeoJSON.
    grids
        The token grid of each row.
    target
        The class whose regions the masks show, and whose regions of annotations are positive. A datum of another class
        has none of it: without a truth all its tokens are negative.
    min_share
        As in `token_truth`.

    Returns
    -------
    list
        (n_tokens,) int8 for each datum, or None for a datum of the target class without a mask.
    """
    if len(grids) != len(cohort):
        raise MismatchError(f"There must be one token grid for each of {len(cohort)} rows; got {len(grids)}.")
    return [
        _row_truth(row.truth, target, row.label == target, grid, min_share)
        for row, grid in zip(cohort, grids, strict=True)
    ]


def _row_truth(
    path: Path | None, target: str, is_target: bool, grid: TokenGrid, min_share: float
) -> NDArray[np.int8] | None:
    """Return the truth (n_tokens,) of one datum; None where nothing is known."""
    mask = grid.mask
    if path is None:
        return None if is_target else np.zeros(int(mask.sum()), dtype=np.int8)
    rows, cols = grid.attrs["level0_shape"]
    if path.suffix.lower() in GEOJSON_SUFFIXES:
        return _annotated_truth(path, target, is_target, grid, min_share)
    truth = read_truth(path)
    height, width = truth.positive.shape
    if abs(rows * width / (cols * height) - 1) > _MOST_STRETCHED + 1 / min(height, width):
        raise MismatchError(
            f"{path.name} must cover its slide {grid.attrs['slide_name']}, {rows} x {cols} px, in the same proportions;"
            f" it has {height} x {width}. Check column truth: the mask must be of this slide, and show all of it."
        )
    return token_truth(truth, grid.geometry, (rows, cols), min_share)[mask]


def _annotated_truth(path: Path, target: str, is_target: bool, grid: TokenGrid, min_share: float) -> NDArray[np.int8]:
    """Return the truth (n_tokens,) that annotations state; what lies in no region is negative."""
    rows, cols = grid.attrs["level0_shape"]
    regions = read_geojson(path).regions
    classes = sorted({region.label for region in regions if region.label is not None})
    if is_target and regions and target not in classes:
        came = ", ".join(map(repr, classes)) or "none"
        raise InvalidInputError(
            f"{path.name} must hold a region of class {target!r}; its classes are {came}. Call the class as the label "
            "of its slide is called, capitals included."
        )
    for region in regions:
        row0, col0, row1, col1 = region.bounds
        if row1 <= 0 or col1 <= 0 or row0 >= rows or col0 >= cols:
            raise MismatchError(
                f"{path.name} must be of its slide {grid.attrs['slide_name']}, {rows} x {cols} px; region "
                f"{region.name or region.id!r} lies outside of it. Coordinates are level-0 pixels."
            )
    slide_shape = (int(rows), int(cols))
    return region_truth(regions, target, grid.geometry, grid.mask, min_share, outside=0, slide_shape=slide_shape)
