"""Which parts of a slide hold tissue: a mask at low resolution, and the share of tissue under each tile."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import InvalidInputError, MismatchError, UnknownNameError
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.pieces import without_small_pieces
from napari_prospector.tokens.slides import Slide

__all__ = ["METHODS", "TissueMask", "glass_colour", "tile_coverage", "tissue_mask"]

METHODS = ("otsu", "all")

# Optical densities, of the darkest channel and relative to glass, are counted in steps of this.
_STEP = 0.002
# Dense and very dense tissue are one, or Otsu would part them.
_MOST_DENSITY = 0.3
# Below lies the unevenness of glass, above lies no glass: what Otsu finds is kept between.
_LOW_THRESHOLD, _HIGH_THRESHOLD = 0.03, 0.10
_LEAST_GLASS_SHARE = 0.01
_LEAST_GLASS_GREY, _MOST_GLASS_TINT, _MOST_GLASS_SPREAD = 200, 15, 5
_MOST_GLASS_CELLS = 300_000  # a sample tells the colour
_MOST_LIGHT_CELLS = 4_000_000

_LEAST_INK_UM2 = 50_000.0  # a stroke, not a grain of pigment
_INK_RIM_UM = 40.0
_INK_STEPS = round(0.35 / _STEP)

_N_THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True, eq=False)
class TissueMask:
    """Tissue and glass of one slide.

    Parameters
    ----------
    mask
        True where tissue is, shape (rows, cols); cell (0, 0) begins at the slide's upper left corner.
    scale
        Level-0 pixels per cell, (row, col); exact, and not always whole.
    slide_shape
        (rows, cols) of level 0. The last cells may reach beyond it.
    slide_mpp
        Width of a level-0 pixel in µm.
    threshold
        Optical density (log10, darkest channel, relative to glass) above which a cell is tissue; 0 for "all".
    method
        "otsu", "all" (asked for, or no glass was found) or "fixed" (the threshold was passed).
    ink_share
        Share of the cells that are left out as marker ink or black filling, 0-1.
    note
        What was found, for people.
    light
        Red, green and blue of the empty slide, 0-255.
    density
        Median optical density (log10, mean of the channels, relative to `light`) of the cells with tissue; None where
        it is not known.
    """

    mask: NDArray[np.bool_]
    scale: tuple[float, float]
    slide_shape: tuple[int, int]
    slide_mpp: float
    threshold: float
    method: str
    ink_share: float
    note: str
    light: tuple[float, float, float] = (255.0, 255.0, 255.0)
    density: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return all but the mask, in JSON types."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self) if field.name != "mask"}

    @classmethod
    def from_json(cls, mask: NDArray[np.bool_], entries: Mapping[str, Any]) -> TissueMask:
        """Return the mask with what `to_json` wrote; KeyError or TypeError where entries are missing."""
        lists = {name: tuple(entries[name]) for name in ("scale", "slide_shape", "light")}
        return cls(mask, **{**entries, **lists})

    @property
    def downsample(self) -> float:
        """Level-0 pixels per cell, the mean of both axes."""
        return (self.scale[0] + self.scale[1]) / 2

    @property
    def mask_mpp(self) -> float:
        """Width of a cell in µm."""
        return self.downsample * self.slide_mpp

    @property
    def share(self) -> float:
        """Share of the cells that are tissue, 0-1."""
        return float(self.mask.mean())

    @property
    def scale_um(self) -> tuple[float, float]:
        """`scale` of a napari layer that shows the mask, in µm (row, col)."""
        return self.scale[0] * self.slide_mpp, self.scale[1] * self.slide_mpp

    @property
    def translate_um(self) -> tuple[float, float]:
        """`translate` of that layer: the centre of cell (0, 0), pixel centres being whole numbers times the mpp."""
        return (self.scale[0] - 1) / 2 * self.slide_mpp, (self.scale[1] - 1) / 2 * self.slide_mpp


def tissue_mask(
    slide: Slide,
    mask_mpp: float = 8.0,
    method: str = "otsu",
    threshold: float | None = None,
    min_tissue_um2: float = 10_000.0,
    max_hole_um2: float = 10_000.0,
    exclude_ink: bool = True,
) -> TissueMask:
    """Find the tissue of a slide at low resolution.

    Tissue is what is denser than a threshold. Otsu's method is applied twice: it parts dense tissue from the
    rest, then, among the rest, pale tissue from glass; the result is kept within 0.03-0.10, because no glass is
    darker and no tissue paler. Densities are relative to the colour of the glass, if the slide shows any. A slide
    without glass is all tissue, and `TissueMask.note` says so; a slide without tissue has an empty mask.

    Parameters
    ----------
    slide
        The slide; its pixel size must be known. What is read is bounded: one level of the pyramid, or, where there
        is none, level 0 in blocks.
    mask_mpp
        Largest width of a mask cell in µm; what comes is a whole fraction of a level, so at most this.
    method
        "otsu", or "all": the whole slide counts as tissue.
    threshold
        Optical density to use instead of Otsu's, 0-3: lower takes more in. None: found from the slide.
    min_tissue_um2
        Smaller pieces of tissue are dropped.
    max_hole_um2
        Smaller holes in tissue are filled.
    exclude_ink
        Leave out strokes of blue, green and black marker (and black filling of the scanner), with a rim of
        40 µm. Large black tissue, such as heavy pigment, looks the same; `TissueMask.ink_share` tells how much went.
        Red ink is not told from eosin. Switch it off for blue special stains.

    Returns
    -------
    TissueMask
        The same for the same slide and arguments.

    Raises
    ------
    PixelSizeError
        The slide's pixel size is unknown.
    InvalidInputError
        A number is out of range.
    UnknownNameError
        The method is unknown.

    Notes
    -----
    Otsu, IEEE Trans. Syst. Man Cybern. 9 (1979) 62; here `skimage.filters.threshold_otsu` on a histogram of
    densities clipped at 0.3.

    Examples
    --------
    >>> tissue = tissue_mask(slide)  # doctest: +SKIP
    >>> tissue.note  # doctest: +SKIP
    'Tissue is 34.1 % of case7.svs: what is denser than 0.046.'
    """
    slide_mpp = slide.require_mpp()
    _check_arguments(mask_mpp, method, threshold, min_tissue_um2, max_hole_um2)
    image, scale = slide.overview(max(1.0, mask_mpp / slide_mpp))
    cell_um2 = scale[0] * scale[1] * slide_mpp**2
    light = _light_of(image)
    density, mean_density, ink = _densities(image, light)
    del image
    if exclude_ink and method != "all":
        ink = _strokes(ink, cell_um2)
    else:
        ink = np.zeros(density.shape, bool)
    found = 0.0
    if threshold is not None and method != "all":
        method, found = "fixed", float(threshold)
    elif method == "otsu":
        found = _two_step_otsu(_counts(density, ~ink))
        method = "otsu" if found else "all"
    mask = ~ink
    dense_um2 = 0.0
    if method != "all":
        mask &= density > _last_step(found)
        dense_um2 = np.count_nonzero(mask) * cell_um2
        mask = without_small_pieces(mask, min_tissue_um2 / cell_um2, neighbours=8)
        mask = ~without_small_pieces(~mask, max_hole_um2 / cell_um2, neighbours=4) & ~ink
    ink_share = float(ink.mean())
    note = _note(slide.name, method, found, float(mask.mean()), ink_share)
    if dense_um2 and not mask.any():
        note += (
            f" What is denser, {dense_um2:,.0f} µm² in all, lies in pieces below {min_tissue_um2:,.0f} µm²: check the"
            " pixel size, or lower min_tissue_um2."
        )
    red, green, blue = (float(value) for value in light)
    return TissueMask(
        *(mask, scale, slide.shape, slide_mpp, found, method, ink_share, note, (red, green, blue)),
        density=_median_density(mean_density, mask),
    )


def tile_coverage(tissue: TissueMask, geometry: GridGeometry) -> NDArray[np.float32]:
    """Return the share of each tile's area that is tissue, exactly.

    Parameters
    ----------
    tissue
        Mask of the slide.
    geometry
        Grid of tiles on the same slide.

    Returns
    -------
    ndarray
        Shape (geometry.rows, geometry.cols), 0-1. What lies outside of the slide is not tissue.

    Raises
    ------
    MismatchError
        The pixel sizes of mask and grid differ.
    """
    if not math.isclose(tissue.slide_mpp, geometry.slide_mpp, rel_tol=1e-6):
        raise MismatchError(
            "tissue and geometry must belong to one slide with one pixel size; they state"
            f" {tissue.slide_mpp:g} and {geometry.slide_mpp:g} µm. Make both from the same slide."
        )
    # An integral image is linear between the corners of a cell: interpolating it gives exact areas.
    sums = np.zeros((tissue.mask.shape[0] + 1, tissue.mask.shape[1]), np.int32)
    np.cumsum(tissue.mask, axis=0, out=sums[1:])
    by_row = np.diff(_between(sums, *_edges(tissue, geometry, axis=0)), axis=0)[0]
    sums_of_rows = np.zeros((tissue.mask.shape[1] + 1, geometry.rows))
    np.cumsum(by_row.T, axis=0, out=sums_of_rows[1:])
    cells = np.diff(_between(sums_of_rows, *_edges(tissue, geometry, axis=1)), axis=0)[0].T
    shares = cells * (tissue.scale[0] * tissue.scale[1] / geometry.tile**2)
    return np.asarray(np.clip(shares, 0, 1), np.float32)


def _edges(tissue: TissueMask, geometry: GridGeometry, axis: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where the tiles of a grid begin and end along an axis, in mask cells, clipped to the slide."""
    starts = geometry.origin[axis] + geometry.stride * np.arange((geometry.rows, geometry.cols)[axis])
    edges = np.clip(np.stack([starts, starts + geometry.tile]), 0, tissue.slide_shape[axis]) / tissue.scale[axis]
    edges = np.minimum(edges, tissue.mask.shape[axis])
    return edges[0], edges[1]


