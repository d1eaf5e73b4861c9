"""Embedding a slide against the bare encoder: what decoding, resizing, measuring and storing cost.

Promise: tiles a second of the whole pipeline, over those of the encoder on uint8 batches that lie in memory, with
the same batches, threads and cores: at least 0.95.

Both run in this process, in turn: one run of the pipeline over the slide, then the encoder over the same number of
tiles in the same batches, then again. The ratio is the median of the paired ratios. The slide is a JPEG pyramid
(quality 90, 4:4:4, tiles of 256 px), tissue everywhere. `embed_slide` is timed from its first step, when the store is
there, to its last, when everything is on the disk; what comes before (tissue mask, stain, the slide's fingerprint)
happens once a slide, is the same for any encoder, and is given apart in seconds.

Wall time on a machine that does other work says little: the processor seconds of all threads are given as well, and
their ratio is what the pipeline can reach at best where all cores are busy.

    python benchmarks/pipeline.py
    python benchmarks/pipeline.py --side-tiles 8 --repeats 2     # a short run
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import platform
import pstats
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
BAR = 0.95
TILE_PX, MPP, SEED = 224, 0.5, 3
MODELS = {"vit_small": "vit_small_patch16_224", "mobilenetv2": "mobilenetv2_100", "stain-texture": None}


def load(name: str, device: str) -> Any:
    """Return an encoder with random weights: speed does not depend on them."""
    from napari_prospector import load_encoder
    from napari_prospector.tokens.encoders.cards import EncoderCard

    if MODELS[name] is None:
        return load_encoder("stain-texture")
    import timm
    import torch

    from napari_prospector.tokens.encoders.torch_encoder import TimmEncoder

    torch.manual_seed(SEED)
    model = timm.create_model(MODELS[name], num_classes=0)
    card = EncoderCard(name, "timm", f"timm:{MODELS[name]}", TILE_PX, MPP, mean=(0.5,) * 3, std=(0.5,) * 3)
    return TimmEncoder(model, card, device)


def make_slide(path: Path, side: int) -> Path:
    """Write a slide that is all tissue: the middle of a drawn one, repeated."""
    from napari_prospector.tokens.generate import draw_slide
    from napari_prospector.tokens.pyramid import write_pyramid

    image = draw_slide(SEED, True, (3600, 3600), MPP).image[700:2700, 700:2700]
    times = -(-side // len(image))
    return write_pyramid(path, np.tile(image, (times, times, 1))[:side, :side], MPP)


class Clock:
    """Wall and processor seconds since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> np.ndarray:
        """Return both."""
        return np.array([time.perf_counter() - self._wall, time.process_time() - self._cpu])


def run_pipeline(slide_path: Path, encoder: Any, store: Path, tissue: Any) -> tuple[np.ndarray, float, int]:
    """Embed the slide; return seconds (wall, cpu) of its tiles, wall seconds before the first, and their number."""
    from napari_prospector import embed_slide, open_slide

    before = Clock()
    with open_slide(slide_path) as slide:
        steps = embed_slide(slide, encoder, store, overwrite=True, tissue=tissue(slide), min_coverage=0)
        next(steps)
        prepared, clock = before.read()[0], Clock()
        for step in steps:  # noqa: B007
            pass
        return clock.read(), prepared, step.total


def run_bare(encoder: Any, tiles: np.ndarray, n_tiles: int, block_tiles: int) -> np.ndarray:
    """Encode as many tiles in the batches of the pipeline, which never cross a block."""
    clock, size = Clock(), encoder.batch_size
    for start in range(0, n_tiles, block_tiles):
        left = min(block_tiles, n_tiles - start)
        for first in range(0, left, size):
            encoder.encode(tiles[first : min(first + size, left)])
    return clock.read()


