"""Parity of counts and maps with the outputs of the reference implementation (golden/README.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_prospector.core.graph import TokenGraph, convolve, count, n_features

NAMES = [
    "grid-kmeans-k12-r0",
    "grid-kmeans-k12-r1",
    "grid-kmeans-k12-r4",
    "protein-AA-k21-r0",
    "protein-AA-k21-r1",
    "protein-AA-k21-r2",
    "protein-kmeans-k10-r0",
    "protein-kmeans-k10-r2",
    "protein-kmeans-k10-r4",
    "text-kmeans-k10-r0",
    "text-kmeans-k10-r1",
    "text-kmeans-k10-r4",
]


class Golden:
    """One file: its graphs, their concepts, and what the reference made of them."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            self.arrays: dict[str, Any] = dict(arrays)
        self.n_concepts = int(json.loads(str(self.arrays["meta"]))["k"])
        self.radius = int(self.arrays["r"])
        nodes, edges = np.cumsum(self.arrays["n_nodes"])[:-1], np.cumsum(self.arrays["n_edges"])[:-1]
        self.graphs = [
            TokenGraph.from_edges(pairs, vectors)
            for pairs, vectors in zip(
                np.split(self.arrays["edges"], edges), np.split(self.arrays["emb"], nodes), strict=True
            )
        ]
        self.concepts = np.split(self.arrays["concepts"], nodes)


@pytest.fixture(scope="module", params=NAMES)
def golden(request: pytest.FixtureRequest, shared: Path) -> Golden:
    return Golden(shared / "golden" / f"{request.param}.npz")


def test_every_golden_file_is_checked(shared: Path) -> None:
    assert sorted(path.stem for path in (shared / "golden").glob("*.npz")) == NAMES


def test_features_stand_in_the_order_of_the_reference(golden: Golden) -> None:
    k = golden.n_concepts
    keys = [[a, -1] for a in range(k)]
    if golden.radius > 0:
        keys += [[a, b] for a in range(k) for b in range(a, k)]
    assert golden.arrays["keys"].tolist() == keys
    assert len(keys) == n_features(k, golden.radius)


def test_counts_equal_those_of_the_reference(golden: Golden) -> None:
    counts = [
        count(graph, concepts, golden.n_concepts, golden.radius)
        for graph, concepts, is_test in zip(golden.graphs, golden.concepts, golden.arrays["is_test"], strict=True)
        if not is_test
    ]
    np.testing.assert_array_equal(counts, golden.arrays["X_raw"])


def test_maps_equal_those_of_the_reference(golden: Golden) -> None:
    configurations = [name[3:] for name in golden.arrays if name.startswith("P__")]
    assert len(configurations) == 9
    for configuration in configurations:
        kernel, expected = golden.arrays[f"B__{configuration}"], golden.arrays[f"P__{configuration}"]
        scores = np.concatenate(
            [
                convolve(graph, ids, kernel, golden.radius)
                for graph, ids in zip(golden.graphs, golden.concepts, strict=True)
            ]
        )
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-12 * np.abs(expected).max(), err_msg=configuration)
