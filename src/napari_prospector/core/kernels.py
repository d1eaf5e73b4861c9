"""Kernels: the weights of concepts and of pairs of neighbouring concepts, learned from counts.

Source: Machiraju et al., ICML 2024 (arXiv 2402.11729), section 3.2. ``reference=True`` follows the authors'
computation exactly, quirks included. The default differs, each time for a reason:

=====================================  ==========================================================================
the reference                          here
=====================================  ==========================================================================
one share over monograms and pairs,    shares of the tokens and shares of the pairs, each summing to 1; no inverse
times an inverse document frequency    document frequency: it cancels in a ratio, except that its sign and its
that is negative for a feature         zeros do harm
present everywhere
log2 ratio with ε = 1e-10: a feature   each class is given `pseudo` more data whose share is the mean of both
that one class lacks weighs 15 to 20   classes, so a ratio needs evidence: its logarithm is at most log2(2n/pseudo + 1)
every surviving ratio counts fully     ratios are shrunk by their sampling variance (empirical Bayes)
alpha is Bonferroni, not clipped       `alpha=None` is off; else the same correction, clipped to 1
linear coefficients of standardized    coefficients belong to one scale from fit to map (`LinearKernel`)
features meet raw counts
=====================================  ==========================================================================
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import mannwhitneyu
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from napari_prospector.errors import InvalidInputError

__all__ = [
    "KERNELS",
    "FoldChange",
    "LinearKernel",
    "block_totals",
    "feature_count",
    "feature_names",
    "fit_kernel",
    "fit_linear",
    "fold_change",
    "shares",
    "tf_idf",
]

KERNELS = ("fold-change", "linear")

_REFERENCE_EPSILON = 1e-10
_EXACT_BELOW = 8  # scipy's own limit for the exact Mann-Whitney distribution


def feature_count(n_concepts: int, radius: int) -> int:
    """Return p, the number of features: n_concepts monograms and, for radius > 0, the pairs."""
    return n_concepts + (n_concepts * (n_concepts + 1) // 2 if radius > 0 else 0)


def feature_names(concept_names: Sequence[str], radius: int, groups: Sequence[int] | None = None) -> list[str]:
    """Name every feature in the order of the kernel: ``"a"``, then ``"a + b"`` for a <= b.

    With the representative of each concept's group (n_concepts,) features that merging makes one have one name.
    """
    own = range(len(concept_names)) if groups is None else groups
    pairs = [sorted((a, b)) for i, a in enumerate(own) for b in own[i:]] if radius > 0 else []
    return [concept_names[a] for a in own] + [f"{concept_names[a]} + {concept_names[b]}" for a, b in pairs]


def fit_kernel(
    counts: ArrayLike,
    labels: ArrayLike,
    method: str = "fold-change",
    *,
    alpha: float | None = None,
    tau: float = 0.0,
    l1_ratio: float = 0.5,
    pseudo: float = 1.0,
    shrink: bool = True,
    n_concepts: int | None = None,
    reference: bool = False,
) -> NDArray[np.float64]:
    """Learn one weight per feature from the counts of labelled data.

    Parameters
    ----------
    counts
        Shape (n_data, p), non-negative: monograms, then pairs, of each datum (`core.graph.count`).
    labels
        Shape (n_data,): 1 for the class in question, 0 for the rest.
    method
        ``"fold-change"``: log2 ratio of a feature's mean share in class 1 to that in class 0.
        ``"linear"``: coefficients of an elastic-net logistic regression on standardized shares.
    alpha
        Fold-change: features whose Bonferroni-corrected Mann-Whitney p-value exceeds `alpha` get weight 0.
        ``None`` is off.
    tau
        Fold-change: weights below `tau` in absolute value become 0; in units of log2.
    l1_ratio
        Linear: 0 is ridge, 1 is lasso.
    pseudo, shrink
        Fold-change, not in reference mode: pseudo-data per class; whether to shrink by sampling variance.
    n_concepts
        Number of monograms among the features; found from p where it is None.
    reference
        Follow the authors' computation to the last digit (method.md lists its quirks).

    Returns
    -------
    NDArray[np.float64]
        Shape (p,).

    Raises
    ------
    InvalidInputError
        If shapes disagree, a class is missing, a count is negative or a parameter is out of range.
    """
    table, target = _check_table(counts, labels)
    if method not in KERNELS:
        raise InvalidInputError(f"method must be 'fold-change' or 'linear'; got {method!r}.")
    if method == "linear":
        return fit_linear(table, target, l1_ratio=l1_ratio, n_concepts=n_concepts, reference=reference).standardized
    change = fold_change(table, target, pseudo=pseudo, shrink=shrink, n_concepts=n_concepts, reference=reference)
    return change.kernel(alpha, tau)


def fold_change(
    counts: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    pseudo: float = 1.0,
    shrink: bool = True,
    n_concepts: int | None = None,
    reference: bool = False,
) -> FoldChange:
    """Return the fold changes of counts (n_data, p) between labels (n_data,) 1 and 0; see `fit_kernel`."""
    if reference:
        features = tf_idf(counts)
        return FoldChange(_reference_ratio(features, labels), features, labels, clip=False)
    features = shares(counts, n_concepts)
    weights = _smoothed_ratio(features, labels, pseudo)
    if shrink:
        weights = _shrunk(weights, features, labels, pseudo, _n_monograms(counts.shape[1], n_concepts))
    return FoldChange(weights, features, labels)


class FoldChange:
    """Fold changes of all features, from which a kernel of any alpha and tau is a matter of masking.

    Parameters
    ----------
    weights
        Shape (p,): fold changes, in log2.
    features
        Shape (n_data, p): what is tested between the classes.
    target
        Shape (n_data,), 0 or 1.
    clip
        Whether a corrected p-value is at most 1; the reference forgets it, so that its alpha = 1 still drops
        features.
    """

    def __init__(
        self,
        weights: NDArray[np.float64],
        features: NDArray[np.float64],
        target: NDArray[np.int64],
        *,
        clip: bool = True,
    ) -> None:
        self.weights = weights
        self._features, self._target, self._clip = features, target, clip
        self._corrected: NDArray[np.float64] | None = None

    def kernel(self, alpha: float | None, tau: float) -> NDArray[np.float64]:
        """Return the weights (p,) with those that fail the test, or are smaller than `tau`, set to 0."""
        if alpha is not None and not alpha > 0:
            raise InvalidInputError(f"alpha must be above 0, or None for no test; got {alpha!r}.")
        if not tau >= 0:
            raise InvalidInputError(f"tau must be 0 or more; got {tau!r}.")
        weights = self.weights.copy()
        if alpha is not None:
            weights[self._corrected_p_values() > alpha] = 0.0
        weights[np.abs(weights) < tau] = 0.0
        return weights

    def _corrected_p_values(self) -> NDArray[np.float64]:
        """Return Bonferroni-corrected two-sided Mann-Whitney p-values (p,), computed once."""
        if self._corrected is None:
            p_values = _mann_whitney(self._features, self._target) * len(self.weights)
            self._corrected = np.minimum(p_values, 1.0) if self._clip else p_values
        return self._corrected


@dataclass(frozen=True)
class LinearKernel:
    """A logistic regression on shares, in every scale that is asked of it.

    Attributes
    ----------
    standardized
        Shape (p,): coefficients of standardized features, comparable with each other.
    weights
        Shape (p,): coefficients of the shares themselves; logit = weights · shares + intercept.
    intercept
        Logit of a datum whose shares are all zero.
    """

    standardized: NDArray[np.float64]
    weights: NDArray[np.float64]
    intercept: float


def fit_linear(
    counts: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    l1_ratio: float = 0.5,
    n_concepts: int | None = None,
    reference: bool = False,
) -> LinearKernel:
    """Fit the elastic-net logistic regression of the paper (saga, C = 1) and keep its scale.

    Parameters
    ----------
    counts
        Shape (n_data, p).
    labels
        Shape (n_data,), 0 or 1.
    l1_ratio
        0 is ridge, 1 is lasso.
    n_concepts
        Number of monograms; found from p where it is None.
    reference
        TF-IDF features as in the authors' code, else shares.

    Raises
    ------
    InvalidInputError
        If `l1_ratio` lies outside 0 … 1.
    """
    if not 0 <= l1_ratio <= 1:
        raise InvalidInputError(f"l1_ratio must lie between 0 and 1; got {l1_ratio!r}.")
    features = tf_idf(counts) if reference else shares(counts, n_concepts)
    scaler = StandardScaler().fit(features)
    model = LogisticRegression(solver="saga", C=1.0, l1_ratio=l1_ratio, max_iter=3000, tol=1e-4, random_state=0)
    with warnings.catch_warnings():
        # the early stop is part of the method (method.md): coefficients are used as they then stand
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scaler.transform(features), labels)
    standardized = np.asarray(model.coef_[0], dtype=np.float64)
    weights = standardized / scaler.scale_
    return LinearKernel(standardized, weights, float(model.intercept_[0] - weights @ scaler.mean_))


def block_totals(counts: ArrayLike, n_concepts: int | None = None) -> NDArray[np.float64]:
    """Return (..., p) totals by which counts become shares: tokens for monograms, pairs for pairs.

    An empty block has total 1, so that its shares are 0.
    """
    table = np.asarray(counts, dtype=np.float64)
    n_monograms = _n_monograms(table.shape[-1], n_concepts)
    totals = np.empty_like(table)
    totals[..., :n_monograms] = table[..., :n_monograms].sum(axis=-1, keepdims=True)
    totals[..., n_monograms:] = table[..., n_monograms:].sum(axis=-1, keepdims=True)
    return np.maximum(totals, 1.0)


def shares(counts: ArrayLike, n_concepts: int | None = None) -> NDArray[np.float64]:
    """Turn counts (n_data, p) into shares of the tokens and shares of the pairs, each summing to 1."""
    return np.asarray(counts, dtype=np.float64) / block_totals(counts, n_concepts)


def tf_idf(counts: ArrayLike) -> NDArray[np.float64]:
    """Weigh counts (n_data, p) as the reference does: row shares × ln(n_data / (1 + df))."""
    table = np.asarray(counts, dtype=np.float64)
    frequency = table / table.sum(axis=1, keepdims=True)
    return np.asarray(frequency * np.log(len(table) / (1 + (table > 0).sum(axis=0))))


def _check_table(counts: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Validate counts and labels at the public door."""
    table = np.asarray(counts, dtype=np.float64)
    target = np.asarray(labels)
    if table.ndim != 2 or target.shape != (len(table),):
        raise InvalidInputError(
            f"counts must have shape (n_data, p) and labels (n_data,); got {table.shape} and {target.shape}."
        )
    if not np.isfinite(table).all() or (table < 0).any():
        raise InvalidInputError("counts must be finite and not negative.")
    if (table.sum(axis=1) == 0).any():
        raise InvalidInputError(f"every datum must hold tokens; datum {int(np.argmin(table.sum(axis=1)))} counts none.")
    if not np.array_equal(np.unique(target), [0, 1]):
        raise InvalidInputError(f"labels must hold both 0 and 1 and nothing else; got {np.unique(target).tolist()}.")
    return table, target.astype(np.int64)


