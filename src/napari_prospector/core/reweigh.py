"""The maps of one datum again and again, under other weights: what people see when they hide a concept.

Found once are the concept of every token, the counts of the datum, what the read-out says, the maps with all concepts
and how many tokens of each concept are near each token. From a map with all concepts, s, follows the one that hides H:
for tokens of H it is 0, for the others s(v) less the sum over b in H of w_c(v)b times the number of tokens of b near v.
That takes a few nanoseconds a token and hidden concept, whatever the radius; where many are hidden, or there is no room
for the numbers, the map is convolved anew.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from napari_prospector.core.checks import checked_concepts
from napari_prospector.core.classkernels import weight_arrays
from napari_prospector.core.concept_edits import ConceptEdits
from napari_prospector.core.graph import TokenGraph, convolve, count, neighbour_counts
from napari_prospector.core.head import ProspectorHead

__all__ = ["Reweigher"]

_MOST_NUMBERS = 1 << 26
"""Neighbours are counted by concept where there are at most so many numbers, mostly a byte each."""
_FEW = 6
"""Concepts that are taken off a map one by one; more take as long as a new map of a lattice."""


class Reweigher:
    """Draws the maps of one datum under any edits of the concepts.

    Making one takes as long as drawing all maps once, most of it for reading embeddings; these are not kept. It keeps
    about 50 bytes a token, and one more for each concept.

    Parameters
    ----------
    head
        Fitted.
    graph
        Of the datum.
    concepts
        Shape (n_tokens,): as `ProspectorHead.concepts` found them. None: they are found here.

    Attributes
    ----------
    head
        As given.
    concepts
        Shape (n_tokens,), int32.

    Raises
    ------
    InvalidInputError
        If embeddings do not have the width that the head was fitted on, or concepts are not such.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_prospector import ProspectorHead, chain_graph
    >>> graphs = [chain_graph(np.random.default_rng(i).normal(size=(30, 4)) + i % 2) for i in range(8)]
    >>> head = ProspectorHead(n_concepts=4).fit(graphs, [0, 1] * 4)
    >>> hiding = head.concept_edits_.hide(2)
    >>> scores = Reweigher(head, graphs[0]).scores("evidence", edits=hiding)
    >>> bool(np.allclose(scores, head.with_edits(hiding).prospect(graphs[0], "evidence"), atol=1e-12))
    True
    """

    def __init__(self, head: ProspectorHead, graph: TokenGraph, concepts: ArrayLike | None = None) -> None:
        check_is_fitted(head)
        n_concepts = head.quantizer_.n_concepts_
        found = head.concepts(graph) if concepts is None else concepts
        self.head = head
        self.concepts = checked_concepts(found, n_concepts, graph.n_tokens)
        self._refined = None
        if head.refiner_ is not None:
            self._refined = [head.refiner_.scores(graph, number) for number in range(len(head.kernels_.evidence))]
        self._graph = graph.with_embeddings(np.zeros((graph.n_tokens, 1), dtype=np.float16))
        self._counts = count(self._graph, self.concepts, n_concepts, head.radius_)
        self._near = self._neighbours(n_concepts) if head.radius_ > 0 else None
        self._whole: dict[tuple[str, int], NDArray[np.float64]] = {}

    def scores(
        self, map: str | None = None, target: Hashable | None = None, edits: ConceptEdits | None = None
    ) -> NDArray[np.float64]:
        """Return what `ProspectorHead.prospect` of a head with these edits would.

        Parameters
        ----------
        map, target
            As in `ProspectorHead.prospect`.
        edits
            Of the concepts; None: those of the head.

        Returns
        -------
        NDArray[np.float64]
            Shape (n_tokens,); equal to rounding, 1e-12 at scores about 1, and a new array each time.

        Raises
        ------
        InvalidInputError
            As `ProspectorHead.prospect`, or if the edits are of another number of concepts.
        """
        head = self.head if edits is None else self.head.with_edits(edits)
        edits = head.concept_edits_
        number, sign = head.target_number(target)
        name = head.map_name(map)
        if name == "refined" and self._refined is not None:
            return np.where(edits.is_hidden()[self.concepts], 0.0, sign * self._refined[number])
        return np.asarray(sign * self._convolved(name, number, edits))

    def _convolved(self, name: str, number: int, edits: ConceptEdits) -> NDArray[np.float64]:
        """Return the map of a kernel, (n_tokens,), by whichever way is faster."""
        kernel = self.head.kernels_.map_kernel(name, number, self._counts)
        if edits.hidden and (self._near is None or len(edits.hidden) > _FEW):
            return convolve(self._graph, self.concepts, edits.kept_weights(kernel), self.head.radius_)
        if (name, number) not in self._whole:
            self._whole[name, number] = convolve(self._graph, self.concepts, kernel, self.head.radius_)
        whole = self._whole[name, number]
        if not edits.hidden or self._near is None:
            return whole
        _, pairs = weight_arrays(kernel, edits.n_concepts)
        scores = whole.copy()
        for concept in sorted(edits.hidden):
            scores -= pairs[concept][self.concepts] * self._near[concept]
        scores[edits.is_hidden()[self.concepts]] = 0
        return scores

    def _neighbours(self, n_concepts: int) -> NDArray[np.integer[Any]] | None:
        """Count the tokens of each concept near each token, (K, n_tokens); None where that takes too much room."""
        if self._graph.n_tokens * n_concepts > _MOST_NUMBERS:
            return None
        near = neighbour_counts(self._graph, self.concepts, n_concepts, self.head.radius_)
        most = int(near.max())
        return np.ascontiguousarray(near.T, dtype=np.min_scalar_type(most))
