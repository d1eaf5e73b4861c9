"""How well a map localizes, judged by labels of data alone.

Labels of data are soon predicted without error, and then say nothing of where on a datum a class lives. What tells
tokens of positive data from tokens of negative data is no judge either: a map that lights up the surroundings of a
region as well tells them apart better still, because those surroundings occur in positive data only.

*Excess correlation* sees through that halo. A judge scores each token by its own embedding, with a read-out taught by
labels of other data (`readout`). Within a datum, map and judge vary together for two reasons: both see the region, and
both share the noise of the same embedding. Negative data have only the second. So

    excess = (mean covariance in positive data - mean covariance in negative data) / spread of the map in positive data

is, up to one factor that all maps share, the correlation of the map with the truth within positive data. It holds if
noise is alike in both kinds of data, and if a token's own embedding says something about the class. Where it does not
(a class known only by what lies side by side), the judge is no better than chance and says so (`separation`), and
maps are compared by separation, halo or not. So they are where the class fills its data: nothing in them varies with
the truth, the judge is at its bound everywhere, and its excess is below 0.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.bootstrap import Interval, group_codes, resample

__all__ = ["Jury", "excess_terms"]

_N_BOOT = 1000
_MOST_SPREADS = 3.0


@dataclass(frozen=True)
class Jury:
    """Tokens out of fold, what the judge says of them, and who they belong to.

    Attributes
    ----------
    judge
        Shape (n_rows,): scores of the judge, of a read-out that has not seen the datum.
    owner
        Shape (n_rows,): number of the datum of a token, ascending.
    is_target
        Shape (n_data,).
    folds
        Shape (n_data,).
    groups
        Patient of each datum, or None.
    """

    judge: NDArray[np.float64]
    owner: NDArray[np.int64]
    is_target: NDArray[np.bool_]
    folds: NDArray[np.int64]
    groups: Sequence[Hashable] | None = None

    def excess(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what each datum adds to the excess correlation of a map with scores (n_rows,); shape (n_data,)."""
        return excess_terms(*self.moments(scores[:, None]), np.ones(1), self.is_target, self.folds)

    def moments(self, maps: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return covariances within each datum.

        Parameters
        ----------
        maps
            Shape (n_rows, n_maps).

        Returns
        -------
        with_judge
            Shape (n_data, n_maps).
        among_maps
            Shape (n_data, n_maps, n_maps).
        """
        n_data, n_maps = len(self.is_target), maps.shape[1]
        with_judge, among = np.zeros((n_data, n_maps)), np.zeros((n_data, n_maps, n_maps))
        judge = self._bounded_judge()
        starts = np.flatnonzero(np.r_[True, self.owner[1:] != self.owner[:-1]])
        for start, stop in zip(starts, np.r_[starts[1:], len(self.owner)], strict=True):
            own = maps[start:stop] - maps[start:stop].mean(axis=0)
            datum = self.owner[start]
            with_judge[datum] = own.T @ (judge[start:stop] - judge[start:stop].mean()) / (stop - start)
            among[datum] = own.T @ own / (stop - start)
        return with_judge, among

    def _bounded_judge(self) -> NDArray[np.float64]:
        """Return the judge in units of its spread over tokens of negative data of the fold, from -3 to 3.

        Bounded, because a few tokens far out would outvote all others.
        """
        row_folds, negative = self.folds[self.owner], ~self.is_target[self.owner]
        scaled = np.zeros(len(self.judge))
        for fold in np.unique(row_folds):
            inside = row_folds == fold
            known = self.judge[inside & negative]
            if len(known):
                scaled[inside] = (self.judge[inside] - known.mean()) / max(float(known.std()), 1e-12)
        return np.clip(scaled, -_MOST_SPREADS, _MOST_SPREADS)

    def difference(self, terms: NDArray[np.float64]) -> float:
        """Return the mean over positive data less the mean over negative data of terms (n_data,)."""
        return float(terms[self.is_target].mean() - terms[~self.is_target].mean())

    def separation(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return for each datum the mean share of tokens of negative data of its fold that its tokens outscore.

        Returns
        -------
        NDArray[np.float64]
            Shape (n_data,), 0 to 1. The mean over positive data less that over negative data, which is 0.5, is the
            AUROC of tokens of positive data against tokens of negative data, less 0.5.
        """
        row_folds = self.folds[self.owner]
        ranks = np.full(len(scores), 0.5)
        for fold in np.unique(row_folds):
            inside = row_folds == fold
            negative = np.sort(scores[inside & ~self.is_target[self.owner]])
            if len(negative):
                below = np.searchsorted(negative, scores[inside], side="left")
                upto = np.searchsorted(negative, scores[inside], side="right")
                ranks[inside] = (below + upto) / (2 * len(negative))
        counts = np.bincount(self.owner, minlength=len(self.is_target))
        return np.bincount(self.owner, ranks, minlength=len(self.is_target)) / np.maximum(counts, 1)

    def interval(self, terms: NDArray[np.float64]) -> Interval:
        """Return mean over positive less mean over negative data of terms (n_data,), with its interval over groups."""
        groups = group_codes(self.groups, len(terms))
        weights = np.concatenate([np.ones((1, len(terms))), resample(groups, _N_BOOT)])
        positive, negative = weights * self.is_target, weights * ~self.is_target
        with np.errstate(invalid="ignore", divide="ignore"):
            differences = positive @ terms / positive.sum(axis=1) - negative @ terms / negative.sum(axis=1)
        known = differences[1:][np.isfinite(differences[1:])]
        low, high = np.quantile(known, (0.025, 0.975)) if len(np.unique(groups)) > 2 else (np.nan, np.nan)
        return Interval(float(differences[0]), float(low), float(high))


def excess_terms(
    with_judge: NDArray[np.float64],
    among_maps: NDArray[np.float64],
    mixture: NDArray[np.float64],
    is_target: NDArray[np.bool_],
    folds: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return what each datum adds to the excess correlation of a mixture of maps.

    Parameters
    ----------
    with_judge, among_maps
        Of `Jury.moments`.
    mixture
        Shape (n_maps,): weight of each map.
    is_target, folds
        Shape (n_data,).

    Returns
    -------
    NDArray[np.float64]
        Shape (n_data,): covariance with the judge in units of the mixture's spread in positive data of the fold. The
        mean over positive data less that over negative data is the excess correlation.
    """
    covariance = with_judge @ mixture
    variance = np.einsum("i,dij,j->d", mixture, among_maps, mixture)
    for fold in np.unique(folds):
        inside = folds == fold
        spread = np.sqrt(variance[inside & is_target].mean()) if (inside & is_target).any() else 0.0
        covariance[inside] = covariance[inside] / spread if spread > 1e-12 else 0.0
    return covariance
