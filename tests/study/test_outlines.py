"""Outlines of maps: exact and back again, simplified within what is stated, ranked by what lies in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from napari_prospector.errors import InvalidInputError, MismatchError
from napari_prospector.study.annotations import Region
from napari_prospector.study.geojson import read_geojson, write_geojson
from napari_prospector.study.outlines import area_above, outlines, threshold_regions
from napari_prospector.study.region_tokens import region_shares, tokens_of
from napari_prospector.tokens.geometry import GridGeometry

masks = arrays(bool, (5, 7))
GRIDS = {
    "tiles side by side": GridGeometry(5, 7, tile=448, stride=448, origin=(0, 0), slide_mpp=0.25, tile_px=224),
    "from another origin": GridGeometry(5, 7, tile=447, stride=447, origin=(113, -29), slide_mpp=0.25),
    "overlapping": GridGeometry(5, 7, tile=448, stride=224, origin=(113, 29), slide_mpp=0.25),
    "overlapping by an odd number": GridGeometry(5, 7, tile=448, stride=301, origin=(7, 0), slide_mpp=0.25),
    "with gaps": GridGeometry(5, 7, tile=200, stride=331, origin=(0, 17), slide_mpp=0.25),
}


@pytest.fixture(params=GRIDS.values(), ids=GRIDS)
def grid(request: pytest.FixtureRequest) -> GridGeometry:
    found: GridGeometry = request.param
    return found


def cells_of(regions: list[Region], grid: GridGeometry) -> NDArray[np.bool_]:
    """Say for the centre of each tile whether it lies in a region, by shapely."""
    centres = grid.centre_px(*np.indices(grid.shape)) + 0.5
    return np.array(
        [[any(region.contains_point(*centres[i, j]) for region in regions) for j in range(7)] for i in range(5)]
    )


def test_a_planted_square_comes_back_from_geojson_as_its_tokens(grid: GridGeometry, tmp_path: Path) -> None:
    mask = np.zeros(grid.shape, dtype=bool)
    mask[1:4, 2:6] = True
    regions = outlines(mask, grid, "tumour")
    read = read_geojson(write_geojson(tmp_path / "a.geojson", regions)).regions
    assert list(read) == regions
    assert np.array_equal(tokens_of(read, grid) == 0, mask)
    row0, col0, row1, col1 = read[0].bounds
    middle = (grid.centre_px(1, 2) + grid.centre_px(3, 5)) / 2 + 0.5
    assert ((row0 + row1) / 2, (col0 + col1) / 2) == tuple(middle)
    assert (row1 - row0, col1 - col0) == (3 * grid.stride, 4 * grid.stride)
    if grid.tile == grid.stride:
        assert read[0].bounds == grid.region((1, 2), (4, 6))


@settings(max_examples=60, deadline=None)
@given(mask=masks, name=st.sampled_from(sorted(GRIDS)))
def test_any_mask_comes_back_from_its_outlines(mask: NDArray[np.bool_], name: str) -> None:
    grid = GRIDS[name]
    regions = outlines(mask, grid, "tumour")
    assert np.array_equal(cells_of(regions, grid), mask)
    assert sum(region.area_px for region in regions) == mask.sum() * grid.stride**2
    assert np.array_equal(tokens_of(regions, grid, by="cell") >= 0, mask)
    if grid.tile == grid.stride:
        assert np.array_equal(sum((region_shares(region, grid) for region in regions), np.zeros((5, 7))), mask)
        union = shapely.union_all([shapely.box(*grid.box(i, j)) for i, j in np.argwhere(mask)])
        assert shapely.union_all([region.shape for region in regions]).equals(union)
    assert outlines(mask, grid, "tumour") == regions
    assert len({region.id for region in regions}) == len(regions)
    for region in regions:
        assert Region(region.polygons, "tumour", id=region.id) == region
        with pytest.raises(ValueError, match="read-only"):
            region.polygons[0][0][0] = 1


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), smooth=st.floats(0, 2), tolerance=st.sampled_from([20.0, 80.0, 112.0, 250.0]))
def test_simplified_outlines_stay_within_the_tolerance_and_apart(seed: int, smooth: float, tolerance: float) -> None:
    grid = GridGeometry(17, 23, 448, 448, (3, 5), 0.25)
    mask = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=grid.shape), smooth) > 0
    exact, simple = outlines(mask, grid, "tumour"), outlines(mask, grid, "tumour", tolerance)
    assert len(simple) == len(exact)
    for one, other in zip(exact, simple, strict=True):
        shape = shapely.Polygon(other.polygons[0][0], other.polygons[0][1:])
        assert shape.is_valid
        assert len(one.polygons[0]) == len(other.polygons[0])
        for ring, short in zip(one.polygons[0], other.polygons[0], strict=True):
            lines = [shapely.LinearRing(points * grid.slide_mpp) for points in (ring, short)]
            assert shapely.hausdorff_distance(*lines, densify=0.05) <= tolerance * (1 + 1e-9)
    areas = sum(region.area_px for region in simple)
    assert shapely.union_all([region.shape for region in simple]).area == pytest.approx(areas)


def test_a_staircase_becomes_a_slope() -> None:
    grid = GridGeometry(40, 40, 448, 448, (0, 0), 0.25)
    triangle = np.tri(40, dtype=bool)
    (exact,), (simple,) = outlines(triangle, grid, "tumour"), outlines(triangle, grid, "tumour", 112)
    assert len(exact.polygons[0][0]) == 80 + 2
    assert len(simple.polygons[0][0]) <= 5


def test_regions_are_ranked_by_what_they_exceed_the_threshold_by() -> None:
    grid = GridGeometry(5, 7, 448, 448, (0, 0), 0.25)
    scores = np.full((5, 7), np.nan)
    scores[0, :3] = [1.5, 2, 2.5]  # exceeds 1 by 3
    scores[2:5, 4:7] = 1.25  # by 9 quarters; a ring
    scores[3, 5] = 1.0  # is not above 1
    scores[4, 0] = 7.0  # by 6
    found = threshold_regions(scores, 1.0, grid, "tumour")
    assert [one.n_tokens for one in found] == [1, 3, 8]
    assert [one.mean_score for one in found] == [7.0, 2.0, 1.25]
    assert [one.max_score for one in found] == [7.0, 2.5, 1.25]
    assert [one.area_um2 for one in found] == [112.0**2, 3 * 112.0**2, 8 * 112.0**2]
    assert found[1].centre == (224.0, 1.5 * 448)
    assert found[2].region.contains_point(*found[2].centre)  # of a ring too
    assert len(found[2].region.polygons[0]) == 2
    assert found[0].region.extra["properties"]["measurements"] == {
        "Area µm^2": 112.0**2,
        "Tokens": 1,
        "Mean score": 7.0,
        "Max score": 7.0,
    }
    assert [one.n_tokens for one in threshold_regions(scores, 1.0, grid, "tumour", min_tokens=2)] == [3, 8]
    assert [one.n_tokens for one in threshold_regions(scores, 1.0, grid, "tumour", most=1)] == [1]
    assert threshold_regions(scores, 9.0, grid, "tumour", 50.0) == []
    assert area_above(scores, 1.0, grid) == 12 * 112.0**2
    assert {one.region.id for one in found} == {region.id for region in outlines(scores > 1, grid, "tumour")}


@settings(max_examples=40, deadline=None)
@given(scores=arrays(np.float32, (5, 7), elements=st.floats(-3, 3, width=32) | st.just(float("nan"))))
def test_ranked_regions_hold_the_scores_above_the_threshold(scores: NDArray[np.float32]) -> None:
    grid = GRIDS["overlapping"]
    found = threshold_regions(scores, 0.5, grid, "tumour")
    above = np.where(scores > 0.5, scores, 0).astype(float)
    assert sum(one.n_tokens for one in found) == (scores > 0.5).sum()
    assert sum(one.mean_score * one.n_tokens for one in found) == pytest.approx(above.sum())
    assert sum(one.area_um2 for one in found) == pytest.approx(area_above(scores, 0.5, grid))
    for one in found:
        inside = scores[cells_of([one.region], grid)]
        assert inside.max() == one.max_score
        assert len(inside) == one.n_tokens


def test_what_cannot_be_outlined_is_refused() -> None:
    grid = GRIDS["tiles side by side"]
    mask = np.ones((5, 7), dtype=bool)
    with pytest.raises(InvalidInputError, match="mask must be bool"):
        outlines(mask * 1.0, grid, "tumour")
    with pytest.raises(MismatchError, match="mask must have one cell per token"):
        outlines(mask[1:], grid, "tumour")
    for tolerance in (-1, float("nan"), float("inf")):
        with pytest.raises(InvalidInputError, match="simplify_um must be a tolerance in µm, 0 or more"):
            outlines(mask, grid, "tumour", tolerance)
    with pytest.raises(MismatchError, match="scores must have one cell per token"):
        area_above(np.ones((7, 5)), 0, grid)
    with pytest.raises(InvalidInputError, match=r"scores must be numbers of shape \(5, 7\)"):
        area_above(np.full((5, 7), "x"), 0, grid)
    with pytest.raises(InvalidInputError, match="threshold must be a finite score; got nan"):
        threshold_regions(np.ones((5, 7)), float("nan"), grid, "tumour")
    assert outlines(~mask, grid, "tumour", 10.0) == []
