"""Covered areas against shapely's intersections, one cell at a time."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_prospector.core.coverage import box_areas, covered_areas

whole = st.integers(-3, 13)
corners = st.lists(st.tuples(whole, whole), min_size=3, max_size=9, unique=True)


def rings_of(shape: shapely.Geometry) -> list[NDArray[np.float64]]:
    """Return outer rings by shapely's right-hand rule, with (row, col) as its (x, y), and holes the other way."""
    pieces = [shapely.geometry.polygon.orient(piece, 1) for piece in shapely.get_parts(shape)]
    rings = [ring for piece in pieces for ring in (piece.exterior, *piece.interiors)]
    return [shapely.get_coordinates(ring)[:-1] for ring in rings]


def polygons(points: list[tuple[float, float]]) -> shapely.Geometry:
    parts = shapely.get_parts(shapely.get_parts(shapely.make_valid(shapely.Polygon(points))))
    return shapely.MultiPolygon([part for part in parts if part.geom_type == "Polygon"])


@settings(max_examples=150, deadline=None)
@given(
    points=corners,
    shift=st.sampled_from([0.0, 0.5, 0.137]),
    rows=st.lists(st.integers(0, 10), min_size=2, max_size=7, unique=True),
    cols=st.lists(st.integers(0, 10), min_size=2, max_size=5, unique=True),
)
def test_cells_are_covered_as_far_as_shapely_says(
    points: list[tuple[int, int]], shift: float, rows: list[int], cols: list[int]
) -> None:
    """Corners lie on the lines of the grid, on halves and elsewhere; the grid is uneven and covers only a part."""
    shape = polygons([(row + shift, col + shift) for row, col in points])
    row_lines, col_lines = np.sort(np.array(rows, float)), np.sort(np.array(cols, float))
    areas = covered_areas(rings_of(shape), row_lines, col_lines)
    assert areas.shape == (len(rows) - 1, len(cols) - 1)
    for i, j in np.ndindex(areas.shape):
        cell = shapely.box(row_lines[i], col_lines[j], row_lines[i + 1], col_lines[j + 1])
        assert areas[i, j] == pytest.approx(shape.intersection(cell).area, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    points=corners,
    row_starts=st.lists(whole, min_size=1, max_size=5),
    col_starts=st.lists(whole, min_size=1, max_size=3),
    width=st.integers(1, 7),
)
def test_boxes_may_overlap_and_leave_gaps(
    points: list[tuple[int, int]], row_starts: list[int], col_starts: list[int], width: int
) -> None:
    shape = polygons([(row + 0.25, col) for row, col in points])
    rows, cols = (np.array([[start, start + width] for start in starts], float) for starts in (row_starts, col_starts))
    areas = box_areas(rings_of(shape), rows, cols)
    for i, j in np.ndindex(areas.shape):
        cell = shapely.box(rows[i, 0], cols[j, 0], rows[i, 1], cols[j, 1])
        assert areas[i, j] == pytest.approx(shape.intersection(cell).area, abs=1e-9)


def test_squares_on_the_lines_are_exact() -> None:
    ring = np.array([[448, 896], [1344, 896], [1344, 1792], [448, 1792]], dtype=float)
    areas = covered_areas([ring], np.arange(6.0) * 448, np.arange(8.0) * 448)
    expected = np.zeros((5, 7))
    expected[1:3, 2:4] = 448**2
    assert np.array_equal(areas, expected)
