"""Against the outputs of the authors' implementation (K2 @b6cae81): `eval__*` and `region_stats` of every golden file.

Made under Python 3.11.7, numpy 2.4.6, networkx 3.6.1, scikit-learn 1.9.1, scipy 1.17.1. The 21 columns of `eval__*`
are auroc, trapezoid auprc, ap, then six measures at each of 0.1, 0.5, 0.9 of the min-max rescaled map.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import coo_array

from napari_prospector.core.metrics import (
    at_threshold,
    auprc_trapezoid,
    auroc,
    average_precision,
    region_statistics,
    rescaled,
)

FILES = tuple(
    f"{family}-r{radius}.npz"
    for family, radii in (
        ("grid-kmeans-k12", (0, 1, 4)),
        ("protein-AA-k21", (0, 1, 2)),
        ("protein-kmeans-k10", (0, 2, 4)),
        ("text-kmeans-k10", (0, 1, 4)),
    )
    for radius in radii
)


def parts(golden: np.lib.npyio.NpzFile, key: str, counts: str = "n_nodes") -> list[NDArray[np.generic]]:
    """The rows of one array, cut into graphs."""
    return np.split(golden[key], np.cumsum(golden[counts])[:-1])


@pytest.mark.parametrize("name", FILES)
def test_measures_equal_those_of_the_reference(shared: Path, name: str) -> None:
    golden = np.load(shared / "golden" / name)
    truths = parts(golden, "gt")
    configurations = [key.removeprefix("eval__") for key in golden.files if key.startswith("eval__")]
    assert len(configurations) == 9
    for configuration in configurations:
        found = []
        for scores, truth in zip(parts(golden, f"P__{configuration}"), truths, strict=True):
            areas = [auroc(scores, truth), auprc_trapezoid(scores, truth), average_precision(scores, truth)]
            cut = [at_threshold(rescaled(scores), truth, threshold) for threshold in (0.1, 0.5, 0.9)]
            # The reference has no number for a graph without positive tokens.
            found.append(areas + [value for measures in cut for value in measures])
        np.testing.assert_allclose(found, golden[f"eval__{configuration}"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", FILES)
def test_region_statistics_equal_those_of_the_reference(shared: Path, name: str) -> None:
    golden = np.load(shared / "golden" / name)
    found = []
    for edges, truth in zip(parts(golden, "edges", "n_edges"), parts(golden, "gt"), strict=True):
        a, b = edges.T
        ones = np.ones(2 * len(edges))
        links = coo_array((ones, (np.r_[a, b], np.r_[b, a])), shape=(truth.size, truth.size)).tocsr()
        found.append(region_statistics(SimpleNamespace(indptr=links.indptr, indices=links.indices), truth))
    np.testing.assert_allclose(found, golden["region_stats"], rtol=0, atol=1e-12)


def test_every_golden_file_is_compared(shared: Path) -> None:
    assert sorted(path.name for path in (shared / "golden").glob("*.npz")) == sorted(FILES)
