"""Regions on slides of the largest size: tokens in regions, outlines of a map, outlines simplified, GeoJSON.

Prints seconds beside the promise of each. Run with `python benchmarks/regions.py`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from napari_prospector.study.annotations import Region
from napari_prospector.study.geojson import read_geojson, write_geojson
from napari_prospector.study.outlines import outlines, threshold_regions
from napari_prospector.study.region_tokens import region_truth, tokens_of
from napari_prospector.tokens.geometry import GridGeometry


def hand_drawn(n_regions: int, extent_px: float, n_points: int = 1000) -> list[Region]:
    """Return wobbly closed outlines, every other one of either class."""
    random, turn = np.random.default_rng(0), np.linspace(0, 2 * np.pi, n_points, endpoint=False)
    regions = []
    for number in range(n_regions):
        radius = (
            random.uniform(0.03, 0.15) * extent_px * (1 + 0.2 * np.sin(7 * turn) + 0.02 * random.normal(size=n_points))
        )
        ring = random.uniform(0, extent_px, 2) + radius[:, None] * np.stack([np.sin(turn), np.cos(turn)], axis=1)
        regions.append(Region(((ring,),), ("tumour", "stroma")[number % 2]))
    return regions


def seconds(work: Callable[[], Any]) -> float:
    """Return the best of three runs, the first of which compiles."""
    spent = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return min(spent)


def main() -> None:
    """Measure and print."""
    small, large = (GridGeometry(n, n, tile=448, stride=448, origin=(0, 0), slide_mpp=0.25) for n in (320, 1000))
    regions = hand_drawn(100, 320 * 448)
    field = gaussian_filter(np.random.default_rng(1).normal(size=large.shape), 2)
    noise = np.random.default_rng(2).random(large.shape) < 0.5
    rows: list[tuple[str, float, float | None]] = [
        (
            "100 regions of 1,000 points on 102,400 tokens: which token in which",
            seconds(lambda: tokens_of(regions, small)),
            1,
        ),
        (
            "the same as truth",
            seconds(lambda: region_truth(regions, "tumour", small, np.ones(small.shape, bool))),
            None,
        ),
        ("outlines of 1 million tokens, each drawn by a coin", seconds(lambda: outlines(noise, large, "tumour")), 2),
        ("outlines of 1 million tokens, smooth", seconds(lambda: outlines(field > 0, large, "tumour")), 2),
        ("the same, simplified to a tile's width", seconds(lambda: outlines(field > 0, large, "tumour", 112)), None),
        ("the same, ranked with scores", seconds(lambda: threshold_regions(field, 0, large, "tumour")), None),
    ]
    with tempfile.TemporaryDirectory() as folder:
        path, drawn = Path(folder, "a.geojson"), outlines(field > 0, large, "tumour")
        rows.append((f"GeoJSON of {len(drawn):,} outlines, written", seconds(lambda: write_geojson(path, drawn)), None))
        rows.append(("the same, read", seconds(lambda: read_geojson(path)), None))
    for name, spent, promise in rows:
        print(f"{name}: {spent:.2f} s" + (f" (promise: {promise:g} s)" if promise else ""))


if __name__ == "__main__":
    main()
