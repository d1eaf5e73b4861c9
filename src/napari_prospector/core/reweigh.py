"""The maps of one datum again and again, under other weights: what people see when they hide a concept.

Which concept a token is of, how many pairs there are and what the read-out says are found once. What is left is the
convolution itself, which on a lattice is fast enough to be redone whole: about 35 ns a token on two threads, so that
nothing about neighbourhoods is kept.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from napari_prospector.core.checks import checked_concepts
from napari_prospector.core.concept_edits import ConceptEdits
from napari_prospector.core.graph import TokenGraph, convolve, count
from napari_prospector.core.head import ProspectorHead

__all__ = ["Reweigher"]


class Reweigher:
    """Draws the maps of one datum under any edits of the concepts.

    Making one takes as long as drawing all maps once, most of it for reading embeddings; these are not kept.

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
    >>> bool(np.array_equal(scores, head.with_edits(hiding).prospect(graphs[0], "evidence")))
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
            Shape (n_tokens,).

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
        kernel = edits.kept_weights(head.kernels_.map_kernel(name, number, self._counts))
        return sign * convolve(self._graph, self.concepts, kernel, head.radius_)