def _n_monograms(n_features: int, n_concepts: int | None) -> int:
    """Return the number of monograms among p features."""
    if n_concepts is not None:
        return n_concepts
    root = int(round((np.sqrt(9 + 8 * n_features) - 3) / 2))
    return root if feature_count(root, 1) == n_features else n_features


def _reference_ratio(features: NDArray[np.float64], target: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return log2((mean₁ + ε) / (mean₀ + ε)) of the authors."""
    mean_1, mean_0 = features[target == 1].mean(axis=0), features[target == 0].mean(axis=0)
    return np.asarray(np.log2((mean_1 + _REFERENCE_EPSILON) / (mean_0 + _REFERENCE_EPSILON)))


def _class_means(
    features: NDArray[np.float64], target: NDArray[np.int64], pseudo: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the smoothed mean of class 0, of class 1, and the prior that both were smoothed with."""
    mean_0, mean_1 = features[target == 0].mean(axis=0), features[target == 1].mean(axis=0)
    prior = 0.5 * (mean_0 + mean_1)
    n_0, n_1 = (target == 0).sum(), (target == 1).sum()
    return (n_0 * mean_0 + pseudo * prior) / (n_0 + pseudo), (n_1 * mean_1 + pseudo * prior) / (n_1 + pseudo), prior


def _smoothed_ratio(features: NDArray[np.float64], target: NDArray[np.int64], pseudo: float) -> NDArray[np.float64]:
    """Return the log2 ratio of smoothed means; 0 for a feature that never occurs."""
    if not pseudo > 0:
        raise InvalidInputError(f"pseudo must be above 0; got {pseudo!r}.")
    mean_0, mean_1, prior = _class_means(features, target, pseudo)
    seen = prior > 0
    ratio = np.zeros(features.shape[1])
    ratio[seen] = np.log2(mean_1[seen] / mean_0[seen])
    return ratio


def _shrunk(
    ratio: NDArray[np.float64],
    features: NDArray[np.float64],
    target: NDArray[np.int64],
    pseudo: float,
    n_monograms: int,
) -> NDArray[np.float64]:
    """Shrink each ratio towards 0 by its sampling variance; monograms and pairs have their own spread.

    ratio ~ N(0, τ² + s²) with s² by the delta method, τ² by moments, weight = ratio τ² / (τ² + s²).
    """
    mean_0, mean_1, prior = _class_means(features, target, pseudo)
    variance = np.zeros(features.shape[1])
    seen = prior > 0
    for value, mean in ((0, mean_0), (1, mean_1)):
        group = features[target == value]
        # the pseudo-datum stands for a datum as far from the mean as the mean is from zero
        spread = (((group - mean) ** 2).sum(axis=0) + pseudo * mean**2) / (len(group) + pseudo)
        variance[seen] += spread[seen] / (len(group) + pseudo) / (mean[seen] * np.log(2)) ** 2
    weights = np.zeros_like(ratio)
    for block in (slice(0, n_monograms), slice(n_monograms, None)):
        some = seen[block]
        if some.any():
            square, noise = ratio[block][some] ** 2, variance[block][some]
            tau_squared = _between_variance(square, noise)
            weights[block][some] = ratio[block][some] * tau_squared / np.maximum(tau_squared + noise, 1e-300)
    return weights


def _between_variance(square: NDArray[np.float64], noise: NDArray[np.float64]) -> float:
    """Return the τ² under which fold changes ℓ ~ N(0, τ² + s²) are most likely, from ℓ² and s², both (n,).

    At least a tenth of the mean ℓ²: where fold changes are no larger than their noise the likelihood peaks at 0, and
    a map that ranks tokens well would be drawn blank.
    """
    candidates = np.mean(square) * np.geomspace(0.1, 10.0, 81)
    if candidates[0] == 0:
        return 0.0
    total = candidates[:, None] + noise
    return float(candidates[np.argmin((np.log(total) + square / total).sum(axis=1))])


def _mann_whitney(features: NDArray[np.float64], target: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the two-sided p-value (p,) of each feature between the classes.

    A class of at most 8 data makes scipy choose between the exact and the asymptotic distribution by the ties
    of what it is given, so then features are tested one by one, as the reference does.
    """
    group_1, group_0 = features[target == 1], features[target == 0]
    if min(len(group_1), len(group_0)) > _EXACT_BELOW:
        return np.asarray(mannwhitneyu(group_1, group_0, axis=0).pvalue)
    return np.array([mannwhitneyu(a, b).pvalue for a, b in zip(group_1.T, group_0.T, strict=True)])
