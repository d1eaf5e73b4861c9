"""How well the quality flags find planted artefacts, and what measuring costs.

Marker, blur, folds and rims are planted (`tokens.artefacts`) into drawn slides, and into mosaics of real colorectal
tissue (EBHI-Seg). Thresholds were chosen on one half of the patients and on other drawn slides; reported is the other
half. A tile counts as bad from a share of the artefact on (`LEAST`), as sound with none of it, and is left out between.

    python benchmarks/quality.py --slides 6
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.tokens.artefacts import plant_artefacts
from napari_prospector.tokens.generate import draw_slide
from napari_prospector.tokens.pyramid import write_pyramid
from napari_prospector.tokens.quality import MEASURES, THRESHOLDS
from napari_prospector.tokens.slides import open_slide
from napari_prospector.tokens.tilequality import QualityGauge
from napari_prospector.tokens.tissue import tile_coverage, tissue_mask

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("PROSPECTOR_SHARED", REPOSITORY.parent / "shared"))
TILE_PX, MPP, CELLS = 224, 0.5, 8
SEED = 10_000  # of slides that nobody looked at while thresholds were chosen
LEAST = {"pen": 0.1, "blur": 0.5, "fold": 0.2, "bubble": 0.06}


def mosaic(folder: Path, half: int, seed: int) -> NDArray[np.uint8]:
    """Stitch pictures of the patients of one half."""
    import imagecodecs

    with (folder / "manifest.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if half_of(row["patient"]) == half]
    chosen = np.random.default_rng((seed, half)).choice(len(rows), CELLS * CELLS, replace=False)
    pictures = [imagecodecs.png_decode((folder / rows[i]["image"]).read_bytes()) for i in chosen]
    lines = [np.concatenate(pictures[i : i + CELLS], axis=1) for i in range(0, len(pictures), CELLS)]
    return np.concatenate(lines)


def half_of(patient: str) -> int:
    """Assign a patient to a half, always the same."""
    return hashlib.sha256(patient.encode()).digest()[-1] % 2


def measured(image: NDArray[np.uint8], folder: Path) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the quality (n, n_measures) of the tiles of a picture, and which of them hold tissue (n,)."""
    from napari_prospector.tokens.geometry import GridGeometry

    path = write_pyramid(folder / "slide.tif", image, MPP)
    rows, cols = (extent // TILE_PX for extent in image.shape[:2])
    grid = GridGeometry(rows, cols, TILE_PX, TILE_PX, (0, 0), MPP)
    with open_slide(path) as slide:
        tissue = tissue_mask(slide, exclude_ink=False)
        pixels = slide.read(0, 0, rows * TILE_PX, cols * TILE_PX)
    tiles = pixels.reshape(rows, TILE_PX, cols, TILE_PX, 3).swapaxes(1, 2).reshape(-1, TILE_PX, TILE_PX, 3)
    quality = QualityGauge(tissue.light, tissue.density).measure(np.ascontiguousarray(tiles), MPP)
    return quality, tile_coverage(tissue, grid).ravel() >= 0.25


def planted(kind: str, half: int, n_slides: int, folder: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return quality and shares of artefacts, (n, n_measures) each, of tiles with tissue on planted slides."""
    found, truths = [], []
    for number in range(n_slides):
        seed = SEED + 1000 * half + number
        drawn = kind == "drawn"
        image = (
            draw_slide(seed, number % 2 == 0, (3136, 3136), MPP).image
            if drawn
            else mosaic(SHARED / "data" / "histology" / "ebhi", half, seed)
        )
        made = plant_artefacts(image, seed, MPP)
        quality, tissue = measured(made.image, folder)
        shares = made.shares(TILE_PX)
        found.append(quality[tissue])
        truths.append(np.stack([shares[name].ravel() for name in MEASURES], axis=1)[tissue])
    return np.concatenate(found), np.concatenate(truths)


def judged(quality: NDArray[np.float32], shares: NDArray[np.float64], thresholds: dict[str, float]) -> dict[str, Any]:
    """Return precision and recall of each flag, and how often it is set on tiles without any artefact."""
    clean = (shares == 0).all(axis=1)
    result = {}
    for i, name in enumerate(MEASURES):
        is_bad, is_sound, flags = shares[:, i] >= LEAST[name], shares[:, i] == 0, quality[:, i] > thresholds[name]
        hits, others = int((flags & is_bad).sum()), int((flags & is_sound).sum())
        result[name] = {
            "n_bad": int(is_bad.sum()),
            "n_sound": int(is_sound.sum()),
            "n_clean": int(clean.sum()),
            "precision": round(hits / max(1, hits + others), 3),
            "precision_beside_clean": round(hits / max(1, hits + int((flags & clean).sum())), 3),
            "recall": round(hits / max(1, int(is_bad.sum())), 3),
            "flagged_of_clean": round(float(flags[clean].mean()), 3),
        }
    return result


def best(quality: NDArray[np.float32], shares: NDArray[np.float64]) -> dict[str, float]:
    """Return the thresholds with the greatest F1."""
    chosen = {}
    for i, name in enumerate(MEASURES):
        is_bad, is_sound = shares[:, i] >= LEAST[name], shares[:, i] == 0
        steps = np.concatenate([np.linspace(0, 0.2, 81), np.linspace(0.2, 1, 161)[1:-1]])
        hits = np.array([(quality[is_bad, i] > step).sum() for step in steps])
        others = np.array([(quality[is_sound, i] > step).sum() for step in steps])
        chosen[name] = float(steps[np.argmax(2 * hits / (hits + others + is_bad.sum()))])
    return chosen


def cost() -> dict[str, float]:
    """Return ms per tile of measuring, and of the fastest encoder, one thread."""
    from napari_prospector import load_encoder

    image = draw_slide(1, True, (3136, 3136), MPP).image
    tiles = image.reshape(14, TILE_PX, 14, TILE_PX, 3).swapaxes(1, 2).reshape(-1, TILE_PX, TILE_PX, 3)[60:92].copy()
    encoder, gauge = load_encoder("stain-texture"), QualityGauge(tissue_density=0.2)
    seconds = {}
    for name, call in (
        ("quality", lambda: gauge.measure(tiles, MPP)),
        ("stain-texture", lambda: encoder.encode(tiles)),
    ):
        call()
        times = []
        for _ in range(5):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        seconds[name] = 1000 * min(times) / len(tiles)
    return {"quality_ms": seconds["quality"], "stain_texture_ms": seconds["stain-texture"]}


def main() -> None:
    """Parse the command line, measure, and write the results."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, default=6, help="of each kind and half")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "quality.json")
    asked = parser.parse_args()
    kinds = ["drawn"] + (["real mosaics"] if (SHARED / "data" / "histology" / "ebhi").is_dir() else [])
    results: dict[str, Any] = {
        "python": platform.python_version(),
        "slides": asked.slides,
        "thresholds": dict(THRESHOLDS),
    }
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            chosen_on = planted(kind, 0, asked.slides, Path(folder))
            reported = planted(kind, 1, asked.slides, Path(folder))
            results[kind] = {
                "best_thresholds_of_the_choosing_half": best(*chosen_on),
                "choosing_half": judged(*chosen_on, dict(THRESHOLDS)),
                "reported": judged(*reported, dict(THRESHOLDS)),
            }
    results |= cost()
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(results, indent=2) + "\n")
    asked.out.with_suffix(".md").write_text(table(results, kinds))
    print(table(results, kinds))


def table(results: dict[str, Any], kinds: list[str]) -> str:
    """Return the figures as Markdown."""
    lines = ["| flag | on | precision | precision beside clean tiles | recall | flagged of clean tiles | bad tiles |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for name in MEASURES:
        for kind in kinds:
            row = results[kind]["reported"][name]
            figures = ("precision", "precision_beside_clean", "recall", "flagged_of_clean")
            lines.append(
                f"| {name} | {kind} | " + " | ".join(f"{row[key]:.2f}" for key in figures) + f" | {row['n_bad']} |"
            )
    lines.append("")
    lines.append(
        f"Measuring takes {results['quality_ms']:.2f} ms per tile of 224 px and thread; `stain-texture`"
        f" takes {results['stain_texture_ms']:.2f}."
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
