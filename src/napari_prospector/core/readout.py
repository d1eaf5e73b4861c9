"""Linear read-outs of tokens, taught by labels of data: a score for a token from its embedding alone.

Every token of a negative datum is negative; of the tokens of a positive datum some are positive, and nobody says which.
Told apart as if all of them were, tokens still rank by the ratio of their densities (Elkan and Noto, KDD 2008), so the
order is right although most labels are wrong. Where positive tokens are rare that lesson is faint, and self-training
sharpens it: the best-scored tokens of each positive datum against all tokens of negative data, a few rounds, begun once
from this read-out and once from the kernel's map. The mean of the three directions is one linear read-out.

Ridge, share and rounds were chosen on mosaics of other tasks than those of the README (low-grade in normal and polyp,
polyp in normal, high-grade in adenocarcinoma; classes share patients with the README's): mean AP .82 with a share of
.1, .81 with .05 and .2; one direction alone .80 to .82.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from napari_prospector.core.concepts import category_numbers
from napari_prospector.core.graph import TokenGraph
from napari_prospector.core.sharing import adjacency_matrix

__all__ = ["Readout", "ReadoutTrainer", "TokenRows", "TokenSpace", "token_features"]

_RIDGE = 0.3  # of the mean loss of a token, on standardized features
_BEST_SHARE = 0.1  # of the tokens of a positive datum
_ROUNDS = 3
_SHARED = 0.5  # while the best tokens are picked: one high token among low ones is more often noise
_LEAST_VARIANCE = 0.01  # of a direction, where a single feature has 1: the ridge would all but remove what is below
_MOST_DIRECTIONS = 256
_MOST_PAIRED = 32  # categories whose pairs are features; more of them and pairs outnumber tokens


def token_features(graph: TokenGraph, n_categories: int | None) -> NDArray[np.float32]:
    """Return what a read-out sees of every token.

    Parameters
    ----------
    graph
        A datum.
    n_categories
        None: embeddings are vectors and are taken as they are. K: they hold category numbers (n_tokens, 1), and a
        token is described by its category, how often each category is among its neighbours, and (for K up to 32) both
        together: the concepts and pairs that a kernel of radius 1 counts.

    Returns
    -------
    NDArray[np.float32]
        Shape (n_tokens, n_features).

    Raises
    ------
    InvalidInputError
        If a category is no whole number from 0 to K - 1.
    """
    if n_categories is None:
        return np.asarray(graph.embeddings, dtype=np.float32)
    category = category_numbers(graph.embeddings, n_categories)
    own = np.eye(n_categories, dtype=np.float32)[category]
    around = np.asarray(adjacency_matrix(graph, np.float32) @ own)
    if n_categories > _MOST_PAIRED:
        return np.concatenate([own, around], axis=1)
    low, high = np.triu_indices(n_categories)
    number = np.empty((n_categories, n_categories), dtype=np.int64)
    number[low, high] = number[high, low] = np.arange(low.size)
    pairs = np.zeros((len(own), low.size), dtype=np.float32)
    pairs[np.arange(len(own))[:, None], number[category]] = around
    return np.concatenate([own, around, pairs], axis=1)


@dataclass(frozen=True)
class TokenRows:
    """Some tokens of many data, as a read-out sees them.

    Attributes
    ----------
    features, around
        Shape (n_rows, n_features): of each token, and their mean over its neighbours.
    owner
        Shape (n_rows,): number of its datum, ascending.
    """

    features: NDArray[np.float32]
    around: NDArray[np.float32]
    owner: NDArray[np.int64]


@dataclass(frozen=True)
class Readout:
    """score = features · weights + offset.

    Attributes
    ----------
    weights
        Shape (n_features,).
    offset
        So that tokens of negative data have the mean score 0.
    """

    weights: NDArray[np.float64]
    offset: float

    def scores(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return the scores (n_tokens,) of features (n_tokens, n_features)."""
        return np.asarray(
            features.astype(np.float32, copy=False) @ self.weights.astype(np.float32) + self.offset, float
        )


