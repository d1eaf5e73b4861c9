"""Cohorts beyond one process: how embedding scales, what fitting needs, and what a lost worker changes.

Three parts, each with its own bar:

- **scaling**: generated slides embedded with stain-texture by one Dask worker of one thread, then by two. Every worker
  is bound to a core of its own, so that "one thread" is what it says although embedding reads ahead. Bar: at least
  1.8 times as fast. On a machine that does other work the ratio says little; `idle` is the share of processor time that
  nobody used before the measurement.
- **fitting**: head and maps of N synthetic stores of 5,000 tokens and 64 dims by two workers: seconds, and the largest
  resident memory of the process that asks, of the scheduler and of a worker, sampled all the time. The count table and
  the sample of tokens are what should be held; the tokens are N x 640 kB.
- **lost**: a worker is killed in the middle of embedding, and another in the middle of fitting: stores and head must be
  those of this process alone, byte by byte.

    python benchmarks/cluster.py                                   # as promised: 8 slides, 1,000 stores
    python benchmarks/cluster.py --stores 60 --side-tiles 8        # a short run
    python benchmarks/cluster.py --parts fitting --stores 1000
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from napari_prospector.core.head import ProspectorHead
from napari_prospector.study.cohort_graphs import CohortGraphs
from napari_prospector.study.embed_cohort import SlideJob, embed_cohort
from napari_prospector.study.map_cohort import MapJob, map_cohort
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.pyramid import write_pyramid
from napari_prospector.tokens.store import DONE, TokenGrid

REPOSITORY = Path(__file__).resolve().parents[1]
PARTS = ("scaling", "fitting", "lost")
BAR, TEXTURE, ALL = 1.8, {"name": "stain-texture"}, {"method": "all"}
TILE_PX, MPP, N_DIMS = 224, 0.5, 64


def write_slides(folder: Path, n_slides: int, side_tiles: int) -> list[Path]:
    """Write slides of grainy stain, `side_tiles` tiles of 224 px wide and high."""
    paths, side = [], side_tiles * TILE_PX
    for number in range(n_slides):
        rng = np.random.default_rng(number)
        density = np.array([0.2, 0.5, 0.2]) * rng.gamma(4.0, 0.25, (side // 4, side // 4, 1))
        pixels = (244 * 10**-density).clip(0, 255).astype(np.uint8).repeat(4, 0).repeat(4, 1)
        paths.append(folder / f"slide {number}.tif")
        write_pyramid(paths[-1], pixels, MPP)
    return paths


def write_stores(folder: Path, n_stores: int, n_tokens: int) -> tuple[list[Path], list[str]]:
    """Write token grids of which every other one holds tokens of a kind that the others lack."""
    rows = cols = int(round(n_tokens**0.5))
    geometry = GridGeometry(rows, cols, 448, 448, (0, 0), 0.25, TILE_PX)
    card = {"name": "synthetic", "n_dims": N_DIMS, "weights_sha256": None, "tile_px": TILE_PX, "mpp": MPP}
    centers = 3 * np.random.default_rng(99).normal(size=(7, N_DIMS))
    paths, labels = [], []
    for number in range(n_stores):
        rng = np.random.default_rng(number % 40)  # contents repeat; reading them costs the same
        kinds = rng.integers(6, size=(rows, cols))
        if number % 2:
            kinds[: rows // 3, : cols // 3] = 6
        embeddings = (centers[kinds] + rng.normal(size=(rows, cols, N_DIMS))).astype(np.float32)
        path = folder / f"store {number}.tokens.zarr"
        made = TokenGrid.create(path, geometry, card, path.stem, f"sha-{number}", (rows * 448, cols * 448), block=rows)
        with made as grid:
            for block in grid.blocks():
                grid.write_block(block, embeddings[block.tokens], np.full(embeddings.shape[:2], DONE, np.uint8))
        paths.append(path)
        labels.append(("normal", "tumour")[number % 2])
    return paths, labels


@contextmanager
def cluster_of(n_workers: int, *, bound: bool = False) -> Iterator[tuple[Any, int]]:
    """Start a scheduler in a process of its own and workers of one thread; yield client and the scheduler's pid."""
    from distributed import Client

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scheduler.json"
        words = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
        words += ["--no-dashboard", "--scheduler-file", str(file)]
        started = [subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)]
        while not file.exists():
            time.sleep(0.1)
        for _ in range(n_workers):
            words = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file)]
            words += ["--nthreads", "1", "--no-dashboard", "--local-directory", folder, "--memory-limit", "0"]
            started.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        try:
            with Client(scheduler_file=str(file), set_as_default=False) as client:
                client.wait_for_workers(n_workers, timeout=120)
                if bound:
                    for core, worker in enumerate(sorted(client.scheduler_info(n_workers=-1)["workers"])):
                        client.run(bind, core % (os.cpu_count() or 1), workers=[worker])
                yield client, started[0].pid
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait()


