"""What choosing from labels of data alone costs: the default head against an oracle that knows the regions.

    python benchmarks/regret.py [--tasks high-grade-patches-MobileNetV2 zinc] [--seeds 2]

A default head is fitted on the training data of a task. Its candidates are all evidence maps that it compared, its
decision map, and its refined map at every share of the neighbours. The oracle takes the one with the best mean AP on
positive test data; regret is that AP less the AP of the map that the head shows. Also measured: how well each criterion
ranks the candidates, as Spearman correlation with their AP. `DEVELOPMENT` is where the criterion was thought out (on
other seeds); on all other tasks it is what it is. Writes results/regret.json and results/regret.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # `benchmarks` is not installed

from benchmarks.contest.methods import make_head  # noqa: E402
from benchmarks.contest.records import write_atomically  # noqa: E402
from benchmarks.tasks import histology  # noqa: E402
from benchmarks.tasks.catalogue import CATALOGUE  # noqa: E402
from benchmarks.tasks.histology import DEFAULT_CACHE  # noqa: E402
from benchmarks.tasks.task import Task  # noqa: E402
from napari_prospector.core.graph import TokenGraph  # noqa: E402
from napari_prospector.core.head import ProspectorHead  # noqa: E402
from napari_prospector.core.measures import auroc, average_precision  # noqa: E402
from napari_prospector.core.refine import AMOUNTS  # noqa: E402
from napari_prospector.tokens.mosaics import MosaicTask  # noqa: E402

RESULTS = REPOSITORY / "benchmarks" / "results"
LOW_GRADE = MosaicTask("low-grade", "low_grade_in", ("normal", "polyp"))
DEVELOPMENT = {
    "development: low-grade-patches-MobileNetV2": {"task": LOW_GRADE},
    "development: low-grade-scattered-MobileNetV2": {"task": LOW_GRADE, "scattered": True},
}
WITHOUT_TRUTH = "cells"


def load(name: str, shared: Path, cache: Path, seed: int) -> Task:
    """Load a task of the catalogue or of development."""
    if name in DEVELOPMENT:
        return histology.load(shared, seed, cache_folder=cache, **DEVELOPMENT[name])  # type: ignore[arg-type]
    return CATALOGUE[name](shared, seed, cache)


def mean_ap(task: Task, head: ProspectorHead, map_name: str) -> float:
    """Return the mean AP of a map over the positive test data."""
    assert task.test.truths is not None
    members = np.flatnonzero(task.test.is_target(task.target))
    graphs: list[TokenGraph] = [task.test.graphs[i] for i in members]
    truths = [task.test.truths[i] for i in members]
    return float(
        np.mean([average_precision(head.prospect(g, map_name), t) for g, t in zip(graphs, truths, strict=True)])
    )


def candidates(task: Task, seed: int) -> Iterator[dict[str, Any]]:
    """Yield every candidate of a default head: what drew it, what criteria say of it, its AP, whether it is shown."""
    head = make_head(task, seed).fit(task.train.graphs, task.train.labels, task.train.groups)
    assert head.refiner_ is not None
    for row in head.selection_.kernels:
        setting = {"n_concepts": row.n_concepts, "radius": row.radius, "kernel": row.kernel}
        if (row.radius, row.kernel) == (head.radius_, head.kernel_) and row is head.selection_.kernels[0]:
            own = head
        else:
            own = make_head(task, seed).set_params(**setting, refine=False)
            own.fit(task.train.graphs, task.train.labels, task.train.groups)
        label_auroc = auroc(own.out_of_fold_scores_[:, 0], task.train.is_target(task.target))
        yield {
            **setting,
            "map": "evidence",
            "excess": row.excess,
            "separation": row.separation,
            "label_auroc": label_auroc,
            "ap": mean_ap(task, own, "evidence"),
            "is_shown": own is head and head.best_map_ == "evidence",
        }
    yield {"map": "decision", "ap": mean_ap(task, head, "decision"), "is_shown": head.best_map_ == "decision"}
    chosen, by_map = head.refiner_, {row.map: row for row in head.selection_.maps}
    for amount in AMOUNTS:
        head.refiner_ = replace(chosen, amount=amount)
        is_own = amount == chosen.amount
        yield {
            "map": "refined",
            "amount": amount,
            "excess": by_map["refined"].excess if is_own and by_map else None,
            "separation": by_map["refined"].separation if is_own and by_map else None,
            "ap": mean_ap(task, head, "refined"),
            "is_shown": is_own and head.best_map_ == "refined",
        }


def regret_of(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return regrets and rank correlations of the candidates of one head."""
    ap = np.array([row["ap"] for row in found])
    shown = next(row for row in found if row["is_shown"])
    refined = [row for row in found if row["map"] == "refined"]
    compared = [row for row in found if row.get("excess") is not None]
    kernels = [row for row in found if row["map"] == "evidence"]
    return {
        "shown": {key: shown.get(key) for key in ("map", "n_concepts", "radius", "kernel", "amount")},
        "ap": shown["ap"],
        "best_ap": float(ap.max()),
        "regret": float(ap.max() - shown["ap"]),
        "regret_of_amount": float(max(r["ap"] for r in refined) - shown["ap"]) if shown["map"] == "refined" else None,
        "regret_of_kernel": float(max(r["ap"] for r in kernels) - kernels[0]["ap"]) if kernels else None,
        "rank_correlation": {
            criterion: _spearman([r[criterion] for r in rows], [r["ap"] for r in rows])
            for criterion, rows in (("excess", compared), ("separation", compared), ("label_auroc", kernels))
        },
        "candidates": found,
    }


