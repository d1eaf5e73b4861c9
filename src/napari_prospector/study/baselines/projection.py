"""Embeddings brought to one scale and, where they are wide, to their leading principal components."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Projection", "fit_projection"]

BLOCK_ROWS = 16_384


@dataclass(frozen=True)
class Projection:
    """An affine map of embeddings.

    Attributes
    ----------
    mean
        Shape (n_dims,): what becomes 0.
    matrix
        Shape (n_dims, n_components).
    """

    mean: NDArray[np.float64]
    matrix: NDArray[np.float64]

    @property
    def n_components(self) -> int:
        """Length of a projected embedding."""
        return int(self.matrix.shape[1])

    def apply(self, embeddings: ArrayLike) -> NDArray[np.float32]:
        """Project (n_tokens, n_dims) to (n_tokens, n_components), a block of rows at a time."""
        rows = np.asarray(embeddings)
        projected = np.empty((len(rows), self.n_components), dtype=np.float32)
        matrix = self.matrix.astype(np.float32)
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS] - self.mean
            projected[start : start + BLOCK_ROWS] = block.astype(np.float32) @ matrix
        return projected

    def around(self, center: ArrayLike) -> Projection:
        """Return the same map with another embedding (n_dims,) at 0."""
        return Projection(np.asarray(center, dtype=np.float64), self.matrix)


def fit_projection(rows: NDArray[np.float32], n_components: int) -> Projection:
    """Standardize every dimension; where there are more than `n_components`, keep so many principal components.

    Parameters
    ----------
    rows
        Shape (n_rows, n_dims).
    n_components
        Largest length of a projected embedding, >= 1.

    Returns
    -------
    Projection
        Components keep their relative spread (no whitening); their mean variance over `rows` is 1.
    """
    mean = rows.mean(axis=0, dtype=np.float64)
    spread = np.maximum(rows.std(axis=0, dtype=np.float64), 1e-12)
    # a dimension that never changes says nothing, and must not be blown up elsewhere
    scale = np.where(spread > 1e-9 * np.maximum(np.abs(mean), 1e-30), 1 / spread, 0.0)
    if rows.shape[1] <= n_components:
        return Projection(mean, np.diag(scale))
    standard = ((rows - mean) * scale).astype(np.float32)
    variances, axes = np.linalg.eigh((standard.T @ standard).astype(np.float64) / len(rows))
    leading, axes = variances[-n_components:], axes[:, -n_components:]
    # the sign of an eigenvector is arbitrary: fix it, so that every machine starts training from the same place
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(n_components)])
    typical = np.sqrt(max(float(leading.mean()), 1e-12))
    return Projection(mean, scale[:, None] * axes / typical)
