"""Seconds to find the tissue of a slide, and the ratio to just reading that level.

Promise: a mask at about 8 µm per pixel in at most 1 s for a slide that has a pyramid. Slides are drawn pyramids at
0.5 µm per pixel; drawing the one of 100,000 px takes half an hour and 4 GB, so slides may be kept with --folder.

    python benchmarks/tissue.py --sizes 20000 --folder /somewhere
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from napari_prospector.tokens.generate import draw_bands
from napari_prospector.tokens.pyramid import write_pyramid
from napari_prospector.tokens.slides import open_slide
from napari_prospector.tokens.tissue import tissue_mask

REPOSITORY = Path(__file__).resolve().parents[1]
MPP, MASK_MPP = 0.5, 8.0


def quickest(call: Callable[[], Any], times: int) -> tuple[float, Any]:
    """Return the least seconds of some calls, and what the last one gave."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def find(path: Path) -> Any:
    """Open a slide and find its tissue, nothing kept from before."""
    with open_slide(path) as slide:
        return tissue_mask(slide, MASK_MPP)


def read_with_openslide(path: Path) -> None:
    """Read the level that the mask is made of, as a whole."""
    import openslide

    with openslide.OpenSlide(str(path)) as slide:
        level = slide.get_best_level_for_downsample(MASK_MPP / MPP * 1.01)
        np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]))


def read_with_tifffile(path: Path) -> None:
    """Read it through tifffile's zarr."""
    import tifffile
    import zarr

    levels = zarr.open(tifffile.imread(path, aszarr=True), mode="r")
    np.asarray(levels[str(round(np.log2(MASK_MPP / MPP)))][:])


def measure(side: int, folder: Path, times: int) -> dict[str, Any]:
    """Measure one slide, drawn unless it is there."""
    path = folder / f"{side}px-{MPP}um-seed0.tif"
    if not path.exists():
        write_pyramid(path, draw_bands(0, (side, side), MPP), MPP, shape=(side, side))
    seconds, tissue = quickest(lambda: find(path), times)
    result: dict[str, Any] = {"side_px": side, "seconds": round(seconds, 3), "mask_mpp": tissue.mask_mpp}
    result |= {"cells": int(tissue.mask.size), "tissue_share": round(tissue.share, 3)}
    for name, read in (("openslide", read_with_openslide), ("tifffile", read_with_tifffile)):
        try:
            alone, _ = quickest(lambda: read(path), times)
        except ImportError:
            continue
        result |= {f"{name}_reading_s": round(alone, 3), f"over_{name}_reading": round(seconds / alone, 2)}
    return result


def table(slides: list[dict[str, Any]]) -> str:
    """Return the figures as Markdown."""
    lines = [
        "| slide | mask | seconds | over reading by openslide | over reading by tifffile |",
        "|---|---|---|---|---|",
    ]
    for slide in slides:
        over = [slide.get(f"over_{name}_reading", "–") for name in ("openslide", "tifffile")]
        size = f"{slide['side_px']:,} px | {slide['cells'] / 1e6:.1f} million cells of {slide['mask_mpp']:g} µm"
        lines.append(f"| {size} | {slide['seconds']:.2f} | {over[0]} | {over[1]} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the command line, measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 50_000, 100_000])
    parser.add_argument("--times", type=int, default=5, help="calls, of which the quickest counts")
    parser.add_argument("--folder", type=Path, help="where slides are drawn and kept; default: a temporary one")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "tissue.json")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        slides = [measure(side, asked.folder or Path(temporary), asked.times) for side in asked.sizes]
    results = {"python": platform.python_version(), "cores": os.cpu_count(), "load_at_end": os.getloadavg()[0]}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(results | {"slides": slides}, indent=2) + "\n")
    asked.out.with_suffix(".md").write_text(table(slides))
    print(table(slides))


if __name__ == "__main__":
    main()
