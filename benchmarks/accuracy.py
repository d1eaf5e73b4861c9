"""How well maps find where a class lives: every method on histology, protein chains, text and cells.

    python benchmarks/accuracy.py [--tasks zinc cells] [--seeds 5] [--methods prospector ceiling] [--jobs 2]

Methods learn from labels of whole data; the ceiling alone sees regions of training data. Nothing is chosen on test
labels or regions. Every task and seed has its record in results/accuracy/, written after every method: an interrupted
run goes on, and `--again prospector` measures one method anew. Ends with results/accuracy.json (means, intervals,
paired differences), accuracy.md, accuracy.png and the table of the README, from all records that there are.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # `benchmarks` is not installed

from benchmarks.contest.figure import draw_summary  # noqa: E402
from benchmarks.contest.methods import CEILING, HEAD, PUBLISHED, RULE  # noqa: E402
from benchmarks.contest.records import complete, read_records, record_path, write_atomically  # noqa: E402
from benchmarks.contest.summary import DEFAULT_ROW, summarize  # noqa: E402
from benchmarks.contest.tables import full_table, readme_table, write_readme  # noqa: E402
from benchmarks.tasks.catalogue import CATALOGUE  # noqa: E402
from benchmarks.tasks.histology import DEFAULT_CACHE  # noqa: E402
from napari_prospector.study.baselines import BASELINES  # noqa: E402

RESULTS = REPOSITORY / "benchmarks" / "results"
KEYS = (HEAD, PUBLISHED, *BASELINES, RULE, CEILING)


@dataclass(frozen=True)
class Order:
    """One task and seed to be measured."""

    name: str
    seed: int
    shared: Path
    cache: Path
    records: Path
    wanted: tuple[str, ...] | None
    again: tuple[str, ...]


def carry_out(order: Order) -> str:
    """Measure what the record of one task and seed lacks; return a line about it."""
    started = time.perf_counter()
    task = CATALOGUE[order.name](order.shared, order.seed, order.cache)
    path = record_path(order.records, order.name, order.seed)
    record = complete(path, task, order.seed, order.wanted, order.again)
    row = record["methods"].get(HEAD, {"rows": {}})["rows"].get(DEFAULT_ROW)
    known = [value for value in next(iter(row["measures"].values())) if value is not None] if row else []
    found = f", {DEFAULT_ROW} {sum(known) / len(known):.3f}" if known else ""
    return f"{order.name}, seed {order.seed}: {time.perf_counter() - started:.0f} s{found}"


def run(orders: list[Order], jobs: int) -> None:
    """Carry out all orders, some at a time, and say after each how far it is."""
    # children of a spawn start Python anew, and NumPy and torch read this when they are loaded
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(carry_out, order) for order in orders]
        for number, done in enumerate(as_completed(waiting), 1):
            print(f"[{number}/{len(orders)}] {done.result()}", flush=True)


def write_results(records: Path, results: Path, readme: Path | None) -> dict[str, Any]:
    """Summarize all records; write JSON, Markdown, picture and, where it is named, the table of the README."""
    summaries = {name: summarize(found) for name in CATALOGUE if (found := read_records(records, name))}
    write_atomically(results / "accuracy.json", json.dumps(summaries, indent=1) + "\n")
    write_atomically(results / "accuracy.md", full_table(summaries))
    draw_summary(summaries, results / "accuracy.png")
    if readme is not None:
        write_readme(readme, readme_table(summaries))
    return summaries


def main() -> None:
    """Measure what is missing and write the results."""
    shared = Path(os.environ.get("PROSPECTOR_SHARED", REPOSITORY.parent / "shared"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=shared, help="the folder of shared data")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="keeps embeddings of pictures")
    parser.add_argument("--tasks", nargs="+", default=list(CATALOGUE), choices=list(CATALOGUE))
    parser.add_argument("--seeds", type=int, default=5, help="0 up to so many")
    parser.add_argument("--methods", nargs="+", choices=KEYS, help="default: all")
    parser.add_argument("--again", nargs="+", default=[], choices=KEYS, help="measured even if there is a record")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--keep-readme", action="store_true", help="leave the table of the README alone")
    options = parser.parse_args()
    wanted = None if options.methods is None else tuple(options.methods)
    records = options.results / "accuracy"
    orders = [
        Order(name, seed, options.shared.resolve(), options.cache, records, wanted, tuple(options.again))
        for seed in range(options.seeds)
        for name in options.tasks
    ]
    run(orders, options.jobs)
    summaries = write_results(records, options.results, None if options.keep_readme else REPOSITORY / "README.md")
    for name, summary in summaries.items():
        row = summary["rows"].get(DEFAULT_ROW)
        if row is not None:
            print(f"{name:<40} {summary['measure']} {row['value']:.3f}, of the ceiling {row.get('of_ceiling')}")


if __name__ == "__main__":
    main()
