"""The map of a slide as the array of its layer, drawn again within a moment when concepts are hidden or shown.

Pure: neither napari nor Qt is needed. Make it in a thread, since it reads all embeddings; draw where it suits: for a
million tokens, hiding a concept takes about 10 ms, and hiding many about 40 ms.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_prospector.core.reweigh import Reweigher
from napari_prospector.errors import MismatchError

if TYPE_CHECKING:
    from napari_prospector.core.concept_edits import ConceptEdits
    from napari_prospector.core.graph import TokenGraph
    from napari_prospector.core.head import ProspectorHead

__all__ = ["MapPainter"]


class MapPainter:
    """Draws the maps of one slide onto its grid, under any edits of the concepts.

    Parameters
    ----------
    head
        Fitted.
    graph
        Of the slide's tokens; its embeddings are read once and not kept.
    mask
        Shape (rows, cols): where the tokens are, row by row. None: the mask of the graph.
    concepts
        Shape (n_tokens,), where they are known already.

    Raises
    ------
    MismatchError
        If the mask does not hold as many cells as there are tokens.
    InvalidInputError
        If embeddings do not have the width that the head was fitted on.
    """

    def __init__(
        self,
        head: ProspectorHead,
        graph: TokenGraph,
        mask: NDArray[np.bool_] | None = None,
        concepts: ArrayLike | None = None,
    ) -> None:
        cells = graph.mask if mask is None else np.asarray(mask, dtype=np.bool_)
        if cells is None or cells.ndim != 2 or int(cells.sum()) != graph.n_tokens:
            came = "none" if cells is None else f"{int(cells.sum())} in shape {cells.shape}"
            raise MismatchError(
                f"mask must have shape (rows, cols) with a True cell for each of the {graph.n_tokens} tokens; "
                f"got {came}. Pass the mask of the token grid."
            )
        self.shape: tuple[int, int] = (cells.shape[0], cells.shape[1])
        self._places = np.flatnonzero(cells)
        self._maps = Reweigher(head, graph, concepts)
        # the kernels are compiled, or read from their cache, here and not when somebody waits
        self.scores("evidence", head.classes_.tolist()[0])

    @property
    def head(self) -> ProspectorHead:
        """The head whose maps are drawn."""
        return self._maps.head

    @property
    def concepts(self) -> NDArray[np.int32]:
        """The concept (n_tokens,) of every token."""
        return self._maps.concepts

    def scores(
        self,
        map: str | None = None,
        target: Hashable | None = None,
        edits: ConceptEdits | None = None,
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Draw a map.

        Parameters
        ----------
        map, target
            As in `ProspectorHead.prospect`.
        edits
            Of the concepts; None: those of the head.
        out
            Shape (rows, cols): an array to draw in, one that this method gave. None: a new one.

        Returns
        -------
        NDArray[np.float32]
            Shape (rows, cols); NaN where there is no tissue.

        Raises
        ------
        InvalidInputError
            As `ProspectorHead.prospect`, or if the edits are of another number of concepts.
        """
        return self._on_grid(self._maps.scores(map, target, edits), np.nan, np.float32, out)

    def concept_grid(self) -> NDArray[np.int32]:
        """Return the concept of every cell, (rows, cols); -1 where there is no tissue."""
        return self._on_grid(self.concepts, -1, np.int32, None)

    def _on_grid(self, values: NDArray[Any], empty: float, kind: Any, out: NDArray[Any] | None) -> NDArray[Any]:
        """Lay one value per token onto the grid."""
        cells = np.full(self.shape, empty, dtype=kind) if out is None else out
        np.put(cells, self._places, values)
        return cells
