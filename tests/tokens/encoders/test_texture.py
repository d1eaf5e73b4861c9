"""The texture kernels against scipy and slow loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from napari_prospector.tokens.encoders.texture import (
    binary_patterns,
    halve,
    oriented_energies,
    pyramid,
    smooth,
)

PLANE = np.random.default_rng(3).random((23, 29), dtype=np.float32)


def test_smoothing_is_the_binomial_filter_of_scipy() -> None:
    binomial = np.array([1, 4, 6, 4, 1]) / 16
    expected = ndimage.convolve1d(ndimage.convolve1d(PLANE, binomial, 0, mode="nearest"), binomial, 1, mode="nearest")
    np.testing.assert_allclose(smooth(PLANE), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 3), (5, 1)])
def test_the_smallest_planes_are_smoothed_too(shape: tuple[int, int]) -> None:
    np.testing.assert_allclose(smooth(np.full(shape, 0.7, np.float32)), 0.7, rtol=1e-6)


def test_halving_takes_means_of_four_and_drops_an_odd_edge() -> None:
    expected = PLANE[:22, :28].reshape(11, 2, 14, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(halve(PLANE), expected, rtol=1e-6)


def test_each_level_of_a_pyramid_halves_the_smoothed_one_before() -> None:
    (first, first_smooth), (second, second_smooth) = pyramid(PLANE, 2)
    assert np.array_equal(first, PLANE)
    assert np.array_equal(second, halve(first_smooth))
    assert np.array_equal(second_smooth, smooth(second))


def slow_patterns(plane: NDArray[np.float32], threshold: float) -> NDArray[np.float64]:
    counts = np.zeros(10)
    ring = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
    for row, col in itertools.product(range(1, plane.shape[0] - 1), range(1, plane.shape[1] - 1)):
        bits = [plane[row + down, col + right] > plane[row, col] + np.float32(threshold) for down, right in ring]
        turns = sum(one != other for one, other in zip(bits, bits[1:] + bits[:1], strict=True))
        counts[sum(bits) if turns <= 2 else 9] += 1
    return counts / counts.sum()


@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.3])
def test_binary_patterns_are_those_of_a_slow_loop(threshold: float) -> None:
    np.testing.assert_allclose(binary_patterns(PLANE, threshold), slow_patterns(PLANE, threshold))


def test_a_flat_plane_has_no_darker_neighbours() -> None:
    assert binary_patterns(np.full((7, 11), 0.4, np.float32), 0.01).tolist() == [1.0] + [0.0] * 9


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_turning_a_plane_does_not_change_its_patterns(turn: int) -> None:
    turned = np.ascontiguousarray(np.rot90(PLANE, turn))
    np.testing.assert_allclose(binary_patterns(turned, 0.01), binary_patterns(PLANE, 0.01))


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_turning_a_plane_does_not_change_its_oriented_energies(turn: int) -> None:
    plane = np.random.default_rng(5).random((32, 32), dtype=np.float32)
    mean, changes = oriented_energies(plane, 3)
    turned_mean, turned_changes = oriented_energies(np.ascontiguousarray(np.rot90(plane, turn)), 3)
    assert turned_mean == pytest.approx(mean, rel=1e-5)
    np.testing.assert_allclose(turned_changes, changes, rtol=1e-4)


def test_the_first_energy_is_the_mean_gradient_over_four_directions() -> None:
    padded = np.pad(PLANE[:22, :28].astype(np.float64), 1, mode="edge")
    # The kernel looks one column beyond an even width where the plane has one.
    padded[1:-1, -1], padded[-1, 1:-1] = PLANE[:22, 28], PLANE[22, :28]
    down, right = padded[2:, 1:-1] - padded[:-2, 1:-1], padded[1:-1, 2:] - padded[1:-1, :-2]
    angles = np.arange(4) * np.pi / 4
    lengths = [np.abs(np.cos(angle) * right + np.sin(angle) * down).mean() for angle in angles]
    assert oriented_energies(PLANE, 1)[0] == pytest.approx(np.mean(lengths) + 1e-3, rel=1e-5)


def test_stripes_change_across_themselves_and_not_along() -> None:
    # Stripes along the columns' axis, their strength waxing and waning from top to bottom.
    cols, rows = np.arange(64), np.arange(64)[:, None]
    plane = (np.sin(cols * 2.0) * (1 + np.sin(rows / 6.0))).astype(np.float32)
    _, changes = oriented_energies(plane, 2)
    _, turned = oriented_energies(np.ascontiguousarray(plane.T), 2)
    along, across = changes[2:]
    assert across > 1.3 * along
    np.testing.assert_allclose(turned, changes, rtol=1e-4)


def test_a_flat_plane_has_no_changes() -> None:
    mean, changes = oriented_energies(np.full((16, 24), 0.3, np.float32), 2)
    assert mean == pytest.approx(1e-3)
    assert changes.tolist() == [0.0] * 4