def _spearman(values: list[float], aps: list[float]) -> float | None:
    """Return the rank correlation; None where there is nothing to rank."""
    if len(values) < 3 or np.ptp(values) == 0 or np.ptp(aps) == 0:
        return None
    return float(spearmanr(values, aps).statistic)


def table(records: list[dict[str, Any]]) -> str:
    """Write means over seeds, a line a task."""
    columns = ["task", "AP shown", "AP of the oracle", "regret", "regret of the amount", "regret of the kernel"]
    columns += ["ranks by excess", "by separation", "by AUROC of labels"]
    head = "| " + " | ".join(columns) + " |"
    lines = [head, "|" + "---|" * 9]
    for name in dict.fromkeys(record["task"] for record in records):
        own = [record for record in records if record["task"] == name]
        cells = [
            _mean([r[key] for r in own]) for key in ("ap", "best_ap", "regret", "regret_of_amount", "regret_of_kernel")
        ]
        cells += [_mean([r["rank_correlation"][key] for r in own]) for key in ("excess", "separation", "label_auroc")]
        lines.append(f"| {name} | " + " | ".join("" if cell is None else f"{cell:.3f}" for cell in cells) + " |")
    others = [r["regret"] for r in records if not r["task"].startswith("development")]
    mean = f"\nMean regret over all tasks but those of development: {np.mean(others):.3f}.\n" if others else ""
    return "\n".join(lines) + "\n" + mean


def _mean(values: list[float | None]) -> NDArray[np.float64] | float | None:
    """Average what is known."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def main() -> None:
    """Measure what is missing and write the table."""
    shared = Path(os.environ.get("PROSPECTOR_SHARED", REPOSITORY.parent / "shared"))
    names = [*DEVELOPMENT, *(name for name in CATALOGUE if name != WITHOUT_TRUTH)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=shared, help="the folder of shared data")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="keeps embeddings of pictures")
    parser.add_argument("--tasks", nargs="+", default=names, choices=names)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--again", action="store_true", help="measure anew what there is")
    options = parser.parse_args()
    path = options.results / "regret.json"
    records = json.loads(path.read_text(encoding="utf-8")) if path.is_file() and not options.again else []
    for seed in range(options.seeds):
        for name in options.tasks:
            if any((record["task"], record["seed"]) == (name, seed) for record in records):
                continue
            found = regret_of(list(candidates(load(name, options.shared, options.cache, seed), seed)))
            records.append({"task": name, "seed": seed, **found})
            write_atomically(path, json.dumps(records, indent=1) + "\n")
            write_atomically(options.results / "regret.md", table(records))
            print(f"{name}, seed {seed}: AP {found['ap']:.3f}, regret {found['regret']:.3f}", flush=True)
    print(table(records))


if __name__ == "__main__":
    main()