def bind(core: int) -> None:
    """Keep all threads of this process on one core, those to come too."""
    for thread in psutil.Process().threads():
        os.sched_setaffinity(thread.id, {core})


def seconds_to_embed(slides: list[Path], folder: Path, n_workers: int) -> float:
    """Embed slides by some workers, after one that warms them up."""
    with cluster_of(n_workers, bound=True) as (client, _):
        warm = [SlideJob(slide, folder / f"warm {number}.tokens.zarr") for number, slide in enumerate(slides[:2] * 2)]
        list(embed_cohort(warm, TEXTURE, client=client, tissue=ALL))
        jobs = [SlideJob(slide, folder / f"{slide.name}.tokens.zarr") for slide in slides]
        start = time.perf_counter()
        rows = list(embed_cohort(jobs, TEXTURE, client=client, tissue=ALL))
        assert all(row.error is None for row in rows), rows
        return time.perf_counter() - start


def scaling(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Compare one worker with two."""
    slides = write_slides(folder, 8, options.side_tiles)
    idle = psutil.cpu_times_percent(2.0).idle / 100
    found: dict[int, list[float]] = {1: [], 2: []}
    for repeat in range(options.repeats):
        for n_workers in (1, 2):
            out = folder / f"by {n_workers}, {repeat}"
            found[n_workers].append(seconds_to_embed(slides, out, n_workers))
    ratios = [one / two for one, two in zip(found[1], found[2], strict=True)]
    return {
        "slides": len(slides),
        "tiles_per_slide": options.side_tiles**2,
        "seconds_of_one_worker": found[1],
        "seconds_of_two_workers": found[2],
        "speedup": float(np.median(ratios)),
        "bar": BAR,
        "idle": idle,
    }


class Peaks:
    """Samples the resident memory of processes all the time; `peaks` in MiB by what they are."""

    def __init__(self, pids: dict[str, Callable[[], list[int]]]) -> None:
        self.peaks: dict[str, float] = dict.fromkeys(pids, 0.0)
        self._pids, self._stop = pids, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Peaks:
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            for name, pids in self._pids.items():
                for pid in pids():
                    if psutil.pid_exists(pid):
                        self.peaks[name] = max(self.peaks[name], psutil.Process(pid).memory_info().rss / 2**20)


def pids_of(client: Any) -> list[int]:
    """Return the process of each worker."""
    return list(client.run(os.getpid).values())


def fitting(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Fit and map many stores."""
    start = time.perf_counter()
    stores, labels = write_stores(folder, options.stores, options.tokens)
    seconds = {"write": time.perf_counter() - start}
    stages: dict[str, float] = {}
    with cluster_of(2) as (client, scheduler):
        workers, own = pids_of(client), os.getpid()
        before = psutil.Process().memory_info().rss / 2**20
        watched = {"client": lambda: [own], "scheduler": lambda: [scheduler], "worker": lambda: workers}
        with Peaks(watched) as memory:
            start = last = time.perf_counter()
            graphs = CohortGraphs(stores, client=client)
            seconds["open"] = time.perf_counter() - start

            def report(stage: str, done: int, total: int) -> None:
                nonlocal last
                now = time.perf_counter()
                stages[stage] = stages.get(stage, 0.0) + now - last
                last = now

            start = last = time.perf_counter()
            head = ProspectorHead().fit(graphs, labels, report=report)
            seconds["fit"] = time.perf_counter() - start
            start = time.perf_counter()
            jobs = [MapJob(store) for store in stores]
            rows = [row for _, row in map_cohort(head, jobs, folder / "maps", client=client)]
            seconds["map"] = time.perf_counter() - start
        assert all(row.error is None for row in rows), rows[0]
    return {
        "stores": len(stores),
        "tokens_per_store": options.tokens,
        "dims": N_DIMS,
        "seconds": seconds,
        "seconds_of_stages": stages,
        "milliseconds_per_store": {name: 1000 * value / len(stores) for name, value in seconds.items()},
        "client_mib_before": before,
        "peak_mib": memory.peaks,
        "tokens_mib": len(stores) * options.tokens * N_DIMS * 2 / 2**20,
    }


def contents(folder: Path) -> dict[str, str]:
    """Return the hash of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def lost(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Kill workers while slides are embedded and a head is fitted."""
    slides = write_slides(folder, 6, options.side_tiles)
    stores, labels = write_stores(folder / "stores", 24, options.tokens)
    here = [SlideJob(slide, folder / "here" / f"{slide.name}.tokens.zarr") for slide in slides]
    list(embed_cohort(here, TEXTURE, tissue=ALL))
    head = ProspectorHead().fit(CohortGraphs(stores), labels)
    head.save(folder / "here.prospector")
    with cluster_of(2) as (client, _):
        there = [SlideJob(slide, folder / "there" / f"{slide.name}.tokens.zarr") for slide in slides]
        rows = []
        pids = pids_of(client)
        for row in embed_cohort(there, TEXTURE, client=client, tissue=ALL):
            if not rows:
                os.kill(pids[0], signal.SIGKILL)
            rows.append(row)
        client.wait_for_workers(2, timeout=60)
        pids, seen = pids_of(client), []

        def report(stage: str, done: int, total: int) -> None:
            seen.append(stage)
            if stage == "count pairs" and done == 3 and seen.count(stage) == 3:
                os.kill(pids[0], signal.SIGKILL)

        fitted = ProspectorHead().fit(CohortGraphs(stores, client=client), labels, report=report)
        fitted.save(folder / "there.prospector")
    return {
        "stores_equal": contents(folder / "here") == contents(folder / "there"),
        "errors": [row.error for row in rows if row.error],
        "head_equal": (folder / "here.prospector").read_bytes() == (folder / "there.prospector").read_bytes(),
    }


def written(found: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    lines = ["# Cohorts beyond one process", ""]
    for part, figures in found.items():
        lines += [f"## {part}", "", "```json", json.dumps(figures, indent=1), "```", ""]
    return "\n".join(lines)


def main() -> None:
    """Run the parts, print their figures and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--stores", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=5041, help="a square number")
    parser.add_argument("--side-tiles", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks" / "results" / "cluster.json")
    options = parser.parse_args()
    found = json.loads(options.output.read_text()) if options.output.is_file() else {}
    for part in options.parts:
        with tempfile.TemporaryDirectory() as name:
            found[part] = {"scaling": scaling, "fitting": fitting, "lost": lost}[part](Path(name), options)
        print(json.dumps({part: found[part]}, indent=1), flush=True)
    options.output.write_text(json.dumps(found, indent=1) + "\n")
    options.output.with_suffix(".md").write_text(written(found))


if __name__ == "__main__":
    main()
