"""The regions of a map as a GeoJSON file: what QuPath opens beside the slide."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from napari_prospector.errors import InvalidInputError
from napari_prospector.study.annotations import Annotations
from napari_prospector.study.geojson import write_geojson
from napari_prospector.study.outlines import threshold_regions
from napari_prospector.tokens.geometry import GridGeometry

__all__ = ["Contours", "write_contours"]


@dataclass(frozen=True)
class Contours:
    """Where a map is cut, and how its outlines are drawn.

    Parameters
    ----------
    threshold
        Tokens that score above it are in a region. None: half of the map's colour limit, which comes from the training
        slides, so that it is one number for all slides of a head.
    simplify_um
        As in `outlines`; 0 is exact.

    Raises
    ------
    InvalidInputError
        The threshold is not finite or the tolerance is negative.
    """

    threshold: float | None = None
    simplify_um: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what would fail only when the map is drawn."""
        if self.threshold is not None and not abs(self.threshold) < float("inf"):
            raise InvalidInputError(f"threshold must be a finite score, or None; got {self.threshold!r}.")
        if not 0 <= self.simplify_um < float("inf"):
            raise InvalidInputError(f"simplify_um must be a tolerance in µm, 0 or more; got {self.simplify_um!r}.")


def write_contours(
    path: str | os.PathLike[str],
    scores: ArrayLike,
    geometry: GridGeometry,
    target: str,
    contours: Contours,
    color_limit: float,
    map_name: str,
    provenance: Mapping[str, Any],
) -> Path:
    """Write the regions of a map that score above a threshold, the weightiest first.

    Parameters
    ----------
    path
        By convention ``NAME.MAP.geojson``.
    scores, geometry
        As in `threshold_regions`.
    target
        The class that the map looks for: the class of the regions.
    contours
        Threshold and tolerance.
    color_limit
        Of the map, `ProspectorHead.color_limits_`.
    map_name
        Regions are called by it and their rank.
    provenance
        Short texts, kept in the file's member ``prospector`` with threshold and tolerance; no path belongs here.

    Returns
    -------
    Path
        Where it was written, whole or not at all.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    threshold = color_limit / 2 if contours.threshold is None else contours.threshold
    found = threshold_regions(scores, threshold, geometry, target, contours.simplify_um)
    regions = tuple(replace(one.region, name=f"{map_name} {rank}") for rank, one in enumerate(found, 1))
    stated = {**provenance, "map": map_name, "threshold": threshold, "simplify_um": contours.simplify_um}
    return write_geojson(path, Annotations(regions, extra={"prospector": stated}))
