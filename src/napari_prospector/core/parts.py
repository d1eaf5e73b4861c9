"""Cut values into parts of about one size: strata of data, bins of probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["equal_parts"]


def equal_parts(values: ArrayLike, most: int, fewest: int) -> NDArray[np.int64]:
    """Cut values at their quantiles into as many parts as hold enough of them.

    Parameters
    ----------
    values
        Shape (n_values,), finite. Equal values stay together.
    most
        Parts to try first, >= 1; then one less, and so on.
    fewest
        Values that every part must hold; fewer than `most` parts where they do not, down to one part.

    Returns
    -------
    NDArray[np.int64]
        Shape (n_values,): the part of each value, 0 holds the smallest.

    Examples
    --------
    >>> equal_parts([0.1, 0.9, 0.5, 0.2, 0.8, 0.4], most=3, fewest=2).tolist()
    [0, 2, 1, 0, 2, 1]
    >>> equal_parts([0.1, 0.9, 0.5, 0.2, 0.8, 0.4], most=3, fewest=3).tolist()
    [0, 1, 1, 0, 1, 0]
    """
    numbers = np.asarray(values, dtype=np.float64)
    for n_parts in range(most if numbers.size else 1, 1, -1):
        # a cut is a value that occurs, so that rounding parts no equals
        cuts = np.quantile(numbers, np.arange(1, n_parts) / n_parts, method="higher")
        part = np.searchsorted(cuts, numbers, side="right")
        if np.bincount(part, minlength=n_parts).min() >= fewest:
            return part.astype(np.int64)
    return np.zeros(numbers.size, dtype=np.int64)
