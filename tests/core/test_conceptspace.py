"""Distances in the space of a quantizer, against the geometry that it was fitted in."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from napari_prospector.core.concepts import ConceptQuantizer
from napari_prospector.core.conceptspace import ConceptSpace
from napari_prospector.errors import InvalidInputError

N_DIMS, N_TOKENS, N_CONCEPTS = 7, 211, 5


def tokens(n_dims: int = N_DIMS, seed: int = 0, offset: float = 3.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    places = rng.normal(scale=4, size=(N_CONCEPTS, n_dims))
    drawn = places[rng.integers(N_CONCEPTS, size=N_TOKENS)] + rng.normal(size=(N_TOKENS, n_dims))
    return (drawn * np.geomspace(0.1, 10, n_dims) + offset).astype(np.float32)


def loop(points: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """The slow double loop."""
    return np.array([[np.sqrt(((point - center) ** 2).sum()) for center in centers] for point in points])


def test_euclidean_distances_are_those_to_the_centres() -> None:
    rows = tokens()
    quantizer = ConceptQuantizer(N_CONCEPTS).fit(rows)
    expected = loop(rows.astype(float), quantizer.centers_.astype(float))
    np.testing.assert_allclose(ConceptSpace(quantizer).distances(rows), expected, rtol=1e-4, atol=1e-3)


def test_cosine_distances_are_chords_between_directions_from_the_mean() -> None:
    rows = tokens(41)
    quantizer = ConceptQuantizer(N_CONCEPTS).fit(rows)
    directions = rows.astype(float) - rows.mean(axis=0, dtype=float)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    centers = quantizer.projection_.T.astype(float)
    cosines = directions @ centers.T
    np.testing.assert_allclose(np.linalg.norm(centers, axis=1), 1, rtol=1e-6)
    found = ConceptSpace(quantizer).distances(rows)
    np.testing.assert_allclose(found, np.sqrt(2 - 2 * cosines), atol=2e-3)
    assert 0 <= found.min()
    assert found.max() <= 2.001


@pytest.mark.parametrize("geometry", ["euclidean", "cosine"])
def test_standardized_distances_are_those_of_scaled_tokens(geometry: str) -> None:
    rows = tokens()
    quantizer = ConceptQuantizer(N_CONCEPTS, whiten="standardize", geometry=geometry).fit(rows)
    scaled = StandardScaler().fit_transform(rows.astype(float))
    if geometry == "cosine":
        scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    space = ConceptSpace(quantizer)
    np.testing.assert_allclose(space.points(rows), scaled, rtol=1e-3, atol=1e-3)
    # k-means: a centre is the mean of its points, in euclidean geometry
    if geometry == "euclidean":
        found = quantizer.predict(rows)
        means = np.array([scaled[found == concept].mean(axis=0) for concept in range(N_CONCEPTS)])
        np.testing.assert_allclose(space.distances(rows), loop(scaled, means), rtol=1e-2, atol=1e-2)


def test_a_dimension_that_never_varies_is_no_part_of_a_standardized_distance() -> None:
    rows = tokens()
    rows[:, 3] = 5
    space = ConceptSpace(ConceptQuantizer(N_CONCEPTS, whiten="standardize").fit(rows))
    far = rows.copy()
    far[:, 3] = 99
    np.testing.assert_array_equal(space.distances(far), space.distances(rows))


@pytest.mark.parametrize("geometry", ["euclidean", "cosine"])
def test_pca_distances_are_whitened_ones_in_the_directions_of_the_centres(geometry: str) -> None:
    rows = tokens()
    quantizer = ConceptQuantizer(3, whiten="pca", geometry=geometry).fit(rows)
    centred = rows.astype(float) - rows.mean(axis=0, dtype=float)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(rows))
    kept = np.cumsum(values[::-1]) / values.sum()
    n_kept = int(np.searchsorted(kept, 0.99)) + 1
    white = vectors[:, ::-1][:, :n_kept] / np.sqrt(values[::-1][:n_kept])
    centers = (quantizer.centers_ - quantizer.mean_).astype(float) @ white
    # the centres of k-means lie round 0: three of them span a plane
    _, lengths, rows_of_basis = np.linalg.svd(centers, full_matrices=False)
    basis = rows_of_basis[lengths > 1e-3 * lengths[0]].T
    points = centred @ white @ basis
    if geometry == "cosine":
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    found = ConceptSpace(quantizer).distances(rows)
    np.testing.assert_allclose(found, loop(points, centers @ basis), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("whiten", [None, "standardize", "pca"])
@pytest.mark.parametrize("n_dims", [7, 41])
def test_the_nearest_centre_is_the_concept(whiten: str | None, n_dims: int) -> None:
    rows = tokens(n_dims)
    quantizer = ConceptQuantizer(N_CONCEPTS, whiten=whiten).fit(rows)
    nearest = ConceptSpace(quantizer).distances(rows).argmin(axis=1)
    assert (nearest == quantizer.predict(rows)).mean() > 0.99


def test_a_single_given_centre_is_euclidean() -> None:
    space = ConceptSpace(ConceptQuantizer.from_centers([[3.0, 4.0]]))
    np.testing.assert_allclose(space.distances([[0.0, 0.0], [3.0, 4.0]]), [[5.0], [0.0]])


def test_categories_are_near_only_to_themselves() -> None:
    space = ConceptSpace(ConceptQuantizer(3, method="identity").fit(np.zeros((1, 1))))
    np.testing.assert_allclose(space.distances([[0.0], [2.0]]), np.sqrt([[0, 2, 2], [2, 2, 0]]), atol=1e-6)


def test_distances_between_two_tokens_are_symmetric_and_zero_to_oneself() -> None:
    rows = tokens(41)
    space = ConceptSpace(ConceptQuantizer(N_CONCEPTS).fit(rows))
    found = space.distances(rows[:13], to=space.points(rows[:13]))
    np.testing.assert_allclose(found, found.T, atol=1e-3)
    np.testing.assert_allclose(np.diag(found), 0, atol=1e-3)


def test_tokens_of_another_width_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"must have shape \(n_tokens, 7\); got \(3, 5\)"):
        ConceptSpace(ConceptQuantizer(N_CONCEPTS).fit(tokens())).points(np.zeros((3, 5)))
