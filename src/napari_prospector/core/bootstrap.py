"""Intervals: how far a mean could move with other data or other patients.

Percentile bootstrap over data, or over groups (patients) where data of one patient are not independent. A
replicate is a row of whole-number weights, so that the mean of every measure in every replicate is one matrix
product, and two methods are compared on the same replicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_prospector.errors import InvalidInputError

__all__ = ["Interval", "bootstrap_means", "group_codes", "paired_difference", "percentile_intervals", "resample"]


class Interval(NamedTuple):
    """A value and the bounds of its interval; NaN bounds say that there is too little to tell."""

    value: float
    low: float
    high: float


def group_codes(groups: Sequence[object] | None, n_data: int) -> NDArray[np.int64]:
    """Give each group a number, in the order in which they first appear.

    Parameters
    ----------
    groups
        The group (patient) of each datum, any hashables; None or None-valued entries: a datum of its own.
    n_data
        Number of data.

    Returns
    -------
    NDArray[np.int64]
        Shape (n_data,).

    Raises
    ------
    InvalidInputError
        There is not one group for each datum.
    """
    if groups is None:
        return np.arange(n_data)
    if len(groups) != n_data:
        raise InvalidInputError(f"groups must hold one entry for each of {n_data} data; got {len(groups)}.")
    codes: dict[object, int] = {}
    keys = [("alone", i) if group is None else ("group", group) for i, group in enumerate(groups)]
    return np.array([codes.setdefault(key, len(codes)) for key in keys], dtype=np.int64)


def resample(groups: ArrayLike, n_boot: int = 1000, seed: int = 0) -> NDArray[np.float64]:
    """Draw bootstrap replicates as weights of the data.

    Parameters
    ----------
    groups
        Shape (n_data,), whole numbers; data of one group are drawn together.
    n_boot
        Number of replicates.
    seed
        Seed; the weights depend on it, `n_boot` and the number of groups only.

    Returns
    -------
    NDArray[np.float64]
        Shape (n_boot, n_data), how often each datum was drawn.
    """
    _, members = np.unique(np.asarray(groups), return_inverse=True)
    n_groups = int(members.max(initial=-1)) + 1
    if n_groups == 0:
        return np.zeros((n_boot, 0))
    drawn = np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_boot)
    return drawn[:, members].astype(np.float64)


def percentile_intervals(values: ArrayLike, replicates: ArrayLike, level: float = 0.95) -> list[Interval]:
    """Pair values with the central `level` of their replicates.

    Parameters
    ----------
    values
        Shape (n_measures,).
    replicates
        Shape (n_boot, n_measures); NaN replicates are left out.
    level
        Share of the replicates inside the interval, between 0 and 1.

    Returns
    -------
    list of Interval
        NaN bounds where fewer than two replicates are left.
    """
    if not 0 < level < 1:
        raise InvalidInputError(f"level must lie between 0 and 1; got {level}. Pass 0.95 for a 95 % interval.")
    tails = ((1 - level) / 2, (1 + level) / 2)
    intervals = []
    for value, column in zip(np.asarray(values, float), np.asarray(replicates, float).T, strict=True):
        known = column[~np.isnan(column)]
        low, high = np.quantile(known, tails) if known.size > 1 else (np.nan, np.nan)
        intervals.append(Interval(float(value), float(low), float(high)))
    return intervals


def bootstrap_means(
    table: ArrayLike,
    groups: Sequence[object] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> list[Interval]:
    """Return the mean of every column with its bootstrap interval.

    Parameters
    ----------
    table
        Shape (n_data, n_measures). A NaN is a measure that a datum does not have: it takes no part.
    groups
        The group (patient) of each datum; replicates draw groups. None: they draw data.
    n_boot, seed, level
        Number of replicates, their seed, share of them inside the interval.

    Returns
    -------
    list of Interval
        One per column; the value is the mean over data. Bounds are NaN where fewer than two groups have the
        measure: nothing is known of how it varies.

    Examples
    --------
    >>> interval, = bootstrap_means([[0.2], [0.4], [0.9]])
    >>> round(interval.value, 3), interval.low < 0.5 < interval.high
    (0.5, True)
    """
    values = np.asarray(table, dtype=np.float64)
    if values.ndim != 2:
        raise InvalidInputError(f"table must have shape (n_data, n_measures); got {values.shape}.")
    codes = group_codes(groups, len(values))
    known = ~np.isnan(values)
    intervals: list[Interval] = [Interval(np.nan, np.nan, np.nan)] * values.shape[1]
    # columns that the same data have share their replicates
    patterns, which = np.unique(known, axis=1, return_inverse=True)
    which = which.ravel()  # numpy 2.0 gives it another shape
    for number, has in enumerate(patterns.T):
        columns = np.flatnonzero(which == number)
        found = _mean_intervals(values[has][:, columns], codes[has], n_boot, seed, level)
        for column, interval in zip(columns.tolist(), found, strict=True):
            intervals[column] = interval
    return intervals


def _mean_intervals(
    values: NDArray[np.float64], codes: NDArray[np.int64], n_boot: int, seed: int, level: float
) -> list[Interval]:
    """Return the mean of every column of values (n, n_columns) without NaN, and its interval over groups `codes`."""
    if len(values) == 0:
        return [Interval(np.nan, np.nan, np.nan)] * values.shape[1]
    means = values.mean(axis=0)
    if np.unique(codes).size < 2:
        return [Interval(float(mean), np.nan, np.nan) for mean in means]
    weights = resample(codes, n_boot, seed)
    return percentile_intervals(means, (weights @ values) / weights.sum(axis=1, keepdims=True), level)


def paired_difference(
    values: ArrayLike,
    others: ArrayLike,
    groups: Sequence[object] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return the mean of `values` - `others` over the same data, with its bootstrap interval.

    Parameters
    ----------
    values, others
        Shape (n_data,): one measure of two methods. A datum that either method lacks (NaN) takes no part.
    groups, n_boot, seed, level
        As in `bootstrap_means`.

    Returns
    -------
    Interval
        An interval that leaves out 0 says that one method is better on data like these.
    """
    first, second = np.asarray(values, dtype=np.float64), np.asarray(others, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise InvalidInputError(
            f"values and others must have one shape (n_data,); got {first.shape} and {second.shape}."
            " Pass the measure of both methods on the same data, in the same order."
        )
    return bootstrap_means((first - second)[:, None], groups, n_boot, seed, level)[0]
