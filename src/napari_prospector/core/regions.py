"""How much of a datum the truth covers, and in how many pieces.

A map that finds one large region may miss ten small ones: localization is told by prevalence and dispersion
(Machiraju et al., ICML 2024, section 4).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from napari_prospector.errors import InvalidInputError

__all__ = ["Adjacency", "RegionStatistics", "dispersion", "known_truth", "prevalence", "region_statistics"]


class Adjacency(Protocol):
    """What is read of a `TokenGraph`: its CSR adjacency."""

    @property
    def indptr(self) -> NDArray[np.int64]:
        """Shape (n_tokens + 1,)."""

    @property
    def indices(self) -> NDArray[np.int32]:
        """Neighbours of each token, one after the other."""


class RegionStatistics(NamedTuple):
    """The truth of one datum as regions: connected sets of positive tokens.

    Attributes
    ----------
    prevalence
        Share of positive tokens among those with a known truth.
    n_regions
        Connected components of the positive tokens in the graph.
    mean_size
        Tokens per region; NaN without a region.
    dispersion
        `n_regions` / `mean_size`: many small regions are dispersed. NaN without a region.
    inverse_dispersion
        `mean_size` / `n_regions`; 0 without a region.
    """

    prevalence: float
    n_regions: int
    mean_size: float
    dispersion: float
    inverse_dispersion: float


def known_truth(truth: ArrayLike) -> NDArray[np.int8]:
    """Return a truth as 1 (positive), 0 (negative), -1 (unknown).

    Parameters
    ----------
    truth
        Shape (n_tokens,): booleans, or the numbers -1, 0 and 1.

    Raises
    ------
    InvalidInputError
        Another shape or another value.
    """
    values = np.asarray(truth)
    if values.ndim != 1:
        raise InvalidInputError(f"truth must have shape (n_tokens,); got {values.shape}.")
    strange = values[(values != 0) & (values != 1) & (values != -1)]
    if strange.size:
        raise InvalidInputError(
            f"truth must be 1 (positive), 0 (negative) or -1 (unknown); got {strange[0]!s}."
            " Compare it with a threshold first."
        )
    return values.astype(np.int8)


def prevalence(truth: ArrayLike) -> float:
    """Return the share of positive tokens among those with a known truth; NaN where none is known."""
    known = known_truth(truth)
    known = known[known >= 0]
    return float(known.mean()) if known.size else float("nan")


def region_statistics(graph: Adjacency, truth: ArrayLike) -> RegionStatistics:
    """Return prevalence, number of regions, their mean size and dispersion.

    Parameters
    ----------
    graph
        The graph of the datum; a region is connected along its edges.
    truth
        Shape (n_tokens,): 1 or True positive, 0 or False negative, -1 unknown (in no region).

    Returns
    -------
    RegionStatistics
    """
    marks = known_truth(truth)
    n_tokens = len(graph.indptr) - 1
    if marks.size != n_tokens:
        raise InvalidInputError(f"truth must have shape ({n_tokens},), one value a token; got ({marks.size},).")
    positive = np.flatnonzero(marks == 1)
    if positive.size == 0:
        return RegionStatistics(prevalence(marks), 0, float("nan"), float("nan"), 0.0)
    edges = np.ones(len(graph.indices), dtype=np.int8)
    adjacency = csr_array((edges, graph.indices, graph.indptr), shape=(n_tokens, n_tokens))
    n_regions, _ = connected_components(adjacency[positive][:, positive], directed=False)
    mean_size = positive.size / n_regions
    return RegionStatistics(
        prevalence(marks), int(n_regions), mean_size, float(n_regions / mean_size), float(mean_size / n_regions)
    )


def dispersion(graph: Adjacency, truth: ArrayLike) -> float:
    """Return the number of regions over their mean size; NaN without a region. See `region_statistics`."""
    return region_statistics(graph, truth).dispersion
