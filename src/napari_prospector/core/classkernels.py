"""The kernels of all classes of a head, and the two maps that they draw.

*Evidence* says where the class lives: the kernel meets the counts as they are. *Decision* says what a logistic
regression used: its coefficients are divided by the totals of the datum, so that the map adds up to the logit less
the intercept (systems.md, section 0). The two are never mixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.kernels import block_totals, fit_kernel, fit_linear

__all__ = ["KERNEL_MAPS", "MAPS", "ClassKernels", "class_shares", "fit_class_kernels", "weight_arrays"]

KERNEL_MAPS = ("evidence", "decision")
MAPS = (*KERNEL_MAPS, "refined")
"""All maps by name; a head fitted without refinement lacks the last (`ProspectorHead.maps_`)."""


@dataclass(frozen=True)
class ClassKernels:
    """One kernel per target class; a head of two classes has one target.

    Attributes
    ----------
    evidence
        Shape (n_targets, p): weights of the evidence map.
    decision
        Shape (n_targets, p): coefficients of the shares of a datum.
    intercept
        Shape (n_targets,): logit of a datum whose shares are all zero.
    n_concepts
        Number of monograms among the p features.
    """

    evidence: NDArray[np.float64]
    decision: NDArray[np.float64]
    intercept: NDArray[np.float64]
    n_concepts: int

    def map_kernel(self, map_name: str, target: int, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the kernel (p,) whose convolution is the named map of the datum with these counts (p,)."""
        if map_name == "evidence":
            return np.asarray(self.evidence[target])
        return np.asarray(self.decision[target] / block_totals(counts, self.n_concepts))

    def datum_scores(self, kernel: str, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return (n_data, n_targets) scores of data with counts (n_data, p).

        For the fold-change kernel the mean evidence of a token, which does not grow with the datum; for the linear
        kernel the logit.
        """
        if kernel == "linear":
            return np.asarray((counts / block_totals(counts, self.n_concepts)) @ self.decision.T + self.intercept)
        n_tokens = np.maximum(counts[:, : self.n_concepts].sum(axis=1, keepdims=True), 1)
        return np.asarray(counts @ self.evidence.T / n_tokens)


def fit_class_kernels(
    counts: NDArray[np.int64],
    labels: NDArray[np.int64],
    targets: NDArray[np.int64],
    n_concepts: int,
    *,
    kernel: str,
    alpha: float | None,
    tau: float,
    l1_ratio: float,
    reference: bool,
) -> ClassKernels:
    """Fit both kernels of every target class against the rest.

    Parameters
    ----------
    counts
        Shape (n_data, p).
    labels
        Shape (n_data,), class numbers.
    targets
        Shape (n_targets,), class numbers.
    n_concepts
        Number of monograms.
    kernel, alpha, tau, l1_ratio, reference
        As in `fit_kernel`; `kernel` is that of the evidence map, the decision map is always linear.
    """
    table = counts.astype(np.float64)
    evidence, decision, intercept = [], [], []
    for target in targets:
        is_target = (labels == target).astype(np.int64)
        linear = fit_linear(table, is_target, l1_ratio=l1_ratio, n_concepts=n_concepts)
        decision.append(linear.weights)
        intercept.append(linear.intercept)
        if kernel == "linear" and not reference:
            evidence.append(linear.standardized)
        else:
            evidence.append(
                fit_kernel(
                    table,
                    is_target,
                    kernel,
                    alpha=alpha,
                    tau=tau,
                    l1_ratio=l1_ratio,
                    n_concepts=n_concepts,
                    reference=reference,
                )
            )
    return ClassKernels(np.array(evidence), np.array(decision), np.array(intercept), n_concepts)


def weight_arrays(kernel: NDArray[np.float64], n_concepts: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the monograms (K,) of a kernel (p,) and its pairs as a symmetric (K, K); zeros where it has none."""
    pairs = np.zeros((n_concepts, n_concepts))
    if len(kernel) > n_concepts:
        first, second = np.triu_indices(n_concepts)
        pairs[first, second] = pairs[second, first] = kernel[n_concepts:]
    return np.array(kernel[:n_concepts]), pairs


def class_shares(monograms: NDArray[np.int64], labels: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    """Return the share of the tokens of each class that are of each concept, (n_classes, K); rows add up to 1.

    Parameters
    ----------
    monograms
        Shape (n_data, K): tokens of each concept.
    labels
        Shape (n_data,), class numbers.
    n_classes
        Each has a token at least.
    """
    totals = np.stack([monograms[labels == number].sum(axis=0) for number in range(n_classes)]).astype(np.float64)
    return np.asarray(totals / totals.sum(axis=1, keepdims=True))
