"""Reading all tiles of a slide, against openslide-python on the same file.

Promise: on a generated 20,480 px JPEG SVS with tiles of 256 px, one thread, no warm cache of our own, all tiles of
256 px are read at least 4 times as fast as openslide-python reads them on a grid aligned with the file's tiles, and at
least twice as fast on one that is 77 px off.

Each run opens the file anew, so neither side finds anything decoded; the file itself is in the system's cache for both.
The runs of a pair follow each other and the order turns from pair to pair; what counts is the median of the ratios of
the pairs. On a busy machine the ratio of the seconds of CPU is steadier, and stands beside it. `tile by tile` is one
call of `Slide.read` per tile, against one of `read_region` and numpy's array of it. `as the pipeline` is what embedding
does: the parts of `TileReader`, which read large boxes and cut the tiles out.

    python benchmarks/read_tiles.py [--side 4096] [--layouts ycbcr-420]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
TILE_PX = 256
SHIFT_PX = 77
BLOCK = 16  # tiles along each side of what embedding stores at once
BARS = {"aligned": 4.0, "unaligned": 2.0}
MPP = 0.5
# How Aperio's scanners and their successors store tiles: RGB as it is, or luma and chroma of several finenesses.
LAYOUTS: dict[str, dict[str, Any]] = {
    "rgb": {"compressionargs": {"level": 80, "outcolorspace": "rgb"}},
    "ycbcr-422": {"compressionargs": {"level": 80}, "subsampling": (2, 1)},
    "ycbcr-420": {"compressionargs": {"level": 80}, "subsampling": (2, 2)},
}
DESCRIPTION = "Aperio Image Library v12.0.15\n{side}x{side} (256x256) JPEG/RGB Q=80|AppMag = 20|MPP = 0.5"


def tiles(side: int, seed: int) -> Iterator[np.ndarray]:
    """Draw a slide band by band and yield its tiles, row by row."""
    from napari_prospector.tokens.generate import draw_bands

    waiting = np.empty((0, side, 3), np.uint8)
    for band in draw_bands(seed, (side, side), MPP):
        waiting = np.concatenate([waiting, band])
        while len(waiting) >= TILE_PX:
            for col in range(0, side, TILE_PX):
                yield np.ascontiguousarray(waiting[:TILE_PX, col : col + TILE_PX])
            waiting = waiting[TILE_PX:]


def write_svs(path: Path, side: int, seed: int, layout: dict[str, Any]) -> None:
    """Write an SVS of one level; side must be a multiple of the tiles'."""
    import tifffile

    with tifffile.TiffWriter(path, bigtiff=side > 40_000) as writer:
        writer.write(
            tiles(side, seed),
            shape=(side, side, 3),
            dtype=np.uint8,
            photometric="rgb",
            tile=(TILE_PX, TILE_PX),
            compression="jpeg",
            description=DESCRIPTION.format(side=side),
            metadata=None,
            **layout,
        )


def places(side: int, shift: int) -> Iterator[tuple[int, int]]:
    """Yield the corners of all whole tiles of a grid, row by row."""
    for row in range(shift, side - TILE_PX + 1, TILE_PX):
        for col in range(shift, side - TILE_PX + 1, TILE_PX):
            yield row, col


def ours(path: Path, side: int, shift: int) -> int:
    """Read tile by tile."""
    from napari_prospector.tokens.slides import open_slide

    total = 0
    with open_slide(path) as slide:
        for row, col in places(side, shift):
            total += slide.read(row, col, TILE_PX, TILE_PX).nbytes
    return total


def pipeline(path: Path, side: int, shift: int) -> int:
    """Read as embedding does."""
    from napari_prospector.tokens.geometry import GridGeometry
    from napari_prospector.tokens.slides import open_slide
    from napari_prospector.tokens.tilereader import TileReader

    total = 0
    with open_slide(path) as slide:
        n = (side - shift) // TILE_PX
        geometry = GridGeometry(n, n, TILE_PX, TILE_PX, (shift, shift), MPP, TILE_PX)
        reader = TileReader(slide, geometry)
        for row in range(0, n, BLOCK):
            for col in range(0, n, BLOCK):
                block = np.ones((min(BLOCK, n - row), min(BLOCK, n - col)), bool)
                for part in reader.parts(np.argwhere(block) + (row, col)):
                    total += reader.read(part).pixels.nbytes
    return total


def theirs(path: Path, side: int, shift: int) -> int:
    """Read tile by tile with openslide-python."""
    import openslide

    total = 0
    with openslide.OpenSlide(path) as slide:
        for row, col in places(side, shift):
            total += np.asarray(slide.read_region((col, row), 0, (TILE_PX, TILE_PX)))[..., :3].nbytes
    return total


