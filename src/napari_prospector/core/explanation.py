"""Why a token has its score: its own concept, and the pair with each neighbour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Explanation", "pair_features"]


@dataclass(frozen=True)
class Explanation:
    """Why one token has its score.

    Attributes
    ----------
    token, concept
        The token and its concept.
    score
        Its score in the named map: `monogram` plus the sum of `contributions`.
    map
        ``"evidence"`` or ``"decision"``.
    monogram
        What the token's own concept gives.
    neighbours
        Shape (n,): the tokens within `radius` hops, the token itself among them (it pairs once with itself).
    neighbour_concepts
        Shape (n,).
    contributions
        Shape (n,): what the pair with each neighbour gives.
    """

    token: int
    concept: int
    score: float
    map: str
    monogram: float
    neighbours: NDArray[np.int64]
    neighbour_concepts: NDArray[np.int32]
    contributions: NDArray[np.float64]


def pair_features(n_concepts: int, own: int, others: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the feature numbers (n,) of the pairs of concept `own` with concepts `others` (n,)."""
    low, high = np.minimum(own, others).astype(np.int64), np.maximum(own, others).astype(np.int64)
    return np.asarray(n_concepts + low * n_concepts - low * (low - 1) // 2 + (high - low))
