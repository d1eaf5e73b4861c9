"""The kernel of a head as a grid of cells: what a concept weighs by itself, and beside each other one.

Merged concepts keep a row each, side by side: the weights of pairs were learned for each of them, and one number for
all would be a number that nobody has learned. Pure: neither napari nor Qt is needed.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_prospector._napari.concept_legend import LegendRow, signed

if TYPE_CHECKING:
    from napari_prospector.core.head import ProspectorHead

__all__ = ["ALONE", "ORDERS", "KernelGrid", "kernel_grid"]

ALONE = -1
"""The column of what a concept weighs by itself, left of all pairs."""
ORDERS = ("by weight", "by likeness")


@dataclass(frozen=True, eq=False)
class KernelGrid:
    """Weights in the order in which they are shown.

    Attributes
    ----------
    concepts
        The concept (K,) of each row, and of each column.
    names
        Of each row; merged concepts with their number.
    colors
        Shape (K, 3), uint8.
    alone
        Shape (K,): weights of concepts by themselves.
    pairs
        Shape (K, K), symmetric.
    is_hidden
        Shape (K,): whether a row counts 0 in maps.
    has_pairs
        Whether the head looks at pairs at all.
    target
        The class that weights above 0 speak for.
    """

    concepts: tuple[int, ...]
    names: tuple[str, ...]
    colors: NDArray[np.uint8]
    alone: NDArray[np.float64]
    pairs: NDArray[np.float64]
    is_hidden: NDArray[np.bool_]
    has_pairs: bool
    target: str

    @property
    def limit(self) -> float:
        """The weight at the end of the colours: the largest of those that count."""
        shown = ~self.is_hidden
        counted = np.concatenate((self.alone[shown], self.pairs[np.ix_(shown, shown)].ravel()))
        largest = float(np.abs(counted).max(initial=0.0))
        return largest if largest > 0 else 1.0

    def weight(self, row: int, col: int) -> float:
        """Return the weight of a cell; `col` may be `ALONE`."""
        return float(self.alone[row] if col == ALONE else self.pairs[row, col])

    def name(self, row: int, col: int) -> str:
        """Return what a cell is called."""
        return f"{self.names[row]} alone" if col == ALONE else f"{self.names[row]} × {self.names[col]}"

    def text(self, row: int, col: int) -> str:
        """Say what a cell is, and its weight."""
        is_hidden = self.is_hidden[row] or (col != ALONE and self.is_hidden[col])
        return f"{self.name(row, col)}: {signed(self.weight(row, col))}" + (" (hidden: counts 0)" if is_hidden else "")

    def place_of(self, concept: int) -> int:
        """Return the row of a concept."""
        return self.concepts.index(concept)

    def pixels(self, n_colors: int = 257) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return colours of the cells alone (K, 1, 3) and of pairs (K, K, 3), from blue over white to vermilion."""
        from napari_prospector.core.colors import diverging_colors

        table = np.rint(255 * diverging_colors(n_colors)).astype(np.uint8)

        def painted(weights: NDArray[np.float64]) -> NDArray[np.uint8]:
            at = np.clip(weights / self.limit, -1, 1)
            return np.asarray(table[np.rint((at + 1) / 2 * (n_colors - 1)).astype(int)])

        return painted(self.alone[:, None]), painted(self.pairs)


def kernel_grid(
    head: ProspectorHead, rows: tuple[LegendRow, ...], target: Hashable, map: str = "evidence", order: str = ORDERS[0]
) -> KernelGrid:
    """Lay out the kernel of a head.

    Parameters
    ----------
    head
        Fitted, with its edits.
    rows
        Of its legend, the largest weight first; merged concepts lie side by side.
    target, map
        As in `ProspectorHead.concept_weights`.
    order
        ``"by weight"``, as the rows come; or ``"by likeness"``: rows whose pairs weigh alike lie side by side.
    """
    alone, pairs = head.concept_weights(map, target)
    groups = [list(row.members) for row in rows]
    if order != ORDERS[0] and len(groups) > 2:
        groups = [groups[at] for at in _by_likeness(pairs, groups)]
    edits = head.concept_edits_
    concepts = [concept for group in groups for concept in sorted(group, key=lambda one: -alone[one])]
    names = [
        edits.name(concept) if len(edits.members(concept)) == 1 else f"{edits.name(concept)} ({concept})"
        for concept in concepts
    ]
    return KernelGrid(
        concepts=tuple(concepts),
        names=tuple(names),
        colors=np.rint(255 * edits.colors()[concepts]).astype(np.uint8),
        alone=alone[concepts],
        pairs=pairs[np.ix_(concepts, concepts)],
        is_hidden=edits.is_hidden()[concepts],
        has_pairs=head.radius_ > 0,
        target=str(target),
    )


def _by_likeness(pairs: NDArray[np.float64], groups: list[list[int]]) -> list[int]:
    """Order groups so that those whose mean weights with all concepts are alike are neighbours."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    means = np.stack([pairs[group].mean(axis=0) for group in groups])
    return [int(at) for at in leaves_list(linkage(means, "average", optimal_ordering=True))]
