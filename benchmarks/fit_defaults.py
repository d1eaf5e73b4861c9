"""Fitting with defaults, from stored embeddings: 100 slides × 5,000 tokens × 1,280 dims, float16.

    python benchmarks/fit_defaults.py [--slides 100] [--tokens 5000] [--dims 1280]

Writes about 1.3 GB of token grids to a temporary folder first. Prints seconds, those of each stage, and memory as
shares of their limits: 180 s and 4 GiB. Memory is the largest of the process, writing the grids included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # `benchmarks` is not installed

from benchmarks.fit_grid import write_stores  # noqa: E402
from napari_prospector.core.head import ProspectorHead  # noqa: E402
from napari_prospector.study.cohort_graphs import CohortGraphs  # noqa: E402

LIMIT_SECONDS, LIMIT_GIB = 180.0, 4.0


def timed_fit(stores: list[Path], labels: list[str]) -> tuple[float, dict[str, float], ProspectorHead]:
    """Fit with defaults; return the seconds of all, of each stage, and the head."""
    stages: dict[str, float] = {}
    started = last = time.perf_counter()

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = time.perf_counter()
        stages[stage] = stages.get(stage, 0.0) + now - last
        last = now

    head = ProspectorHead().fit(CohortGraphs(stores), labels, report=report)
    return time.perf_counter() - started, stages, head


def peak_gib() -> float:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def main() -> None:
    """Write stores, fit, print shares of the limits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=5000)
    parser.add_argument("--dims", type=int, default=1280)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks" / "results" / "fit_defaults.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        labels = write_stores(Path(name), options.slides, options.tokens, options.dims, options.seed)
        before = peak_gib()
        seconds, stages, head = timed_fit(sorted(Path(name).iterdir()), labels)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    record = {
        "slides": options.slides,
        "tokens": options.tokens,
        "dims": options.dims,
        "seconds": seconds,
        "share_of_limit": seconds / LIMIT_SECONDS,
        "stages": stages,
        "peak_gib": peak_gib(),
        "share_of_memory_limit": peak_gib() / LIMIT_GIB,
        "peak_gib_before_fit": before,
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "seed": options.seed,
        "commit": commit.stdout.strip(),
        "head": head.describe(),
    }
    print(json.dumps(record, indent=1))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
