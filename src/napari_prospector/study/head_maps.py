"""The maps of a fitted head as methods, beside which others are measured."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.graph import TokenGraph
from napari_prospector.core.head import ProspectorHead

__all__ = ["HeadMap", "maps_of"]


def maps_of(head: ProspectorHead) -> tuple[str, ...]:
    """Return the maps of a head, the best first."""
    return (head.best_map_, *(name for name in head.maps_ if name != head.best_map_))


@dataclass(frozen=True)
class HeadMap:
    """One map of a fitted head, as a `Method`.

    Parameters
    ----------
    head
        Fitted.
    map
        One of `maps_of` the head.
    target
        The class to find; None: the head's own.
    name
        What a table calls the head.
    """

    head: ProspectorHead
    map: str
    target: Hashable | None = None
    name: str = "prospector"

    def fit(
        self, graphs: Sequence[TokenGraph], labels: Sequence[Hashable], groups: Sequence[Hashable] | None = None
    ) -> Self:
        """Fit the head anew."""
        self.head.fit(graphs, np.asarray(labels), groups)
        return self

    def prospect(self, graph: TokenGraph) -> NDArray[np.float64]:
        """Return the map, (n_tokens,)."""
        return self.head.prospect(graph, map=self.map, target=self.target)

    def target_probability(self, graphs: Sequence[TokenGraph]) -> NDArray[np.float64]:
        """Return the head's probability of the class for each datum, (n_data,)."""
        target = self.head.target_ if self.target is None else self.target
        column = self.head.classes_.tolist().index(target)
        return np.asarray(self.head.predict_proba(graphs)[:, column])

    @property
    def n_parameters(self) -> int:
        """Weights of the kernel of one class and numbers of the centres; for the refined map its read-out too."""
        kernel = self.head.kernels_.evidence.shape[1]
        refiner = self.head.refiner_ if self.map == "refined" else None
        # with the read-out go its offset, the share of the neighbours and the weight of the evidence map
        readout = 0 if refiner is None else refiner.weights.shape[1] + 3
        return int(kernel + self.head.quantizer_.n_concepts_ * self.head.quantizer_.mean_.size + readout)
