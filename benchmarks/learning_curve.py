"""How many training slides it takes: 6, 12, 24 and 48 slides of the three mosaic tasks, seen by MobileNetV2.

    python benchmarks/learning_curve.py [--seeds 5] [--sizes 6 12 24 48] [--jobs 2]

Fewer slides are a part of more, and all are measured on the same test slides. Every task, size and seed has its record
in results/learning_curve/; an interrupted run goes on. Ends with results/learning_curve.json and .png.
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

from benchmarks.contest.figure import draw_curves  # noqa: E402
from benchmarks.contest.methods import CEILING, HEAD  # noqa: E402
from benchmarks.contest.orders import Order, Place, run  # noqa: E402
from benchmarks.contest.records import read_records, record_path, write_atomically  # noqa: E402
from benchmarks.contest.summary import CEILING_ROW, DEFAULT_ROW, summarize  # noqa: E402
from benchmarks.tasks.histology import DEFAULT_CACHE  # noqa: E402
from napari_prospector.tokens.mosaics import TASKS  # noqa: E402

RESULTS = REPOSITORY / "benchmarks" / "results"
KEYS = (HEAD, "mean-pooled-averaged", "abmil-attention", CEILING)
ROWS = (DEFAULT_ROW, "prospector, evidence", "mean-pooled-averaged", "abmil-attention", CEILING_ROW)


def curves_of(records: Path, sizes: list[int]) -> dict[str, dict[str, Any]]:
    """Return for each task and row the mean AP by the number of training slides, and what the default is above it."""
    curves: dict[str, dict[str, Any]] = {}
    for task in TASKS:
        found = {size: read_records(records, f"{task}-{size}") for size in sizes}
        rows = {size: summarize(kept)["rows"] for size, kept in found.items() if kept}
        keys = ("value", "low", "high", "over", "of_ceiling", "chosen")
        curves[task] = {
            name: {
                str(size): {key: table[name][key] for key in keys if key in table[name]}
                for size, table in rows.items()
                if name in table
            }
            for name in ROWS
        }
    return {task: {name: row for name, row in curve.items() if row} for task, curve in curves.items()}


def main() -> None:
    """Measure what is missing and draw the curves."""
    shared = Path(os.environ.get("PROSPECTOR_SHARED", REPOSITORY.parent / "shared"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=shared, help="the folder of shared data")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="keeps embeddings of pictures")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[6, 12, 24, 48], help="training slides, 48 at most")
    parser.add_argument("--again", nargs="+", default=[], choices=KEYS, help="measured even if there is a record")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    records, place = options.results / "learning_curve", Place(options.shared.resolve(), options.cache)
    orders = [
        Order(
            name=f"{task}-patches-MobileNetV2",
            seed=seed,
            record=record_path(records, f"{task}-{size}", seed),
            place=place,
            wanted=KEYS,
            again=tuple(options.again),
            options={"n_train": size},
        )
        for seed in range(options.seeds)
        for task in TASKS
        for size in options.sizes
    ]
    run(orders, options.jobs)
    curves = curves_of(records, options.sizes)
    write_atomically(options.results / "learning_curve.json", json.dumps(curves, indent=1) + "\n")
    draw_curves(curves, options.results / "learning_curve.png")
    for task, curve in curves.items():
        for name, row in curve.items():
            print(f"{task:<15} {name:<28} " + "  ".join(f"{n}: {point['value']:.3f}" for n, point in row.items()))


if __name__ == "__main__":
    main()
