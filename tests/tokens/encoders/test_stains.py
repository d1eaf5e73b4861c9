"""Stain separation and levelled planes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_prospector.tokens.encoders.stains import STAIN_VECTORS, UNMIXING, level, quantiles, separate


def stained(hematoxylin: float, eosin: float) -> np.ndarray:
    """Draw a tile (7, 11, 3) with known amounts of both stains, in natural units of density."""
    density = hematoxylin * STAIN_VECTORS[0] + eosin * STAIN_VECTORS[1]
    return np.broadcast_to(np.rint(256 * np.exp(-density) - 1), (7, 11, 3)).astype(np.uint8)


def test_white_has_no_stain() -> None:
    assert np.array_equal(separate(np.full((7, 11, 3), 255, np.uint8)), np.zeros((4, 7, 11), np.float32))


@given(hematoxylin=st.floats(0, 1.5), eosin=st.floats(0, 1.0))
def test_known_amounts_of_stain_are_found_again(hematoxylin: float, eosin: float) -> None:
    planes = separate(stained(hematoxylin, eosin))
    # Rounding to bytes moves the density of a dark pixel by a few hundredths.
    np.testing.assert_allclose(planes[:3, 0, 0], [hematoxylin, eosin, 0.0], atol=0.06)


def test_the_stain_vectors_are_those_of_ruifrok_and_johnston() -> None:
    np.testing.assert_allclose(np.linalg.norm(STAIN_VECTORS, axis=1), 1.0)
    np.testing.assert_allclose(STAIN_VECTORS[0], [0.650, 0.704, 0.286], atol=1e-3)
    np.testing.assert_allclose(STAIN_VECTORS[1], [0.072, 0.990, 0.105], atol=1e-2)
    np.testing.assert_allclose(STAIN_VECTORS @ UNMIXING, np.eye(3), atol=1e-6)


def test_the_last_plane_is_the_mean_density() -> None:
    tile = np.random.default_rng(3).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    expected = -np.log((tile + 1.0) / 256).mean(axis=2)
    np.testing.assert_allclose(separate(tile)[3], expected, rtol=1e-5, atol=1e-6)


def test_a_levelled_plane_holds_the_share_that_is_below() -> None:
    plane = np.random.default_rng(5).uniform(0.2, 2.7, (41, 53)).astype(np.float32)
    ranks = plane.ravel().argsort().argsort().reshape(plane.shape) / plane.size
    np.testing.assert_allclose(level(plane, softness=0.01), ranks, atol=0.02)


@given(gain=st.floats(0.7, 1.4), shift=st.floats(-0.1, 0.1))
def test_stronger_staining_does_not_change_a_levelled_plane(gain: float, shift: float) -> None:
    plane = np.random.default_rng(7).uniform(0.2, 2.7, (41, 53)).astype(np.float32)
    stronger = (gain * plane + shift).astype(np.float32)
    np.testing.assert_allclose(level(stronger, softness=0.01), level(plane, softness=0.01), atol=0.02)


def test_noise_on_glass_stays_noise() -> None:
    glass = np.random.default_rng(11).normal(0.05, 0.005, (41, 53)).astype(np.float32)
    assert level(glass).std() < 0.03


@pytest.mark.parametrize("value", [-9.0, -2.0, 0.0, 3.99, 9.0])
def test_a_constant_plane_stays_constant(value: float) -> None:
    levelled = level(np.full((13, 17), value, np.float32))
    assert np.isfinite(levelled).all()
    assert np.ptp(levelled) == 0


def test_quantiles_are_those_of_numpy() -> None:
    plane = np.random.default_rng(13).normal(0.9, 0.4, (59, 61)).astype(np.float32)
    shares = (0.05, 0.3, 0.5, 0.95)
    np.testing.assert_allclose(quantiles(plane, shares), np.quantile(plane, shares), atol=0.01)
