"""The pixel measures of the benchmark of patch tokens, against drawings counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.patch_tokens import STEP_PX, Embedded, best_threshold, dice, drawn, measured


def embedded(truth: np.ndarray, band: np.ndarray) -> Embedded:
    patches = np.arange(14 * 21 * 3, dtype=np.float32).reshape(14, 21, 3)
    return Embedded(None, patches, truth, band)  # type: ignore[arg-type]


def test_a_tile_is_the_mean_of_its_patches() -> None:
    slide = embedded(np.zeros((2, 2), bool), np.zeros((2, 2), bool))
    assert slide.tiles.shape == (2, 3, 3)
    np.testing.assert_allclose(slide.tiles[1, 2], slide.patches[7:, 14:].mean(axis=(0, 1)))


def test_scores_are_drawn_over_the_pixels_of_their_cells() -> None:
    scores = np.arange(6.0).reshape(2, 3)
    flat = drawn(scores, 8 * STEP_PX, (16, 24), smooth=False)
    np.testing.assert_array_equal(flat, scores.repeat(8, 0).repeat(8, 1))
    smooth = drawn(scores, 8 * STEP_PX, (16, 24), smooth=True)
    assert smooth[0, 0] == 0
    assert smooth[3:5, 11:13].mean() == pytest.approx(1, abs=0.2)


def test_dice_counts_what_both_hold_twice() -> None:
    assert dice(np.array([1, 1, 1, 0], bool), np.array([0, 1, 1, 1], bool)) == pytest.approx(4 / 6)
    assert dice(np.zeros(3, bool), np.zeros(3, bool)) == 0


def test_a_threshold_is_found_on_training_slides_and_only_the_others_are_measured() -> None:
    truth = np.zeros((13, 17), bool)
    truth[3:7, 5:11] = True
    band = np.zeros_like(truth)
    band[2:8, 4:12] = True
    slides, noise = [embedded(truth, band)] * 2, np.random.default_rng(0).random(truth.shape) / 4
    assert 0.25 < best_threshold([truth + noise], slides[:1]) < 1.25
    found = measured(slides, [truth + noise, truth - noise], 1)
    assert found["ap"] + found["boundary_ap"] == pytest.approx([1.0, 1.0])
    assert found["region_dice"] == found["boundary_dice"]
