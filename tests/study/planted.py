"""Data in which one kind of token carries the class, and nothing else does."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.graph import TokenGraph, grid_graph
from napari_prospector.core.measures import average_precision
from napari_prospector.study.baselines import Method

N_DIMS, N_KINDS = 11, 3


class Planted(NamedTuple):
    graphs: list[TokenGraph]
    labels: list[str]
    truths: list[NDArray[np.int8]]


def planted(n_data: int = 26, seed: int = 0, random_labels: bool = False) -> Planted:
    """Draw data; every other one has the kind that the others lack, in one token out of seven."""
    generator = np.random.default_rng(seed)
    centers = 3 * np.random.default_rng(99).normal(size=(N_KINDS + 1, N_DIMS))
    graphs, truths = [], []
    for i in range(n_data):
        mask = np.ones((5, 7), dtype=bool)
        mask.flat[: i % 3] = False
        kinds = generator.integers(N_KINDS, size=int(mask.sum()))
        truth = np.zeros(len(kinds), dtype=np.int8)
        if i % 2:
            truth[generator.choice(len(kinds), len(kinds) // 7, replace=False)] = 1
        kinds[truth == 1] = N_KINDS
        embeddings = centers[kinds] + generator.normal(size=(len(kinds), N_DIMS))
        graphs.append(grid_graph(mask, embeddings.astype(np.float32)))
        truths.append(truth)
    labels = ["normal", "tumour"] * (n_data // 2)
    if random_labels:
        labels = generator.permutation(labels).tolist()
    return Planted(graphs, labels, truths)


def mean_ap(method: Method, seed: int = 1) -> float:
    """Average precision over data that the method has not seen; 1/7 by chance."""
    unseen = planted(8, seed)
    return float(
        np.mean(
            [
                average_precision(method.prospect(graph), truth)
                for graph, truth in zip(unseen.graphs, unseen.truths, strict=True)
                if truth.any()
            ]
        )
    )
