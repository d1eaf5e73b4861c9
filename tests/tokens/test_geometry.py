"""Token → level-0 pixel → µm → napari world, exact to the pixel."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_prospector.errors import FileFormatError, InvalidInputError, MismatchError, PixelSizeError
from napari_prospector.tokens.geometry import GridGeometry

GRID = GridGeometry(rows=5, cols=7, tile=13, stride=11, origin=(3, 17), slide_mpp=0.25, tile_px=26)

geometries = st.builds(
    GridGeometry,
    rows=st.integers(1, 50),
    cols=st.integers(1, 50),
    tile=st.integers(1, 600),
    stride=st.integers(1, 600),
    origin=st.tuples(st.integers(-100, 100), st.integers(-100, 100)),
    slide_mpp=st.floats(0.05, 20),
    tile_px=st.integers(1, 600),
)


def brute_force_token(grid: GridGeometry, row: int, col: int) -> tuple[int, int] | None:
    """Look at every token; nearest centre among those whose box holds the pixel."""
    found: list[tuple[float, tuple[int, int]]] = []
    for i in range(grid.rows):
        for j in range(grid.cols):
            row0, col0, row1, col1 = grid.box(i, j)
            if row0 <= row < row1 and col0 <= col < col1:
                centre = np.array([(row0 + row1 - 1) / 2, (col0 + col1 - 1) / 2])
                found.append((float(np.abs(centre - [row, col]).sum()), (-i, -j)))
    return None if not found else (-min(found)[1][0], -min(found)[1][1])


def test_a_box_is_half_open_and_one_tile_wide():
    assert GRID.box(0, 0) == (3, 17, 16, 30)
    assert GRID.box(2, 3) == (3 + 22, 17 + 33, 3 + 22 + 13, 17 + 33 + 13)
    assert all(type(edge) is int for edge in GRID.box(np.int64(2), np.int64(3)))


def test_a_region_holds_the_boxes_of_all_its_tokens():
    boxes = np.array([GRID.box(i, j) for i in range(1, 4) for j in range(2, 7)])
    assert GRID.region((1, 2), (4, 7)) == (*boxes[:, :2].min(0), *boxes[:, 2:].max(0))


@pytest.mark.parametrize("stride", [5, 11, 13, 19])
def test_the_token_at_a_pixel_is_the_one_a_search_over_all_boxes_finds(stride):
    grid = GridGeometry(rows=5, cols=3, tile=13, stride=stride, origin=(2, 7), slide_mpp=0.5)
    for row in range(-3, 2 + 5 * stride + 17, 1):
        for col in range(0, 7 + 3 * stride + 17, 3):
            assert grid.token_at(row, col) == brute_force_token(grid, row, col)


@given(geometries, st.data())
def test_a_token_is_found_again_at_its_own_centre_in_pixels_and_in_micrometres(grid, data):
    row, col = data.draw(st.integers(0, grid.rows - 1)), data.draw(st.integers(0, grid.cols - 1))
    assert grid.token_at(*grid.centre_px(row, col)) == (row, col)
    assert grid.token_at_um(*grid.centre_um(row, col)) == (row, col)


@given(geometries)
def test_the_layer_transform_puts_every_cell_on_the_centre_of_its_token(grid):
    rows, cols = np.mgrid[: grid.rows, : grid.cols]
    world = np.stack([rows, cols], -1) * grid.scale_um + np.array(grid.translate_um)
    np.testing.assert_allclose(world, grid.centre_um(rows, cols), rtol=1e-12, atol=1e-9)


@given(geometries)
def test_json_gives_back_an_equal_geometry(grid):
    assert GridGeometry.from_json(json.loads(json.dumps(grid.to_json()))) == grid


def test_a_square_planted_in_a_slide_is_found_at_its_pixels_tokens_and_micrometres():
    mpp, tile = 0.5, 23
    grid = GridGeometry.cover((311, 421), slide_mpp=mpp, tile_px=tile, tile_mpp=mpp)
    assert grid.shape == (14, 18)  # 311 px are 13.52 tiles: the 14th has its centre inside, the 19th of 421 px has not
    slide = np.full((311, 421), 255, np.uint8)
    slide[5 * tile : 7 * tile, 11 * tile : 14 * tile] = 0  # tokens 5-6 x 11-13
    seen = np.zeros(grid.shape, bool)
    for i in range(grid.rows):
        for j in range(grid.cols):
            row0, col0, row1, col1 = grid.box(i, j)
            seen[i, j] = (slide[row0:row1, col0:col1] == 0).all()
    assert set(map(tuple, np.argwhere(seen))) == {(i, j) for i in (5, 6) for j in (11, 12, 13)}
    first, last = np.argwhere(seen).min(0), np.argwhere(seen).max(0)
    # napari draws a cell from its centre minus half a scale to its centre plus half; pixels likewise
    low = first * np.array(grid.scale_um) + grid.translate_um - np.array(grid.scale_um) / 2
    high = last * np.array(grid.scale_um) + grid.translate_um + np.array(grid.scale_um) / 2
    dark = np.argwhere(slide == 0)
    assert low.tolist() == ((dark.min(0) - 0.5) * mpp).tolist()
    assert high.tolist() == ((dark.max(0) + 0.5) * mpp).tolist()
    assert all(seen[grid.token_at(*pixel)] for pixel in dark[::37])


def test_a_tile_over_the_edge_belongs_to_the_grid_only_if_its_centre_is_inside():
    for extent in range(10, 31):
        grid = GridGeometry.cover((extent, 101), slide_mpp=1.0, tile_px=10, tile_mpp=1.0)
        assert grid.rows == sum(10 * i + 5 < extent for i in range(9))
        assert grid.cols == 10


def test_the_effective_pixel_size_is_what_rounding_made_of_the_wish():
    grid = GridGeometry.cover((5003, 7001), slide_mpp=0.2527, tile_px=224, tile_mpp=0.5)
    assert grid.tile == 443
    assert grid.tile_mpp == 443 * 0.2527 / 224
    assert grid.tile_px == 224


def test_a_stride_is_counted_in_the_pixels_of_the_encoder():
    grid = GridGeometry.cover((5003, 7001), slide_mpp=0.25, tile_px=224, tile_mpp=0.5, stride_px=112)
    assert (grid.tile, grid.stride, grid.stride_px) == (448, 224, 112)


def test_ngff_transforms_are_scale_then_translation_in_micrometres():
    ngff = GRID.ngff(n_extra=1)
    assert [axis["name"] for axis in ngff["axes"]] == ["y", "x", "c"]
    assert ngff["axes"][0] == {"name": "y", "type": "space", "unit": "micrometer"}
    assert ngff["coordinateTransformations"] == [
        {"type": "scale", "scale": [2.75, 2.75, 1.0]},
        {"type": "translation", "translation": [2.25, 5.75, 0.0]},
    ]


def test_tile_px_is_the_tile_itself_unless_given():
    assert GridGeometry(2, 3, tile=31, stride=31, origin=(0, 0), slide_mpp=0.5).tile_px == 31


def test_a_slide_smaller_than_a_tile_is_refused_with_both_sizes():
    with pytest.raises(InvalidInputError, match=r"448 level-0 pixels .* the slide has 300 x 9001\. Check the slide's"):
        GridGeometry.cover((300, 9001), slide_mpp=0.25, tile_px=224, tile_mpp=0.5)


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("rows", 0, r"rows must be a whole number of at least 1; got 0"),
        ("cols", 2.5, r"cols must be a whole number of at least 1; got 2\.5"),
        ("stride", True, r"stride must be a whole number"),
        ("tile_px", -1, r"tile_px must be a whole number of at least 0; got -1"),
        ("origin", (1, 2, 3), r"origin must be \(row, col\)"),
        ("origin", (1, 2.5), r"origin must be a whole number; got 2\.5"),
    ],
)
def test_an_impossible_field_is_named_with_its_value(field, value, match):
    with pytest.raises(InvalidInputError, match=match):
        GridGeometry(**{**GRID.to_json(), "origin": (0, 0), field: value})


@pytest.mark.parametrize("mpp", [0, -0.5, float("nan"), float("inf"), None, "0.5"])
def test_a_pixel_size_that_cannot_be_is_refused(mpp):
    with pytest.raises(PixelSizeError, match="slide_mpp must be a positive width in µm"):
        GridGeometry(2, 3, 5, 5, (0, 0), mpp)


def test_damaged_json_is_refused_and_says_what_is_missing():
    fields = GRID.to_json()
    with pytest.raises(FileFormatError, match="must hold the fields rows, cols, tile"):
        GridGeometry.from_json({key: value for key, value in fields.items() if key != "tile"})
    with pytest.raises(FileFormatError, match="is damaged: rows must be a whole number of at least 1; got -3"):
        GridGeometry.from_json({**fields, "rows": -3})


def test_an_array_of_another_grid_is_refused():
    GRID.check_shape("coverage", (5, 7, 3))
    with pytest.raises(MismatchError, match=r"coverage must have one cell per token, shape \(5, 7\); got \(7, 5\)"):
        GRID.check_shape("coverage", (7, 5))
