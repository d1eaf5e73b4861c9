"""Parity with the authors' implementation: concepts, TF-IDF, kernels and maps (method.md; golden/README.md)."""

from pathlib import Path

import numpy as np
import pytest
import sklearn

from napari_prospector.core.concepts import ConceptQuantizer
from napari_prospector.core.kernels import fit_kernel, tf_idf

FILES = [
    f"{kind}-r{radius}"
    for kind, radii in (
        ("grid-kmeans-k12", (0, 1, 4)),
        ("protein-AA-k21", (0, 1, 2)),
        ("protein-kmeans-k10", (0, 2, 4)),
        ("text-kmeans-k10", (0, 1, 4)),
    )
    for radius in radii
]


def golden(shared: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(shared / "golden" / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


def largest_difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-300))


@pytest.mark.parametrize("name", [name for name in FILES if "kmeans" in name])
def test_given_the_centres_every_token_gets_the_reference_concept(shared: Path, name: str) -> None:
    arrays = golden(shared, name)
    quantizer = ConceptQuantizer.from_centers(arrays["q_centers"])
    np.testing.assert_array_equal(quantizer.predict(arrays["emb"]), arrays["concepts"])


@pytest.mark.parametrize("name", FILES)
def test_tf_idf_and_fold_change_kernels_equal_the_reference(shared: Path, name: str) -> None:
    arrays = golden(shared, name)
    assert largest_difference(tf_idf(arrays["X_raw"]), arrays["X_tfidf"]) <= 1e-12
    kernels = [key for key in arrays if key.startswith("B__inf_")]
    assert len(kernels) == 6
    for key in kernels:
        alpha, tau = key.removeprefix("B__inf_alpha").split("_tau")
        found = fit_kernel(arrays["X_raw"], arrays["y"], alpha=float(alpha), tau=float(tau), reference=True)
        assert largest_difference(found, arrays[key]) <= 1e-12, key


@pytest.mark.skipif(
    not sklearn.__version__.startswith("1.9."), reason="the goldens' linear kernels belong to scikit-learn 1.9"
)
@pytest.mark.parametrize("name", FILES)
def test_linear_kernels_equal_the_reference(shared: Path, name: str) -> None:
    arrays = golden(shared, name)
    for l1_ratio in (0.0, 0.5, 1.0):
        found = fit_kernel(arrays["X_raw"], arrays["y"], "linear", l1_ratio=l1_ratio, reference=True)
        assert largest_difference(found, arrays[f"B__pred_lam{l1_ratio:.2f}"]) <= 1e-9, l1_ratio
