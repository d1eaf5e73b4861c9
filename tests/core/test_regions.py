from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import ArrayLike

from napari_prospector.core.regions import dispersion, prevalence, region_statistics
from napari_prospector.errors import InvalidInputError


def chain(n_tokens: int) -> SimpleNamespace:
    """A chain as CSR adjacency."""
    neighbours = [[u for u in (v - 1, v + 1) if 0 <= u < n_tokens] for v in range(n_tokens)]
    indptr = np.cumsum([0] + [len(row) for row in neighbours])
    return SimpleNamespace(indptr=indptr.astype(np.int64), indices=np.concatenate(neighbours).astype(np.int32))


def test_regions_are_connected_runs_of_positive_tokens() -> None:
    truth = np.array([1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0])
    found = region_statistics(chain(13), truth)
    assert found.prevalence == pytest.approx(6 / 13)
    assert (found.n_regions, found.mean_size) == (3, 2)
    assert (found.dispersion, found.inverse_dispersion) == (1.5, pytest.approx(2 / 3))
    assert dispersion(chain(13), truth == 1) == 1.5


def test_a_token_of_unknown_truth_parts_regions_and_does_not_count() -> None:
    found = region_statistics(chain(7), [1, -1, 1, 0, 0, 0, 0])
    assert (found.n_regions, found.prevalence) == (2, pytest.approx(2 / 6))


def test_a_datum_without_a_region_has_none_to_measure() -> None:
    found = region_statistics(chain(5), np.zeros(5))
    assert (found.prevalence, found.n_regions, found.inverse_dispersion) == (0, 0, 0)
    assert np.isnan([found.mean_size, found.dispersion]).all()
    assert np.isnan(prevalence([-1, -1]))


@pytest.mark.parametrize(
    ("truth", "text"),
    [([1, 0, 1], r"shape \(5,\), one value a token; got \(3,\)"), ([2, 0, 1, 0, 0], "got 2")],
)
def test_a_truth_that_does_not_fit_is_refused(truth: ArrayLike, text: str) -> None:
    with pytest.raises(InvalidInputError, match=text):
        region_statistics(chain(5), truth)
