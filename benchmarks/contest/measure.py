"""What one map is worth on the test data of one task."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.contest.methods import Contestant
from benchmarks.tasks.task import Task
from napari_prospector.core.measures import (
    auprc_trapezoid,
    auroc,
    average_precision,
    expected_average_precision,
    is_constant,
)

__all__ = ["MEASURES", "MEASURES_WITHOUT_TRUTH", "about_test", "measured"]

MEASURES = ("ap", "auroc", "auprc")
"""Per positive test datum, the first is what the table leads with."""

MEASURES_WITHOUT_TRUTH = ("expected_auroc", "expected_share")
"""Where nobody has marked regions: whether the tokens of the expected concept outscore the others, and their share of
all scores above 0."""


def about_test(task: Task) -> dict[str, Any]:
    """Return what the figures of a task rest on: one entry for each test datum of the class."""
    members = np.flatnonzero(task.test.is_target(task.target)).tolist()
    about: dict[str, Any] = {
        "name": task.name,
        "about": task.about,
        "target": task.target,
        "support": task.support,
        "n_train": task.train.n_data,
        "n_test": task.test.n_data,
        "groups": [task.test.groups[i] for i in members],
    }
    if task.test.truths is not None:
        truths = [task.test.truths[i] for i in members]
        about["prevalence"] = _rounded([float(truth.mean()) for truth in truths])
        about["random_ap"] = _rounded([expected_average_precision(int(t.sum()), t.size) for t in truths])
    return about


def measured(task: Task, contestant: Contestant) -> dict[str, Any]:
    """Measure one row of the table.

    Returns
    -------
    dict
        `measures`: name to one number for each test datum of the class, NaN as None; and of all test data
        `pooled_ap`, `datum_auroc`, `share_constant`; `fit_seconds`, `map_seconds`, `n_parameters`, `chosen`.
    """
    graphs = contestant.graphs(task.test)
    is_target = task.test.is_target(task.target)
    started = time.perf_counter()
    maps = [contestant.method.prospect(graph) for graph in graphs]
    seconds = time.perf_counter() - started
    probability = contestant.method.target_probability(graphs)
    members = np.flatnonzero(is_target).tolist()
    row: dict[str, Any] = {
        "share_constant": float(np.mean([is_constant(maps[i]) for i in members])),
        "datum_auroc": None if probability is None else round(auroc(probability, is_target), 5),
        "fit_seconds": round(contestant.fit_seconds, 3),
        "map_seconds": round(seconds, 3),
        "n_parameters": int(contestant.method.n_parameters),
        "chosen": contestant.chosen,
    }
    if task.test.truths is not None:
        truths = task.test.truths
        found = [(average_precision, "ap"), (auroc, "auroc"), (auprc_trapezoid, "auprc")]
        row["measures"] = {name: _rounded([measure(maps[i], truths[i]) for i in members]) for measure, name in found}
        row["pooled_ap"] = round(average_precision(np.concatenate(maps), np.concatenate(truths)), 5)
    else:
        row |= _without_truth(task, [maps[i] for i in members], members)
    return row


def _without_truth(task: Task, maps: list[NDArray[np.float64]], members: list[int]) -> dict[str, Any]:
    """Return how far the map rests on the expected concept, and which concept has the highest mean score."""
    concepts = [task.test.graphs[i].embeddings[:, 0].astype(np.int64) for i in members]
    expected = [numbers == task.expected_concept for numbers in concepts]
    rises = [np.maximum(scores, 0) for scores in maps]
    shares = [float(up[mark].sum() / up.sum()) if up.any() else 0.0 for up, mark in zip(rises, expected, strict=True)]
    scores, pooled = np.concatenate(maps), np.concatenate(concepts)
    means = {int(concept): float(scores[pooled == concept].mean()) for concept in np.unique(pooled)}
    found = [auroc(s, mark) for s, mark in zip(maps, expected, strict=True)]
    return {
        "measures": {"expected_auroc": _rounded(found), "expected_share": _rounded(shares)},
        "pooled_ap": None,
        "strongest_is_expected": max(means, key=lambda concept: means[concept]) == task.expected_concept,
    }


def _rounded(values: list[float]) -> list[float | None]:
    """Return numbers for JSON; NaN becomes None."""
    return [None if np.isnan(value) else round(float(value), 5) for value in values]
