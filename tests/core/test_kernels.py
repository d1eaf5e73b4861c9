"""Kernels: what a weight means, and what the reference's quirks would do to it."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from napari_prospector.core.kernels import (
    block_totals,
    feature_count,
    feature_names,
    fit_kernel,
    fit_linear,
    shares,
)
from napari_prospector.errors import InvalidInputError


def counts_of(n_data: int = 22, n_concepts: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Counts of data in which concept 0, and its pair with itself, are commoner in class 1."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_data) % 2
    rates = np.ones((n_data, feature_count(n_concepts, 1))) * 40
    rates[labels == 1, 0] *= 4
    rates[labels == 1, n_concepts] *= 4
    return rng.poisson(rates), labels


def test_features_are_monograms_then_pairs_in_lexicographic_order() -> None:
    assert feature_count(3, 0) == 3
    assert feature_names(["a", "b", "c"], 1) == ["a", "b", "c", "a + a", "a + b", "a + c", "b + b", "b + c", "c + c"]
    assert len(feature_names(["a", "b", "c"], 2)) == feature_count(3, 2)


def test_shares_of_tokens_and_of_pairs_each_add_up_to_one() -> None:
    counts, _ = counts_of()
    table = shares(counts, 5)
    np.testing.assert_allclose(table[:, :5].sum(axis=1), 1)
    np.testing.assert_allclose(table[:, 5:].sum(axis=1), 1)
    np.testing.assert_array_equal(shares(counts), table)


def test_a_datum_without_pairs_has_shares_of_zero_and_no_nan() -> None:
    assert block_totals(np.array([3, 1, 0, 0, 0]), 2).tolist() == [4, 4, 1, 1, 1]


@pytest.mark.parametrize("method", ["fold-change", "linear"])
def test_the_features_of_class_1_get_the_largest_weights(method: str) -> None:
    counts, labels = counts_of()
    kernel = fit_kernel(counts, labels, method)
    assert set(np.argsort(-kernel)[:2]) == {0, 5}


def test_exchanging_the_classes_changes_the_sign_of_a_fold_change_kernel() -> None:
    counts, labels = counts_of(n_data=23)
    np.testing.assert_allclose(fit_kernel(counts, labels), -fit_kernel(counts, 1 - labels), rtol=0, atol=1e-12)


def test_renumbering_features_renumbers_weights() -> None:
    counts, labels = counts_of()
    order = np.random.default_rng(2).permutation(5)
    np.testing.assert_allclose(
        fit_kernel(counts[:, :5], labels, n_concepts=5)[order], fit_kernel(counts[:, order], labels, n_concepts=5)
    )


def test_larger_data_with_the_same_shares_give_the_same_kernel() -> None:
    counts, labels = counts_of()
    larger = counts * np.where(labels, 7, 3)[:, None]
    np.testing.assert_allclose(fit_kernel(counts, labels), fit_kernel(larger, labels), atol=1e-12)


def test_a_feature_that_one_class_lacks_weighs_no_more_than_its_data_can_tell() -> None:
    counts, labels = counts_of(n_data=22)
    accident = counts.copy()
    accident[:, 3] = 0
    accident[1, 3] = 50
    bound = np.log2(2 * 11 / 1 + 1)
    assert abs(fit_kernel(accident, labels, shrink=False)[3]) == pytest.approx(bound)
    # one accident among 22 data loses more than half of its weight; a fold change that all data show, next to nothing
    assert abs(fit_kernel(accident, labels)[3]) < 0.5 * bound
    assert fit_kernel(accident, labels)[0] > 0.9 * fit_kernel(accident, labels, shrink=False)[0]
    assert abs(fit_kernel(accident, labels, reference=True)[3]) > 15


def test_a_feature_present_everywhere_keeps_its_sign_where_the_reference_flips_the_linear_kernel() -> None:
    counts, labels = counts_of()
    assert fit_linear(counts.astype(float), labels, n_concepts=5).standardized[0] > 0
    assert fit_kernel(counts, labels, "linear", reference=True)[0] < 0


def test_shrinking_never_changes_a_sign_nor_makes_a_weight_larger() -> None:
    counts, labels = counts_of(seed=5)
    plain, shrunk = fit_kernel(counts, labels, shrink=False), fit_kernel(counts, labels)
    assert (np.sign(plain) == np.sign(shrunk)).all()
    assert (np.abs(shrunk) <= np.abs(plain)).all()


def test_alpha_keeps_what_a_corrected_mann_whitney_test_of_each_feature_keeps() -> None:
    counts, labels = counts_of()
    table = shares(counts)
    p_values = np.array([mannwhitneyu(column[labels == 1], column[labels == 0]).pvalue for column in table.T])
    kept = fit_kernel(counts, labels, alpha=0.05) != 0
    np.testing.assert_array_equal(kept, p_values * len(p_values) <= 0.05)
    assert 0 < kept.sum() < len(kept)


def test_alpha_of_one_keeps_everything_here_and_drops_features_in_the_reference() -> None:
    labels = np.arange(22) % 2
    counts = np.random.default_rng(0).poisson(40, size=(22, 20))  # no feature differs
    assert (fit_kernel(counts, labels, alpha=1.0) != 0).all()
    assert (fit_kernel(counts, labels, alpha=1.0, reference=True) == 0).any()


def test_tau_drops_small_weights_and_only_those() -> None:
    counts, labels = counts_of()
    full, cut = fit_kernel(counts, labels), fit_kernel(counts, labels, tau=0.5)
    np.testing.assert_array_equal(cut, np.where(np.abs(full) < 0.5, 0, full))


def test_the_logit_is_the_weights_on_shares_plus_the_intercept() -> None:
    counts, labels = counts_of()
    linear = fit_linear(counts.astype(float), labels, n_concepts=5)
    table = shares(counts, 5)
    standardized = (table - table.mean(axis=0)) / table.std(axis=0)
    logit = table @ linear.weights + linear.intercept
    slope = np.polyfit(standardized @ linear.standardized, logit, 1)[0]
    assert slope == pytest.approx(1, abs=1e-9)
    assert ((logit > 0) == (labels == 1)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "svm"}, "method must be 'fold-change' or 'linear'; got 'svm'"),
        ({"alpha": 0.0}, "alpha must be above 0, or None"),
        ({"tau": -1.0}, "tau must be 0 or more; got -1"),
        ({"pseudo": 0.0}, "pseudo must be above 0"),
        ({"method": "linear", "l1_ratio": 1.5}, "l1_ratio must lie between 0 and 1; got 1.5"),
        ({"labels": np.zeros(22)}, r"labels must hold both 0 and 1 and nothing else; got \[0.0\]"),
        ({"labels": np.arange(21) % 2}, r"got \(22, 20\) and \(21,\)"),
        ({"counts": np.full((22, 20), -1)}, "finite and not negative"),
        ({"counts": np.zeros((22, 20))}, "datum 0 counts none"),
    ],
)
def test_input_that_cannot_be_meant_is_refused(changes: dict[str, object], message: str) -> None:
    counts, labels = counts_of()
    arguments = {"counts": counts, "labels": labels} | changes
    with pytest.raises(InvalidInputError, match=message):
        fit_kernel(**arguments)  # type: ignore[arg-type]
