"""The ceiling: a classifier of tokens that is taught by regions."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from napari_prospector.core.crossfit import make_folds
from napari_prospector.core.graph import TokenGraph
from napari_prospector.core.regions import known_truth
from napari_prospector.core.sharing import share_scores
from napari_prospector.errors import InvalidInputError, MismatchError
from napari_prospector.study.baselines.method import is_of_target
from napari_prospector.study.baselines.projection import fit_projection

__all__ = ["TokenProbe"]

_BLOCK_ROWS = 16_384


class TokenProbe:
    """Logistic regression on tokens whose truth is known: the only method here that sees regions of training data.

    It says what a linear read-out of the embeddings could reach, were regions painted on every training datum. Both
    kinds of tokens weigh the same in all, and are drawn evenly from data where there are many. The ridge is the one
    with the least log-loss of tokens in cross-validation over data; groups (patients) are never divided.

    Parameters
    ----------
    truths
        For each training datum (n_tokens,): 1 positive, 0 negative, -1 unknown; None: unknown. In a datum of another
        class than the target nothing is positive, whatever its truth says.
    target
        The class to find. None: of two classes, the last in sorted order.
    amount
        Share of the neighbours in a score, 0 … 1; see `napari_prospector.core.sharing.share_scores`.
    strengths
        Inverse strengths of the ridge (C of scikit-learn) to choose from, of standardized embeddings.
    max_tokens
        Positive tokens, and as many negative ones, that are looked at, at most.
    n_folds, random_state
        Of the cross-validation and of the sample.

    Attributes
    ----------
    strength_
        The chosen one; the middle of `strengths` where too few data can be held out.
    coefficients_
        Shape (n_dims,), of embeddings as they come.
    intercept_
        So that ``coefficients_ @ embedding + intercept_`` is the logit of a token.
    """

    name = "token-supervised probe"
    map = "logit"

    def __init__(
        self,
        truths: Sequence[ArrayLike | None],
        target: Hashable | None = None,
        amount: float = 0.0,
        strengths: Sequence[float] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
        max_tokens: int = 10_000,
        n_folds: int = 5,
        random_state: int = 0,
    ) -> None:
        self.truths = truths
        self.target = target
        self.amount = amount
        self.strengths = tuple(sorted(strengths))
        self.max_tokens = max_tokens
        self.n_folds = n_folds
        self.random_state = random_state

    def fit(
        self, graphs: Sequence[TokenGraph], labels: Sequence[Hashable], groups: Sequence[Hashable] | None = None
    ) -> Self:
        """Choose the ridge and fit.

        Parameters
        ----------
        graphs
            The training data of `truths`, in their order; one pass is made.
        labels
            Class of each datum.
        groups
            Patient of each datum.

        Raises
        ------
        InvalidInputError
            Labels as for any method; or no token is known to be positive, or none to be negative.
        MismatchError
            `truths` has another length than `graphs`, or a truth another than its datum.
        """
        is_target = is_of_target(labels, len(graphs), self.target)
        rows, positive, owner = self._draw(graphs, is_target)
        scaling = fit_projection(rows, rows.shape[1])
        tokens = scaling.apply(rows)
        folds = make_folds(is_target, groups, self.n_folds, self.random_state)
        self.strength_ = self._choose(tokens, positive, folds[owner])
        model = _fit_path(tokens, positive, (self.strength_,))[0]
        self.coefficients_: NDArray[np.float64] = scaling.matrix.diagonal() * model.coef_[0].astype(np.float64)
        self.intercept_ = float(model.intercept_[0] - self.coefficients_ @ scaling.mean)
        return self

    def prospect(self, graph: TokenGraph) -> NDArray[np.float64]:
        """Return the logit of every token, shared with neighbours by `amount`, (n_tokens,)."""
        blocks = range(0, graph.n_tokens, _BLOCK_ROWS)
        logits = [graph.embeddings[i : i + _BLOCK_ROWS].astype(np.float64) @ self.coefficients_ for i in blocks]
        return share_scores(graph, np.concatenate(logits) + self.intercept_, self.amount)

    def target_probability(self, graphs: Sequence[TokenGraph]) -> None:
        """Return None: nothing is said about data."""

    @property
    def n_parameters(self) -> int:
        """Number of coefficients, and the intercept."""
        return self.coefficients_.size + 1

    def _draw(
        self, graphs: Sequence[TokenGraph], is_target: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64]]:
        """Return embeddings, truth and datum of tokens: of each kind the same number from every datum, at most."""
        if len(self.truths) != len(graphs):
            raise MismatchError(f"truths must hold one entry for each of {len(graphs)} data; got {len(self.truths)}.")
        generator = np.random.default_rng(self.random_state)
        rows: list[NDArray[np.float32]] = []
        positive: list[NDArray[np.bool_]] = []
        owner: list[int] = []
        for datum, truth in enumerate(self.truths):
            if truth is None:
                continue
            graph = graphs[datum]
            marks = known_truth(truth)
            if len(marks) != graph.n_tokens:
                raise MismatchError(
                    f"truth {datum} must hold one entry for each of {graph.n_tokens} tokens; got {len(marks)}."
                )
            marks = marks if is_target[datum] else np.minimum(marks, 0)
            for kind, n_data in ((1, is_target.sum()), (0, len(is_target))):
                members = np.flatnonzero(marks == kind)
                quota = -(-self.max_tokens // int(n_data))
                if len(members) > quota:
                    members = np.sort(generator.choice(members, quota, replace=False))
                rows.append(graph.embeddings[members].astype(np.float32))
                positive.append(np.full(len(members), kind == 1))
                owner += [datum] * len(members)
        found = np.concatenate(positive) if positive else np.zeros(0, dtype=bool)
        if found.all() or not found.any():
            raise InvalidInputError(
                f"truths must mark positive tokens in data of the class, and negative ones; got {int(found.sum())} "
                f"positive and {int((~found).sum())} negative."
            )
        return np.concatenate(rows), found, np.array(owner)

    def _choose(self, tokens: NDArray[np.float32], positive: NDArray[np.bool_], folds: NDArray[np.int64]) -> float:
        """Return the strength with the least balanced log-loss of held-out tokens (n_tokens, n_dims)."""
        held_out = np.full((len(self.strengths), len(folds)), np.nan)
        for fold in np.unique(folds):
            rest = folds != fold
            if not rest.any() or positive[rest].all() or not positive[rest].any():
                return self.strengths[len(self.strengths) // 2]
            for row, model in zip(held_out, _fit_path(tokens[rest], positive[rest], self.strengths), strict=True):
                row[~rest] = model.predict_proba(tokens[~rest])[:, 1]
        share = positive.mean()
        weight = np.where(positive, 0.5 / share, 0.5 / (1 - share))
        losses = [log_loss(positive, row, sample_weight=weight, labels=[False, True]) for row in held_out]
        return self.strengths[int(np.argmin(losses))]


def _fit_path(
    tokens: NDArray[np.float32], positive: NDArray[np.bool_], strengths: Sequence[float]
) -> list[LogisticRegression]:
    """Fit one regression for each strength, ascending; each starts where the one before ended."""
    models: list[LogisticRegression] = []
    for strength in strengths:
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000, tol=1e-3, warm_start=True)
        if models:
            model.coef_, model.intercept_ = models[-1].coef_.copy(), models[-1].intercept_.copy()
            model.classes_ = models[-1].classes_
        models.append(model.fit(tokens, positive))
    return models
