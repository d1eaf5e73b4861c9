"""Mosaics of real colorectal tissue (EBHI-Seg): find the pictures of a class among pictures of classes like it.

A slide is a grid of 12 × 12 pictures of 224 px, and a picture is one token. Training takes the first slides of a plan
of 48, so that fewer training slides are a part of more, and all of them are measured on the same test slides.
"""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks.task import Split, Task
from napari_prospector.core.graph import grid_graph
from napari_prospector.errors import InvalidInputError
from napari_prospector.tokens.encoders.cards import Encoder, load_encoder
from napari_prospector.tokens.mosaics import (
    TASKS,
    MosaicLayout,
    MosaicSlide,
    MosaicTask,
    Picture,
    mosaic_layout,
    read_picture,
)

__all__ = ["ENCODERS", "embed_pictures", "encoder_of", "load"]

ENCODERS = ("MobileNetV2", "stain-texture")
MOST_TRAIN, N_TEST, CELLS = 48, 20, 12
DEFAULT_CACHE = Path(tempfile.gettempdir()) / "napari-prospector-benchmarks"
PROBES = 3  # pictures embedded again, to see that a cache is still true


def load(
    shared: Path,
    seed: int,
    task: str | MosaicTask = "adenocarcinoma",
    encoder: str = "MobileNetV2",
    scattered: bool = False,
    n_train: int = 40,
    cache_folder: Path = DEFAULT_CACHE,
) -> Task:
    """Plan mosaics and put their graphs together.

    Parameters
    ----------
    shared
        Holds `data/histology/ebhi` and `data/encoders`.
    seed
        Decides which patients are test patients, and every cell.
    task
        A name of `napari_prospector.tokens.mosaics.TASKS`, or a task of other classes.
    encoder
        Of `ENCODERS`.
    scattered
        Positive cells lie singly instead of in one to three patches.
    n_train
        Number of training slides, at most 48; every other one is positive.
    cache_folder
        Embeddings of all pictures are kept here, one `.npz` for each encoder.

    Raises
    ------
    ProspectorError
        As `mosaic_layout` does, or if `n_train` is too large.
    """
    if n_train > MOST_TRAIN:
        raise InvalidInputError(f"n_train must be at most {MOST_TRAIN}; got {n_train}.")
    folder = shared / "data" / "histology" / "ebhi"
    layout = mosaic_layout(folder, task, MOST_TRAIN, N_TEST, CELLS, seed, scattered)
    known = embed_pictures(shared, encoder, cache_folder)
    vectors = np.stack([known[picture.image] for picture in layout.pictures])
    train = [slide for slide in layout.slides if slide.split == "train"][:n_train]
    test = [slide for slide in layout.slides if slide.split == "test"]
    chosen = TASKS[task] if isinstance(task, str) else task
    placed = "scattered" if scattered else "patches"
    return Task(
        name=f"{task if isinstance(task, str) else chosen.label}, {encoder}" + (", scattered" if scattered else ""),
        about=f"find {chosen.positive} among {' and '.join(chosen.negatives)}, in {placed}, seen by {encoder}",
        target=chosen.label,
        train=_split(train, vectors, seed),
        test=_split(test, vectors, seed),
        support=MosaicLayout(chosen, folder, layout.pictures, (*train, *test)).support(),
    )


def _split(slides: Sequence[MosaicSlide], vectors: NDArray[np.float32], seed: int) -> Split:
    """Return slides as graphs; vectors (n_pictures, n_dims)."""
    mask = np.ones((CELLS, CELLS), dtype=bool)
    graphs = [grid_graph(mask, vectors[slide.pictures.ravel()]) for slide in slides]
    labels, groups = [slide.label for slide in slides], [f"seed {seed}, {slide.group}" for slide in slides]
    return Split(graphs, labels, groups, [slide.truth.ravel() for slide in slides], graphs)


def encoder_of(name: str, shared: Path) -> Encoder:
    """Load the built-in encoder or MobileNetV2."""
    if name not in ENCODERS:
        raise InvalidInputError(f"encoder must be one of {', '.join(ENCODERS)}; got {name!r}.")
    if name == "stain-texture":
        return load_encoder(name)
    weights = shared / "data" / "encoders" / "mobilenetv2_100_imagenet1001.safetensors"
    half = (0.5, 0.5, 0.5)
    arguments = {"num_classes": 1001, "pad_type": "same"}
    return load_encoder("timm:mobilenetv2_100", weights=weights, model_args=arguments, mean=half, std=half)


@cache
def embed_pictures(shared: Path, encoder: str, cache_folder: Path) -> dict[str, NDArray[np.float32]]:
    """Return the embedding (n_dims,) of every picture by its path below the folder.

    A cache is believed if it holds all pictures and a few of them, embedded again, come out the same.
    """
    folder = shared / "data" / "histology" / "ebhi"
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = [Picture(row["image"], row["class"], row["patient"]) for row in csv.DictReader(file)]
    pictures = MosaicLayout(TASKS["adenocarcinoma"], folder, tuple(rows), ())
    names, model = [row.image for row in rows], encoder_of(encoder, shared)
    path = cache_folder / f"ebhi-{encoder}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            held, vectors = kept["names"].tolist(), kept["embeddings"]
        probes = np.linspace(0, len(names) - 1, PROBES).astype(int)
        fresh = _encoded(model, pictures, probes)
        if held == names and np.allclose(vectors[probes], fresh, rtol=1e-3, atol=1e-3 * np.abs(fresh).max()):
            return dict(zip(names, vectors, strict=True))
    vectors = _encoded(model, pictures, np.arange(len(names)))
    cache_folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.npz")  # another process may be making the same file
    np.savez(partial, names=np.array(names), embeddings=vectors)
    partial.replace(path)
    return dict(zip(names, vectors, strict=True))


def _encoded(model: Encoder, pictures: MosaicLayout, which: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the embeddings (n_which, n_dims) of some pictures."""
    blocks = [which[start : start + model.batch_size] for start in range(0, len(which), model.batch_size)]
    return np.concatenate([model.encode(np.stack([read_picture(pictures, int(i)) for i in block])) for block in blocks])
