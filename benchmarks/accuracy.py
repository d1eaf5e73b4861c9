"""How well maps find adenocarcinoma, and high-grade neoplasia, on mosaics of real tissue; slide labels only.

    python benchmarks/accuracy.py [--shared ../shared] [--seeds 5] [--output benchmarks/results/accuracy.json]

Every seed divides the patients anew. A cell of a mosaic is a token; images are embedded once each, and the graphs
are put together in memory (`tests/tokens/test_mosaics.py` shows that slides written to disk hold the same cells).
Intervals: 95 %, bootstrap over all (seed, pool) groups of test slides; a pool is a group of patients that no other
pool shares. Settings are the defaults of the package; nothing is chosen on these tasks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.graph import TokenGraph, grid_graph
from napari_prospector.core.head import ProspectorHead
from napari_prospector.core.measures import auroc, average_precision, expected_average_precision, is_constant
from napari_prospector.study.baselines import ConstantMap, MeanPooledLogistic, RandomMap
from napari_prospector.tokens.encoders.cards import Encoder, load_encoder
from napari_prospector.tokens.mosaics import TASKS, MosaicLayout, MosaicSlide, mosaic_layout, read_picture

REPOSITORY = Path(__file__).resolve().parents[1]
N_TRAIN, N_TEST, CELLS = 40, 20, 12
ENCODERS = ("stain-texture", "MobileNetV2")


class Embedder:
    """Embeds every picture once, however many mosaics hold it."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._known: dict[str, NDArray[np.float32]] = {}

    def embeddings(self, layout: MosaicLayout) -> NDArray[np.float32]:
        """Return the embeddings (n_pictures, n_dims) of the pictures of a layout."""
        new = [i for i, picture in enumerate(layout.pictures) if picture.image not in self._known]
        step = self.encoder.batch_size
        for start in range(0, len(new), step):
            batch = new[start : start + step]
            vectors = self.encoder.encode(np.stack([read_picture(layout, i) for i in batch]))
            self._known |= {layout.pictures[i].image: vector for i, vector in zip(batch, vectors, strict=True)}
        return np.stack([self._known[picture.image] for picture in layout.pictures])


def encoder_of(name: str, shared: Path) -> Encoder:
    """Load the built-in encoder or MobileNetV2."""
    if name == "stain-texture":
        return load_encoder(name)
    weights = shared / "data" / "encoders" / "mobilenetv2_100_imagenet1001.safetensors"
    half = (0.5, 0.5, 0.5)
    arguments = {"num_classes": 1001, "pad_type": "same"}
    return load_encoder("timm:mobilenetv2_100", weights=weights, model_args=arguments, mean=half, std=half)


def methods_of(seed: int, task: str) -> dict[str, Any]:
    """Name everything that is compared; a tuple is a head and its map."""
    return {
        "prospector, fold-change, evidence": (ProspectorHead(random_state=seed), "evidence"),
        "prospector, fold-change, decision": (ProspectorHead(random_state=seed), "decision"),
        "prospector, linear, evidence": (ProspectorHead(kernel="linear", random_state=seed), "evidence"),
        "prospector as published (K 20, euclidean, reference)": (
            ProspectorHead(20, reference=True, geometry="euclidean", random_state=seed),
            "evidence",
        ),
        "mean-pooled logistic": MeanPooledLogistic(task, hops=0, random_state=seed),
        "mean-pooled logistic, averaged over neighbours": MeanPooledLogistic(task, hops=1, random_state=seed),
        "random": RandomMap(seed),
        "constant": ConstantMap(),
    }


def one_seed(embedder: Embedder, folder: Path, task: str, seed: int, scattered: bool) -> list[dict[str, Any]]:
    """Fit everything on the training mosaics of one seed and measure it on the test mosaics."""
    layout = mosaic_layout(folder, task, N_TRAIN, N_TEST, CELLS, seed, scattered)
    embeddings, slides = embedder.embeddings(layout), layout.slides
    mask = np.ones((CELLS, CELLS), dtype=bool)
    graphs = [grid_graph(mask, embeddings[slide.pictures.ravel()]) for slide in slides]
    train = [i for i, slide in enumerate(slides) if slide.split == "train"]
    test = [i for i, slide in enumerate(slides) if slide.split == "test"]
    labels, groups = [slides[i].label for i in train], [slides[i].group for i in train]
    rows = []
    for name, method in methods_of(seed, task).items():
        model, map_name = method if isinstance(method, tuple) else (method, None)
        started = time.perf_counter()
        model.fit([graphs[i] for i in train], labels, groups)
        seconds = time.perf_counter() - started
        rows += [
            _measured(name, model, map_name, graphs[i], slides[i], seed, seconds) for i in test if slides[i].truth.any()
        ]
    return rows


