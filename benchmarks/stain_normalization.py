"""What stain normalization gains and costs, on mosaics of real tissue; slide labels only.

    python benchmarks/stain_normalization.py [--shared ../shared] [--seeds 5] [--tasks …] [--encoders …]

Another laboratory is drawn by unmixing a picture with the vectors of Ruifrok and Johnston (the method under test finds
its own), then mixing it anew with tilted vectors, other strengths and another light. Four scenarios:

- *one laboratory*: training and test slides as they are; what normalization costs.
- *tested elsewhere*: every test slide comes from a laboratory of its own, none from that of the training slides.
- *class from elsewhere*: in training, the positive slides come from one other laboratory, the negative ones do not, so
  that the stain goes along with the label; test slides are as they are.
- *class from elsewhere, tested there*: the same, and the test slides come from that other laboratory: what is taught by
  the stain lights up in all of them.

Normalized slides are brought to the reference by the stain of a sample of their own cells, as `embed_slide` does. Every
seed divides the patients anew. Intervals: 95 %, bootstrap over (seed, pool) groups of test slides. Settings are fixed.

Beside that, `spread`: how much the stains of slides differ, as `mixtures` judges it, among all slides of a task as they
are and if each came from a laboratory of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.bootstrap import Interval, bootstrap_means, paired_difference
from napari_prospector.core.graph import TokenGraph, grid_graph
from napari_prospector.core.head import ProspectorHead
from napari_prospector.core.measures import average_precision
from napari_prospector.study.baselines import MeanPooledLogistic
from napari_prospector.study.mixtures import stain_spread
from napari_prospector.tokens.encoders.cards import Encoder, load_encoder
from napari_prospector.tokens.encoders.stains import STAIN_VECTORS, UNMIXING
from napari_prospector.tokens.mosaics import TASKS, MosaicLayout, MosaicSlide, mosaic_layout, read_picture
from napari_prospector.tokens.staining import StainEstimate, estimate_stain, remix

REPOSITORY = Path(__file__).resolve().parents[1]
N_TRAIN, N_TEST, CELLS = 40, 20, 12
ENCODERS = ("stain-texture", "MobileNetV2")
SCENARIOS = ("one laboratory", "tested elsewhere", "class from elsewhere", "class from elsewhere, tested there")
METHODS = ("prospector head, evidence", "mean-pooled logistic")
# Standard deviations of a vector's entries and of the logarithm of a strength; range of the light, grey levels.
TILT, STRENGTH, LIGHT = 0.06, 0.25, (230.0, 255.0)
STEP_PX, N_SAMPLED = 5, 64


@dataclass(frozen=True, eq=False)
class Laboratory:
    """Another staining and scanner: densities (n, 3) times `matrix` (3, 3), under `light` (3,)."""

    matrix: NDArray[np.float64]
    light: NDArray[np.float64]

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Laboratory:
        """Draw one."""
        vectors = STAIN_VECTORS.copy()
        vectors[:2] += rng.normal(0, TILT, (2, 3))
        vectors[:2] /= np.linalg.norm(vectors[:2], axis=1, keepdims=True)
        gains = np.append(np.exp(rng.normal(0, STRENGTH, 2)), 1.0)
        return cls(UNMIXING * gains @ vectors, rng.uniform(*LIGHT) + rng.normal(0, 2, 3))

    def restained(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a picture (rows, cols, 3) as this laboratory would have made it."""
        density = -np.log((np.arange(256) + 1.0) / 256)[picture] @ self.matrix
        return np.clip(np.rint((self.light + 1) * np.exp(-density) - 1), 0, 255).astype(np.uint8)


