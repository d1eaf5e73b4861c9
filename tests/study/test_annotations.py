"""Regions: what they cover by a crossing count of our own, what they refuse, and what a brush does to them."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_prospector.errors import InvalidInputError
from napari_prospector.study.annotations import (
    NOT_HERE,
    AnnotationClass,
    Region,
    brush_stroke,
    default_color,
    merged,
    outline_px,
    outline_um,
    region_of_shape,
    subtract,
)

SQUARE = [[0, 0], [0, 4], [4, 4], [4, 0]]
HOLE = [[1, 1], [1, 2], [2, 2], [2, 1]]
rings = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=3, max_size=9, unique=True)


def box(row0: float, col0: float, row1: float, col1: float, label: str | None = "tumour", **fields: object) -> Region:
    return Region((([[row0, col0], [row0, col1], [row1, col1], [row1, col0]],),), label, **fields)  # type: ignore[arg-type]


def crossings(ring: NDArray[np.float64], row: float, col: float) -> int:
    """Count the sides of a ring that a ray from a point towards larger columns crosses."""
    count = 0
    for (row_a, col_a), (row_b, col_b) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if (row_a > row) != (row_b > row):
            count += bool(col < col_a + (row - row_a) / (row_b - row_a) * (col_b - col_a))
    return count


def test_a_region_covers_its_outline_less_its_holes_from_corner_to_corner() -> None:
    region = Region(((SQUARE, HOLE),), "tumour")  # type: ignore[arg-type]
    assert region.area_px == 15
    assert region.bounds == (0, 0, 4, 4)
    assert region.contains_point(4, 4)
    assert not region.contains_point(4.001, 4)
    assert not region.contains_point(1.5, 1.5)
    assert region.contains_point(1.5, 2.5)


def test_row_and_col_keep_their_places() -> None:
    region = box(0, 0, 3, 7)
    assert region.bounds == (0, 0, 3, 7)
    assert region.contains_point(2, 6)
    assert not region.contains_point(6, 2)


@settings(max_examples=150, deadline=None)
@given(ring=rings, row=st.integers(0, 19), col=st.integers(0, 19))
def test_an_outline_that_crosses_itself_holds_what_lies_behind_an_odd_number_of_sides(
    ring: list[tuple[int, int]], row: int, col: int
) -> None:
    place = (row + 0.37, col + 0.41)  # on no side: sides join whole numbers
    try:
        region = Region(((np.array(ring, dtype=float),),))
    except InvalidInputError:
        return
    near = region.shape.boundary.distance(shapely.Point(place)) < 1e-9
    if not near:
        assert region.contains_point(*place) == bool(crossings(np.array(ring, dtype=float), *place) % 2)


def test_a_bow_tie_whose_signed_areas_cancel_is_two_triangles() -> None:
    bow = Region((([[0, 0], [4, 4], [4, 0], [0, 4]],),))  # type: ignore[arg-type]
    assert bow.area_px == 8
    tidy = region_of_shape(bow.shape, bow)
    assert tidy is not None
    assert (len(tidy.polygons), tidy.area_px, tidy.id) == (2, 8, bow.id)


def test_a_repeated_last_point_is_dropped_and_rings_cannot_be_written_to() -> None:
    given = np.array([*SQUARE, SQUARE[0]], dtype=float)
    region = Region(((given,),))
    assert region.polygons[0][0].tolist() == SQUARE
    given[0] = 99
    assert region.polygons[0][0].tolist() == SQUARE
    for twin in (region, copy.deepcopy(region), pickle.loads(pickle.dumps(region))):  # noqa: S301
        assert twin == region
        assert hash(twin) == hash(region)
        with pytest.raises(ValueError, match="read-only"):
            twin.polygons[0][0][0] = 1


def test_regions_are_equal_where_all_that_they_hold_is() -> None:
    one = box(0, 0, 3, 7, id="a")
    assert one == box(0, 0, 3, 7, id="a")
    assert one != box(0, 0, 3, 7)
    assert one != box(0, 0, 3, 8, id="a")
    assert one != box(0, 0, 3, 7, id="a", extra={"measurements": {"x": 1}})
    assert one != "a"


@pytest.mark.parametrize(
    ("polygons", "sentence"),
    [
        ((), "at least one polygon, each with an outer ring"),
        (((),), "at least one polygon, each with an outer ring"),
        ((([[0, 0], [1, 1]],),), r"at least 3 points \(row, col\), shape \(n, 2\); got \(2, 2\)"),
        ((([[0, 0, 0], [1, 1, 1], [0, 1, 0]],),), r"got \(3, 3\)"),
        ((([["a", "b"]],),), "A ring must be numbers"),
        ((([[0, 0], [0, 1], [0, np.nan]],),), r"finite level-0 pixels.*got the point \[0.0, nan\]"),
        ((([[0, 0], [0, 1], [1e10, 1]],),), r"at most 1e\+09; got the point \[10000000000.0, 1.0\]"),
        ((([[0, 0], [2, 2], [4, 4]],),), "must enclose an area; the outline of 3 points encloses none"),
    ],
)
def test_what_is_no_outline_is_refused(polygons: object, sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        Region(polygons)  # type: ignore[arg-type]


def test_a_label_is_a_name_or_none() -> None:
    with pytest.raises(InvalidInputError, match="label must be the name of a class, or None; got ''"):
        box(0, 0, 1, 1, label="")


def test_classes_have_a_name_and_three_whole_numbers() -> None:
    assert AnnotationClass("<script>", [1, 2, 3]).color == (1, 2, 3)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="must be a text that is not empty; got ''"):
        AnnotationClass("", (1, 2, 3))
    for color in [(1, 2), (1, 2, 256), (1, 2, 0.5), "red", None]:
        with pytest.raises(InvalidInputError, match="red, green, blue, whole numbers 0 to 255"):
            AnnotationClass("tumour", color)  # type: ignore[arg-type]


def test_new_classes_get_colours_that_differ_and_not_here_is_grey() -> None:
    taken: list[tuple[int, int, int]] = []
    for number in range(60):
        taken.append(default_color(f"class {number}", taken))
    assert len(set(taken)) == 60
    assert taken[0] == (0, 114, 178)  # Okabe and Ito's blue
    red, green, blue = default_color(NOT_HERE, taken)
    assert red == green == blue


def test_a_stroke_joins_the_regions_of_its_class_that_it_touches() -> None:
    regions = (box(0, 0, 3, 3, id="a"), box(0, 5, 3, 8, id="b"), box(0, 2, 3, 6, "stroma", id="c"), box(9, 9, 10, 10))
    grown = merged(regions, box(1, 2, 2, 6))
    assert [region.id for region in grown] == ["a", "c", regions[3].id]
    assert grown[0].area_px == 9 + 9 + 2
    assert grown[1:] == (regions[2], regions[3])


def test_a_stroke_that_touches_nothing_or_a_corner_only_is_a_region_of_its_own() -> None:
    first, other = box(0, 0, 3, 3), box(3, 3, 5, 5)
    assert merged((first,), other) == (first, other)
    assert merged((), other) == (other,)
    assert len(merged((first,), box(3, 0, 5, 3))) == 1


def test_locked_regions_are_left_alone() -> None:
    locked = box(0, 0, 3, 3, locked=True)
    stroke = box(1, 1, 4, 4)
    assert merged((locked,), stroke) == (locked, stroke)
    assert subtract((locked,), stroke) == (locked,)


def test_an_eraser_takes_area_away_splits_and_removes() -> None:
    wide, far, gone = box(0, 0, 3, 9, id="a"), box(20, 20, 21, 21), box(0, 3.5, 1, 5.5)
    left = subtract((wide, far, gone), box(-1, 3, 4, 6, None))
    assert [region.id for region in left] == ["a", far.id]
    assert left[0].area_px == 27 - 9
    assert len(left[0].polygons) == 2
    assert left[1] is far
    assert subtract((wide,), box(3, 0, 9, 9))[0] is wide  # side by side
    assert subtract((wide, gone), box(-1, 3, 4, 6), only={gone.id}) == (wide,)


@settings(max_examples=60, deadline=None)
@given(ring=rings, other=rings)
def test_what_a_brush_adds_and_an_eraser_takes_add_up(
    ring: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    try:
        region, stroke = Region(((np.array(ring, float),),), "a"), Region(((np.array(other, float),),), "a")
    except InvalidInputError:
        return
    both = sum(one.area_px for one in merged((region,), stroke))
    rest = sum(one.area_px for one in subtract((region,), stroke))
    overlap = region.shape.intersection(stroke.shape).area
    touches = region.shape.intersection(stroke.shape).length > 0
    assert both == pytest.approx(region.area_px + stroke.area_px - (overlap if touches else 0), abs=1e-6)
    assert rest == pytest.approx(region.area_px - overlap, abs=1e-6)


def test_a_round_brush_covers_its_path() -> None:
    dot = brush_stroke([[5, 7]], 2.0, "tumour", name="dot")
    assert dot.area_px == pytest.approx(32 / 2 * np.sin(2 * np.pi / 32) * 4)  # a polygon of 32 corners
    assert dot.contains_point(6.9, 7)
    assert not dot.contains_point(5, 9.1)
    line = brush_stroke([[0, 0], [0, 10], [10, 10]], 1.0)
    assert line.contains_point(0.9, 5)
    assert not line.contains_point(5, 5)
    with pytest.raises(InvalidInputError, match="points must be finite"):
        brush_stroke([], 1.0)
    with pytest.raises(InvalidInputError, match="positive width in level-0 pixels; got 0"):
        brush_stroke([[0, 0]], 0)
    with pytest.raises(InvalidInputError, match="wide enough to cover an area"):
        brush_stroke([[1e8, 1e8]], 1e-12)


def test_the_way_to_napari_and_back_is_half_a_pixel() -> None:
    """Pixel (0, 0) covers 0 to 1 here and -0.5 to 0.5 pixels, times their width, there."""
    assert outline_um([[0, 0], [1, 4]], 0.25).tolist() == [[-0.125, -0.125], [0.125, 0.875]]
    assert outline_px(outline_um(SQUARE, 0.25), 0.25).tolist() == SQUARE
    assert region_of_shape(shapely.Point(1, 1)) is None
