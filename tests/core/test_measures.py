from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as oracle

from napari_prospector.core.measures import (
    at_threshold,
    auprc_trapezoid,
    auroc,
    average_precision,
    dice,
    expected_average_precision,
    is_constant,
    rescaled,
)
from napari_prospector.errors import InvalidInputError, MismatchError

N_TOKENS = 53
MEASURES = (average_precision, auroc, auprc_trapezoid)


@st.composite
def maps_with_truth(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores with many ties, and a truth with both kinds of token."""
    n_tokens = draw(st.integers(2, 40))
    scores = draw(st.lists(st.integers(-4, 4), min_size=n_tokens, max_size=n_tokens))
    truth = draw(st.lists(st.booleans(), min_size=n_tokens, max_size=n_tokens))
    truth[:2] = [True, False]
    return np.array(scores, dtype=np.float64) / 3, np.array(truth)


@given(maps_with_truth())
def test_areas_equal_those_of_scikit_learn(drawn: tuple[NDArray[np.float64], NDArray[np.bool_]]) -> None:
    scores, truth = drawn
    precision, recall, _ = oracle.precision_recall_curve(truth, scores)
    assert average_precision(scores, truth) == pytest.approx(oracle.average_precision_score(truth, scores), abs=1e-12)
    assert auroc(scores, truth) == pytest.approx(oracle.roc_auc_score(truth, scores), abs=1e-12)
    assert auprc_trapezoid(scores, truth) == pytest.approx(oracle.auc(recall, precision), abs=1e-12)


@given(maps_with_truth(), st.sampled_from([-0.5, 0.0, 1 / 3, 9.0]))
def test_measures_at_a_threshold_equal_those_of_scikit_learn(
    drawn: tuple[NDArray[np.float64], NDArray[np.bool_]], threshold: float
) -> None:
    scores, truth = drawn
    found, marked = at_threshold(scores, truth, threshold), scores > threshold
    assert found.precision == pytest.approx(oracle.precision_score(truth, marked, zero_division=0))
    assert found.recall == pytest.approx(oracle.recall_score(truth, marked))
    assert found.dice == pytest.approx(oracle.f1_score(truth, marked, zero_division=0))
    assert found.mcc == pytest.approx(oracle.matthews_corrcoef(truth, marked))
    assert found.balanced_accuracy == pytest.approx(oracle.balanced_accuracy_score(truth, marked))
    assert found.specificity == pytest.approx(oracle.recall_score(~truth, ~marked))
    assert dice(scores, truth, threshold) == found.dice


@given(maps_with_truth(), st.randoms(use_true_random=False))
def test_the_order_of_tokens_and_any_rising_scale_change_no_area(
    drawn: tuple[NDArray[np.float64], NDArray[np.bool_]], random: object
) -> None:
    scores, truth = drawn
    order = np.random.default_rng(random.getrandbits(32)).permutation(scores.size)  # type: ignore[attr-defined]
    for measure in MEASURES:
        assert measure(np.exp(scores[order]), truth[order]) == pytest.approx(measure(scores, truth), abs=1e-12)


@given(maps_with_truth())
def test_tokens_of_unknown_truth_change_nothing(drawn: tuple[NDArray[np.float64], NDArray[np.bool_]]) -> None:
    scores, truth = drawn
    more = np.concatenate((scores, [7.0, -7.0, 0.0]))
    marks = np.concatenate((truth.astype(int), [-1, -1, -1]))
    for measure in MEASURES:
        assert measure(more, marks) == measure(scores, truth)
    assert at_threshold(more, marks, 0.0) == at_threshold(scores, truth, 0.0)


def test_a_constant_map_scores_prevalence_a_half_and_the_flattering_trapezoid() -> None:
    truth = np.arange(N_TOKENS) < 11
    flat = np.full(N_TOKENS, 3.7)
    assert average_precision(flat, truth) == pytest.approx(11 / 53)
    assert auroc(flat, truth) == 0.5
    assert auprc_trapezoid(flat, truth) == pytest.approx((1 + 11 / 53) / 2)
    np.testing.assert_array_equal(rescaled(flat), np.full(N_TOKENS, 0.5))


def test_a_map_that_is_constant_but_for_rounding_is_called_constant() -> None:
    rounding = 0.1 + np.spacing(0.1) * np.arange(5)
    assert is_constant(rounding)
    assert is_constant(np.zeros(7))
    assert is_constant([])
    assert not is_constant([1.0, 1.0 + 1e-6])


def test_without_positive_tokens_every_measure_is_nan() -> None:
    for measure in MEASURES:
        assert np.isnan(measure([0.1, 0.7, 0.4], [0, 0, -1]))
    assert np.isnan(at_threshold([0.1, 0.7, 0.4], [0, 0, -1], 0.5)).all()
    assert np.isnan(average_precision([], []))


def test_without_negative_tokens_auroc_is_nan_and_balanced_accuracy_is_recall() -> None:
    assert np.isnan(auroc([0.1, 0.7], [1, 1]))
    assert average_precision([0.1, 0.7], [1, 1]) == 1
    assert at_threshold([0.1, 0.7], [1, 1], 0.5).balanced_accuracy == 0.5


def test_rescaled_stretches_to_0_and_1_and_a_token_at_the_threshold_is_not_marked() -> None:
    np.testing.assert_allclose(rescaled([-2.0, 0.0, 6.0]), [0, 0.25, 1])
    assert rescaled([]).size == 0
    assert at_threshold([-2.0, 0.0, 6.0], [0, 1, 1], 0.0).recall == 0.5


def test_the_expected_average_precision_is_the_mean_over_random_maps() -> None:
    truth = np.arange(N_TOKENS) < 3
    generator = np.random.default_rng(0)
    drawn = [average_precision(generator.random(N_TOKENS), truth) for _ in range(4001)]
    error = np.std(drawn) / np.sqrt(len(drawn))
    assert expected_average_precision(3, N_TOKENS) == pytest.approx(np.mean(drawn), abs=4 * error)
    assert expected_average_precision(3, N_TOKENS) > 3 / N_TOKENS
    assert expected_average_precision(1, 1) == 1
    assert np.isnan(expected_average_precision(0, N_TOKENS))


def test_scores_and_truth_of_different_length_are_refused() -> None:
    with pytest.raises(MismatchError, match="one value for each token; got 3 scores and 2 truths"):
        average_precision([0.1, 0.2, 0.3], [1, 0])


@pytest.mark.parametrize(
    ("scores", "truth", "text"),
    [
        ([0.1, np.nan, np.nan], [1, 0, 0], "scores must be finite; got 2 of 3 like nan"),
        ([0.1, np.inf, 0.0], [1, 0, 0], "scores must be finite; got 1 of 3 like inf"),
        ([[0.1, 0.2]], [1, 0], r"scores must have shape \(n_tokens,\); got \(1, 2\)"),
        ([0.1, 0.2], [[1, 0]], r"truth must have shape \(n_tokens,\); got \(1, 2\)"),
        ([0.1, 0.2], [1, 255], r"got 255\. Compare it with a threshold"),
    ],
)
def test_what_is_not_a_map_or_a_truth_is_refused(scores: object, truth: object, text: str) -> None:
    with pytest.raises(InvalidInputError, match=text):
        auroc(scores, truth)  # type: ignore[arg-type]
