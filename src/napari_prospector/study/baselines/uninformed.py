"""Maps that know nothing: what every method must beat."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.graph import TokenGraph

__all__ = ["ConstantMap", "RandomMap"]


class ConstantMap:
    """The same score everywhere: what no map at all is worth."""

    name = "constant map"
    map = "constant"
    n_parameters = 0

    def fit(
        self, graphs: Sequence[TokenGraph], labels: Sequence[Hashable], groups: Sequence[Hashable] | None = None
    ) -> Self:
        """Learn nothing."""
        return self

    def prospect(self, graph: TokenGraph) -> NDArray[np.float64]:
        """Return zeros, (n_tokens,)."""
        return np.zeros(graph.n_tokens)

    def target_probability(self, graphs: Sequence[TokenGraph]) -> None:
        """Return None: nothing is said about data."""


class RandomMap:
    """A random score for every token.

    Parameters
    ----------
    seed
        The map of a datum depends on it and on the datum's embeddings only.
    """

    name = "random map"
    map = "random"
    n_parameters = 0

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(
        self, graphs: Sequence[TokenGraph], labels: Sequence[Hashable], groups: Sequence[Hashable] | None = None
    ) -> Self:
        """Learn nothing."""
        return self

    def prospect(self, graph: TokenGraph) -> NDArray[np.float64]:
        """Return numbers between -1 and 1, (n_tokens,)."""
        content = zlib.crc32(np.ascontiguousarray(graph.embeddings).tobytes())
        return np.random.default_rng([self.seed, content]).uniform(-1, 1, graph.n_tokens)

    def target_probability(self, graphs: Sequence[TokenGraph]) -> None:
        """Return None: nothing is said about data."""
