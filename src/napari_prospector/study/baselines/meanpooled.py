"""Logistic regression on the mean embedding of a datum, applied to its tokens."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from napari_prospector.core.crossfit import make_folds
from napari_prospector.core.graph import TokenGraph
from napari_prospector.study.baselines.method import is_of_target, probability_of

__all__ = ["MeanPooledLogistic", "neighbour_average"]

_BLOCK_ROWS = 16_384  # embeddings are widened to float64 so many at a time


class MeanPooledLogistic:
    """Logistic regression on the mean embedding of a datum, applied to its tokens.

    Embeddings are standardized over the data's means. The strength of the ridge is the one with the least log-loss in
    cross-validation over data; groups (patients) are never divided.

    Parameters
    ----------
    target
        The class to find. None: of two classes, the last in sorted order.
    hops
        How often the score of a token is averaged with those of its direct neighbours; 0 leaves it as it is.
    strengths
        Inverse strengths of the ridge (C of scikit-learn) to choose from.
    n_folds, random_state
        Of the cross-validation.

    Attributes
    ----------
    strength_
        The chosen one; the middle of `strengths` where too few data can be held out.
    coefficients_
        Shape (n_dims,), of embeddings as they come.
    intercept_
        So that ``coefficients_ @ embedding + intercept_`` is the logit.
    """

    map = "logit"

    def __init__(
        self,
        target: Hashable | None = None,
        hops: int = 0,
        strengths: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0),
        n_folds: int = 5,
        random_state: int = 0,
    ) -> None:
        self.target = target
        self.hops = hops
        self.strengths = tuple(strengths)
        self.n_folds = n_folds
        self.random_state = random_state

    @property
    def name(self) -> str:
        """What a table calls the method."""
        rounds = f" {self.hops} times" if self.hops > 1 else ""
        return "mean-pooled logistic" + (f", averaged over neighbours{rounds}" if self.hops else "")

    def fit(
        self, graphs: Sequence[TokenGraph], labels: Sequence[Hashable], groups: Sequence[Hashable] | None = None
    ) -> Self:
        """Choose the ridge and fit.

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
        means = _means(graphs)
        self.strength_ = self._choose(means, is_target, groups)
        scaler, model = _fit_logistic(means, is_target, self.strength_)
        self.coefficients_: NDArray[np.float64] = model.coef_[0] / scaler.scale_
        self.intercept_ = float(model.intercept_[0] - self.coefficients_ @ scaler.mean_)
        return self

    def prospect(self, graph: TokenGraph) -> NDArray[np.float64]:
        """Return the logit of every token as if it were the datum, averaged over neighbours; (n_tokens,)."""
        blocks = range(0, graph.n_tokens, _BLOCK_ROWS)
        logits = [graph.embeddings[i : i + _BLOCK_ROWS].astype(np.float64) @ self.coefficients_ for i in blocks]
        return neighbour_average(graph, np.concatenate(logits) + self.intercept_, self.hops)

    def target_probability(self, graphs: Sequence[TokenGraph]) -> NDArray[np.float64]:
        """Return how probable the class is for each datum, (n_data,)."""
        means = _means(graphs)
        return probability_of(means @ self.coefficients_ + self.intercept_)

    @property
    def n_parameters(self) -> int:
        """Number of coefficients, and the intercept."""
        return self.coefficients_.size + 1

    def _choose(
        self, means: NDArray[np.float64], is_target: NDArray[np.int64], groups: Sequence[Hashable] | None
    ) -> float:
        """Return the strength with the least log-loss of held-out data; means (n_data, n_dims)."""
        folds = make_folds(is_target, groups, self.n_folds, self.random_state)
        if folds.max() == 0:
            return self.strengths[len(self.strengths) // 2]
        losses = [
            log_loss(is_target, _held_out_probability(means, is_target, folds, strength), labels=[0, 1])
            for strength in self.strengths
        ]
        return self.strengths[int(np.argmin(losses))]


def neighbour_average(graph: TokenGraph, scores: ArrayLike, hops: int = 1) -> NDArray[np.float64]:
    """Average the score of every token with those of its direct neighbours, `hops` times.

    Parameters
    ----------
    graph
        Its edges say who is a neighbour; a token without any keeps its score.
    scores
        Shape (n_tokens,).
    hops
        Number of rounds: a token hears of others as many hops away.

    Returns
    -------
    NDArray[np.float64]
        Shape (n_tokens,).
    """
    values = np.asarray(scores, dtype=np.float64)
    edges = np.ones(graph.indices.size)
    adjacency = csr_array((edges, graph.indices, graph.indptr), shape=(graph.n_tokens, graph.n_tokens))
    n_members = np.diff(graph.indptr) + 1
    for _ in range(hops):
        values = (values + adjacency @ values) / n_members
    return values


def _means(graphs: Sequence[TokenGraph]) -> NDArray[np.float64]:
    """Return the mean embedding of each datum, (n_data, n_dims)."""
    return np.array([graph.embeddings.mean(axis=0, dtype=np.float64) for graph in graphs])


def _fit_logistic(
    means: NDArray[np.float64], is_target: NDArray[np.int64], strength: float
) -> tuple[StandardScaler, LogisticRegression]:
    """Fit scale and regression on means (n_data, n_dims)."""
    scaler = StandardScaler().fit(means)
    model = LogisticRegression(C=strength, max_iter=3000)
    return scaler, model.fit(scaler.transform(means), is_target)


def _held_out_probability(
    means: NDArray[np.float64], is_target: NDArray[np.int64], folds: NDArray[np.int64], strength: float
) -> NDArray[np.float64]:
    """Return the probability of each datum (n_data,) by a regression that has not seen its fold."""
    probability = np.empty(len(means))
    for fold in np.unique(folds):
        held_out = folds == fold
        scaler, model = _fit_logistic(means[~held_out], is_target[~held_out], strength)
        probability[held_out] = model.predict_proba(scaler.transform(means[held_out]))[:, 1]
    return probability
