"""Many tasks and seeds, some at a time, each in a process of its own."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from benchmarks.contest.methods import HEAD
from benchmarks.contest.records import complete
from benchmarks.contest.summary import DEFAULT_ROW
from benchmarks.tasks.catalogue import CATALOGUE
from napari_prospector.errors import ProspectorWarning

__all__ = ["Order", "Place", "run"]


@dataclass(frozen=True)
class Place:
    """Where shared data are, and where embeddings of pictures are kept."""

    shared: Path
    cache: Path


@dataclass(frozen=True)
class Order:
    """One task of the catalogue and a seed, to be measured.

    Attributes
    ----------
    name, seed
        The task, and the seed of its draw and of all methods.
    record
        The file of what is measured.
    wanted, again
        As in `records.complete`.
    options
        Further arguments of the loader.
    """

    name: str
    seed: int
    record: Path
    place: Place
    wanted: tuple[str, ...] | None = None
    again: tuple[str, ...] = ()
    options: Mapping[str, int] = field(default_factory=dict)


def run(orders: Sequence[Order], jobs: int) -> None:
    """Carry out all orders, `jobs` at a time, and say after each how far it is; raise the first failure at the end."""
    # children of a spawn start Python anew, and NumPy and torch read this when they are loaded
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(_carry_out, order) for order in orders]
        failures = []
        for number, done in enumerate(as_completed(waiting), 1):
            failure = done.exception()
            failures += [] if failure is None else [failure]
            print(
                f"[{number}/{len(orders)}] {done.result() if failure is None else f'failed: {failure!r}'}", flush=True
            )
    if failures:
        raise failures[0]


def _carry_out(order: Order) -> str:
    """Measure what the record of one task and seed lacks; return a line about it."""
    started = time.perf_counter()
    warnings.simplefilter("ignore", ProspectorWarning)  # few data: the tables say how few
    task = CATALOGUE[order.name](order.place.shared, order.seed, order.place.cache, **order.options)
    record = complete(order.record, task, order.seed, order.wanted, order.again)
    row = record["methods"].get(HEAD, {"rows": {}})["rows"].get(DEFAULT_ROW)
    known = [value for value in next(iter(row["measures"].values())) if value is not None] if row else []
    found = f", {DEFAULT_ROW} {sum(known) / len(known):.3f}" if known else ""
    return f"{order.record.stem}: {time.perf_counter() - started:.0f} s{found}"
