"""From maps to regions: the outlines of what scores above a threshold, exact or simplified to a stated tolerance.

Every token stands for its *cell*: a square as wide as the stride, centred on the centre of its tile. Cells lie side by
side whatever the tiles do. With tiles side by side (tile = stride) a cell is its tile, pixel by pixel; where tiles
overlap or leave gaps it is what the map's layer shows of the token (`GridGeometry.scale_um`, `translate_um`).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_prospector.core.boundaries import Boundaries, component_labels, simplified_corners, trace_boundaries
from napari_prospector.errors import InvalidInputError
from napari_prospector.study.annotations import Region
from napari_prospector.tokens.geometry import GridGeometry

__all__ = ["ScoredRegion", "area_above", "outlines", "threshold_regions"]

_MOST_HALVINGS = 8


def outlines(mask: ArrayLike, geometry: GridGeometry, label: str | None, simplify_um: float = 0.0) -> list[Region]:
    """Return the outlines of the True cells of a mask, holes kept.

    Parameters
    ----------
    mask
        Shape (rows, cols), bool.
    geometry
        Where the tokens lie.
    label
        The class of the regions.
    simplify_um
        0: outlines run along the borders of cells, exactly. Above 0: they have fewer points, and no point of either
        outline is farther than this from the other, in µm. Regions keep their holes, and neither cross nor swallow each
        other; where they would, they are simplified less.

    Returns
    -------
    list of Region
        One a connected component (cells that share a side), by their first cell, row by row. Ids are made of what a
        region holds: the same mask gives equal regions.

    Raises
    ------
    InvalidInputError
        `mask` is not bool, or `simplify_um` is negative.
    MismatchError
        `mask` is not of this grid.

    Examples
    --------
    >>> import numpy as np
    >>> grid = GridGeometry(rows=2, cols=3, tile=448, stride=448, origin=(0, 100), slide_mpp=0.25)
    >>> region, = outlines(np.array([[False, True, True], [False, False, False]]), grid, "tumour")
    >>> region.bounds, len(region.polygons[0][0])
    ((0.0, 548.0, 448.0, 1444.0), 4)
    """
    labels, _ = component_labels(mask)
    geometry.check_shape("mask", labels.shape)
    return list(_regions(labels, geometry, label, simplify_um).values())


class ScoredRegion(NamedTuple):
    """A region of a map.

    Attributes
    ----------
    region
        Its outline; `extra` holds the figures below as measurements, which QuPath shows.
    area_um2
        Of its tokens, in square µm, before any simplification.
    n_tokens
        How many.
    mean_score, max_score
        Of its tokens.
    centre
        (row, col) in continuous level-0 pixels: the centre of the token of the region that is nearest to its middle.
    """

    region: Region
    area_um2: float
    n_tokens: int
    mean_score: float
    max_score: float
    centre: tuple[float, float]


def threshold_regions(
    scores: ArrayLike,
    threshold: float,
    geometry: GridGeometry,
    label: str | None,
    simplify_um: float = 0.0,
    *,
    min_tokens: int = 1,
    most: int | None = None,
) -> list[ScoredRegion]:
    """Return the regions of a map that score above a threshold, the weightiest first.

    Parameters
    ----------
    scores
        Shape (rows, cols), NaN where there is no token.
    threshold
        A token counts if its score is above it, as in `core.measures`.
    geometry, label, simplify_um
        As in `outlines`.
    min_tokens
        Regions of fewer tokens are left out.
    most
        At most so many regions; None: all.

    Returns
    -------
    list of ScoredRegion
        Ranked by what scores exceed the threshold by, summed over the tokens: large and strong comes first.

    Raises
    ------
    InvalidInputError
        `threshold` is not finite, or as in `outlines`.
    MismatchError
        `scores` are not of this grid.
    """
    values = _checked_scores(scores, threshold, geometry)
    labels, n_components = component_labels(values > threshold)
    cells = np.flatnonzero(labels)
    owner, excess = labels.ravel()[cells], values.ravel()[cells] - threshold
    sizes = np.bincount(owner, minlength=n_components + 1)
    weights = np.bincount(owner, excess, minlength=n_components + 1)
    kept = np.flatnonzero(sizes >= max(min_tokens, 1))
    kept = kept[np.argsort(-weights[kept], kind="stable")][:most]
    peaks = np.full(n_components + 1, -np.inf)
    np.maximum.at(peaks, owner, values.ravel()[cells])
    area = _cell_um2(geometry)
    figures = {
        number: (area * int(size), int(size), float(weight / size + threshold), float(peak))
        for number, size, weight, peak in zip(kept.tolist(), sizes[kept], weights[kept], peaks[kept], strict=True)
    }
    extras = {number: {"properties": {"measurements": _measured(*row)}} for number, row in figures.items()}
    renumbered = np.zeros(n_components + 1, dtype=np.int32)
    renumbered[kept] = kept
    labels = renumbered[labels]
    regions, centres = _regions(labels, geometry, label, simplify_um, extras), _centres(labels, geometry)
    return [ScoredRegion(regions[number], *row, centres[number]) for number, row in figures.items()]


def _measured(area_um2: float, n_tokens: int, mean_score: float, max_score: float) -> dict[str, float]:
    """Return the figures of a region under the names that QuPath shows."""
    return {"Area µm^2": area_um2, "Tokens": n_tokens, "Mean score": mean_score, "Max score": max_score}


def area_above(scores: ArrayLike, threshold: float, geometry: GridGeometry) -> float:
    """Return the area of the tokens (rows, cols) that score above a threshold, in square µm; NaN is no token.

    Raises
    ------
    InvalidInputError
        `threshold` is not finite.
    MismatchError
        `scores` are not of this grid.
    """
    return float(np.count_nonzero(_checked_scores(scores, threshold, geometry) > threshold) * _cell_um2(geometry))


def _cell_um2(geometry: GridGeometry) -> float:
    """Return the area of a cell in square µm."""
    return (geometry.stride * geometry.slide_mpp) ** 2


def _checked_scores(scores: ArrayLike, threshold: float, geometry: GridGeometry) -> NDArray[np.floating[Any]]:
    """Return scores (rows, cols) of this grid, and refuse a threshold that is none."""
    values = np.asarray(scores)
    geometry.check_shape("scores", values.shape)
    if values.ndim != 2 or values.dtype.kind not in "iuf":
        raise InvalidInputError(f"scores must be numbers of shape {geometry.shape}; got {values.dtype} {values.shape}.")
    if not np.isfinite(threshold):
        raise InvalidInputError(f"threshold must be a finite score; got {threshold!r}.")
    return values


def _centres(labels: NDArray[np.int32], geometry: GridGeometry) -> dict[int, tuple[float, float]]:
    """Return for each component the centre of the cell that is nearest to the mean of all, as `ScoredRegion.centre`."""
    rows, cols = np.nonzero(labels)
    numbers, owner, sizes = np.unique(labels[rows, cols], return_inverse=True, return_counts=True)
    away = (rows - (np.bincount(owner, rows) / sizes)[owner]) ** 2 + (
        cols - (np.bincount(owner, cols) / sizes)[owner]
    ) ** 2
    nearest = np.lexsort((away, owner))[np.cumsum(sizes) - sizes]
    # half a pixel: from pixel centres at whole numbers to continuous pixels
    places = geometry.centre_px(rows[nearest], cols[nearest]) + 0.5
    return {number: (row, col) for number, (row, col) in zip(numbers.tolist(), places.tolist(), strict=True)}


def _regions(
    labels: NDArray[np.int32],
    geometry: GridGeometry,
    label: str | None,
    simplify_um: float,
    extras: Mapping[int, Mapping[str, Any]] | None = None,
) -> dict[int, Region]:
    """Return the region of each component (rows, cols) of cells, by its number."""
    if not 0 <= simplify_um < np.inf:
        raise InvalidInputError(f"simplify_um must be a tolerance in µm, 0 or more; got {simplify_um!r}.")
    bounds = trace_boundaries(labels)
    if simplify_um > 0:
        bounds = _simplified(bounds, simplify_um / (geometry.stride * geometry.slide_mpp))
    start = np.array(geometry.origin) + (geometry.tile - geometry.stride) / 2
    corners = bounds.corners * float(geometry.stride) + start
    corners.flags.writeable = False  # and so are the rings, which are views of it
    # a region's rings may lie apart in the order in which they were met
    order = np.argsort(bounds.owner, kind="stable")
    rings: dict[int, list[NDArray[np.float64]]] = {}
    spans = zip(
        bounds.owner[order].tolist(), bounds.starts[order].tolist(), bounds.starts[order + 1].tolist(), strict=True
    )
    for number, begin, stop in spans:
        rings.setdefault(number, []).append(corners[begin:stop])
    found = {}
    for number, polygon in rings.items():
        digest = hashlib.blake2b(polygon[0].tobytes() + (label or "").encode("utf-8", "surrogatepass"), digest_size=16)
        fields = {"label": label, "name": "", "id": str(uuid.UUID(bytes=digest.digest(), version=4)), "locked": False}
        found[number] = Region._sound((tuple(polygon),), **fields, extra=extras[number] if extras else {})
    return found


def _simplified(bounds: Boundaries, tolerance: float) -> Boundaries:
    """Return rings of fewer corners within a tolerance in cells; rings that would meet keep more of them."""
    halvings = np.zeros(len(bounds.owner))
    nested = None
    while True:
        allowed = np.where(halvings < _MOST_HALVINGS, tolerance / 2**halvings, 0.0)
        kept = simplified_corners(bounds, allowed)
        n_kept = np.concatenate(([0], np.cumsum(kept)))[bounds.starts]
        simple = Boundaries(bounds.corners[kept], n_kept, bounds.owner)
        bad = _without_area(bounds, simple)
        if not bad.any():
            nested = _nested(_filled(bounds)) if nested is None else nested
            bad = _meeting(simple, nested)
        bad &= allowed > 0
        if not bad.any():
            return simple
        halvings[bad] += 1


def _without_area(bounds: Boundaries, simple: Boundaries) -> NDArray[np.bool_]:
    """Say which simplified rings enclose nothing, or have turned inside out."""
    before, after = _signed_areas(bounds), _signed_areas(simple)
    return np.asarray((np.diff(simple.starts) < 3) | (np.sign(before) != np.sign(after)))


def _signed_areas(bounds: Boundaries) -> NDArray[np.float64]:
    """Return the area of each ring by the shoelace formula."""
    row, col = bounds.corners.astype(np.float64).T
    following = np.arange(1, len(row) + 1)
    following[bounds.starts[1:] - 1] = bounds.starts[:-1]
    return np.asarray(np.add.reduceat(row * col[following] - col * row[following], bounds.starts[:-1]) / 2)


def _filled(bounds: Boundaries) -> NDArray[Any]:
    """Return each ring as shapely's polygon, whether it is a hole or not."""
    import shapely

    ring = np.repeat(np.arange(len(bounds.owner)), np.diff(bounds.starts))
    return np.asarray(shapely.polygons(shapely.linearrings(bounds.corners.astype(np.float64), indices=ring)))


def _nested(filled: NDArray[Any]) -> NDArray[np.int64]:
    """Return which ring lies in which, as one number a pair, ascending."""
    import shapely

    outer, inner = shapely.STRtree(filled).query(filled, predicate="contains")
    return np.unique(outer[outer != inner] * len(filled) + inner[outer != inner])


def _meeting(simple: Boundaries, nested: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which rings meet themselves or cross others, or lie in others than before."""
    import shapely

    filled, bad = _filled(simple), np.zeros(len(simple.owner), dtype=bool)
    bad |= ~shapely.is_valid(filled)
    if bad.any():
        return bad
    bad[shapely.STRtree(filled).query(filled, predicate="overlaps").ravel()] = True
    moved = np.setxor1d(nested, _nested(filled), assume_unique=True)
    bad[np.concatenate(np.divmod(moved, len(filled)))] = True
    if not bad.any():  # holes that touch their ring twice cut a region in two
        order = np.argsort(simple.owner, kind="stable")
        owners, owner = np.unique(simple.owner[order], return_inverse=True)
        polygons = shapely.polygons(shapely.get_exterior_ring(filled[order]), indices=owner)
        bad = np.isin(simple.owner, owners[~shapely.is_valid(polygons)])
    return bad
