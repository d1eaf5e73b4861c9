"""Fitting with the paper's whole grid: 100 slides × 5,000 tokens × 384 dims, from stored embeddings, 5 folds.

    python benchmarks/fit_grid.py [--slides 100] [--tokens 5000] [--dims 384]

Concepts are fitted inside each fold. Prints the seconds of each stage and their share of the limit of 300 s.
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

import numpy as np

from napari_prospector.core.selection import PAPER_GRID, GridSelection, select_head
from napari_prospector.study.cohort_graphs import CohortGraphs
from napari_prospector.tokens.encoders.cards import EncoderCard
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.store import DONE, TokenGrid

REPOSITORY = Path(__file__).resolve().parents[1]
LIMIT_SECONDS = 300.0


def write_stores(folder: Path, n_slides: int, n_tokens: int, n_dims: int, seed: int) -> list[str]:
    """Write token grids of tissue with 15 % holes; every other slide holds a patch of a third kind of tissue."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n_tokens / 0.85)))
    centres = rng.normal(size=(24, n_dims))
    labels = []
    for slide in range(n_slides):
        kind = rng.integers(0, 20, (side // 4 + 1, side // 4 + 1)).repeat(4, axis=0).repeat(4, axis=1)[:side, :side]
        if slide % 2:
            row, col = rng.integers(0, side - 16, 2)
            kind[row : row + 16, col : col + 16] = rng.integers(20, 24, (16, 16))
        mask = rng.random((side, side)) < 0.85
        card = EncoderCard(
            name="synthetic", loader="synthetic", source="made for this benchmark", n_dims=n_dims, tile_px=224, mpp=0.5
        )
        geometry = GridGeometry(side, side, 224, 224, (0, 0), 0.5, 224)
        path = folder / f"slide-{slide:03d}.tokens.zarr"
        shape = (side * 224, side * 224)
        with TokenGrid.create(path, geometry, card, path.name, f"{slide:064x}", shape, mask=mask) as grid:
            for block in grid.blocks():
                inside = kind[block.tokens]
                values = centres[inside] + rng.normal(size=(*inside.shape, n_dims))
                grid.write_block(
                    block, values.astype(np.float16), np.where(mask[block.tokens], DONE, 0).astype(np.uint8)
                )
        labels.append("tumour" if slide % 2 else "normal")
    return labels


def timed_selection(stores: list[Path], labels: list[str]) -> tuple[float, dict[str, float], GridSelection]:
    """Select from the paper's grid; return the seconds of all, of each stage, and what was selected."""
    stages: dict[str, float] = {}
    started = last = time.perf_counter()

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = time.perf_counter()
        stages[stage] = stages.get(stage, 0.0) + now - last
        last = now

    selection = select_head(CohortGraphs(stores), labels, report=report)
    return time.perf_counter() - started, stages, selection


def main() -> None:
    """Write stores, select, print the stages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=5000)
    parser.add_argument("--dims", type=int, default=384)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks" / "results" / "fit_grid.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        labels = write_stores(Path(name), options.slides, options.tokens, options.dims, options.seed)
        seconds, stages, selection = timed_selection(sorted(Path(name).iterdir()), labels)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    record = {
        "slides": options.slides,
        "tokens": options.tokens,
        "dims": options.dims,
        "grid": {name: len(getattr(PAPER_GRID, name)) for name in ("n_concepts", "radius", "alpha", "tau", "l1_ratio")},
        "n_settings": len(selection.table),
        "seconds": seconds,
        "share_of_limit": seconds / LIMIT_SECONDS,
        "stages": stages,
        "peak_gib": peak,
        "cores": os.cpu_count(),
        "seed": options.seed,
        "commit": commit.stdout.strip(),
        "chosen": selection.sentence(),
    }
    print(json.dumps(record, indent=1))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