def measure(name: str, slide_path: Path, folder: Path, repeats: int, device: str) -> dict[str, Any]:
    """Run both in turn."""
    from napari_prospector import open_slide
    from napari_prospector.tokens.geometry import GridGeometry
    from napari_prospector.tokens.tilereader import TileReader
    from napari_prospector.tokens.tissue import tissue_mask

    encoder = load(name, device)
    with open_slide(slide_path) as slide:
        geometry = GridGeometry.cover(slide.shape, MPP, TILE_PX, MPP, None)
        first = np.argwhere(np.ones((min(16, geometry.rows), min(16, geometry.cols)), bool))
        tiles = TileReader(slide, geometry).read(first).pixels
    store = folder / f"{name}.tokens.zarr"
    run_pipeline(slide_path, encoder, store, tissue_mask)  # compiles, warms the file up
    run_bare(encoder, tiles, len(tiles), len(tiles))
    pairs, prepared = [], []
    for _ in range(repeats):
        piped, before, n_tiles = run_pipeline(slide_path, encoder, store, tissue_mask)
        bare = run_bare(encoder, tiles, n_tiles, len(tiles))
        pairs.append((piped, bare))
        prepared.append(before)
        print(f"{name}: wall {bare[0] / piped[0]:.3f}, cpu {bare[1] / piped[1]:.3f}", flush=True)
    wall, cpu = ([float(bare[i] / piped[i]) for piped, bare in pairs] for i in range(2))
    return {
        "encoder": name,
        "device": device,
        "batch": encoder.batch_size,
        "tiles": n_tiles,
        "ratio_wall": statistics.median(wall),
        "ratio_wall_all": [round(ratio, 4) for ratio in wall],
        "ratio_cpu": statistics.median(cpu),
        "bare_tiles_per_s": n_tiles / statistics.median(float(bare[0]) for _, bare in pairs),
        "pipeline_tiles_per_s": n_tiles / statistics.median(float(piped[0]) for piped, _ in pairs),
        "extra_cpu_ms_per_tile": 1000 * statistics.median(float(p[1] - b[1]) for p, b in pairs) / n_tiles,
        "before_the_first_tile_s": statistics.median(prepared),
    }


def profiled(name: str, slide_path: Path, folder: Path, device: str) -> None:
    """Print where the time of the thread that drives the encoder goes."""
    from napari_prospector.tokens.tissue import tissue_mask

    encoder, profile = load(name, device), cProfile.Profile()
    run_pipeline(slide_path, encoder, folder / "warm.tokens.zarr", tissue_mask)
    profile.runcall(run_pipeline, slide_path, encoder, folder / "profiled.tokens.zarr", tissue_mask)
    pstats.Stats(profile).sort_stats("tottime").print_stats(20)


def main() -> None:
    """Parse the command line, measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="+", choices=MODELS, default=["vit_small", "mobilenetv2"])
    parser.add_argument("--side-tiles", type=int, default=32, help="tiles along each side of the slide")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of torch; default: all cores")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--profile", action="store_true", help="show where time goes, and measure nothing")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "pipeline.json")
    asked = parser.parse_args()
    import torch

    torch.set_num_threads(asked.threads or os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as temporary:
        path = make_slide(Path(temporary) / "slide.tif", asked.side_tiles * TILE_PX)
        if asked.profile:
            for name in asked.encoders:
                profiled(name, path, Path(temporary), asked.device)
            return
        rows = [measure(name, path, Path(temporary), asked.repeats, asked.device) for name in asked.encoders]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    record = {
        "bar": BAR,
        "rows": rows,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load_at_end": os.getloadavg()[0],
        "commit": commit.stdout.strip(),
    }
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    asked.out.with_suffix(".md").write_text(as_table(record), encoding="utf-8")
    print(as_table(record))


def as_table(record: dict[str, Any]) -> str:
    """Return the results for readers."""
    lines = [
        f"Pipeline over bare encoder, {record['threads']} threads on {record['cores']} cores; bar {record['bar']}.",
        "",
        "| encoder | batch | bare, tiles/s | pipeline, tiles/s | ratio (wall) | ratio (cpu) | before the first |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['encoder']} on {row['device']} | {row['batch']} | {row['bare_tiles_per_s']:.1f} |"
        f" {row['pipeline_tiles_per_s']:.1f} | {row['ratio_wall']:.3f} | {row['ratio_cpu']:.3f} |"
        f" {row['before_the_first_tile_s']:.2f} s |"
        for row in record["rows"]
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