def _between(
    sums: NDArray[np.int32] | NDArray[np.float64], starts: NDArray[np.float64], stops: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Interpolate cumulative sums, (n + 1, m), at the starts and stops of tiles, to (2, n_tiles, m)."""
    places = np.stack([starts, stops])
    whole = np.minimum(places.astype(np.intp), len(sums) - 2)
    part = (places - whole)[..., None]
    return np.asarray(sums[whole] * (1 - part) + sums[whole + 1] * part, np.float64)


def _check_arguments(mask_mpp: float, method: str, threshold: float | None, *areas_um2: float) -> None:
    """Refuse what cannot be meant."""
    if method not in METHODS:
        raise UnknownNameError(f"Tissue method {method!r} is unknown. Known are {', '.join(map(repr, METHODS))}.")
    if not 0 < mask_mpp < math.inf:
        raise InvalidInputError(
            f"mask_mpp must be a width in µm above 0; got {mask_mpp!r}. About 8 serves most slides."
        )
    if threshold is not None and not 0 <= threshold <= 3:
        raise InvalidInputError(f"threshold must be an optical density, 0-3; got {threshold!r}. Try 0.03 to 0.1.")
    for name, area in zip(("min_tissue_um2", "max_hole_um2"), areas_um2, strict=True):
        if not 0 <= area < math.inf:
            raise InvalidInputError(f"{name} must be an area in µm² of at least 0; got {area!r}.")


def _plain(value: Any) -> Any:
    """Return a number, a text, or a tuple of numbers as JSON has it."""
    return list(value) if isinstance(value, tuple) else value


def _median_density(steps: NDArray[np.uint16], mask: NDArray[np.bool_]) -> float | None:
    """Return the median of densities, in steps of `_STEP`, over the cells of a mask that are not glass."""
    counts = _counts(steps, mask)
    counts[: round(_LOW_THRESHOLD / _STEP)] = 0
    if not counts.sum():
        return None
    return float(np.searchsorted(np.cumsum(counts), counts.sum() / 2) * _STEP)


def _last_step(density: float) -> int:
    """Return the greatest number of steps that is no denser than `density`."""
    step = round(density / _STEP)
    return step if step * _STEP <= density else step - 1


def _light_of(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the colour of the empty slide (3,), from evenly spaced cells where there are many."""
    every = math.ceil(math.sqrt(image.shape[0] * image.shape[1] / _MOST_LIGHT_CELLS))
    sample = np.ascontiguousarray(image[:: max(1, every), :: max(1, every)])
    return glass_colour(sample, *_extremes(sample))


def _extremes(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the darkest and the lightest channel of each cell; ten times as fast as reducing a short axis."""
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    return np.minimum(np.minimum(red, green), blue), np.maximum(np.maximum(red, green), blue)


def glass_colour(image: NDArray[np.uint8], low: NDArray[np.uint8], high: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Tell the colour of the empty slide.

    Parameters
    ----------
    image
        Pixels, shape (..., 3), red green blue.
    low, high
        Their darkest and lightest channel, shape (...).

    Returns
    -------
    ndarray
        Shape (3,); pure white where there is too little glass to tell.

    Notes
    -----
    Glass is light, nearly grey and even; pale tissue is light too, and uneven. Pure white itself is not glass:
    scanners fill with it what they did not scan.
    """
    places = np.flatnonzero((low >= _LEAST_GLASS_GREY) & (high - low <= _MOST_GLASS_TINT) & (low < 255))
    if places.size >= _LEAST_GLASS_SHARE * low.size:
        lights = image.reshape(-1, 3)[places[:: -(-places.size // _MOST_GLASS_CELLS)]].astype(np.int16)
        glass = np.median(lights, axis=0)
        is_even = (np.abs(lights - glass) <= _MOST_GLASS_SPREAD).all(axis=1)
        if np.ptp(glass) < _MOST_GLASS_TINT - 2 and is_even.mean() > 0.5:
            return np.asarray(glass, np.float64)
    return np.full(3, 255.0)


def _densities(
    image: NDArray[np.uint8], glass: NDArray[np.float64]
) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.bool_]]:
    """Return optical densities relative to glass in steps of `_STEP`, and where marker ink may be; (rows, cols) each.

    Returns
    -------
    darkest, mean
        Of the channels, at least 0.
    ink
        Hematoxylin, eosin and DAB absorb green at least about as much as red; blue and green inks far less. Black ink
        is dark without colour.
    """
    greys = np.maximum(np.arange(256), 1)
    tables = np.rint(np.maximum(np.log10(glass[:, None] / greys), 0) / _STEP).astype(np.uint16)
    shape = image.shape[:2]
    darkest, mean, ink = np.empty(shape, np.uint16), np.empty(shape, np.uint16), np.empty(shape, np.bool_)

    def fill(rows: slice) -> None:
        _fill_densities(image[rows], tables, darkest[rows], mean[rows], ink[rows])

    _in_bands(fill, shape[0])
    return darkest, mean, ink


def _in_bands(work: Callable[[slice], Any], n_rows: int) -> list[Any]:
    """Do a piece of work that frees the interpreter on bands of rows, in threads; return what each gave, in order."""
    step = max(64, -(-n_rows // (4 * _N_THREADS)))
    bands = [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]
    with ThreadPoolExecutor(_N_THREADS, thread_name_prefix="tissue") as pool:
        return list(pool.map(work, bands))


@numba.njit(nogil=True, cache=True)
def _fill_densities(
    image: NDArray[np.uint8],
    tables: NDArray[np.uint16],
    darkest: NDArray[np.uint16],
    mean: NDArray[np.uint16],
    ink: NDArray[np.bool_],
) -> None:
    """Fill a band of what `_densities` returns."""
    for row in range(image.shape[0]):
        for col in range(image.shape[1]):
            red, green, blue = np.int32(image[row, col, 0]), np.int32(image[row, col, 1]), np.int32(image[row, col, 2])
            in_red, in_green, in_blue = np.int32(tables[0, red]), np.int32(tables[1, green]), np.int32(tables[2, blue])
            darkest[row, col] = max(in_red, in_green, in_blue)
            mean[row, col] = (in_red + in_green + in_blue) // 3
            high, low = max(red, green, blue), min(red, green, blue)
            coloured = 4 * in_red > 5 * in_green and in_red > _INK_STEPS
            ink[row, col] = coloured or (high < 90 and high - low < 30)


def _counts(steps: NDArray[np.uint16], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how many cells of a mask have each step of density."""
    n_steps = 1 + round(3 / _STEP)
    counts = _in_bands(lambda rows: _count(steps[rows], mask[rows], n_steps), steps.shape[0])
    return np.asarray(np.sum(counts, axis=0), np.int64)


@numba.njit(nogil=True, cache=True)
def _count(steps: NDArray[np.uint16], mask: NDArray[np.bool_], n_steps: int) -> NDArray[np.int64]:
    """Count the steps (rows, cols) within a mask."""
    counts = np.zeros(n_steps, np.int64)
    for row in range(steps.shape[0]):
        for col in range(steps.shape[1]):
            if mask[row, col]:
                counts[min(steps[row, col], n_steps - 1)] += 1
    return counts


def _two_step_otsu(counts: NDArray[np.int64]) -> float:
    """Return the density that parts glass from tissue, given how many cells have each step of it; 0: no glass."""
    from skimage import filters

    otsu: Any = filters.threshold_otsu
    # Without glass, Otsu would cut through the tissue.
    if counts[: round(_LOW_THRESHOLD / _STEP) + 1].sum() < _LEAST_GLASS_SHARE * counts.sum():
        return 0.0
    most = round(_MOST_DENSITY / _STEP)
    clipped = np.zeros(most + 1, np.int64)
    clipped[: min(len(counts), most)] = counts[:most]
    clipped[most] = counts[most:].sum()
    found = _MOST_DENSITY
    for _ in range(2):
        below = clipped[: round(found / _STEP) + 1]
        if np.count_nonzero(below) < 2:
            break
        found = float(otsu(hist=(below, np.arange(len(below)) * _STEP)))
    return min(max(found, _LOW_THRESHOLD), _HIGH_THRESHOLD)


def _strokes(ink: NDArray[np.bool_], cell_um2: float) -> NDArray[np.bool_]:
    """Keep what is as large as strokes of a marker, or black filling, and add their rims."""
    from scipy import ndimage

    ink = without_small_pieces(ink, _LEAST_INK_UM2 / cell_um2, neighbours=8)
    if not ink.any():
        return ink
    reach = max(1, round(_INK_RIM_UM / math.sqrt(cell_um2)))
    rows, cols = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    part = slice(max(rows[0] - reach, 0), rows[-1] + reach + 1), slice(max(cols[0] - reach, 0), cols[-1] + reach + 1)
    ink[part] = ndimage.binary_dilation(ink[part], iterations=reach)
    return ink


def _note(name: str, method: str, threshold: float, share: float, ink_share: float) -> str:
    """Tell what was found, in one or two sentences."""
    ink = f" {100 * ink_share:.1f} % are left out as ink or black filling." if ink_share else ""
    if share == 0:
        return f"No tissue was found on {name}: nothing large enough is denser than {threshold:.3f}.{ink}"
    if method == "all":
        return f"No glass was told from tissue on {name}: the whole slide counts as tissue.{ink}"
    return f"Tissue is {100 * share:.1f} % of {name}: what is denser than {threshold:.3f}.{ink}"
