"""Patch tokens against tile tokens on mosaics of real tissue, judged pixel by pixel.

Promise: with MobileNetV2's weights, the map of the last feature map (32 px) finds the boundary of the tissue of a class
better than the map of tiles (224 px).

Slides are mosaics of EBHI-Seg pictures (`napari_prospector.tokens.mosaics`), cut so that no tile is one picture. The
truth of a slide is, pixel by pixel, what the masks of EBHI-Seg mark in its pictures of the class. Both kinds of tokens
come from the same forward pass through `embed_slide`: a tile token is the mean of its patches, which is what the
network pools. Heads are fitted with defaults on labels of slides alone, and drawn with the map that they choose.

- AP: average precision over every fourth pixel along each axis, the mean of the positive test slides.
- boundary AP: the same among the pixels that lie at most 16 px from the edge of the truth; needs no threshold.
- region Dice: Dice of map and truth. A map is cut at the threshold that gives the best mean region Dice on the positive
  training slides; no test slide has a part in it. (The best boundary Dice there would be that of everything, 0.67.)
- boundary Dice: Dice among the pixels at most 16 px from the edge, at that threshold.

"everything" is a map that calls all pixels positive: what knowing nothing scores.

"tile, interpolated" is the map of tiles drawn bilinearly: finer to look at, with nothing new in it. Differences are
paired by slide; intervals are bootstrapped over pools of patients, which never cross from training to test.

    python benchmarks/patch_tokens.py                                     # needs ../shared/data
    python benchmarks/patch_tokens.py --seeds 1 --train 8 --test 4        # a short run
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import average_precision_score

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # `benchmarks` is not installed

from benchmarks.tasks.histology import encoder_of  # noqa: E402
from napari_prospector.core.bootstrap import paired_difference  # noqa: E402
from napari_prospector.core.graph import grid_graph  # noqa: E402
from napari_prospector.core.head import ProspectorHead  # noqa: E402
from napari_prospector.tokens.embed import embed_to_grid  # noqa: E402
from napari_prospector.tokens.encoders.cards import Encoder  # noqa: E402
from napari_prospector.tokens.encoders.chosen_tokens import choose_tokens  # noqa: E402
from napari_prospector.tokens.encoders.projection import PcaSample  # noqa: E402
from napari_prospector.tokens.mosaics import (  # noqa: E402
    CELL_PX,
    NOMINAL_MPP,
    MosaicLayout,
    MosaicSlide,
    mosaic_layout,
    read_picture,
)
from napari_prospector.tokens.pyramid import write_pyramid  # noqa: E402
from napari_prospector.tokens.slides import open_slide  # noqa: E402
from napari_prospector.tokens.tissue import tissue_mask  # noqa: E402

TASKS = ("adenocarcinoma", "high-grade")
POOLS = (4, 4)
OFFSET = (101, 67)  # px by which the slides are cut out of the mosaic
BAND_PX, STEP_PX, PCA_DIMS = 16, 4, 64
METHODS = ("everything", "tile", "tile, interpolated", "patch", f"patch, pca:{PCA_DIMS}")
MEASURES = ("ap", "boundary_ap", "boundary_dice", "region_dice")

Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Embedded:
    """A slide: patch tokens (rows, cols, n_dims), and every fourth pixel of truth and of the band round its edge."""

    plan: MosaicSlide
    patches: NDArray[np.float32]
    truth: Mask
    band: Mask

    @property
    def tiles(self) -> NDArray[np.float32]:
        """Tile tokens (rows, cols, n_dims): means of patches, which is what the network pools."""
        side = CELL_PX // 32
        rows, cols, n_dims = self.patches.shape
        return self.patches.reshape(rows // side, side, cols // side, side, n_dims).mean(axis=(1, 3))


def stitched(layout: MosaicLayout, slide: MosaicSlide) -> tuple[NDArray[np.uint8], Mask]:
    """Return the pixels of a slide, and which of them are of the class."""
    rows, cols = slide.pictures.shape
    image = np.empty((rows * CELL_PX, cols * CELL_PX, 3), np.uint8)
    truth = np.zeros(image.shape[:2], bool)
    for (row, col), index in np.ndenumerate(slide.pictures):
        cell = slice(row * CELL_PX, (row + 1) * CELL_PX), slice(col * CELL_PX, (col + 1) * CELL_PX)
        image[cell] = read_picture(layout, int(index))
        if slide.truth[row, col]:
            name = layout.pictures[index].image.replace("image/", "label/", 1)
            truth[cell] = imagecodecs.png_decode((layout.folder / name).read_bytes()) > 127
    inner = tuple(slice(start, start + (n - 1) * CELL_PX) for start, n in zip(OFFSET, (rows, cols), strict=True))
    return image[inner], truth[inner]


def embedded(layout: MosaicLayout, slide: MosaicSlide, encoder: Encoder, folder: Path) -> Embedded:
    """Write a slide, embed it, and look at its truth."""
    image, truth = stitched(layout, slide)
    path = write_pyramid(folder / f"{slide.name}.tif", image, NOMINAL_MPP)
    with open_slide(path) as opened:
        tissue = tissue_mask(opened, method="all")
        with embed_to_grid(
            opened, encoder, folder / f"{slide.name}.tokens.zarr", tissue=tissue, min_coverage=0
        ) as grid:
            patches = np.asarray(grid.embeddings[:], np.float32)
    outside, inside = ndimage.distance_transform_edt(~truth), ndimage.distance_transform_edt(truth)
    near = np.where(truth, inside, outside) <= BAND_PX if truth.any() else np.zeros_like(truth)
    first = STEP_PX // 2
    return Embedded(slide, patches, truth[first::STEP_PX, first::STEP_PX], near[first::STEP_PX, first::STEP_PX])


def drawn(scores: Scores, cell_px: int, shape: tuple[int, int], *, smooth: bool) -> Scores:
    """Draw scores (rows, cols) of cells on every fourth pixel, as they are or interpolated."""
    places = [np.arange(STEP_PX // 2, n * STEP_PX, STEP_PX) for n in shape]
    if not smooth:
        return scores[np.ix_(*(place // cell_px for place in places))]
    centres = np.meshgrid(*((place + 0.5) / cell_px - 0.5 for place in places), indexing="ij")
    return np.asarray(ndimage.map_coordinates(scores, centres, order=1, mode="nearest"))


def dice(chosen: Mask, truth: Mask) -> float:
    """Return the Dice coefficient of two masks."""
    return float(2 * (chosen & truth).sum() / max(chosen.sum() + truth.sum(), 1))


def best_threshold(maps: list[Scores], slides: list[Embedded]) -> float:
    """Return the threshold that gives the best mean Dice."""
    candidates = np.quantile(np.concatenate([one.ravel()[::7] for one in maps]), np.linspace(0.02, 0.998, 150))
    pairs = list(zip(maps, slides, strict=True))
    means = [np.mean([dice(one >= threshold, slide.truth) for one, slide in pairs]) for threshold in candidates]
    return float(candidates[int(np.argmax(means))])


def maps_of(
    slides: list[Embedded], tokens: Callable[[Embedded], NDArray[np.float32]], n_train: int
) -> tuple[list[Scores], str]:
    """Fit a head on the first slides and return the scores (rows, cols) of all, and which map they are."""
    graphs = []
    for slide in slides:
        vectors = tokens(slide)
        graphs.append(grid_graph(np.ones(vectors.shape[:2], bool), vectors.reshape(-1, vectors.shape[2])))
    labels = [slide.plan.label for slide in slides]
    head = ProspectorHead(positive=next(label for label in labels if label != "negative"))
    head.fit(graphs[:n_train], labels[:n_train], [slide.plan.group for slide in slides[:n_train]])
    shape = tokens(slides[0]).shape[:2]
    return [head.prospect(graph).reshape(shape) for graph in graphs], head.best_map_


def measured(slides: list[Embedded], maps: list[Scores], n_train: int) -> dict[str, list[float]]:
    """Measure maps, on every fourth pixel, on the positive test slides."""
    positive = [number for number, slide in enumerate(slides) if slide.truth.any()]
    train, test = [n for n in positive if n < n_train], [n for n in positive if n >= n_train]
    threshold = best_threshold([maps[n] for n in train], [slides[n] for n in train])
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    for number in test:
        slide, scores = slides[number], maps[number]
        found["ap"].append(float(average_precision_score(slide.truth.ravel(), scores.ravel())))
        band = slide.band
        found["boundary_ap"].append(float(average_precision_score(slide.truth[band], scores[band])))
        found["boundary_dice"].append(dice((scores >= threshold)[band], slide.truth[band]))
        found["region_dice"].append(dice(scores >= threshold, slide.truth))
    return found


def compare(layout: MosaicLayout, encoder: Encoder, n_train: int) -> tuple[dict[str, Any], list[str]]:
    """Return the measures of every method on one cohort, and the group of each positive test slide."""
    with tempfile.TemporaryDirectory() as name:
        slides = [embedded(layout, slide, encoder, Path(name)) for slide in layout.slides]
    sample = PcaSample()
    for slide in slides[:n_train]:
        sample.add(slide.patches.reshape(-1, slide.patches.shape[2]))
    projection = sample.projection(PCA_DIMS, encoder.card)
    found: dict[str, Any] = {"pca_explained": projection.explained, "map": {}, "measures": {}}
    sources: dict[str, tuple[Callable[[Embedded], NDArray[np.float32]], int]] = {
        "tile": (lambda slide: slide.tiles, CELL_PX),
        "patch": (lambda slide: slide.patches, 32),
        f"patch, pca:{PCA_DIMS}": (lambda slide: projection.apply(slide.patches), 32),
    }
    nothing = [np.zeros(slide.truth.shape) for slide in slides]
    found["measures"]["everything"] = measured(slides, nothing, n_train)
    for method, (tokens, cell_px) in sources.items():
        scores, found["map"][method] = maps_of(slides, tokens, n_train)
        for smooth in (False, True) if method == "tile" else (False,):
            maps = [drawn(one, cell_px, s.truth.shape, smooth=smooth) for one, s in zip(scores, slides, strict=True)]
            found["measures"][method + ", interpolated" * smooth] = measured(slides, maps, n_train)
    return found, [slide.plan.group for slide in slides[n_train:] if slide.truth.any()]


def summary(runs: list[dict[str, Any]], groups: list[str]) -> dict[str, Any]:
    """Return means and paired differences with intervals over all seeds of a task."""
    values = {
        method: {name: np.concatenate([run["measures"][method][name] for run in runs]) for name in MEASURES}
        for method in METHODS
    }
    return {
        "n_slides": len(groups),
        "n_groups": len(set(groups)),
        "pca_explained": [run["pca_explained"] for run in runs],
        "maps": [run["map"] for run in runs],
        "means": {m: {name: float(values[m][name].mean()) for name in MEASURES} for m in METHODS},
        "by_seed": {m: {n: [float(np.mean(r["measures"][m][n])) for r in runs] for n in MEASURES} for m in METHODS},
        "differences": {
            f"{m} - {other}": {
                name: list(paired_difference(values[m][name], values[other][name], groups, 2000)) for name in MEASURES
            }
            for other in METHODS[1:3]
            for m in METHODS[3:]
        },
    }


def as_markdown(results: dict[str, Any]) -> str:
    """Write the results for a reader."""
    lines = ["# Patch tokens against tile tokens, pixel by pixel", "", "Made by `benchmarks/patch_tokens.py`.", ""]
    for task, found in results["tasks"].items():
        about = f"{found['n_slides']} positive test slides of {found['n_groups']} pools of patients"
        lines += [
            f"## {task}: {about}",
            "",
            "| method | AP | boundary AP | boundary Dice | region Dice |",
            "|---|---|---|---|---|",
        ]
        for method, means in found["means"].items():
            lines.append(f"| {method} | " + " | ".join(f"{means[name]:.3f}" for name in MEASURES) + " |")
        lines += ["", "| paired difference | AP | boundary AP | boundary Dice | region Dice |", "|---|---|---|---|---|"]
        for pair, by_measure in found["differences"].items():
            cells = (by_measure[name] for name in MEASURES)
            lines.append(
                f"| {pair} | " + " | ".join(f"{v:+.3f} [{low:+.3f}, {high:+.3f}]" for v, low, high in cells) + " |"
            )
        lines.append("")
    about = results["settings"]
    lines.append(
        f"{about['train']} training and {about['test']} test slides of {about['cells']} x {about['cells']} pictures,"
        f" seeds 0 to {about['seeds'] - 1}; {about['seconds']:.0f} s. 95 % intervals over pools."
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run every task and seed, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("seeds", 3), ("train", 12), ("test", 8), ("cells", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--shared", type=Path, default=REPOSITORY.parent / "shared")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks" / "results" / "patch_tokens.json")
    options = parser.parse_args()
    started = time.perf_counter()
    encoder = choose_tokens(encoder_of("MobileNetV2", options.shared))
    settings = {name: getattr(options, name) for name in ("seeds", "train", "test", "cells")}
    results: dict[str, Any] = {"settings": settings, "tasks": {}}
    for task in options.tasks:
        runs, groups = [], []
        for seed in range(options.seeds):
            folder = options.shared / "data" / "histology" / "ebhi"
            sizes = options.train, options.test, options.cells + 1, seed
            run, pools = compare(mosaic_layout(folder, task, *sizes, n_pools=POOLS), encoder, options.train)
            runs.append(run)
            groups += [f"seed {seed}, {pool}" for pool in pools]
            means = {m: {n: round(float(np.mean(v)), 3) for n, v in ms.items()} for m, ms in run["measures"].items()}
            print(json.dumps({"task": task, "seed": seed, **means}), file=sys.stderr, flush=True)
        results["tasks"][task] = summary(runs, groups)
    results["settings"] |= {"seconds": time.perf_counter() - started, "cpus": os.cpu_count()}
    options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    options.output.with_suffix(".md").write_text(as_markdown(results), encoding="utf-8")
    print(as_markdown(results))


if __name__ == "__main__":
    main()
