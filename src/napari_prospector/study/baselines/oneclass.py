"""Novelty: how unlike the tokens of negative data a token is."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.svm import OneClassSVM

from napari_prospector.core.crossfit import TokenSample, make_folds, sample_tokens
from napari_prospector.core.graph import TokenGraph
from napari_prospector.study.baselines.method import is_of_target
from napari_prospector.study.baselines.projection import BLOCK_ROWS, fit_projection

__all__ = ["OneClassNovelty"]

_TOP_SHARE = 0.1  # a datum is as novel as the most novel tenth of its tokens: regions may be small


class OneClassNovelty:
    """One-class support vector machine on tokens of negative data; a score is the distance to what it has seen.

    Embeddings are standardized and, where they are wide, reduced to principal components of all training tokens; the
    machine sees tokens sampled from data that are not of the target class. The share of outliers (nu) and the width of
    the kernel (gamma) are those under which, in cross-validation over data with groups (patients) never divided, data
    of the class stand out most: the difference of the mean novelty of held-out data of the two sides over its standard
    deviation.

    Parameters
    ----------
    target
        The class to find. None: of two classes, the last in sorted order.
    nus
        Shares of training tokens that may lie outside, to choose from.
    widths
        Gamma of the kernel times the number of components, to choose from.
    n_components
        Largest number of principal components.
    max_vectors
        Tokens that the machine is fitted on, at most.
    max_sample
        Tokens drawn from all data for the choice, at most.
    n_folds, random_state
        Of the cross-validation and of the sample.

    Attributes
    ----------
    nu_, width_
        The chosen ones; those in the middle where too few data can be held out.
    """

    name = "one-class"
    map = "novelty"

    def __init__(
        self,
        target: Hashable | None = None,
        nus: Sequence[float] = (0.02, 0.1, 0.4),
        widths: Sequence[float] = (0.1, 0.5, 2.0),
        n_components: int = 32,
        max_vectors: int = 1000,
        max_sample: int = 30_000,
        n_folds: int = 5,
        random_state: int = 0,
    ) -> None:
        self.target = target
        self.nus = tuple(nus)
        self.widths = tuple(widths)
        self.n_components = n_components
        self.max_vectors = max_vectors
        self.max_sample = max_sample
        self.n_folds = n_folds
        self.random_state = random_state

    def fit(
        self, graphs: Sequence[TokenGraph], labels: Sequence[Hashable], groups: Sequence[Hashable] | None = None
    ) -> Self:
        """Choose nu and gamma and fit on negative data.

        Parameters
        ----------
        graphs
            One pass is made.
        labels
            Class of each datum.
        groups
            Patient of each datum.

        Raises
        ------
        InvalidInputError
            Lengths differ, a class is missing, or `target` is not given for more than two classes.
        """
        is_target = is_of_target(labels, len(graphs), self.target)
        sample = sample_tokens(graphs, self.max_sample, self.random_state)
        # components of negative data alone would leave out the very directions in which others differ from them
        self.projection_ = fit_projection(sample.embeddings, self.n_components)
        tokens = replace(sample, embeddings=self.projection_.apply(sample.embeddings))
        self.nu_, self.width_ = self.nus[len(self.nus) // 2], self.widths[len(self.widths) // 2]
        self._calibration: LogisticRegression | None = None
        folds = make_folds(is_target, groups, self.n_folds, self.random_state)
        if folds.max() > 0:
            tried = {
                setting: self._held_out(tokens, is_target, folds, *setting)
                for setting in product(self.nus, self.widths)
            }
            self.nu_, self.width_ = max(tried, key=lambda setting: _gap(tried[setting], is_target))
            self._spread = float(tried[self.nu_, self.width_].std()) or 1.0
            novelty = tried[self.nu_, self.width_][:, None] / self._spread
            self._calibration = LogisticRegression().fit(novelty, is_target)
        self._machine = self._fit_machine(tokens, is_target == 0, self.nu_, self.width_)
        return self

    def prospect(self, graph: TokenGraph) -> NDArray[np.float64]:
        """Return the novelty of every token, (n_tokens,): below 0 within what was seen, above 0 outside."""
        return self._machine.novelty(self.projection_.apply(graph.embeddings))

    def target_probability(self, graphs: Sequence[TokenGraph]) -> NDArray[np.float64] | None:
        """Return how probable the class is for each datum, (n_data,); None where too few data could be held out."""
        if self._calibration is None:
            return None
        novelty = np.array([_of_datum(self.prospect(graphs[i])) for i in range(len(graphs))])
        return np.asarray(self._calibration.predict_proba(novelty[:, None] / self._spread)[:, 1])

    @property
    def n_parameters(self) -> int:
        """Support vectors and their weights, the offset, and the projection."""
        return int(self._machine.svm.support_vectors_.size + self._machine.svm.dual_coef_.size + 1) + int(
            self.projection_.matrix.size + self.projection_.mean.size
        )

    def _fit_machine(self, tokens: TokenSample, keep: NDArray[np.bool_], nu: float, width: float) -> _Machine:
        """Fit on tokens of the data that `keep` (n_data,) marks."""
        rows = tokens.embeddings[keep[tokens.owner]]
        if len(rows) > self.max_vectors:
            generator = np.random.default_rng(self.random_state)
            rows = rows[np.sort(generator.choice(len(rows), self.max_vectors, replace=False))]
        return _Machine(OneClassSVM(nu=nu, gamma=width / rows.shape[1]).fit(rows), nu * len(rows))

    def _held_out(
        self, tokens: TokenSample, is_target: NDArray[np.int64], folds: NDArray[np.int64], nu: float, width: float
    ) -> NDArray[np.float64]:
        """Return the novelty of every datum (n_data,) to a machine that has not seen its fold."""
        found = np.empty(len(folds))
        for fold in np.unique(folds):
            machine = self._fit_machine(tokens, (folds != fold) & (is_target == 0), nu, width)
            for datum in np.flatnonzero(folds == fold):
                found[datum] = _of_datum(machine.novelty(tokens.embeddings[tokens.owner == datum]))
        return found


@dataclass(frozen=True)
class _Machine:
    """A fitted machine; its dual weights add up to `total`, which brings machines to one scale."""

    svm: Any
    total: float

    def novelty(self, tokens: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the novelty of projected tokens (n_tokens, n_components)."""
        blocks = range(0, len(tokens), BLOCK_ROWS)
        inside = [self.svm.decision_function(tokens[start : start + BLOCK_ROWS]) for start in blocks]
        return np.asarray(-np.concatenate(inside) / self.total, dtype=np.float64)


def _of_datum(novelty: NDArray[np.float64]) -> float:
    """Return the mean over the most novel tenth of tokens."""
    n_top = max(1, round(_TOP_SHARE * len(novelty)))
    return float(np.sort(novelty)[-n_top:].mean())


def _gap(novelty: NDArray[np.float64], is_target: NDArray[np.int64]) -> float:
    """Return how far data of the class stand out, in standard deviations."""
    found, others = novelty[is_target == 1], novelty[is_target == 0]
    spread = np.sqrt((found.var() + others.var()) / 2)
    return float((found.mean() - others.mean()) / max(spread, 1e-12))
