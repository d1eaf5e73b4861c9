"""Tiles find the cells of one grid, and what does not fit is told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_prospector.errors import InvalidInputError
from napari_prospector.tokens.lattice import fit_lattice

CELLS = np.array([[0, 0], [0, 1], [0, 2], [1, 0], [3, 2], [4, 5]])


@given(
    stride=st.integers(1, 3000),
    row=st.integers(-500, 5000),
    col=st.integers(-500, 5000),
    order=st.permutations(range(len(CELLS))),
)
def test_a_regular_grid_is_found_exactly_whatever_its_stride_place_and_order(stride, row, col, order):
    corners = (np.array([row, col]) + CELLS * stride).astype(float)[order]
    lattice = fit_lattice(corners, tile=stride)
    assert lattice.stride == stride
    assert lattice.origin == (row, col)
    np.testing.assert_array_equal(lattice.cells, CELLS[order])
    assert lattice.most_shift == 0
    assert lattice.kept.all()


def test_overlapping_tiles_have_a_stride_smaller_than_the_tile():
    lattice = fit_lattice(CELLS * 112.0, tile=448)
    assert lattice.stride == 112


def test_a_lonely_tile_has_its_own_width_as_stride():
    assert fit_lattice(np.array([[5.0, 7.0]]), tile=448).stride == 448


def test_tiles_of_another_piece_of_tissue_go_to_the_nearest_cells_and_tell_how_far():
    piece = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [2, 0]]) * 100.0
    other = np.array([[1, 5], [1, 6]]) * 100.0 + (30, -20)
    lattice = fit_lattice(np.concatenate([piece, other]), tile=100)
    assert lattice.origin == (0, 0)
    np.testing.assert_array_equal(lattice.cells[5:], [[1, 5], [1, 6]])
    np.testing.assert_array_equal(lattice.shifts[5:], [[30, -20]] * 2)
    assert lattice.most_shift == 30


def test_of_two_tiles_that_want_one_cell_the_nearer_stays():
    corners = np.array([[0, 0], [0, 100], [0, 200], [100, 0], [10, 104], [100, 240]], float)
    lattice = fit_lattice(corners, tile=100)
    assert lattice.kept.tolist() == [True, True, True, True, False, True]


def test_a_stride_that_is_no_whole_number_stays_within_a_few_pixels_over_a_whole_slide():
    places = np.stack(np.meshgrid(np.arange(61), np.arange(97), indexing="ij"), axis=-1).reshape(-1, 2)
    lattice = fit_lattice(places * 1013.0591, tile=1013.0591)
    np.testing.assert_array_equal(lattice.cells, places)
    assert lattice.stride == 1013
    assert lattice.most_shift <= 0.06 * 97 / 2 + 1


@pytest.mark.parametrize(
    ("corners", "problem"),
    [
        (np.empty((0, 2)), "at least one tile"),
        (np.array([[1.0, np.nan]]), "finite"),
        (np.zeros(6), r"shape \(n_tiles, 2\)"),
        (np.stack([np.zeros(999), np.arange(999) * 1.5], axis=1), "drifts by"),
    ],
)
def test_what_is_no_grid_is_refused(corners, problem):
    with pytest.raises(InvalidInputError, match=problem):
        fit_lattice(corners, tile=10)
