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
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # `benchmarks` is not installed

from benchmarks.contest.figure import draw_summary  # noqa: E402
from benchmarks.contest.methods import CEILING, HEAD, PUBLISHED, RULE  # noqa: E402
from benchmarks.contest.orders import Order, Place, run  # noqa: E402
from benchmarks.contest.records import read_records, record_path, write_atomically  # noqa: E402
from benchmarks.contest.summary import DEFAULT_ROW, summarize  # noqa: E402
from benchmarks.contest.tables import full_table, readme_table, write_readme  # noqa: E402
from benchmarks.tasks.catalogue import CATALOGUE  # noqa: E402
from benchmarks.tasks.histology import DEFAULT_CACHE  # noqa: E402
from napari_prospector.study.baselines import BASELINES  # noqa: E402

RESULTS = REPOSITORY / "benchmarks" / "results"
KEYS = (HEAD, PUBLISHED, *BASELINES, RULE, CEILING)


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
    records, place = options.results / "accuracy", Place(options.shared.resolve(), options.cache)
    orders = [
        Order(name, seed, record_path(records, name, seed), place, wanted, tuple(options.again))
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
