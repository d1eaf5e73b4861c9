"""Coarser levels of maps, against slow loops."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_prospector.study import map_levels
from napari_prospector.study.map_levels import label_levels, n_levels, score_levels


@pytest.fixture(autouse=True, scope="module")
def _small() -> object:
    """Levels down to 2 cells, and bands of few cells, so that small maps have many of both."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(map_levels, "COARSEST", 2)
        patch.setattr(map_levels, "_BAND_CELLS", 23)
        yield


def shapes() -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(1, 13), st.integers(1, 17))


def slow_mean(scores: np.ndarray, factor: int) -> np.ndarray:
    rows, cols = (-(-length // factor) for length in scores.shape)
    out = np.full((rows, cols), np.nan)
    for row in range(rows):
        for col in range(cols):
            square = scores[row * factor : (row + 1) * factor, col * factor : (col + 1) * factor]
            known = [float(score) for score in square.ravel() if not np.isnan(score)]
            out[row, col] = sum(known) / len(known) if known else np.nan
    return out


def slow_mode(labels: np.ndarray) -> np.ndarray:
    rows, cols = (-(-length // 2) for length in labels.shape)
    out = np.zeros((rows, cols), labels.dtype)
    for row in range(rows):
        for col in range(cols):
            votes = Counter(labels[2 * row : 2 * row + 2, 2 * col : 2 * col + 2].ravel().tolist())
            votes.pop(0, None)
            out[row, col] = min(votes, key=lambda label: (-votes[label], label), default=0)
    return out


@given(shapes().flatmap(lambda shape: arrays(np.float32, shape, elements=st.floats(-9, 9, width=32) | st.just(np.nan))))
def test_coarser_scores_are_means_of_all_tokens_below_and_ignore_what_is_no_tissue(scores: np.ndarray) -> None:
    levels = list(score_levels(scores))
    assert len(levels) == n_levels(scores.shape)
    assert max(levels[-1].shape) <= 2
    np.testing.assert_array_equal(levels[0], scores)
    for number, level in enumerate(levels):
        assert level.dtype == np.float32
        np.testing.assert_allclose(level, slow_mean(scores, 2**number), rtol=1e-5, atol=1e-6)


@given(shapes().flatmap(lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 4))))
def test_coarser_labels_are_the_most_frequent_below(labels: np.ndarray) -> None:
    levels = list(label_levels(labels))
    np.testing.assert_array_equal(levels[0], labels)
    for finer, coarser in zip(levels, levels[1:], strict=False):
        assert coarser.dtype == np.uint8
        np.testing.assert_array_equal(coarser, slow_mode(finer))
    # a cell is empty exactly where the map's is
    for label, score in zip(levels, score_levels(np.where(labels == 0, np.nan, 1.0).astype(np.float32)), strict=True):
        np.testing.assert_array_equal(label == 0, np.isnan(score))
