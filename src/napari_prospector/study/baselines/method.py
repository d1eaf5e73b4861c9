"""What a method is: it learns from labels of data and scores tokens."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.graph import TokenGraph
from napari_prospector.errors import InvalidInputError

__all__ = ["Method", "is_of_target", "probability_of"]


class Method(Protocol):
    """What every method offers."""

    @property
    def name(self) -> str:
        """What a table calls the method."""

    @property
    def map(self) -> str:
        """What a table calls its scores."""

    def fit(
        self, graphs: Sequence[TokenGraph], labels: Sequence[Hashable], groups: Sequence[Hashable] | None = None
    ) -> Self:
        """Learn from data and the class of each."""

    def prospect(self, graph: TokenGraph) -> NDArray[np.float64]:
        """Return a score for every token, (n_tokens,); the higher, the more it speaks for the class."""

    def target_probability(self, graphs: Sequence[TokenGraph]) -> NDArray[np.float64] | None:
        """Return how probable the class is for each datum, (n_data,); None if the method does not say."""

    @property
    def n_parameters(self) -> int:
        """Number of learned numbers that scores depend on."""


def is_of_target(labels: Sequence[Hashable], n_data: int, target: Hashable | None) -> NDArray[np.int64]:
    """Return which data are of the target class.

    Parameters
    ----------
    labels
        Class of each datum.
    n_data
        How many data there are.
    target
        The class to find. None: of two classes, the last in sorted order.

    Returns
    -------
    NDArray[np.int64]
        Shape (n_data,), 0 or 1; both occur.

    Raises
    ------
    InvalidInputError
        Lengths differ, a class is missing, or `target` is not given for more than two classes.
    """
    if len(labels) != n_data:
        raise InvalidInputError(f"labels must hold one entry for each of {n_data} data; got {len(labels)}.")
    classes = np.unique(np.asarray(labels)).tolist()
    if target is None and len(classes) != 2:
        raise InvalidInputError(f"target must name the class to find where there are not two; got labels {classes}.")
    target = classes[-1] if target is None else target
    is_target = np.array([int(label == target) for label in labels])
    if is_target.min() == is_target.max():
        raise InvalidInputError(f"labels must hold {target!r} and another class; got {classes}.")
    return is_target


def probability_of(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn logits into probabilities; tanh never overflows."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * logits))