def seconds(read: Callable[[Path, int, int], int], path: Path, side: int, shift: int) -> tuple[float, float]:
    """Time one run, by the clock and by the CPU; all must read the same number of bytes."""
    start, start_cpu = time.perf_counter(), time.process_time()
    total = read(path, side, shift)
    taken = time.perf_counter() - start, time.process_time() - start_cpu
    assert total == sum(3 * TILE_PX**2 for _ in places(side, shift))
    return taken


def compared(path: Path, side: int, shift: int, n_pairs: int) -> dict[str, Any]:
    """Time both in turn."""
    found: dict[str, Any] = {}
    n_tiles = sum(1 for _ in places(side, shift))
    for name, read in (("tile by tile", ours), ("as the pipeline", pipeline)):
        pairs = []
        for pair in range(n_pairs):
            order = (read, theirs) if pair % 2 == 0 else (theirs, read)
            taken = {each: seconds(each, path, side, shift) for each in order}
            pairs.append((taken[read], taken[theirs]))
        ratios = [other[0] / own[0] for own, other in pairs]
        found[name] = {
            "ratio": round(statistics.median(ratios), 2),
            "ratios": [round(ratio, 2) for ratio in sorted(ratios)],
            "ratio_cpu": round(statistics.median(other[1] / own[1] for own, other in pairs), 2),
            "tiles_per_s": round(statistics.median(n_tiles / own[0] for own, _ in pairs)),
            "openslide_tiles_per_s": round(statistics.median(n_tiles / other[0] for _, other in pairs)),
        }
    return found


def agree(path: Path, side: int) -> None:
    """Refuse to time files that are not read alike."""
    import openslide

    from napari_prospector.tokens.slides import open_slide

    rng = np.random.default_rng(0)
    with open_slide(path) as slide, openslide.OpenSlide(path) as other:
        for row, col in rng.integers(0, side - TILE_PX, (50, 2)).tolist():
            pixels = np.asarray(other.read_region((col, row), 0, (TILE_PX, TILE_PX)))[..., :3]
            np.testing.assert_array_equal(slide.read(row, col, TILE_PX, TILE_PX), pixels)


def commit() -> str:
    """Name the state of the code."""
    git = ["git", "-C", str(REPOSITORY)]
    head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "status", "--porcelain", "src"], capture_output=True, text=True, check=False)
    return head.stdout.strip() + (" with changes" if changed.stdout.strip() else "")


def table(results: dict[str, Any]) -> str:
    """Write the ratios as Markdown."""
    lines = [
        f"# Reading all tiles of {TILE_PX} px of a {results['side_px']:,} px JPEG SVS, one thread",
        "",
        f"Median of {results['pairs']} paired runs; openslide {results['openslide']}, {results['cores']} cores, code"
        f" {results['commit']}. Bars: aligned {BARS['aligned']:g} ×, {SHIFT_PX} px off {BARS['unaligned']:g} ×.",
        "",
        "| tiles of the file | grid | how | × openslide-python | the same in CPU time | tiles/s | its tiles/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for layout, grids in results["layouts"].items():
        for grid, ways in grids.items():
            for way, found in ways.items():
                lines.append(
                    f"| {layout} | {grid} | {way} | {found['ratio']:.2f} | {found['ratio_cpu']:.2f} |"
                    f" {found['tiles_per_s']:,} | {found['openslide_tiles_per_s']:,} |"
                )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the command line, measure, and write the results."""
    import openslide

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=20_480, help="px, a multiple of 256")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "read_tiles")
    asked = parser.parse_args()
    results: dict[str, Any] = {
        "commit": commit(),
        "side_px": asked.side,
        "pairs": asked.pairs,
        "seed": asked.seed,
        "python": platform.python_version(),
        "openslide": f"{openslide.__version__} (library {openslide.__library_version__})",
        "cores": os.cpu_count(),
        "layouts": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for layout in asked.layouts:
            path = Path(folder) / f"{layout}.svs"
            write_svs(path, asked.side, asked.seed, LAYOUTS[layout])
            agree(path, asked.side)
            grids = {"aligned": 0, f"{SHIFT_PX} px off": SHIFT_PX}
            results["layouts"][layout] = {
                grid: compared(path, asked.side, shift, asked.pairs) for grid, shift in grids.items()
            }
            path.unlink()
    results["load_at_end"] = os.getloadavg()[0]
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")
    asked.out.with_suffix(".md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
