"""From scores of data to probabilities: Platt scaling, fitted and judged out of fold.

Source: J. Platt, Probabilistic outputs for support vector machines (1999), with his smoothed targets, so that a
cohort that separates perfectly does not end in probabilities of 0 and 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

__all__ = ["CALIBRATED_FROM", "Calibration", "PlattScale", "calibrate", "cross_fitted_probability", "fit_platt"]

CALIBRATED_FROM = 10
"""Data per class from which probabilities count as calibrated."""


@dataclass(frozen=True)
class PlattScale:
    """Probability = 1 / (1 + exp(-(slope · score + offset)))."""

    slope: float
    offset: float

    def probability(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn scores (n,) into probabilities (n,)."""
        # tanh never overflows
        return np.asarray(0.5 + 0.5 * np.tanh(0.5 * (self.slope * np.asarray(scores) + self.offset)))


def fit_platt(scores: NDArray[np.float64], is_target: NDArray[np.bool_]) -> PlattScale:
    """Fit the scale on out-of-fold scores (n,) of data of which both kinds are present.

    The slope is never negative: where out of fold more evidence went with the other class, chance did it (or too few
    data), and the score then says nothing instead of its opposite.
    """
    centre, spread = float(scores.mean()), float(scores.std())
    n_target, n_rest = int(is_target.sum()), int((~is_target).sum())
    uninformed = PlattScale(0.0, float(np.log((n_target + 1) / (n_rest + 1))))
    if spread == 0:
        return uninformed
    soft = np.where(is_target, (n_target + 1) / (n_target + 2), 1 / (n_rest + 2))
    column = np.tile((scores - centre) / spread, 2)[:, None]
    truth = np.repeat([1, 0], len(scores))
    # C is the only regularization and is all but off: the smoothed targets already keep the slope finite
    model = LogisticRegression(C=1e6).fit(column, truth, sample_weight=np.concatenate([soft, 1 - soft]))
    slope = float(model.coef_[0, 0]) / spread
    return uninformed if slope < 0 else PlattScale(slope, float(model.intercept_[0]) - slope * centre)


def cross_fitted_probability(
    scores: NDArray[np.float64], is_target: NDArray[np.bool_], folds: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return probabilities (n_data,) whose scale has not seen the datum either.

    Parameters
    ----------
    scores
        Shape (n_data,), out of fold.
    is_target
        Shape (n_data,).
    folds
        Shape (n_data,): the fold of each datum; at least two.
    """
    probability = np.empty(len(scores))
    for fold in np.unique(folds):
        held_out = folds == fold
        probability[held_out] = fit_platt(scores[~held_out], is_target[~held_out]).probability(scores[held_out])
    return probability


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` found.

    Attributes
    ----------
    scales
        One for each target.
    brier
        Brier score, the scale out of fold as well; None where nothing was held out.
    is_calibrated
        False below `CALIBRATED_FROM` data per class.
    """

    scales: tuple[PlattScale, ...]
    brier: float | None
    is_calibrated: bool


def calibrate(
    scores: NDArray[np.float64], numbers: NDArray[np.int64], targets: NDArray[np.int64], folds: NDArray[np.int64]
) -> Calibration:
    """Fit the scale of every target, and judge it.

    Parameters
    ----------
    scores
        Shape (n_data, n_targets), out of fold.
    numbers, folds
        Shape (n_data,): class and fold of each datum; all of one fold where nothing was held out.
    targets
        Shape (n_targets,), class numbers.
    """
    of_target = [(scores[:, i], numbers == target) for i, target in enumerate(targets)]
    scales = tuple(fit_platt(*one) for one in of_target)
    if folds.max() == 0:
        return Calibration(scales, None, False)
    squares = [np.mean((cross_fitted_probability(*one, folds) - one[1]) ** 2) for one in of_target]
    return Calibration(scales, float(np.mean(squares)), bool(np.bincount(numbers).min() >= CALIBRATED_FROM))
