from __future__ import annotations

import numpy as np
import pytest

from napari_prospector.core.bootstrap import (
    bootstrap_means,
    group_codes,
    paired_difference,
    percentile_intervals,
    resample,
)
from napari_prospector.errors import InvalidInputError

N_DATA, N_GROUPS = 37, 11


def test_data_of_one_group_are_drawn_together_and_as_many_groups_as_there_are() -> None:
    groups = np.arange(N_DATA) % N_GROUPS
    weights = resample(groups, n_boot=101, seed=5)
    assert weights.shape == (101, N_DATA)
    for group in range(N_GROUPS):
        assert np.ptp(weights[:, groups == group], axis=1).max() == 0
    np.testing.assert_array_equal(weights[:, :N_GROUPS].sum(axis=1), np.full(101, N_GROUPS))


def test_the_same_seed_draws_the_same_replicates() -> None:
    np.testing.assert_array_equal(resample(np.arange(7), 13, seed=2), resample(np.arange(7), 13, seed=2))
    assert (resample(np.arange(7), 13, seed=2) != resample(np.arange(7), 13, seed=3)).any()
    assert resample([], 13).shape == (13, 0)


def test_the_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(0).normal(size=(401, 1))
    (interval,) = bootstrap_means(values, n_boot=4001)
    half = 1.96 * values.std() / np.sqrt(401)
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.05)


def test_intervals_over_groups_are_wider_where_data_of_a_group_agree() -> None:
    of_group = np.random.default_rng(1).normal(size=N_GROUPS)
    values = np.repeat(of_group, 7)[:, None]
    patients = np.repeat(np.arange(N_GROUPS), 7).tolist()
    (alone,), (together,) = bootstrap_means(values), bootstrap_means(values, patients)
    assert alone.value == pytest.approx(together.value)
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_nan_takes_no_part() -> None:
    values = np.array([[0.25, np.nan], [np.nan, np.nan], [0.75, np.nan]])
    first, second = bootstrap_means(values)
    assert (first.value, first.low, first.high) == (0.5, 0.25, 0.75)
    assert np.isnan(second).all()


def test_one_group_has_a_mean_and_no_interval() -> None:
    (interval,) = bootstrap_means([[0.2], [0.4]], ["p3", "p3"])
    assert interval.value == pytest.approx(0.3)
    assert np.isnan([interval.low, interval.high]).all()


def test_a_paired_interval_is_narrow_where_methods_agree_on_what_is_hard() -> None:
    hard = np.random.default_rng(2).normal(size=N_DATA)
    difference = paired_difference(hard + 0.1, hard)
    assert difference.value == pytest.approx(0.1)
    assert difference.low == pytest.approx(0.1)
    assert paired_difference([1.0, np.nan, 0.5], [0.0, 0.3, np.nan]).value == 1


def test_a_paired_interval_is_what_a_slow_loop_over_drawn_patients_finds() -> None:
    generator = np.random.default_rng(4)
    ours, theirs = generator.random(N_DATA), generator.random(N_DATA)
    patients = (np.arange(N_DATA) % N_GROUPS).tolist()
    theirs[5] = np.nan
    n_boot = 211
    times = np.random.default_rng(6).multinomial(N_GROUPS, [1 / N_GROUPS] * N_GROUPS, size=n_boot)
    means = []
    for drawn in times:
        differences = []
        for patient in range(N_GROUPS):
            for _ in range(drawn[patient]):
                members = [i for i in range(N_DATA) if patients[i] == patient and i != 5]
                differences += [ours[i] - theirs[i] for i in members]
        means.append(sum(differences) / len(differences))
    found = paired_difference(ours, theirs, patients, n_boot, seed=6, level=0.9)
    assert found.value == pytest.approx(np.nanmean(ours - theirs))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(means, [5, 95])))


def test_every_column_is_measured_on_the_data_that_have_it() -> None:
    table = np.random.default_rng(8).random((N_DATA, 5))
    table[3, [0, 3]] = table[7, 2] = np.nan
    patients = (np.arange(N_DATA) % N_GROUPS).tolist()
    alone = [bootstrap_means(table[:, [column]], patients, 101)[0] for column in range(5)]
    for together, single in zip(bootstrap_means(table, patients, 101), alone, strict=True):
        assert together == pytest.approx(single)


def test_a_datum_without_a_group_is_a_group_of_its_own() -> None:
    np.testing.assert_array_equal(group_codes(["b", None, "a", "b", None], 5), [0, 1, 2, 0, 3])
    np.testing.assert_array_equal(group_codes(None, 3), [0, 1, 2])


def test_what_cannot_be_resampled_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="one entry for each of 3 data; got 2"):
        group_codes(["a", "b"], 3)
    with pytest.raises(InvalidInputError, match=r"level must lie between 0 and 1; got 95"):
        percentile_intervals([0.5], [[0.1], [0.2]], level=95)
    with pytest.raises(InvalidInputError, match=r"table must have shape \(n_data, n_measures\); got \(3,\)"):
        bootstrap_means([0.1, 0.2, 0.3])
    with pytest.raises(InvalidInputError, match=r"one shape \(n_data,\); got \(2,\) and \(3,\)"):
        paired_difference([0.1, 0.2], [0.1, 0.2, 0.3])
