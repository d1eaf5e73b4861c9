"""How well a map of scores finds a true region: measures of one map.

Every measure is of one datum or of pooled tokens: `scores` (n_tokens,) against `truth` (n_tokens,), where 1 or
True is positive, 0 or False negative, and -1 unknown: such tokens take no part. Means over data, intervals and the
rows to compare with are in `napari_prospector.core.metrics`.

Average precision comes first. The trapezoidal area under the precision-recall curve is the reference's measure and
is kept for comparison only: it gives a map that is constant (1 + prevalence) / 2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_prospector.core.regions import known_truth
from napari_prospector.errors import InvalidInputError, MismatchError

__all__ = [
    "ThresholdMeasures",
    "at_threshold",
    "auprc_trapezoid",
    "auroc",
    "average_precision",
    "checked",
    "dice",
    "expected_average_precision",
    "is_constant",
    "rescaled",
]

_FLOAT_NOISE = 1e-12  # of the largest absolute score


class ThresholdMeasures(NamedTuple):
    """The measures of a map cut at a threshold; those without a denominator are 0, as in scikit-learn."""

    precision: float
    recall: float
    dice: float
    mcc: float
    balanced_accuracy: float
    specificity: float


def average_precision(scores: ArrayLike, truth: ArrayLike) -> float:
    """Return the average precision: precision at every threshold, weighted by the recall that it adds.

    Parameters
    ----------
    scores
        Shape (n_tokens,), any finite numbers; only their order matters, ties are one threshold.
    truth
        Shape (n_tokens,): 1 or True positive, 0 or False negative, -1 unknown.

    Returns
    -------
    float
        Between 0 and 1; a constant map scores the prevalence. NaN without a positive token.

    Examples
    --------
    >>> average_precision([0.9, 0.8, 0.1], [True, False, True])
    0.8333333333333333
    """
    hits, false_alarms = _counts(*checked(scores, truth))
    if hits[-1] == 0:
        return float("nan")
    return float(np.sum(np.diff(hits, prepend=0) / hits[-1] * hits / (hits + false_alarms)))


def auroc(scores: ArrayLike, truth: ArrayLike) -> float:
    """Return the probability that a positive token outscores a negative one, ties counting half.

    Parameters
    ----------
    scores, truth
        As in `average_precision`.

    Returns
    -------
    float
        Between 0 and 1; a constant map scores 0.5. NaN without a positive or without a negative token.
    """
    hits, false_alarms = _counts(*checked(scores, truth))
    if hits[-1] == 0 or false_alarms[-1] == 0:
        return float("nan")
    steps = np.diff(false_alarms, prepend=0)
    return float(np.sum(steps * (hits - np.diff(hits, prepend=0) / 2)) / (hits[-1] * false_alarms[-1]))


def auprc_trapezoid(scores: ArrayLike, truth: ArrayLike) -> float:
    """Return the trapezoidal area under the precision-recall curve, the measure of the reference.

    The curve starts at recall 0, precision 1 and is joined by straight lines, which no classifier can reach
    (Davis and Goadrich, ICML 2006): it flatters maps with many ties. Use `average_precision` to compare.

    Parameters
    ----------
    scores, truth
        As in `average_precision`.

    Returns
    -------
    float
        Between 0 and 1; a constant map scores (1 + prevalence) / 2. NaN without a positive token.
    """
    hits, false_alarms = _counts(*checked(scores, truth))
    if hits[-1] == 0:
        return float("nan")
    precision = np.concatenate(([1.0], hits / (hits + false_alarms)))
    steps = np.diff(hits, prepend=0) / hits[-1]
    return float(np.sum(steps * (precision[1:] + precision[:-1]) / 2))


def rescaled(scores: ArrayLike) -> NDArray[np.float64]:
    """Return scores (n_tokens,) stretched to 0 ... 1; a constant map becomes 0.5, as in the reference."""
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0:
        return values
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.full(values.shape, 0.5)


def at_threshold(scores: ArrayLike, truth: ArrayLike, threshold: float) -> ThresholdMeasures:
    """Return the measures of the tokens that score above a threshold.

    Parameters
    ----------
    scores, truth
        As in `average_precision`. Pass ``rescaled(scores)`` to cut at a share of the map's range.
    threshold
        In the unit of the scores; a token is marked if its score is greater.

    Returns
    -------
    ThresholdMeasures
        All NaN without a positive token.
    """
    values, positive = checked(scores, truth)
    if not positive.any():
        return ThresholdMeasures(*[float("nan")] * 6)
    marked = values > threshold
    hits, false_alarms = int(np.sum(marked & positive)), int(np.sum(marked & ~positive))
    misses, passed = int(np.sum(positive)) - hits, int(np.sum(~positive)) - false_alarms
    recall, specificity = hits / (hits + misses), _share(passed, passed + false_alarms)
    spread = float(np.sqrt(float(hits + false_alarms) * (hits + misses) * (passed + false_alarms) * (passed + misses)))
    return ThresholdMeasures(
        precision=_share(hits, hits + false_alarms),
        recall=recall,
        dice=2 * hits / (2 * hits + false_alarms + misses),
        mcc=_share(hits * passed - false_alarms * misses, spread),
        balanced_accuracy=(recall + specificity) / 2 if positive.size > hits + misses else recall,
        specificity=specificity,
    )


def dice(scores: ArrayLike, truth: ArrayLike, threshold: float) -> float:
    """Return the Dice coefficient of the tokens that score above `threshold`; see `at_threshold`."""
    return at_threshold(scores, truth, threshold).dice


def is_constant(scores: ArrayLike) -> bool:
    """Say whether all scores (n_tokens,) are the same but for rounding (1e-12 of the largest absolute score).

    Such a map says nothing about where; the order of what rounding left is noise.
    """
    values = np.asarray(scores, dtype=np.float64)
    return values.size == 0 or bool(np.ptp(values) <= _FLOAT_NOISE * np.abs(values).max())


def expected_average_precision(n_positive: int, n_tokens: int) -> float:
    """Return the mean average precision of random maps without ties.

    It exceeds the prevalence, the more so the fewer the tokens. The token of rank k is positive with probability
    m / n, and then 1 + (k - 1) (m - 1) / (n - 1) positives are expected among the first k.

    Parameters
    ----------
    n_positive, n_tokens
        m and n of that formula.

    Returns
    -------
    float
        NaN without a positive token.

    Examples
    --------
    >>> expected_average_precision(1, 2)
    0.75
    """
    if n_positive == 0:
        return float("nan")
    if n_tokens == 1:
        return 1.0
    harmonic = float(np.sum(1 / np.arange(1, n_tokens + 1)))
    return (harmonic + (n_positive - 1) / (n_tokens - 1) * (n_tokens - harmonic)) / n_tokens


def checked(scores: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the scores and the truth of those tokens whose truth is known.

    Parameters
    ----------
    scores, truth
        As in `average_precision`.

    Returns
    -------
    tuple of NDArray
        Scores (n_known,) float64 and truth (n_known,) bool.

    Raises
    ------
    InvalidInputError
        A score is NaN or infinite, a shape is not (n_tokens,), or a truth is none of -1, 0, 1.
    MismatchError
        The two have different lengths.
    """
    values, marks = np.asarray(scores, dtype=np.float64), known_truth(truth)
    if values.ndim != 1:
        raise InvalidInputError(f"scores must have shape (n_tokens,); got {values.shape}.")
    if values.size != marks.size:
        raise MismatchError(
            f"scores and truth must have one value for each token; got {values.size} scores and {marks.size} truths."
        )
    if not np.isfinite(values).all():
        strange = values[~np.isfinite(values)]
        raise InvalidInputError(f"scores must be finite; got {strange.size} of {values.size} like {strange[0]}.")
    known = marks >= 0
    return values[known], marks[known] == 1


def _counts(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count true and false positives at every distinct score, from the highest down; both (n_distinct,)."""
    if scores.size == 0:
        return np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), scores.size - 1)
    hits = np.cumsum(truth[order], dtype=np.int64)[ends]
    return hits, ends + 1 - hits


def _share(part: float, whole: float) -> float:
    """Divide; 0 where there is nothing to divide by."""
    return part / whole if whole else 0.0
