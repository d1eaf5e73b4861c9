"""Judging maps by labels of data: against slow loops, and where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from napari_prospector.core.criterion import Jury, excess_terms
from napari_prospector.core.measures import auroc

N_DATA, N_TOKENS = 26, 97


def world(seed: int, prevalence: float = 0.2, signal: float = 1.5) -> tuple[Jury, np.ndarray, np.ndarray]:
    """A judge that sees each token with noise; the truth (n_rows,); and fresh noise to make maps of."""
    rng = np.random.default_rng(seed)
    is_target = np.arange(N_DATA) % 2 == 1
    owner = np.repeat(np.arange(N_DATA), N_TOKENS)
    truth = (rng.random(len(owner)) < prevalence) & is_target[owner]
    judge = signal * truth + rng.normal(size=len(owner))
    folds = np.arange(N_DATA) // 2 % 4
    return Jury(judge, owner, is_target, folds), truth, rng.normal(size=len(owner))


def slow_excess(jury: Jury, scores: np.ndarray) -> float:
    terms = np.zeros(N_DATA)
    for fold in range(4):
        known = np.concatenate(
            [jury.judge[jury.owner == d] for d in range(N_DATA) if jury.folds[d] == fold and d % 2 == 0]
        )
        spread = np.sqrt(
            np.mean([scores[jury.owner == d].var() for d in range(N_DATA) if jury.folds[d] == fold and d % 2])
        )
        for datum in np.flatnonzero(jury.folds == fold):
            own = scores[jury.owner == datum]
            judge = np.clip((jury.judge[jury.owner == datum] - known.mean()) / known.std(), -3, 3)
            terms[datum] = (
                np.mean([(a - own.mean()) * (b - judge.mean()) for a, b in zip(own, judge, strict=True)]) / spread
            )
    return float(terms[1::2].mean() - terms[::2].mean())


def test_the_excess_correlation_is_that_of_a_slow_loop() -> None:
    jury, truth, noise = world(0)
    scores = truth + noise
    assert jury.difference(jury.excess(scores)) == pytest.approx(slow_excess(jury, scores), abs=1e-12)


def test_the_excess_of_a_mixture_is_the_excess_of_the_mixed_map() -> None:
    jury, truth, noise = world(1)
    maps = np.stack([truth + noise, np.roll(noise, 5), 2.0 * truth], axis=1)
    mixture = np.array([0.5, 0.3, 0.2])
    terms = excess_terms(*jury.moments(maps), mixture, jury.is_target, jury.folds)
    np.testing.assert_allclose(terms, jury.excess(maps @ mixture), atol=1e-12)


def test_the_excess_does_not_change_with_the_scale_of_a_map() -> None:
    jury, truth, noise = world(2)
    np.testing.assert_allclose(jury.excess(truth + noise), jury.excess(40 * (truth + noise) - 7), atol=1e-12)


def test_maps_are_ranked_as_by_their_correlation_with_the_unseen_truth() -> None:
    jury, truth, noise = world(3)
    inside = jury.is_target[jury.owner]
    weights = (0.0, 0.2, 0.5, 1.0, 2.0)
    excess = [jury.difference(jury.excess(weight * truth + noise)) for weight in weights]
    true = [np.corrcoef((weight * truth + noise)[inside], truth[inside])[0, 1] for weight in weights]
    assert np.argsort(excess).tolist() == np.argsort(true).tolist() == [0, 1, 2, 3, 4]


def test_noise_that_map_and_judge_share_is_not_taken_for_signal() -> None:
    jury, truth, noise = world(4)
    shared = jury.judge - 1.5 * truth  # the judge's own noise, no truth at all
    assert abs(jury.difference(jury.excess(shared))) < 0.15
    assert jury.difference(jury.excess(truth + noise)) > 0.15


def test_a_halo_separates_tokens_better_but_has_less_excess() -> None:
    rng = np.random.default_rng(5)
    is_target = np.arange(N_DATA) % 2 == 1
    owner = np.repeat(np.arange(N_DATA), N_TOKENS)
    truth = np.zeros((N_DATA, N_TOKENS), bool)
    truth[1::2, 10::20] = True
    halo = sum(np.roll(truth, step, axis=1) for step in range(-3, 4)).clip(0, 1).ravel()
    noise = rng.normal(size=len(owner))
    jury = Jury(2 * truth.ravel() + rng.normal(size=len(owner)), owner, is_target, np.arange(N_DATA) // 2 % 4)
    sharp, spilled = 2 * truth.ravel() + noise, 2 * halo + noise
    assert jury.difference(jury.separation(spilled)) > jury.difference(jury.separation(sharp))
    assert jury.difference(jury.excess(sharp)) > jury.difference(jury.excess(spilled))


def test_separation_is_the_auroc_of_tokens_of_positive_against_tokens_of_negative_data() -> None:
    jury, truth, noise = world(6)
    one_fold = Jury(jury.judge, jury.owner, jury.is_target, np.zeros(N_DATA, np.int64))
    scores = truth + noise
    area = auroc(scores, jury.is_target[jury.owner])
    assert one_fold.difference(one_fold.separation(scores)) == pytest.approx(area - 0.5, abs=1e-12)


def test_intervals_are_drawn_over_groups_so_copies_of_a_patient_make_them_no_narrower() -> None:
    jury, truth, noise = world(7)
    terms = jury.excess(truth + noise)
    alone = jury.interval(terms)
    assert alone.low < alone.value < alone.high
    patients = Jury(jury.judge, jury.owner, jury.is_target, jury.folds, [f"patient {d // 6}" for d in range(N_DATA)])
    assert patients.interval(terms).value == alone.value
    one = Jury(jury.judge, jury.owner, jury.is_target, jury.folds, ["a"] * 13 + ["b"] * 13)
    assert np.isnan(one.interval(terms).low)


def test_a_constant_map_has_no_excess() -> None:
    jury, _, _ = world(8)
    assert jury.difference(jury.excess(np.full(len(jury.owner), 3.0))) == 0
