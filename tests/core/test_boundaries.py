"""Boundaries of masks, against the union of the cells as squares."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from napari_prospector.core.boundaries import component_labels, simplified_corners, trace_boundaries
from napari_prospector.errors import InvalidInputError

masks = arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 11)))


def polygons(labels: NDArray[np.int32]) -> dict[int, shapely.Polygon]:
    bounds, rings = trace_boundaries(labels), {}
    for number, owner in enumerate(bounds.owner.tolist()):
        rings.setdefault(owner, []).append(bounds.corners[bounds.starts[number] : bounds.starts[number + 1]])
    return {owner: shapely.Polygon(outer, holes) for owner, (outer, *holes) in rings.items()}


@settings(max_examples=300, deadline=None)
@given(mask=masks)
def test_each_component_is_a_valid_polygon_equal_to_the_union_of_its_cells(mask: NDArray[np.bool_]) -> None:
    labels, n_components = component_labels(mask)
    found = polygons(labels)
    assert sorted(found) == list(range(1, n_components + 1))
    for number, polygon in found.items():
        cells = shapely.union_all([shapely.box(i, j, i + 1, j + 1) for i, j in np.argwhere(labels == number)])
        assert polygon.is_valid
        assert polygon.equals(cells)
        assert polygon.area == (labels == number).sum()
        corners = sum(len(ring.coords) - 1 for ring in (polygon.exterior, *polygon.interiors))
        assert corners <= len(shapely.get_coordinates(cells))  # nothing on a straight side


def test_a_hole_that_reaches_outside_through_a_corner_is_a_hole() -> None:
    ring = np.ones((3, 3), dtype=bool)
    ring[1, 1] = ring[0, 0] = False  # (0, 0) and (1, 1) meet at a corner of two cells of one component
    polygon = polygons(component_labels(ring)[0])[1]
    assert len(polygon.interiors) == 1
    assert polygon.is_valid


def test_cells_that_meet_at_a_corner_are_two_components() -> None:
    labels, n_components = component_labels(np.eye(2, dtype=bool))
    assert n_components == 2
    assert all(polygon.area == 1 for polygon in polygons(labels).values())


def test_an_empty_mask_has_no_boundary_and_a_mask_is_bool() -> None:
    bounds = trace_boundaries(component_labels(np.zeros((3, 5), dtype=bool))[0])
    assert (len(bounds.corners), bounds.starts.tolist(), len(bounds.owner)) == (0, [0], 0)
    with pytest.raises(InvalidInputError, match="mask must be bool of shape"):
        component_labels(np.ones((3, 5)))


@settings(max_examples=150, deadline=None)
@given(mask=masks, tolerance=st.floats(0.1, 4))
def test_simplified_rings_stay_within_the_tolerance_both_ways(mask: NDArray[np.bool_], tolerance: float) -> None:
    bounds = trace_boundaries(component_labels(mask)[0])
    kept = simplified_corners(bounds, np.full(len(bounds.owner), tolerance))
    assert simplified_corners(bounds, np.zeros(len(bounds.owner))).all()
    for begin, stop in zip(bounds.starts, bounds.starts[1:], strict=False):
        ring = bounds.corners[begin:stop]
        chosen = ring[kept[begin:stop]]
        assert len(chosen) >= 2
        line, short = (shapely.LineString([*points, points[0]]) for points in (ring, chosen))
        assert shapely.hausdorff_distance(line, short, densify=0.05) <= tolerance + 1e-9
