"""How far probabilities of whole data can be believed: discrimination, calibration, and what few data can tell of it.

Sources: the Brier score (Brier 1950); bins of one size and the expected calibration error (Naeini et al., AAAI 2015),
which is above 0 for perfect probabilities too, the more so the fewer the data (Bröcker and Smith 2007): what
perfect ones would show stands beside it. Intervals of shares are Wilson's (1927).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from napari_prospector.core.bootstrap import Interval, bootstrap_means, group_codes, percentile_intervals, resample
from napari_prospector.core.metrics import pooled_areas
from napari_prospector.core.parts import equal_parts
from napari_prospector.errors import InvalidInputError

__all__ = ["FEWEST_IN_BIN", "MOST_BINS", "Reliability", "ReliabilityBin", "reliability", "share_interval"]

MOST_BINS = 10
FEWEST_IN_BIN = 5

_LEAST_PROBABILITY = 1e-9  # a wrong certainty costs 20.7, not infinity
_N_PERFECT = 1000


class ReliabilityBin(NamedTuple):
    """Data of similar probability, and how many of them are of the class.

    Attributes
    ----------
    low, high
        Smallest and largest probability.
    n_data, n_target
        All of them, and those of the class.
    probability
        Their mean probability.
    share
        `n_target` / `n_data`, with its interval.
    """

    low: float
    high: float
    n_data: int
    n_target: int
    probability: float
    share: Interval


@dataclass(frozen=True)
class Reliability:
    """What the probabilities of one class are worth.

    Attributes
    ----------
    n_data, n_target
        All data, and those of the class.
    auroc
        Probability that a datum of the class gets more than another; NaN where one kind is missing.
    brier
        Mean squared error of the probability.
    log_loss
        Mean of -log of the probability of what is true, natural logarithm.
    calibration_error
        Expected calibration error: mean over bins, weighted by their data, of how far the share is from the mean
        probability. NaN below two bins' worth of data.
    perfect_calibration_error
        What it would be on average, were the probabilities perfect: with few data far from 0.
    bins
        In the order of probability; up to `MOST_BINS`, each of at least `FEWEST_IN_BIN` data.
    """

    n_data: int
    n_target: int
    auroc: Interval
    brier: Interval
    log_loss: Interval
    calibration_error: float
    perfect_calibration_error: float
    bins: tuple[ReliabilityBin, ...]


def reliability(
    probability: ArrayLike,
    is_target: ArrayLike,
    groups: Sequence[object] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Reliability:
    """Judge the probabilities of data.

    Parameters
    ----------
    probability
        Shape (n_data,), 0 to 1: of the class.
    is_target
        Shape (n_data,), bool: whether the datum is of the class.
    groups
        Patient of each datum, which the bootstrap draws. None: it draws data.
    n_boot, seed, level
        Replicates, seed of replicates and of what perfect probabilities would show, share inside an interval.

    Returns
    -------
    Reliability

    Raises
    ------
    InvalidInputError
        Shapes differ, there is no datum, or a probability is none.

    Examples
    --------
    >>> found = reliability([0.9, 0.8, 0.3, 0.1], [True, True, False, False])
    >>> found.auroc.value, round(found.brier.value, 4), found.calibration_error
    (1.0, 0.0375, nan)
    """
    shares, truth = np.asarray(probability, dtype=np.float64), np.asarray(is_target, dtype=bool)
    if shares.ndim != 1 or shares.shape != truth.shape or shares.size == 0:
        raise InvalidInputError(
            f"probability and is_target must have one shape (n_data,), n_data > 0; got {shares.shape}, {truth.shape}."
        )
    if not ((shares >= 0) & (shares <= 1)).all():
        strange = shares[~((shares >= 0) & (shares <= 1))][0]
        raise InvalidInputError(f"probability must lie between 0 and 1; got {strange}. Calibrate the scores first.")
    of_truth = np.maximum(np.where(truth, shares, 1 - shares), _LEAST_PROBABILITY)
    losses = np.column_stack([(shares - truth) ** 2, -np.log(of_truth)])
    brier, log_loss = bootstrap_means(losses, groups, n_boot, seed, level)
    part = equal_parts(shares, MOST_BINS, FEWEST_IN_BIN)
    enough = shares.size >= 2 * FEWEST_IN_BIN
    drawn = np.random.default_rng([seed, 2]).random((_N_PERFECT, shares.size)) < shares
    return Reliability(
        n_data=shares.size,
        n_target=int(truth.sum()),
        auroc=_auroc(shares, truth, group_codes(groups, shares.size), n_boot, seed, level),
        brier=brier,
        log_loss=log_loss,
        calibration_error=float(_calibration_error(shares, truth[None], part)[0]) if enough else np.nan,
        perfect_calibration_error=float(_calibration_error(shares, drawn, part).mean()) if enough else np.nan,
        bins=tuple(_bin(shares[part == number], truth[part == number], level) for number in range(part.max() + 1)),
    )


def share_interval(n_target: int, n_data: int, level: float = 0.95) -> Interval:
    """Return n_target / n_data with Wilson's interval, which stays within 0 and 1 and has a width at both ends.

    Examples
    --------
    >>> [round(bound, 3) for bound in share_interval(0, 5)]
    [0.0, 0.0, 0.434]
    """
    share, z2 = n_target / n_data, float(norm.ppf((1 + level) / 2)) ** 2
    centre = (share + z2 / (2 * n_data)) / (1 + z2 / n_data)
    half = np.sqrt(z2 * (share * (1 - share) / n_data + z2 / (4 * n_data**2))) / (1 + z2 / n_data)
    return Interval(share, max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def _auroc(
    shares: NDArray[np.float64],
    truth: NDArray[np.bool_],
    codes: NDArray[np.int64],
    n_boot: int,
    seed: int,
    level: float,
) -> Interval:
    """Return the AUROC of probabilities (n_data,) with its interval over groups `codes`."""
    datum = np.arange(shares.size)
    value = pooled_areas(shares, truth, datum, np.ones((1, shares.size)))[0, 1:2]
    weights = resample(codes, n_boot if np.unique(codes).size > 1 else 0, seed)
    return percentile_intervals(value, pooled_areas(shares, truth, datum, weights)[:, 1:2], level)[0]


def _calibration_error(
    shares: NDArray[np.float64], truths: NDArray[np.bool_], part: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the error (n_truths,) of probabilities (n_data,) against truths (n_truths, n_data), in bins `part`."""
    member = np.eye(part.max() + 1)[part]
    return np.asarray(np.abs((truths - shares) @ member).sum(axis=1) / shares.size)


def _bin(shares: NDArray[np.float64], truth: NDArray[np.bool_], level: float) -> ReliabilityBin:
    """Return one bin of probabilities (n_data,) and truth (n_data,)."""
    n_target = int(truth.sum())
    return ReliabilityBin(
        low=float(shares.min()),
        high=float(shares.max()),
        n_data=shares.size,
        n_target=n_target,
        probability=float(shares.mean()),
        share=share_interval(n_target, shares.size, level),
    )