class Embedder:
    """Embeds the cells of slides; pictures that are left as they are only once."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._pictures: dict[str, NDArray[np.uint8]] = {}
        self._known: dict[str, NDArray[np.float32]] = {}

    def graph(
        self, layout: MosaicLayout, slide: MosaicSlide, laboratory: Laboratory | None, normalize: bool
    ) -> TokenGraph:
        """Return the token graph of a slide from a laboratory, normalized or not."""
        held, cells = np.unique(slide.pictures.ravel(), return_inverse=True)
        pictures = [self._picture(layout, int(index)) for index in held]
        if laboratory is None and not normalize:
            vectors = self._kept([layout.pictures[index].image for index in held], pictures)
        else:
            if laboratory is not None:
                pictures = [laboratory.restained(picture) for picture in pictures]
            if normalize:
                source = stain_of(pictures, cells)
                pictures = [remix(picture, source) for picture in pictures]
            vectors = self._encoded(pictures)
        return grid_graph(np.ones(slide.pictures.shape, dtype=bool), vectors[cells])

    def _picture(self, layout: MosaicLayout, index: int) -> NDArray[np.uint8]:
        """Read a picture, once."""
        image = layout.pictures[index].image
        if image not in self._pictures:
            self._pictures[image] = read_picture(layout, index)
        return self._pictures[image]

    def _kept(self, images: Sequence[str], pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the embeddings of pictures as they are."""
        new = [i for i, image in enumerate(images) if image not in self._known]
        if new:
            vectors = self._encoded([pictures[i] for i in new])
            self._known |= {images[i]: vector for i, vector in zip(new, vectors, strict=True)}
        return np.stack([self._known[image] for image in images])

    def _encoded(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Encode pictures batch by batch."""
        step = self.encoder.batch_size
        batches = [np.stack(pictures[start : start + step]) for start in range(0, len(pictures), step)]
        return np.concatenate([self.encoder.encode(batch) for batch in batches])


def stain_of(pictures: Sequence[NDArray[np.uint8]], cells: NDArray[np.int64]) -> StainEstimate:
    """Estimate the stain of a slide from cells spread evenly over it."""
    chosen = cells[np.linspace(0, len(cells) - 1, N_SAMPLED).round().astype(int)]
    return estimate_stain(np.concatenate([pictures[i][::STEP_PX, ::STEP_PX].reshape(-1, 3) for i in chosen]))


def spreads(folder: Path, task: str, seed: int) -> list[dict[str, Any]]:
    """Return how much the stains of the slides of a task differ, from one laboratory and from many."""
    layout = mosaic_layout(folder, task, N_TRAIN, N_TEST, CELLS, seed)
    pictures = [read_picture(layout, index) for index in range(len(layout.pictures))]
    rng = np.random.default_rng((seed, sorted(TASKS).index(task), 11))
    rows = []
    for kind in ("as they are", "each from a laboratory of its own"):
        estimates = []
        for slide in layout.slides:
            held, cells = np.unique(slide.pictures.ravel(), return_inverse=True)
            seen = [pictures[index] for index in held]
            if kind != "as they are":
                laboratory = Laboratory.drawn(rng)
                seen = [laboratory.restained(picture) for picture in seen]
            estimates.append(stain_of(seen, cells))
        angles, ratios = stain_spread(estimates)
        about = {"task": task, "seed": seed, "slides": kind}
        rows.append(about | {"angles_degrees": angles.tolist(), "strength_ratios": ratios.tolist()})
        print(f"  {task} {seed}, {kind}: {angles.round(1)} degrees, strengths {ratios.round(2)}", flush=True)
    return rows


def encoder_of(name: str, shared: Path) -> Encoder:
    """Load the built-in encoder or MobileNetV2."""
    if name == "stain-texture":
        return load_encoder(name)
    weights = shared / "data" / "encoders" / "mobilenetv2_100_imagenet1001.safetensors"
    half = (0.5, 0.5, 0.5)
    arguments = {"num_classes": 1001, "pad_type": "same"}
    return load_encoder("timm:mobilenetv2_100", weights=weights, model_args=arguments, mean=half, std=half)


def one_seed(embedder: Embedder, folder: Path, task: str, seed: int) -> list[dict[str, Any]]:
    """Fit and measure every scenario of one division of the patients, normalized and not."""
    layout = mosaic_layout(folder, task, N_TRAIN, N_TEST, CELLS, seed)
    train = [slide for slide in layout.slides if slide.split == "train"]
    test = [slide for slide in layout.slides if slide.split == "test" and slide.truth.any()]
    rng = np.random.default_rng((seed, sorted(TASKS).index(task), 7))
    elsewhere = [Laboratory.drawn(rng) for _ in test]
    one_other = Laboratory.drawn(rng)
    rows = []
    for normalize in (False, True):
        plain = [embedder.graph(layout, slide, None, normalize) for slide in train]
        mixed = [
            embedder.graph(layout, slide, one_other, normalize) if slide.truth.any() else graph
            for slide, graph in zip(train, plain, strict=True)
        ]
        here = [embedder.graph(layout, slide, None, normalize) for slide in test]
        away = [embedder.graph(layout, slide, lab, normalize) for slide, lab in zip(test, elsewhere, strict=True)]
        there = [embedder.graph(layout, slide, one_other, normalize) for slide in test]
        tested = dict(zip(SCENARIOS, ((plain, here), (plain, away), (mixed, here), (mixed, there)), strict=True))
        fitted: dict[int, dict[str, Any]] = {}
        for scenario, (learned, seen) in tested.items():
            if id(learned) not in fitted:  # scenarios share training slides
                fitted[id(learned)] = _fitted(task, seed, train, learned)
            for name, model in fitted[id(learned)].items():
                for slide, graph in zip(test, seen, strict=True):
                    scores = model.prospect(graph, "evidence") if name == METHODS[0] else model.prospect(graph)
                    group = f"{seed} {slide.group}"
                    ap = average_precision(scores, slide.truth.ravel())
                    rows.append(
                        {"scenario": scenario, "method": name, "normalize": normalize, "group": group, "ap": ap}
                    )
    return rows


def _fitted(task: str, seed: int, slides: Sequence[MosaicSlide], graphs: Sequence[TokenGraph]) -> dict[str, Any]:
    """Fit the methods on training slides."""
    labels, groups = [slide.label for slide in slides], [slide.group for slide in slides]
    models = (
        ProspectorHead(n_concepts=30, radius=1, kernel="fold-change", random_state=seed),
        MeanPooledLogistic(task, hops=0, random_state=seed),
    )
    return {name: model.fit(graphs, labels, groups) for name, model in zip(METHODS, models, strict=True)}


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return mean AP without and with normalization, and their paired difference, for each scenario and method."""
    table = []
    for scenario in SCENARIOS:
        for method in METHODS:
            own = [row for row in rows if (row["scenario"], row["method"]) == (scenario, method)]
            plain, normalized = ([row for row in own if row["normalize"] is kind] for kind in (False, True))
            groups = [row["group"] for row in plain]
            pairs = np.array([[row["ap"] for row in plain], [row["ap"] for row in normalized]]).T
            as_it_is, brought = bootstrap_means(pairs, groups, n_boot=2000)
            gain = paired_difference(pairs[:, 1], pairs[:, 0], groups, n_boot=2000)
            line = {"as it is": as_it_is, "normalized": brought, "gain": gain}
            table.append(
                {"scenario": scenario, "method": method, "n_slides": len(plain)}
                | {name: interval._asdict() for name, interval in line.items()}
            )
            print(f"  {scenario:<34} {method:<27} " + ", ".join(f"{name} {_told(line[name])}" for name in line))
    return table


def _told(interval: Interval) -> str:
    """Write a value and its interval."""
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _write(path: Path, found: dict[str, Any]) -> None:
    """Write the results so far."""
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Run what is asked and write the table after each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--shared", type=Path, default=Path(os.environ.get("PROSPECTOR_SHARED", REPOSITORY / "../shared"))
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", nargs="+", default=["adenocarcinoma", "high-grade"], choices=sorted(TASKS))
    parser.add_argument("--encoders", nargs="*", default=list(ENCODERS), help="; ".join(ENCODERS))
    parser.add_argument(
        "--output", type=Path, default=REPOSITORY / "benchmarks" / "results" / "stain_normalization.json"
    )
    options = parser.parse_args()
    folder = options.shared / "data" / "histology" / "ebhi"
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    found = json.loads(options.output.read_text(encoding="utf-8")) if options.output.is_file() else {"results": []}
    found["spread"] = [
        row for task in sorted(TASKS) for seed in range(options.seeds) for row in spreads(folder, task, seed)
    ]
    _write(options.output, found)
    for encoder in options.encoders:
        embedder = Embedder(encoder_of(encoder, options.shared))
        for task in options.tasks:
            print(f"\n{task}, {encoder}: mean AP", flush=True)
            rows = [row for seed in range(options.seeds) for row in one_seed(embedder, folder, task, seed)]
            about = {"task": task, "encoder": encoder, "commit": commit.stdout.strip()}
            result = {**about, "seeds": list(range(options.seeds)), "rows": summary(rows)}
            others = [kept for kept in found["results"] if (kept["task"], kept["encoder"]) != (task, encoder)]
            found["results"] = [*others, result]
            _write(options.output, found)


if __name__ == "__main__":
    main()
