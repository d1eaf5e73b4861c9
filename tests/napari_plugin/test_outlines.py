"""Regions as outlines and back: exact, and what nobody touched is never read."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_prospector._napari.outlines import Match, Outline, matched, outlines_of, path_of, read_back, ring_of
from napari_prospector.study.annotations import Region

# what 32 bits cannot hold
ODD = math.pi * 1000
SQUARE = [[ODD, 10.3], [ODD, 90.7], [ODD + 80.1, 90.7], [ODD + 80.1, 10.3]]
HOLE = [[ODD + 20, 30.1], [ODD + 40, 30.1], [ODD + 40, 50.3], [ODD + 20, 50.3]]
FAR = [[9000.25, 10], [9000.25, 60], [9070, 60]]


def donut(**fields: object) -> Region:
    return Region(((SQUARE, HOLE), (FAR,)), "tumour", "first", **fields)  # type: ignore[arg-type]


def make(ring: np.ndarray) -> Region:
    return Region(((ring,),), "drawn")


def rows(*regions: Region) -> list[Outline]:
    return [outline for region in regions for outline in outlines_of(region)]


def known(n: int) -> list[Match]:
    return [Match(number) for number in range(n)]


def test_pixel_zero_covers_0_to_1_in_a_region_and_has_its_centre_at_0_in_napari() -> None:
    pixel = Region(([[[0, 0], [0, 1], [1, 1], [1, 0]]],))  # type: ignore[arg-type]
    (outline,) = outlines_of(pixel)
    np.testing.assert_array_equal(outline.path, [[-0.5, -0.5], [-0.5, 0.5], [0.5, 0.5], [0.5, -0.5], [-0.5, -0.5]])


def test_each_ring_is_a_closed_path_of_its_own() -> None:
    outlines = outlines_of(donut())
    assert [(outline.polygon, outline.ring, len(outline.path)) for outline in outlines] == [
        (0, 0, 5),
        (0, 1, 5),
        (1, 0, 4),
    ]


@given(st.lists(st.tuples(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5)), min_size=3, max_size=17))
def test_a_ring_that_is_drawn_and_read_is_the_same_to_the_bit(points: list[tuple[float, float]]) -> None:
    ring = np.array(points)
    back = ring_of(path_of(ring), ring)
    # points that 32 bits cannot tell apart may stand for each other, and a last point that repeats the first goes
    np.testing.assert_allclose(back, ring[: len(back)], atol=0.01)
    if len(np.unique(path_of(ring)[:-1], axis=0)) == len(ring):
        np.testing.assert_array_equal(back, ring)


def test_nothing_is_read_where_nothing_was_touched() -> None:
    shown = rows(donut())
    assert read_back([shown[0].region], shown, [row.path for row in shown], known(3), make) is None  # type: ignore[list-item]


def test_one_moved_point_changes_one_point() -> None:
    region = donut()
    shown = rows(region)
    paths = [row.path.copy() for row in shown]
    paths[1][2] = (3200.25, 55.5)
    change = read_back([region], shown, paths, known(3), make)
    assert change is not None
    (after,) = change.regions
    assert (after.id, after.name, after.label) == (region.id, "first", "tumour")
    expected = np.array(HOLE)
    expected[2] = (3200.75, 56.0)
    np.testing.assert_array_equal(after.polygons[0][1], expected)
    np.testing.assert_array_equal(after.polygons[0][0], SQUARE)
    assert change.text == "Change a region"


def test_an_outer_ring_that_goes_takes_its_holes_with_it_and_a_hole_goes_alone() -> None:
    region = donut()
    shown = rows(region)
    paths = [row.path for row in shown]
    without_hole = read_back([region], shown, [paths[0], paths[2]], [Match(0), Match(2)], make)
    assert without_hole is not None
    assert [len(polygon) for polygon in without_hole.regions[0].polygons] == [1, 1]
    without_outer = read_back([region], shown, paths[1:], [Match(1), Match(2)], make)
    assert without_outer is not None
    np.testing.assert_array_equal(without_outer.regions[0].polygons[0][0], FAR)
    nothing = read_back([region], shown, [], [], make)
    assert nothing is not None
    assert nothing.regions == ()
    assert nothing.text == "Delete a region"


def test_what_is_drawn_becomes_a_region_and_what_encloses_nothing_is_told() -> None:
    square = path_of(np.array(SQUARE))
    change = read_back([], [], [square, square[:2]], [Match(None), Match(None)], make)
    assert change is not None
    assert len(change.regions) == 1
    assert change.text == "Draw drawn"
    assert "at least 3 points" in str(change.problem)


def test_a_copy_is_a_region_with_the_holes_of_its_original() -> None:
    region = donut()
    shown = rows(region)
    paths = [row.path for row in shown]
    moved = [path + np.float32(7) for path in paths]
    matches = matched(shown, paths + moved, [0, 1, 2, 0, 1, 2])
    change = read_back([region], shown, paths + moved, matches, make)
    assert change is not None
    before, copy = change.regions
    assert before is region
    assert copy.id != region.id
    assert [len(polygon) for polygon in copy.polygons] == [2, 1]
    assert copy.area_px == pytest.approx(region.area_px, rel=1e-4)


def test_a_locked_region_stays_and_the_user_is_told() -> None:
    region = donut(locked=True)
    shown = rows(region)
    change = read_back([region], shown, [], [], make)
    assert change is not None
    assert change.regions == (region,)
    assert change.problem == "first is locked. Unlock it before you change it."


def test_a_hand_that_comes_too_late_changes_nothing() -> None:
    region = donut()
    shown = rows(region)
    newer = replace(region, label="normal")
    assert read_back([newer], shown, [], [], make) is None


def test_outlines_are_found_by_their_points_where_the_table_of_the_layer_is_wrong() -> None:
    one, other = donut(), Region((([[0, 0], [0, 5], [5, 5]],),))
    shown = rows(one, other)
    paths = [row.path for row in shown]
    assert matched(shown, [paths[3], paths[0]], None) == [Match(3), Match(0)]
    assert matched(shown, [paths[2] + 1], None) == [Match(None)]
