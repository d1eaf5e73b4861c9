"""Passes over the data: the same in one place and in many, in whatever order data are finished."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_prospector.core.each import GraphSource, each
from napari_prospector.core.graph import TokenGraph, chain_graph
from napari_prospector.core.head import ProspectorHead
from napari_prospector.core.selection import Grid, select_head
from napari_prospector.core.tokenscores import _Largest


class Backwards:
    """Workers that finish the last datum first and see copies only."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def run(
        self, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], names: Sequence[str], shared: Any
    ) -> Generator[tuple[int, Any]]:
        self.names += names
        for number in reversed(range(len(tasks))):
            yield number, copy.deepcopy(function(copy.deepcopy(shared), *copy.deepcopy(tasks[number])))


class Elsewhere(Sequence[TokenGraph]):
    """Graphs that may not be had here."""

    def __init__(self, graphs: Sequence[TokenGraph], workers: Backwards) -> None:
        self._graphs, self.workers = graphs, workers

    def __len__(self) -> int:
        return len(self._graphs)

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("the tokens of a datum must not be read here")

    def source(self, datum: int) -> GraphSource:
        return partial(copy.copy, self._graphs[datum])

    def name(self, datum: int) -> str:
        return f"slide {datum}"


def cohort(n_data: int) -> tuple[list[TokenGraph], list[str]]:
    """Chains of 31 to 37 tokens; in every other one the first five are shifted."""
    rng = np.random.default_rng(n_data)
    first = np.arange(37)[:, None] < 5
    rows = [rng.normal(size=(37, 7)) + 3 * (i % 2) * first for i in range(n_data)]
    return [chain_graph(row[: 31 + i % 7]) for i, row in enumerate(rows)], ["normal", "tumour"] * (n_data // 2)


def same(first: ProspectorHead, second: ProspectorHead) -> None:
    for name in ("centers_", "projection_"):
        np.testing.assert_array_equal(getattr(first.quantizer_, name), getattr(second.quantizer_, name))
    np.testing.assert_array_equal(first.kernels_.evidence, second.kernels_.evidence)
    np.testing.assert_array_equal(first.out_of_fold_scores_, second.out_of_fold_scores_)
    assert first.color_limits_ == second.color_limits_
    assert first.selection_ == second.selection_
    if first.refiner_ is not None:
        assert second.refiner_ is not None
        np.testing.assert_array_equal(first.refiner_.weights, second.refiner_.weights)


@pytest.mark.parametrize("settings", [{}, {"n_concepts": 5, "radius": 1, "kernel": "linear", "refine": False}])
def test_a_head_is_the_same_whatever_the_order_in_which_data_are_finished(settings: dict[str, Any]) -> None:
    graphs, labels = cohort(14)
    workers = Backwards()
    same(
        ProspectorHead(**settings).fit(graphs, labels),
        ProspectorHead(**settings).fit(Elsewhere(graphs, workers), labels),
    )
    assert workers.names[:2] == ["sample-tokens-00000-slide 0", "sample-tokens-00001-slide 1"]


def test_of_many_data_those_that_are_judged_are_worked_through_elsewhere_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_prospector.core.autofit._MOST_JUDGED", 8)
    graphs, labels = cohort(14)
    workers = Backwards()
    same(ProspectorHead().fit(graphs, labels), ProspectorHead().fit(Elsewhere(graphs, workers), labels))
    assert sum(name.startswith("compare-kernels") for name in workers.names) in (8, 16)


def test_the_whole_grid_is_searched_elsewhere_too() -> None:
    graphs, labels = cohort(14)
    grid = Grid(n_concepts=(3, 5), radius=(0, 1))
    here, there = (select_head(each_way, labels, grid=grid) for each_way in (graphs, Elsewhere(graphs, Backwards())))
    assert here.table == there.table
    same(here.head, there.head)


def test_probabilities_of_data_are_counted_elsewhere() -> None:
    graphs, labels = cohort(14)
    head = ProspectorHead(5, 1, "linear", refine=False).fit(graphs, labels)
    np.testing.assert_array_equal(head.predict_proba(graphs), head.predict_proba(Elsewhere(graphs, Backwards())))


def test_who_stops_listening_stops_the_workers() -> None:
    graphs, _ = cohort(6)
    stopped: list[bool] = []

    class Watched(Backwards):
        def run(self, *arguments: Any) -> Generator[tuple[int, Any]]:
            try:
                yield from super().run(*arguments)
            finally:
                stopped.append(True)

    def report(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(each(Elsewhere(graphs, Watched()), len_of, stage="length", report=report))
    assert stopped == [True]


def len_of(graph: TokenGraph) -> int:
    return graph.n_tokens


@given(st.lists(st.lists(st.floats(0, 1e6), min_size=1, max_size=89), min_size=1, max_size=11))
def test_a_colour_limit_is_the_quantile_of_all_scores_although_few_are_kept(parts: list[list[float]]) -> None:
    together = np.concatenate([np.array(part) for part in parts])
    largest = _Largest(len(together))
    for part in parts:
        largest.add(np.array(part))
    assert largest.quantile() == np.quantile(together, 0.99)
    assert largest.n_kept <= 0.01 * len(together) + 2
