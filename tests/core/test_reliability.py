from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from napari_prospector.core.reliability import FEWEST_IN_BIN, MOST_BINS, reliability, share_interval
from napari_prospector.errors import InvalidInputError

N_DATA = 53


def drawn(n_data: int = N_DATA, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and truths that follow them."""
    generator = np.random.default_rng(seed)
    probability = generator.random(n_data)
    return probability, generator.random(n_data) < probability


def test_the_measures_are_those_of_scikit_learn() -> None:
    probability, truth = drawn()
    found = reliability(probability, truth, n_boot=101)
    assert found.auroc.value == pytest.approx(roc_auc_score(truth, probability))
    assert found.brier.value == pytest.approx(brier_score_loss(truth, probability))
    assert found.log_loss.value == pytest.approx(log_loss(truth, probability))
    assert (found.n_data, found.n_target) == (N_DATA, truth.sum())
    for interval in (found.auroc, found.brier, found.log_loss):
        assert interval.low < interval.value < interval.high


def test_bins_are_the_quantile_bins_of_scikit_learn_with_their_counts() -> None:
    n_data = N_DATA + 1  # no value falls on a cut, where the two put it on different sides
    probability, truth = drawn(n_data)
    found = reliability(probability, truth, n_boot=11)
    share, mean = calibration_curve(truth, probability, n_bins=MOST_BINS, strategy="quantile")
    np.testing.assert_allclose([part.share.value for part in found.bins], share)
    np.testing.assert_allclose([part.probability for part in found.bins], mean)
    assert sum(part.n_data for part in found.bins) == n_data
    assert min(part.n_data for part in found.bins) >= FEWEST_IN_BIN
    for part in found.bins:
        members = (probability >= part.low) & (probability <= part.high)
        assert (part.n_data, part.n_target) == (members.sum(), truth[members].sum())


def test_the_calibration_error_is_what_a_slow_loop_over_bins_finds() -> None:
    probability, truth = drawn(31)
    found = reliability(probability, truth, n_boot=11)
    order, start, error = np.argsort(probability), 0, 0.0
    for size in [5, 5, 5, 5, 5, 6]:
        members = order[start : start + size]
        error += size / 31 * abs(np.mean(truth[members]) - np.mean(probability[members]))
        start += size
    assert [part.n_data for part in found.bins] == [5, 5, 5, 5, 5, 6]
    assert found.calibration_error == pytest.approx(error)


def test_perfect_probabilities_show_about_the_error_that_few_data_make() -> None:
    errors = [reliability(*drawn(29, seed), n_boot=3) for seed in range(41)]
    shown = np.mean([found.calibration_error for found in errors])
    expected = np.mean([found.perfect_calibration_error for found in errors])
    assert shown == pytest.approx(expected, abs=0.03)
    assert expected > 0.1
    assert reliability(*drawn(4999), n_boot=3).perfect_calibration_error < 0.03


def test_overconfident_probabilities_show_more_error_than_perfect_ones_would() -> None:
    probability, truth = drawn(101)
    extreme = np.where(probability > 0.5, 0.99, 0.01)
    found = reliability(extreme, truth, n_boot=11)
    assert found.calibration_error > 5 * found.perfect_calibration_error


def test_a_wrong_certainty_costs_a_finite_loss() -> None:
    assert reliability([1.0, 0.0, 0.5], [False, True, True], n_boot=5).log_loss.value < 14.2


def test_few_data_have_no_calibration_error_and_one_kind_no_auroc() -> None:
    few = reliability([0.2, 0.4, 0.9], [False, False, True], n_boot=11)
    assert np.isnan([few.calibration_error, few.perfect_calibration_error]).all()
    assert len(few.bins) == 1
    assert np.isnan(reliability([0.2, 0.4], [True, True], n_boot=11).auroc).all()


def test_one_probability_for_all_is_one_bin_and_chance() -> None:
    found = reliability(np.full(23, 0.25), np.arange(23) < 7, n_boot=11)
    assert found.auroc.value == 0.5
    (only,) = found.bins
    assert (only.low, only.high, only.n_data, only.n_target) == (0.25, 0.25, 23, 7)
    assert found.calibration_error == pytest.approx(7 / 23 - 0.25)


def test_intervals_are_drawn_over_patients() -> None:
    probability, truth = drawn()
    twice = np.tile(probability, 7), np.tile(truth, 7)
    alone = reliability(*twice, n_boot=401).brier
    patients = reliability(*twice, groups=np.tile(np.arange(N_DATA), 7).tolist(), n_boot=401).brier
    assert patients.high - patients.low > 2 * (alone.high - alone.low)
    one = reliability(probability, truth, groups=["p"] * N_DATA, n_boot=11)
    assert np.isnan([one.auroc.low, one.brier.low, one.log_loss.high]).all()


@pytest.mark.parametrize(("n_target", "n_data"), [(0, 5), (5, 5), (3, 7), (40, 101)])
def test_the_interval_of_a_share_is_the_one_of_scipy(n_target: int, n_data: int) -> None:
    oracle = binomtest(n_target, n_data).proportion_ci(0.9, method="wilson")
    found = share_interval(n_target, n_data, level=0.9)
    assert found == pytest.approx((n_target / n_data, oracle.low, oracle.high))


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"one shape \(n_data,\), n_data > 0; got \(2,\), \(3,\)"):
        reliability([0.1, 0.2], [True, False, True])
    with pytest.raises(InvalidInputError, match=r"one shape .* got \(0,\)"):
        reliability([], [])
    with pytest.raises(InvalidInputError, match=r"between 0 and 1; got 1\.5"):
        reliability([0.1, 1.5], [True, False])
    with pytest.raises(InvalidInputError, match="between 0 and 1; got nan"):
        reliability([0.1, np.nan], [True, False])
