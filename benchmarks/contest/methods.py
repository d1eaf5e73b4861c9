"""Who takes part: the head with its maps, the head as published, every baseline, the rule for zinc, the ceiling."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks.task import Split, Task
from benchmarks.tasks.zinc import CysteineThenHistidine
from napari_prospector.core.graph import TokenGraph
from napari_prospector.core.head import ProspectorHead
from napari_prospector.study.baselines import BASELINES, fit_baselines
from napari_prospector.study.baselines.probe import TokenProbe
from napari_prospector.study.head_maps import HeadMap

__all__ = [
    "CEILING",
    "HEAD",
    "PUBLISHED",
    "RULE",
    "Contestant",
    "HeadMap",
    "keys_of",
    "make_head",
    "methods_of",
    "units_of",
]

HEAD, PUBLISHED, RULE, CEILING = "prospector", "as published", "cysteine-histidine", "ceiling"
"""Keys of what is fitted here; the others are names of `BASELINES`."""


class Scorer(Protocol):
    """What is measured of a fitted method."""

    @property
    def n_parameters(self) -> int:
        """Learned numbers that scores depend on."""

    def prospect(self, graph: TokenGraph) -> NDArray[np.float64]:
        """Return a score for every token."""

    def target_probability(self, graphs: Sequence[TokenGraph]) -> NDArray[np.float64] | None:
        """Return how probable the class is for each datum."""


@dataclass(frozen=True)
class Contestant:
    """A fitted method, and one row of the table.

    Attributes
    ----------
    row
        Name in the table.
    method
        Fitted.
    reads_vectors
        Whether it is given `vector_graphs`.
    fit_seconds
        Time that learning took; methods that explain one model share its fit, which the first of them pays.
    chosen
        What a selection chose, for the record.
    """

    row: str
    method: Scorer
    reads_vectors: bool
    fit_seconds: float
    chosen: dict[str, Any] = field(default_factory=dict)

    def graphs(self, split: Split) -> Sequence[TokenGraph]:
        """Return the graphs that the method reads."""
        return split.vector_graphs if self.reads_vectors else split.graphs


def keys_of(task: Task) -> list[str]:
    """Return the keys of all that takes part in a task."""
    keys = [HEAD, PUBLISHED, *BASELINES]
    keys += [RULE] if task.name == "zinc sites" else []
    return keys + ([CEILING] if task.train.truths is not None else [])


def units_of(keys: Sequence[str]) -> list[list[str]]:
    """Group keys so that explanations of one model come together and share its fit; the others stay alone."""
    networks = [key for key in keys if key in BASELINES and "torch" in BASELINES[key].needs]
    alone = [[key] for key in keys if key not in networks]
    return alone + ([networks] if networks else [])


def make_head(task: Task, seed: int) -> ProspectorHead:
    """Return the default head; all that a task tells it is which tokens are categories."""
    return ProspectorHead(positive=task.target, random_state=seed, **_categories(task))


def methods_of(task: Task, seed: int, keys: Sequence[str], amount: float = 0.0) -> Iterator[tuple[str, Contestant]]:
    """Fit what is asked for, one after the other.

    Parameters
    ----------
    task, seed
        What is learned from, and the seed of all methods.
    keys
        Of `keys_of`.
    amount
        Of sharing with neighbours in the ceiling, unless the head is fitted too and says one.

    Yields
    ------
    tuple of str and Contestant
        The key and a row; the head has several.
    """
    if HEAD in keys:
        rows = list(_head_rows(task, seed))
        amount = rows[0].chosen["amount"]
        yield from ((HEAD, row) for row in rows)
    if PUBLISHED in keys:
        head = ProspectorHead(
            **{"n_concepts": 20, **_categories(task)},
            radius=1,
            kernel="fold-change",
            reference=True,
            geometry="euclidean",
            positive=task.target,
            random_state=seed,
        )
        head, seconds = _fitted(head, task.train.graphs, task.train)
        yield PUBLISHED, Contestant("as published", HeadMap(head, "evidence", task.target), False, seconds)
    yield from _baselines(task, seed, [key for key in keys if key in BASELINES])
    if RULE in keys:
        yield RULE, Contestant('rule "cysteine, then histidine"', CysteineThenHistidine(), False, 0.0)
    if CEILING in keys and task.train.truths is not None:
        probe = TokenProbe(task.train.truths, task.target, amount, random_state=seed)
        probe, seconds = _fitted(probe, task.train.vector_graphs, task.train)
        yield CEILING, Contestant("ceiling: taught by regions", probe, True, seconds, {"amount": amount})


def _head_rows(task: Task, seed: int) -> Iterator[Contestant]:
    """Fit the default head and yield its maps, the one that it draws first."""
    head, seconds = _fitted(make_head(task, seed), task.train.graphs, task.train)
    chosen = _choice(head)
    yield Contestant("prospector (default)", HeadMap(head, head.best_map_, task.target), False, seconds, chosen)
    for name in head.maps_:
        yield Contestant(f"prospector, {name}", HeadMap(head, name, task.target), False, seconds)


def _choice(head: ProspectorHead) -> dict[str, Any]:
    """Return what a head chose by itself, why, and the share of neighbours in a score."""
    return {
        "map": head.best_map_,
        "n_concepts": int(head.quantizer_.n_concepts_),
        "radius": head.radius_,
        "kernel": head.kernel_,
        "amount": 0.0 if head.refiner_ is None else float(head.refiner_.amount),
        "why": head.selection_.sentence(),
    }


def _baselines(task: Task, seed: int, names: Sequence[str]) -> Iterator[tuple[str, Contestant]]:
    """Fit baselines, those of one model together."""
    ends = [time.perf_counter()]
    fitted = fit_baselines(
        names,
        task.train.vector_graphs,
        task.train.labels,
        task.train.groups,
        target=task.target,
        random_state=seed,
        report=lambda stage, done, total: ends.append(time.perf_counter()),
    )
    for (name, method), seconds in zip(fitted.items(), np.diff(ends).tolist(), strict=True):
        yield name, Contestant(name, method, True, seconds)


def _fitted(method: Any, graphs: Sequence[TokenGraph], train: Split) -> tuple[Any, float]:
    """Fit and take the time, s."""
    started = time.perf_counter()
    method.fit(graphs, train.labels, train.groups)
    return method, time.perf_counter() - started


def _categories(task: Task) -> dict[str, Any]:
    """Return the arguments of a head whose tokens are categories."""
    return {"quantize": task.quantize, "n_concepts": task.n_concepts} if task.n_concepts is not None else {}
