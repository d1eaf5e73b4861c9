from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from napari_prospector.core.metrics import (
    AREAS,
    REFERENCE_ROWS,
    auprc_trapezoid,
    auroc,
    average_precision,
    expected_average_precision,
    localization,
    pooled_areas,
)
from napari_prospector.errors import InvalidInputError, MismatchError, UnknownNameError

SIZES = (31, 43, 29, 47, 37)
POSITIVE = (5, 0, 7, 11, 0)


@pytest.fixture
def truths() -> list[NDArray[np.bool_]]:
    return [np.arange(n) < m for n, m in zip(SIZES, POSITIVE, strict=True)]


@pytest.fixture
def maps() -> list[NDArray[np.float64]]:
    generator = np.random.default_rng(0)
    return [generator.normal(size=n) + (np.arange(n) < m) for n, m in zip(SIZES, POSITIVE, strict=True)]


def test_means_are_over_data_with_both_kinds_of_token(
    maps: list[NDArray[np.float64]], truths: list[NDArray[np.bool_]]
) -> None:
    found = localization(maps, truths)
    np.testing.assert_array_equal(found.counted, [True, False, True, True, False])
    single = [average_precision(maps[i], truths[i]) for i in (0, 2, 3)]
    assert found.rows["map"].mean["ap"].value == pytest.approx(np.mean(single))
    np.testing.assert_array_equal(np.isnan(found.column("map", "dice@0.5")), ~found.counted)
    assert (found.n_counted, found.n_groups) == (3, 3)
    np.testing.assert_array_equal(found.n_tokens, SIZES)
    np.testing.assert_allclose(found.prevalence, np.array(POSITIVE) / SIZES)


def test_a_wholly_positive_datum_is_not_counted() -> None:
    found = localization([[0.1, 0.2, 0.3], [0.5, 0.1, 0.2]], [[1, 1, 1], [1, 0, 0]])
    np.testing.assert_array_equal(found.counted, [False, True])
    assert found.rows["map"].mean["ap"].value == 1


def test_the_rows_constant_random_and_prevalence_always_come_along(
    maps: list[NDArray[np.float64]], truths: list[NDArray[np.bool_]]
) -> None:
    found = localization(maps, truths)
    assert tuple(found.rows) == ("map", *REFERENCE_ROWS)
    share = np.mean([m / n for n, m in zip(SIZES, POSITIVE, strict=True) if m])
    constant, drawn, prevalence = (found.rows[name] for name in REFERENCE_ROWS)
    assert constant.mean["ap"].value == pytest.approx(share)
    assert constant.mean["auroc"].value == 0.5
    assert constant.mean["auprc"].value == pytest.approx((1 + share) / 2)
    assert (constant.share_constant, drawn.share_constant) == (1, 0)
    assert prevalence.mean["ap"].value == prevalence.mean["auprc"].value == pytest.approx(share)
    assert np.isnan(prevalence.mean["auroc"].value)
    expected = np.mean([expected_average_precision(m, n) for n, m in zip(SIZES, POSITIVE, strict=True) if m])
    assert drawn.mean["ap"].value == pytest.approx(expected, abs=0.03)
    assert drawn.mean["auroc"].value == pytest.approx(0.5, abs=0.03)
    assert drawn.pooled["auroc"].value == pytest.approx(0.5, abs=0.03)


def test_pooled_measures_rank_the_tokens_of_all_data_together(
    maps: list[NDArray[np.float64]], truths: list[NDArray[np.bool_]]
) -> None:
    row = localization(maps, truths).rows["map"]
    some, all_ = (
        (np.concatenate([part[i] for i in (0, 2, 3)]) for part in (maps, truths)),
        map(np.concatenate, (maps, truths)),
    )
    scores, truth = some
    assert row.pooled["ap"].value == pytest.approx(average_precision(scores, truth))
    assert row.pooled["auprc"].value == pytest.approx(auprc_trapezoid(scores, truth))
    scores, truth = all_
    assert row.pooled_all["auroc"].value == pytest.approx(auroc(scores, truth))
    assert row.pooled_all["ap"].value < row.pooled["ap"].value
    assert row.pooled["ap"].low < row.pooled["ap"].value < row.pooled["ap"].high


@pytest.mark.parametrize("n_levels", [2, 5, 10_000])
def test_weighted_areas_equal_those_of_repeated_data(n_levels: int) -> None:
    generator = np.random.default_rng(3)
    datum = np.repeat(np.arange(5), SIZES)
    scores = np.round(generator.random(datum.size) * n_levels) / n_levels
    truth = generator.random(datum.size) < 0.3
    weights = generator.multinomial(5, [0.2] * 5, size=17)
    areas = pooled_areas(scores, truth, datum, weights)
    assert areas.shape == (17, 3)
    for row, weight in zip(areas, weights, strict=True):
        times = weight[datum]
        repeated = np.repeat(scores, times), np.repeat(truth, times)
        expected = [measure(*repeated) for measure in (average_precision, auroc, auprc_trapezoid)]
        np.testing.assert_allclose(row, expected, atol=1e-12)


def test_intervals_come_from_patients_where_groups_are_given(
    maps: list[NDArray[np.float64]], truths: list[NDArray[np.bool_]]
) -> None:
    found = localization(maps, truths, groups=["p2", "p3", "p2", "p2", "p5"])
    assert found.n_groups == 1
    row = found.rows["map"]
    assert np.isnan([row.mean["ap"].low, row.mean["ap"].high, row.pooled["ap"].low]).all()
    assert not np.isnan(row.pooled_all["ap"].low)


