"""Why a token has its score: its own concept, and the pair with each neighbour."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.classkernels import KERNEL_MAPS
from napari_prospector.core.graph import TokenGraph, ball
from napari_prospector.errors import InvalidInputError

if TYPE_CHECKING:
    from napari_prospector.core.head import ProspectorHead

__all__ = ["Explanation", "check_kernel_map", "explain_token", "pair_features"]


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


def explain_token(
    head: ProspectorHead, graph: TokenGraph, token: int, map: str, target: Hashable | None
) -> Explanation:
    """Do the work of `ProspectorHead.explain`; only tokens within `radius` hops are quantized."""
    check_kernel_map(map)
    if not 0 <= token < graph.n_tokens:
        raise InvalidInputError(f"token must lie between 0 and {graph.n_tokens - 1}; got {token}.")
    number, sign = head.target_number(target)
    near = ball(graph, token, head.radius_)
    concepts = head.quantizer_.predict(graph.embeddings[near])
    # of the datum a decision kernel knows how many tokens and pairs there are, whatever their concepts
    kernel = sign * head.map_kernel(graph, np.zeros(graph.n_tokens, dtype=np.int32), map, number)
    own = int(concepts[np.searchsorted(near, token)])
    if head.radius_ == 0:
        near, concepts = near[:0], concepts[:0]
    contributions = kernel[pair_features(head.quantizer_.n_concepts_, own, concepts)]
    score = float(kernel[own] + contributions.sum())
    return Explanation(int(token), own, score, map, float(kernel[own]), near, concepts, contributions)


def check_kernel_map(map_name: str) -> None:
    """Refuse maps that are no sum over concepts and pairs.

    Raises
    ------
    InvalidInputError
        If it is such a one, or no map at all.
    """
    if map_name not in KERNEL_MAPS:
        raise InvalidInputError(
            f"Only evidence and decision maps are sums over concepts and pairs; got map={map_name!r}. "
            "Pass map='evidence'."
        )
