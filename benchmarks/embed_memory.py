"""Memory and throughput of embedding slides of growing size with `stain-texture`.

Promise: under 1.5 GiB resident over all processes on a slide of 100,000 x 100,000 px, and flat: the same on slides of
20,000 and 50,000 px, and the same at the end of each as when its tenth part was done (`rss_over_time`).

Each slide is drawn, written and embedded by processes of its own; the memory counted is that of the embedding process
and whatever it starts. The slide is a JPEG pyramid, two thirds tissue, no two tiles alike. At 0.5 µm per pixel a tile
of 224 px is read from level 0, so every pixel of the tissue is decoded.

    python benchmarks/embed_memory.py --folder /somewhere/with/10/GB
    python benchmarks/embed_memory.py --sizes 4000 8000 --out /elsewhere.json     # a short run

Where time goes: processor seconds of each part, over all threads, and the wall seconds that the encoder waited for
tiles or for the disk. The parts are timed by wrapping them here; the package has no clock in it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
GIB = 2**30
BAR_GIB = 1.5


def draw(path: Path, side: int, mpp: float, seed: int) -> dict[str, Any]:
    """Write a slide."""
    from napari_prospector.tokens.generate import draw_bands
    from napari_prospector.tokens.pyramid import write_pyramid

    write_pyramid(path, draw_bands(seed, (side, side), mpp), mpp, shape=(side, side))
    return {"side_px": side}


class Stopwatch:
    """Wall and CPU seconds of calls, by name; threads add up."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}
        self._lock = threading.Lock()

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a call."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            wall, cpu = time.perf_counter(), time.thread_time()
            result = call(*args, **kwargs)
            with self._lock:
                self.wall[name] = self.wall.get(name, 0.0) + time.perf_counter() - wall
                self.cpu[name] = self.cpu.get(name, 0.0) + time.thread_time() - cpu
            return result

        return wrapped


def embed(path: Path, store: Path) -> dict[str, Any]:
    """Embed a slide in this process; return what it took."""
    import resource

    from napari_prospector import embed_slide, load_encoder, open_slide
    from napari_prospector.tokens import embed as embedding
    from napari_prospector.tokens.store import TokenGrid
    from napari_prospector.tokens.tilereader import TileReader, Tiles

    watch = Stopwatch()
    encoder: Any = load_encoder("stain-texture")
    encoder.encode = watch.timed("features", encoder.encode)
    parts = ((TileReader, "read", "decode"), (Tiles, "measured", "quality"), (TokenGrid, "write_block", "store"))
    for owner, method, name in parts:
        setattr(owner, method, watch.timed(name, getattr(owner, method)))
    embedding.tissue_mask = watch.timed("tissue", embedding.tissue_mask)  # type: ignore[assignment]
    start = time.perf_counter()
    with open_slide(path) as slide:
        for step in embed_slide(slide, encoder, store):  # noqa: B007
            pass
    wall = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = usage.ru_utime + usage.ru_stime
    grid = TokenGrid.open(store)
    counts = grid.counts()
    # the threads of the features are not those that call: they are what is left
    others = {name: watch.cpu[name] for name in ("decode", "quality", "store", "tissue")}
    busy = others | {"features": cpu - sum(others.values())}
    return {
        "tiles": step.total,
        "tissue_share": counts["done"] / grid.state.size,
        "failed": step.failed,
        "seconds": wall,
        "tiles_per_s": step.total / wall,
        "cpu_seconds": {name: round(seconds, 1) for name, seconds in busy.items()},
        "cpu_share": {name: round(seconds / cpu, 3) for name, seconds in busy.items()},
        "encoder_waited_share": 1 - (watch.wall["features"] + watch.wall["tissue"]) / wall,
        "tiles_per_cpu_second": step.total / cpu,
        "repeated_embeddings": repeated(grid),
        "maxrss_gib": usage.ru_maxrss * 1024 / GIB,
        "store_mb": sum(file.stat().st_size for file in store.rglob("*") if file.is_file()) / 1e6,
    }


def repeated(grid: Any) -> int:
    """Count the tokens whose embedding occurred before: that no tile repeats is part of the promise."""
    seen: set[bytes] = set()
    total = 0
    for _, embeddings in grid.iter_blocks():
        total += len(embeddings)
        seen.update(vector.tobytes() for vector in embeddings)
    return total - len(seen)


def watched(command: list[str]) -> tuple[dict[str, Any], list[float]]:
    """Run a process; return the JSON it prints, and what it and its children held in GiB, twenty times a second."""
    import psutil

    held: list[float] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        watcher = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                each = (watcher, *watcher.children(recursive=True))
                held.append(sum(one.memory_info().rss for one in each) / GIB)
            except psutil.NoSuchProcess:
                continue
            time.sleep(0.05)
        assert process.stdout is not None
        text = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return json.loads(text), held


def over_time(held: list[float], n_parts: int = 20) -> list[float]:
    """Return the most memory held in each twentieth of the time, GiB."""
    return [round(float(part.max()), 3) for part in np.array_split(np.array(held), n_parts) if len(part)]


def measure(side: int, mpp: float, seed: int, folder: Path) -> dict[str, Any]:
    """Draw a slide unless it is there, and embed it, each in a process of its own."""
    path, store = folder / f"{side}px-{mpp}um-seed{seed}.tif", folder / f"{side}.tokens.zarr"
    here = [sys.executable, __file__]
    if not path.exists():
        watched([*here, "--draw", str(path), "--sizes", str(side), "--mpp", str(mpp), "--seed", str(seed)])
    embedded, held = watched([*here, "--embed", str(path), str(store)])
    shutil.rmtree(store)
    series = over_time(held)
    result = {
        "side_px": side,
        "mpp": mpp,
        "file_gb": path.stat().st_size / 1e9,
        "peak_rss_gib": max(held),
        "rss_over_time": series,
        "end_over_start": max(series[len(series) // 2 :]) / max(series[: len(series) // 2]),
    } | embedded
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


def commit() -> str:
    """Name the state of the code."""
    git = ["git", "-C", str(REPOSITORY)]
    head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "status", "--porcelain", "src"], capture_output=True, text=True, check=False)
    return head.stdout.strip() + (" with changes" if changed.stdout.strip() else "")


def main() -> None:
    """Parse the command line, measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 50_000, 100_000])
    parser.add_argument("--mpp", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where slides are drawn and kept; default: a temporary one")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "embed_memory.json")
    parser.add_argument("--draw", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--embed", type=Path, nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.draw or asked.embed:
        result = draw(asked.draw, asked.sizes[0], asked.mpp, asked.seed) if asked.draw else embed(*asked.embed)
        print(json.dumps(result))
        return
    state_of_code = commit()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        slides = [measure(side, asked.mpp, asked.seed, folder) for side in asked.sizes]
    peaks = [slide["peak_rss_gib"] for slide in slides]
    results = {
        "commit": state_of_code,
        "seed": asked.seed,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cores": os.cpu_count(),
        "load_at_end": os.getloadavg()[0],
        "slides": slides,
        "peak_largest_over_bar": max(peaks) / BAR_GIB,
        "peak_last_over_first": peaks[-1] / peaks[0],
    }
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(results, indent=2) + "\n")
    print(f"peak memory: {max(peaks):.2f} GiB, {results['peak_largest_over_bar']:.2f} of the bar")
    print(f"last slide over first: {results['peak_last_over_first']:.2f}")


if __name__ == "__main__":
    main()