def test_the_seed_decides_everything(maps: list[NDArray[np.float64]], truths: list[NDArray[np.bool_]]) -> None:
    first, again, other = (localization(maps, truths, seed=seed, n_boot=101) for seed in (3, 3, 4))
    assert first.rows["map"].mean == again.rows["map"].mean
    assert first.rows["random"].mean == again.rows["random"].mean
    assert first.rows["map"].mean["ap"] != other.rows["map"].mean["ap"]


def test_several_methods_are_compared_on_the_same_replicates(
    maps: list[NDArray[np.float64]], truths: list[NDArray[np.bool_]]
) -> None:
    found = localization({"ours": maps, "theirs": [-scores for scores in maps]}, truths)
    assert tuple(found.rows) == ("ours", "theirs", *REFERENCE_ROWS)
    difference = found.difference("ours", "theirs")
    means = [found.rows[name].mean["ap"].value for name in ("ours", "theirs")]
    assert difference.value == pytest.approx(means[0] - means[1])
    assert difference.low > 0
    assert found.difference("ours", "ours") == (0, 0, 0)


def test_every_pair_of_rows_is_compared_as_it_is_alone(
    maps: list[NDArray[np.float64]], truths: list[NDArray[np.bool_]]
) -> None:
    found = localization({"ours": maps, "theirs": [-scores for scores in maps]}, truths, n_boot=101)
    pairs = found.differences("auroc")
    assert list(pairs)[:2] == [("ours", "theirs"), ("ours", "constant")]
    assert len(pairs) == 10
    for (row, other), difference in pairs.items():
        assert difference == pytest.approx(found.difference(row, other, "auroc"), nan_ok=True)


def test_a_mean_over_some_data_is_that_of_those_data_alone(
    maps: list[NDArray[np.float64]], truths: list[NDArray[np.bool_]]
) -> None:
    patients = ["p2", "p3", "p5", "p7", "p11"]
    some = localization([maps[2], maps[3]], [truths[2], truths[3]], patients[2:4]).rows["map"].mean["ap"]
    found = localization(maps, truths, patients)
    assert found.mean_over([False, True, True, True, False], "map") == pytest.approx(some)
    assert np.isnan(found.mean_over([False] * 5, "map")).all()
    np.testing.assert_array_equal(found.groups, [0, 1, 2, 3, 4])


@pytest.mark.parametrize("measure", ["ap", "auroc"])
def test_pooled_measures_are_those_of_scikit_learn(
    measure: str, maps: list[NDArray[np.float64]], truths: list[NDArray[np.bool_]]
) -> None:
    oracle = {"ap": average_precision_score, "auroc": roc_auc_score}[measure]
    row = localization([np.round(scores, 1) for scores in maps], truths, n_boot=11).rows["map"]
    scores, truth = np.concatenate([np.round(scores, 1) for scores in maps]), np.concatenate(truths)
    assert row.pooled_all[measure].value == pytest.approx(oracle(truth, scores))


def test_the_share_of_constant_maps_is_over_counted_data(
    maps: list[NDArray[np.float64]], truths: list[NDArray[np.bool_]]
) -> None:
    flat = [np.zeros(31), np.zeros(43), *maps[2:]]
    assert localization(flat, truths).rows["map"].share_constant == pytest.approx(1 / 3)


def test_maps_are_cut_at_shares_of_their_range_and_at_scores() -> None:
    found = localization([[-1.0, 3.0, 1.2, 0.1]], [[0, 1, 1, 0]], thresholds=(0.5,), score_thresholds=(0.0, 2.0))
    assert found.measures[:3] == AREAS
    assert found.column("map", "dice@0.5")[0] == 1
    assert found.column("map", "dice>0")[0] == pytest.approx(4 / 5)
    assert found.column("map", "recall>2")[0] == 0.5


def test_a_datum_without_truth_takes_no_part(maps: list[NDArray[np.float64]], truths: list[NDArray[np.bool_]]) -> None:
    without = localization(maps, [truths[0], None, None, None, None])
    np.testing.assert_array_equal(without.counted, [True, False, False, False, False])
    np.testing.assert_array_equal(without.n_tokens, [31, 0, 0, 0, 0])


def test_without_any_truth_every_mean_is_nan(maps: list[NDArray[np.float64]]) -> None:
    found = localization(maps, [None] * 5)
    assert found.n_counted == 0
    for row in found.rows.values():
        assert np.isnan(row.mean["ap"]).all()
        assert np.isnan(row.pooled_all["ap"]).all()


def test_what_cannot_be_measured_is_refused(maps: list[NDArray[np.float64]], truths: list[NDArray[np.bool_]]) -> None:
    with pytest.raises(MismatchError, match="one map for each of 4 truths; 'map' has 5"):
        localization(maps, truths[:4])
    with pytest.raises(MismatchError, match="got 43 scores and 31 truths"):
        localization(maps[1:2], truths[:1])
    with pytest.raises(InvalidInputError, match="called like a reference row; got 'random'"):
        localization({"random": maps}, truths)
    with pytest.raises(InvalidInputError, match=r"between 0 and 1; got \(0\.5, 1\.5\)"):
        localization(maps, truths, thresholds=(0.5, 1.5))
    with pytest.raises(UnknownNameError, match="Row 'ours' is unknown; there are 'map', 'constant'"):
        localization(maps, truths).column("ours")
    with pytest.raises(UnknownNameError, match="Measure 'auc' is unknown; there are 'ap', 'auroc'"):
        localization(maps, truths).column("map", "auc")
