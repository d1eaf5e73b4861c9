"""`stain-texture`: tiles of 224 px a second of one core, beside two named limits in the same run.

    python benchmarks/encoder_speed.py

The limits: decoding the same tiles from JPEG (what any pipeline must do), and scikit-image's `rgb2hed` alone (stain
separation without a single texture). Promise: at least 150 tiles a second and core. Seconds are
those of the processor, over all threads.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
from skimage.color import rgb2hed

from napari_prospector.tokens.encoders.cards import load_encoder
from napari_prospector.tokens.generate import draw_slide

REPOSITORY = Path(__file__).resolve().parents[1]
BAR_TILES_PER_SECOND = 150.0
SEED, N_TILES, N_REPEATS = 0, 64, 5


def tiles_per_second(work: Callable[[], object]) -> float:
    """Return the median over repeats, in seconds of the processor, after one call that is not counted."""
    work()
    speeds = []
    for _ in range(N_REPEATS):
        started = time.process_time()
        work()
        speeds.append(N_TILES / (time.process_time() - started))
    return statistics.median(speeds)


def main() -> None:
    """Measure and write."""
    image = draw_slide(SEED, True, (2240, 2240), 1.0).image
    cells = image[: 10 * 224, : 10 * 224].reshape(10, 224, 10, 224, 3).swapaxes(1, 2).reshape(-1, 224, 224, 3)
    # the middle of the slide is tissue, its rim is glass
    tiles = np.ascontiguousarray(cells[18 : 18 + N_TILES])
    jpegs = [imagecodecs.jpeg_encode(tile, level=90) for tile in tiles]
    encoder = load_encoder("stain-texture")
    speeds = {
        "stain-texture": tiles_per_second(lambda: encoder.encode(tiles)),
        "JPEG decoding": tiles_per_second(lambda: [imagecodecs.jpeg_decode(jpeg) for jpeg in jpegs]),
        "rgb2hed": tiles_per_second(lambda: [rgb2hed(tile) for tile in tiles]),
    }
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    record = {
        "tiles_per_cpu_second": speeds,
        "ratio_to_rgb2hed": speeds["stain-texture"] / speeds["rgb2hed"],
        "ratio_to_jpeg_decoding": speeds["stain-texture"] / speeds["JPEG decoding"],
        "share_of_bar": speeds["stain-texture"] / BAR_TILES_PER_SECOND,
        "seed": SEED,
        "commit": commit.stdout.strip(),
    }
    print(json.dumps(record, indent=1))
    output = REPOSITORY / "benchmarks" / "results" / "encoder_speed.json"
    output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
