from __future__ import annotations

import numpy as np
import pytest

from napari_prospector.core.graph import chain_graph
from napari_prospector.core.metrics import Localization, RegionStatistics, average_precision, localization
from napari_prospector.core.regions import region_statistics
from napari_prospector.study.strata import Stratum, strata

N_TOKENS = 23


def found_on(n_positive: list[int], step: int = 1) -> tuple[Localization, list[RegionStatistics], list[np.ndarray]]:
    """Random maps of data whose region has so many tokens, `step` apart, and a datum without any."""
    generator = np.random.default_rng(5)
    truths = [np.isin(np.arange(N_TOKENS), np.arange(n) * step) for n in [*n_positive, 0]]
    maps = [generator.random(N_TOKENS) for _ in truths]
    graph = chain_graph(np.ones((N_TOKENS, 2)), reach=1)
    regions = [region_statistics(graph, truth) for truth in truths]
    patients = [f"p{i // 2}" for i in range(len(truths))]
    return localization({"ours": maps}, truths, patients, n_boot=101), regions, maps


def by(found: tuple[Stratum, ...], name: str) -> list[Stratum]:
    return [stratum for stratum in found if stratum.by == name]


def test_thirds_by_hand() -> None:
    n_positive = [9, 1, 5, 2, 8, 3, 4, 12, 7, 6, 10, 11]
    found, regions, maps = found_on(n_positive)
    low, middle, high = by(strata(found, regions), "prevalence")
    assert [stratum.name for stratum in (low, middle, high)] == ["low", "middle", "high"]
    assert [(s.low * N_TOKENS, s.high * N_TOKENS) for s in (low, middle, high)] == [(1, 4), (5, 8), (9, 12)]
    assert [s.n_data for s in (low, middle, high)] == [4, 4, 4]
    # data 1, 3, 5, 6 have 1 to 4 positive tokens; their patients are p0, p1, p2, p3
    precisions = [average_precision(maps[i], np.arange(N_TOKENS) < n_positive[i]) for i in (1, 3, 5, 6)]
    assert low.ap["ours"].value == pytest.approx(np.mean(precisions))
    assert low.n_groups == 4
    assert low.ap["ours"].low < low.ap["ours"].value < low.ap["ours"].high
    assert low.ap["constant"].value == pytest.approx((1 + 2 + 3 + 4) / 4 / N_TOKENS)
    assert low.span == "4.3 to 17 %"


def test_dispersion_is_number_over_mean_size_of_regions() -> None:
    found, regions, _ = found_on([2, 3, 4, 5, 6, 7, 8, 9], step=2)
    few, many = by(strata(found, regions), "dispersion")
    assert (few.low, few.high, many.low, many.high) == (2, 5, 6, 9)  # lone tokens: n regions of size 1
    assert [stratum.name for stratum in (few, many)] == ["low", "high"]
    assert many.span == "6 to 9"


def test_few_data_are_one_stratum_and_equal_ones_stay_together() -> None:
    found, regions, _ = found_on([2, 3, 4, 5, 6, 7, 8])
    (everything,) = by(strata(found, regions), "prevalence")
    assert (everything.name, everything.n_data) == ("all", 7)
    assert everything.ap["ours"] == pytest.approx(found.rows["ours"].mean["ap"])
    found, regions, _ = found_on([3] * 12)
    (everything,) = by(strata(found, regions), "prevalence")
    assert everything.span == "13 %"


def test_without_a_known_region_there_is_no_stratum() -> None:
    assert strata(localization([[0.5, 0.2]], [None]), [None]) == ()