class TokenSpace:
    """The tokens to learn from, along the directions in which they vary most: the same for every class.

    Parameters
    ----------
    rows
        Tokens.
    inside
        Shape (n_rows,): the tokens to learn from.

    Attributes
    ----------
    inside, owner
        As given; shape (n_inside,), the datum of each of them.
    own, mixed
        Shape (n_inside, n_directions): coordinates of the tokens, and of their mixture with their neighbours.
    """

    def __init__(self, rows: TokenRows, inside: NDArray[np.bool_]) -> None:
        features = rows.features[inside]
        self._mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
        spread = features.std(axis=0, dtype=np.float64)
        # a feature that never varies tells nothing and must not become infinite
        varies = spread > 1e-7 * max(float(spread.max()), 1e-30)
        self._scale = np.where(varies, 1 / np.maximum(spread, 1e-30), 0.0).astype(np.float32)
        self._directions = self._main_directions(features)
        self.inside, self.owner = inside, rows.owner[inside]
        self.own = self._coordinates(features)
        self.mixed = (1 - _SHARED) * self.own + _SHARED * self._coordinates(rows.around[inside])

    def _main_directions(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the directions (n_features, n_directions) in which standardized features vary."""
        points = (features - self._mean) * self._scale
        values, vectors = np.linalg.eigh(points.T @ points / len(points))
        kept = np.flatnonzero(values > _LEAST_VARIANCE)[::-1][:_MOST_DIRECTIONS]
        return np.asarray(vectors[:, kept if len(kept) else [-1]], dtype=np.float32)

    def _coordinates(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return features (n_rows, n_features) along the main directions."""
        return np.asarray(((features - self._mean) * self._scale) @ self._directions)

    def readout(self, direction: NDArray[np.float64], zero: float) -> Readout:
        """Return the read-out of features whose score is own · direction (n_directions,) - zero."""
        weights = self._scale * (self._directions @ direction)
        return Readout(weights.astype(np.float64), float(-(self._mean @ weights) - zero))


class ReadoutTrainer:
    """Fits read-outs of one class on some of the data.

    Parameters
    ----------
    space
        The tokens to learn from.
    is_target
        Shape (n_inside,): whether the datum of a token is of the class.
    """

    def __init__(self, space: TokenSpace, is_target: NDArray[np.bool_]) -> None:
        self.space = space
        self._target = is_target
        self._slices = _slices(space.owner, is_target)

    @cached_property
    def _from_labels(self) -> NDArray[np.float64]:
        """The direction that tells tokens of positive data from those of negative data."""
        return self._direction(self._target)

    def label_readout(self) -> Readout:
        """Return the read-out that labels of data alone teach."""
        return self._readout([self._from_labels])

    def readout(self, teacher: NDArray[np.float64]) -> Readout:
        """Return the read-out taught by labels and by the kernel's map.

        Parameters
        ----------
        teacher
            Shape (n_inside,): the kernel's scores of the tokens to learn from.
        """
        starts = (self.space.mixed @ self._from_labels, teacher)
        return self._readout([self._from_labels, *(self._self_trained(scores) for scores in starts)])

    def _self_trained(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the direction after some rounds that begin with scores (n_inside,)."""
        for _ in range(_ROUNDS):
            best = np.zeros(len(scores), dtype=bool)
            for datum in self._slices:
                own = scores[datum]
                n_best = max(1, round(_BEST_SHARE * len(own)))
                best[datum.start + np.argpartition(-own, n_best - 1)[:n_best]] = True
            direction = self._direction(best)
            scores = self.space.mixed @ direction
        return direction

    def _direction(self, positive: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Tell positive tokens from those of negative data: ridge logistic regression, both sides weighing alike."""
        taken = positive | ~self._target
        if not self.space.own.any():  # all tokens are alike: nothing to learn, and nothing for a solver to converge to
            return np.zeros(self.space.own.shape[1])
        n_taken = int(taken.sum())
        weight = np.where(positive, 0.5 / positive.sum(), 0.5 / (~self._target).sum())[taken] * n_taken
        model = LogisticRegression(C=1 / (_RIDGE * n_taken), solver="newton-cholesky")
        model.fit(self.space.own[taken], positive[taken], sample_weight=weight)
        return np.asarray(model.coef_[0], dtype=np.float64)

    def _readout(self, directions: Sequence[NDArray[np.float64]]) -> Readout:
        """Average directions, each in units of its spread over tokens of negative data."""
        negative = self.space.own[~self._target]
        spreads = [float((negative @ direction).std()) for direction in directions]
        mean = sum(d / max(s, 1e-12) for d, s in zip(directions, spreads, strict=True)) / len(directions)
        return self.space.readout(np.asarray(mean), float((negative @ mean).mean()))


def _slices(owner: NDArray[np.int64], is_target: NDArray[np.bool_]) -> list[slice]:
    """Return where the tokens of each target datum lie; `owner` (n,) ascends."""
    starts = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]])
    stops = np.r_[starts[1:], len(owner)]
    return [slice(int(a), int(b)) for a, b in zip(starts, stops, strict=True) if is_target[a]]