def _measured(
    name: str, model: Any, map_name: str | None, graph: TokenGraph, slide: MosaicSlide, seed: int, seconds: float
) -> dict[str, Any]:
    """Measure one map of one positive test slide."""
    scores = model.prospect(graph, map_name) if map_name else model.prospect(graph)
    truth = slide.truth.ravel()
    return {
        "method": name,
        "seed": seed,
        "group": f"{seed} {slide.group}",
        "ap": average_precision(scores, truth),
        "auroc": auroc(scores, truth),
        "is_constant": bool(is_constant(scores)),
        "prevalence": float(truth.mean()),
        "random_ap": expected_average_precision(int(truth.sum()), truth.size),
        "fit_seconds": seconds,
    }


def summary(rows: Sequence[dict[str, Any]], n_boot: int = 2000) -> list[dict[str, Any]]:
    """Average over positive test slides of all seeds, with intervals over groups."""
    table = []
    for name in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == name]
        groups = sorted({row["group"] for row in own})
        sums = np.array(
            [[sum(r["ap"] for r in own if r["group"] == g), sum(r["group"] == g for r in own)] for g in groups]
        )
        drawn = np.random.default_rng(0).integers(len(groups), size=(n_boot, len(groups)))
        means = sums[drawn, 0].sum(axis=1) / sums[drawn, 1].sum(axis=1)
        by_seed = [
            float(np.mean([r["ap"] for r in own if r["seed"] == seed])) for seed in sorted({r["seed"] for r in own})
        ]
        table.append(
            {
                "method": name,
                "mean_ap": float(np.mean([row["ap"] for row in own])),
                "low": float(np.quantile(means, 0.025)),
                "high": float(np.quantile(means, 0.975)),
                "by_seed": by_seed,
                "mean_auroc": float(np.mean([row["auroc"] for row in own])),
                "constant_maps": float(np.mean([row["is_constant"] for row in own])),
                "prevalence": float(np.mean([row["prevalence"] for row in own])),
                "fit_seconds": float(np.mean([row["fit_seconds"] for row in own])),
                "n_slides": len(own),
            }
        )
    return table


def main() -> None:
    """Run all tasks and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--shared", type=Path, default=Path(os.environ.get("PROSPECTOR_SHARED", REPOSITORY / "../shared"))
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", nargs="+", default=["adenocarcinoma", "high-grade"], choices=sorted(TASKS))
    parser.add_argument("--scattered", action="store_true", help="positive cells one by one instead of in patches")
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS), choices=ENCODERS)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks" / "results" / "accuracy.json")
    options = parser.parse_args()
    folder = options.shared / "data" / "histology" / "ebhi"
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    kept = json.loads(options.output.read_text(encoding="utf-8"))["results"] if options.output.is_file() else []
    results = [result for result in kept if result["encoder"] not in options.encoders]
    for encoder_name in options.encoders:
        embedder = Embedder(encoder_of(encoder_name, options.shared))
        for task in options.tasks:
            rows = [
                row
                for seed in range(options.seeds)
                for row in one_seed(embedder, folder, task, seed, options.scattered)
            ]
            table = summary(rows)
            about = {"task": task, "encoder": encoder_name, "commit": commit.stdout.strip()}
            results.append(
                {**about, "seeds": list(range(options.seeds)), "scattered": options.scattered, "rows": table}
            )
            print(f"\n{task}, {encoder_name} (AP of a random map: {np.mean([row['random_ap'] for row in rows]):.3f})")
            for row in table:
                print(f"  {row['method']:<55} AP {row['mean_ap']:.3f} [{row['low']:.3f}, {row['high']:.3f}]")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"results": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
