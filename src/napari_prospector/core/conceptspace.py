"""The space in which tokens have concepts: where two tokens, or a token and a centre, are as far apart as a head sees.

A quantizer assigns tokens by an affine map. What lies behind it are distances, euclidean or between directions, perhaps
whitened; here they are, for galleries of typical tokens and for nearest examples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from napari_prospector.core.concepts import ConceptQuantizer, category_numbers
from napari_prospector.errors import InvalidInputError

__all__ = ["ConceptSpace", "distances_between"]

_TINY = float(np.finfo(np.float32).tiny)
_LEAST_DIRECTION = 1e-5  # of the largest eigenvalue: below it centres do not differ in that direction


class ConceptSpace:
    """Points whose euclidean distances are those of a quantizer.

    In euclidean geometry a point is the embedding less the mean, whitened as the quantizer says. In cosine geometry it
    has length 1, so that the distance is the chord 2 sin(angle / 2), 0 to 2. With ``whiten="pca"`` a fitted quantizer
    keeps only the directions in which its centres lie, and so distances are measured in these: what tells concepts
    apart, and nothing else. Categories (``method="identity"``) are at distance 0 if they are the same, else at √2.

    Parameters
    ----------
    quantizer
        Fitted.

    Attributes
    ----------
    centers
        Shape (n_concepts, n_axes) float32: the centres as points.

    Examples
    --------
    >>> space = ConceptSpace(ConceptQuantizer.from_centers([[0.0, 0.0], [3.0, 4.0]]))
    >>> space.distances([[3.0, 0.0]]).round(3).tolist()
    [[3.0, 4.0]]
    """

    centers: NDArray[np.float32]

    def __init__(self, quantizer: ConceptQuantizer) -> None:
        check_is_fitted(quantizer)
        self._quantizer = quantizer
        n_dims = len(quantizer.mean_)
        self._is_cosine = quantizer.is_cosine(n_dims)
        self._axes: NDArray[np.float32] | None = None
        if quantizer.method == "identity":
            self.centers = np.eye(quantizer.n_concepts_, dtype=np.float32)
            return
        directions = quantizer.projection_.astype(np.float64)
        places = quantizer.centers_.astype(np.float64) - quantizer.mean_
        centers = directions.T
        if quantizer.whiten == "standardize":
            scale = _scales(directions, places)
            self._axes = np.diag(scale).astype(np.float32)
            centers = directions.T / np.where(scale > 0, scale, 1.0)
        elif quantizer.whiten == "pca":
            values, vectors = np.linalg.eigh(_symmetric(places @ directions))
            kept = values > _LEAST_DIRECTION * max(float(values[-1]), _TINY)
            turn = vectors[:, kept] / np.sqrt(values[kept])
            self._axes, centers = (directions @ turn).astype(np.float32), vectors[:, kept] * np.sqrt(values[kept])
        self.centers = np.ascontiguousarray(centers, dtype=np.float32)

    def points(self, embeddings: ArrayLike) -> NDArray[np.float32]:
        """Return tokens as points.

        Parameters
        ----------
        embeddings
            Shape (n_tokens, n_dims).

        Returns
        -------
        NDArray[np.float32]
            Shape (n_tokens, n_axes).

        Raises
        ------
        InvalidInputError
            If the width is not the quantizer's, or a category is none of its own.
        """
        tokens = np.asarray(embeddings)
        width = len(self._quantizer.mean_)
        if tokens.ndim != 2 or tokens.shape[1] != width:
            raise InvalidInputError(f"embeddings must have shape (n_tokens, {width}); got {tokens.shape}.")
        if self._quantizer.method == "identity":
            return np.asarray(self.centers[category_numbers(tokens, self._quantizer.n_concepts_)])
        points: NDArray[np.float32] = tokens.astype(np.float32) - self._quantizer.mean_
        if self._axes is not None:
            points = points @ self._axes
        if self._is_cosine:
            points /= np.sqrt(np.maximum(_squares(points), _TINY))[:, None]
        return points

    def distances(self, embeddings: ArrayLike, to: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return how far tokens are from points.

        Parameters
        ----------
        embeddings
            Shape (n_tokens, n_dims).
        to
            Shape (n_points, n_axes), from `points`. None: the centres.

        Returns
        -------
        NDArray[np.float32]
            Shape (n_tokens, n_points).
        """
        return distances_between(self.points(embeddings), self.centers if to is None else to)


def distances_between(points: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the euclidean distances (n_points, n_others) of points (n_points, n_axes) to others, by one product."""
    squares = _squares(points)[:, None] - 2 * (points @ others.T) + _squares(others)
    return np.asarray(np.sqrt(np.maximum(squares, 0)), dtype=np.float32)


def _squares(points: NDArray[Any]) -> NDArray[Any]:
    """Return the squared lengths (n_points,)."""
    return np.asarray(np.einsum("ij,ij->i", points, points))


def _scales(directions: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by what every dimension (n_dims,) was multiplied: directions are scale · centre, places centre / scale."""
    products = (directions.T * places).sum(axis=0)
    return np.asarray(np.sqrt(np.where(products > 0, (directions**2).sum(axis=1) / np.maximum(products, _TINY), 0.0)))


def _symmetric(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the products (n, n) of centres without the asymmetry of rounding."""
    return np.asarray((gram + gram.T) / 2)
