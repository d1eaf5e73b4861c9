"""Boundaries, Euler numbers, gaps and grains of planes whose answer is known, and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from napari_prospector.tokens.encoders.shapes import (
    GRAIN_MEASURES,
    boundary_and_euler,
    gap_shares,
    grain_measures,
)


def disc(radius: float, rows: int = 101, cols: int = 103) -> NDArray[np.float32]:
    row, col = np.mgrid[:rows, :cols]
    return (np.hypot(row - rows // 2, col - cols // 2) <= radius).astype(np.float32)


def speckles(seed: int, share: float = 0.4) -> NDArray[np.float32]:
    plane = (np.random.default_rng(seed).random((29, 31)) < share).astype(np.float32)
    # Nothing touches the edge: what is cut by it counts in part.
    plane[[0, -1]] = plane[:, [0, -1]] = 0
    return plane


@pytest.mark.parametrize("radius", [11, 23, 37])
def test_the_boundary_of_a_disc_is_its_circumference(radius: int) -> None:
    boundary, _ = boundary_and_euler(disc(radius + 0.5), 0.5)
    assert boundary * 100 * 102 == pytest.approx(2 * np.pi * (radius + 0.5), rel=0.05)


@given(seed=st.integers(0, 1000), share=st.floats(0.05, 0.95))
def test_the_euler_number_is_components_less_holes(seed: int, share: float) -> None:
    plane = speckles(seed, share)
    n_components = ndimage.label(plane)[1]
    # A hole is a part of the background that is not outside; background connects across corners.
    n_holes = ndimage.label(plane == 0, structure=np.ones((3, 3)))[1] - 1
    _, euler = boundary_and_euler(plane, 0.5)
    assert euler * 28 * 30 == pytest.approx(n_components - n_holes)


def test_a_ring_has_euler_number_zero() -> None:
    assert boundary_and_euler(disc(20) - disc(10), 0.5)[1] == 0


def test_gaps_are_the_distances_to_the_nearest_dark_thing() -> None:
    plane = speckles(7, share=0.02)
    limits = (0.5, 1.5, 2.5, 4.0, 6.0)
    distances = ndimage.distance_transform_edt(plane == 0)
    outside = distances[distances > 0]
    expected = [(outside > limit).mean() for limit in limits]
    # Chamfer distances are up to 8 % longer than Euclidean ones.
    np.testing.assert_allclose(gap_shares(plane, 0.5, limits), expected, atol=0.06)


def test_without_dark_things_every_gap_is_wider_than_any_limit() -> None:
    assert gap_shares(np.zeros((13, 17), np.float32), 0.5, (2.0, 20.0)).tolist() == [1.0, 1.0]


def test_without_gaps_none_is_wider_than_a_limit() -> None:
    assert gap_shares(np.ones((13, 17), np.float32), 0.5, (2.0, 20.0)).tolist() == [0.0, 0.0]


def measures(plane: NDArray[np.float32]) -> dict[str, float]:
    return dict(zip(GRAIN_MEASURES, grain_measures(plane, 0.5).tolist(), strict=True))


@given(seed=st.integers(0, 1000), share=st.floats(0.05, 0.95))
def test_grains_are_the_components_of_scipy(seed: int, share: float) -> None:
    plane = speckles(seed, share)
    areas = np.bincount(ndimage.label(plane)[0].ravel())[1:]
    areas = areas[areas >= 8]
    found = measures(plane)
    assert found["log of grains per 1000 px"] == pytest.approx(np.log(len(areas) / plane.size * 1000 + 0.1))
    if len(areas):
        assert found["mean log area"] == pytest.approx(np.log(areas).mean())
        assert found["mean log area by area"] == pytest.approx((np.log(areas) * areas).sum() / areas.sum())


def test_a_disc_is_full_and_not_elongated() -> None:
    found = measures(disc(13))
    assert found["mean elongation"] == pytest.approx(0.0, abs=1e-6)
    assert found["mean fullness"] == pytest.approx(1.0, abs=0.02)


def test_a_line_is_elongated() -> None:
    plane = np.zeros((19, 67), np.float32)
    plane[7, 5:61] = 1
    assert measures(plane)["mean elongation"] > 0.99


def test_a_ring_is_not_full() -> None:
    assert measures(disc(20) - disc(17))["mean fullness"] < 0.4


def test_specks_are_no_grains() -> None:
    plane = np.zeros((19, 67), np.float32)
    plane[3, 3:10] = 1
    assert grain_measures(plane, 0.5).tolist() == [pytest.approx(np.log(0.1)), *[0.0] * 8]


def test_a_plane_of_all_but_single_pixels_has_room_for_its_labels() -> None:
    board = np.indices((31, 37)).sum(axis=0) % 2
    assert grain_measures(board.astype(np.float32), 0.5)[0] == pytest.approx(np.log(0.1))
