"""What lies above a threshold of a map: its area, and how it agrees with the truth. Pure; no Qt.

A token lies above where its score is greater than the threshold, as in `core.measures`. Areas count a cell of the grid,
one stride a side, for each token. The regions are those of `study.outlines`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import InvalidInputError

if TYPE_CHECKING:
    from napari_prospector.tokens.geometry import GridGeometry

__all__ = ["Cut", "ThresholdTable", "area_text", "cells_above", "percent_text"]


@dataclass(frozen=True)
class Cut:
    """What a threshold leaves.

    Attributes
    ----------
    threshold
        In the unit of the scores.
    n_above
        Tokens above it.
    area_mm2
        Of these.
    share
        Of all tokens, 0 to 1.
    dice
        With the truth; None where there is none.
    """

    threshold: float
    n_above: int
    area_mm2: float
    share: float
    dice: float | None = None

    def __str__(self) -> str:
        """Return one line for the user."""
        return f"{area_text(self.area_mm2)} above, {percent_text(self.share)} of the tissue"


@dataclass(frozen=True, eq=False)
class ThresholdTable:
    """Scores sorted once, so that every threshold is a look-up.

    Attributes
    ----------
    scores
        Shape (n_tokens,), ascending.
    cell_mm2
        Area of a token.
    known
        Shape (n_known,): scores of tokens whose truth is known, ascending; None where there is no truth.
    positives
        Shape (n_known + 1,): how many of `known` up to each place are positive.
    average_precision
        Of the map; None without truth.
    """

    scores: NDArray[np.float32]
    cell_mm2: float
    known: NDArray[np.float32] | None = None
    positives: NDArray[np.int64] | None = None
    average_precision: float | None = None

    @classmethod
    def of(
        cls, scores: NDArray[np.float32], geometry: GridGeometry, truth: NDArray[np.int8] | None = None
    ) -> ThresholdTable:
        """Sort the scores of a map; a million tokens take a tenth of a second, so call it in a thread.

        Parameters
        ----------
        scores
            Shape (rows, cols); NaN where there is no token.
        geometry
            Of the grid.
        truth
            Shape (n_tokens,), in the order of the cells that are not NaN: 1, 0, or -1 for unknown. A truth without
            a positive token measures nothing and is left out.

        Raises
        ------
        InvalidInputError
            The truth is of another number of tokens.
        """
        values = scores[~np.isnan(scores)]
        cell_mm2 = (geometry.stride * geometry.slide_mpp / 1000) ** 2
        if truth is not None and truth.shape != values.shape:
            raise InvalidInputError(f"truth must have shape {values.shape}, one per token; got {truth.shape}.")
        if truth is None or not (truth == 1).any():
            return cls(np.sort(values), cell_mm2)
        from napari_prospector.core.measures import average_precision

        is_known = truth >= 0
        order = np.argsort(values[is_known], kind="stable")
        known = values[is_known][order]
        positives = np.concatenate(([0], np.cumsum(truth[is_known][order] == 1)))
        return cls(np.sort(values), cell_mm2, known, positives, average_precision(values, truth))

    def cut(self, threshold: float) -> Cut:
        """Return what lies above a threshold."""
        # in the scores' own precision, as the layer is cut
        at = np.float32(threshold)
        n_above = len(self.scores) - int(np.searchsorted(self.scores, at, side="right"))
        share = n_above / len(self.scores) if len(self.scores) else 0.0
        return Cut(threshold, n_above, n_above * self.cell_mm2, share, self._dice(at))

    def _dice(self, threshold: np.float32) -> float | None:
        """Return the Dice coefficient at a threshold."""
        if self.known is None or self.positives is None:
            return None
        first = int(np.searchsorted(self.known, threshold, side="right"))
        n_positive, n_marked = int(self.positives[-1]), len(self.known) - first
        hits = n_positive - int(self.positives[first])
        return 2 * hits / (n_positive + n_marked)


def cells_above(scores: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """Return which cells (rows, cols) lie above a threshold; those without a token do not."""
    return np.asarray(scores > np.float32(threshold))  # NaN compares False


def area_text(area_mm2: float) -> str:
    """Return an area as people read it."""
    if area_mm2 and area_mm2 < 0.01:
        return f"{area_mm2 * 1e6:,.0f} µm²"
    return f"{area_mm2:,.{2 if area_mm2 < 100 else 0}f} mm²"


def percent_text(share: float) -> str:
    """Return a share in percent, with the digits that small ones need."""
    percent = 100 * share
    digits = 0 if percent >= 10 or percent == 0 else min(3, 1 - math.floor(math.log10(max(percent, 1e-3))))
    return f"{percent:.{digits}f} %"
