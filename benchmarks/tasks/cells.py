"""Cells of the pancreas by imaging mass cytometry: tell non-diabetic donors from long disease, and by which cells.

A token is a cell, its concept the cell type; cells touch where their centres are at most 20 µm apart. The label of an
image is the donor's stage, and donors are never divided: two of each stage for training, two for test. Nobody has
marked regions; what is known is that long type 1 diabetes leaves hardly a beta cell, so the map of the non-diabetic
should rest on beta cells.

The licence of these tables is still to be confirmed: validate with them, never redistribute them.
"""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks.task import Split, Task, one_hot
from napari_prospector.core.graph import radius_graph

__all__ = ["CUTOFF_UM", "load", "read_images"]

CUTOFF_UM = 20.0
"""Two and a half times the usual distance of a cell from its nearest neighbour, 8 µm: 11 neighbours, as a rule."""

TARGET, OTHERS = "Non-diabetic", "Long-duration"
TRAIN_DONORS = 2
"""Of the four donors of each stage."""


def load(shared: Path, seed: int) -> Task:
    """Read the images and draw donors.

    Parameters
    ----------
    shared
        Holds `data/cells`.
    seed
        Decides which donors are for training.
    """
    folder = shared / "data" / "cells"
    images, types = read_images(folder)
    with (folder / "imc_images.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["stage"] in (TARGET, OTHERS) and row["imageID"] in images]
    rng = np.random.default_rng(seed)
    training: set[str] = set()
    for stage in (TARGET, OTHERS):
        donors = sorted({row["case"] for row in rows if row["stage"] == stage})
        training |= set(rng.permutation(donors)[:TRAIN_DONORS].tolist())
    parts = {
        "train": [row for row in rows if row["case"] in training],
        "test": [row for row in rows if row["case"] not in training],
    }
    splits = {name: _split(part, images, len(types)) for name, part in parts.items()}
    return Task(
        name="cells of the pancreas",
        about="tell non-diabetic donors from long disease by cell types and their surroundings within 20 µm",
        target=TARGET,
        train=splits["train"],
        test=splits["test"],
        quantize="identity",
        n_concepts=len(types),
        support={
            name: {"images": len(part), "donors": len({row["case"] for row in part})} for name, part in parts.items()
        },
        expected_concept=types.index("beta"),
    )


@cache
def read_images(folder: Path) -> tuple[dict[str, tuple[NDArray[np.float64], NDArray[np.float32]]], tuple[str, ...]]:
    """Return centres (n_cells, 2), µm, and types (n_cells, 1) of the cells of each image, and the names of types."""
    cells: dict[str, list[tuple[float, float]]] = defaultdict(list)
    kinds: dict[str, list[str]] = defaultdict(list)
    with gzip.open(folder / "imc_cells.csv.gz", "rt", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            cells[row["imageID"]].append((float(row["y"]), float(row["x"])))
            kinds[row["imageID"]].append(row["cellType"])
    types = tuple(sorted({kind for column in kinds.values() for kind in column}))
    number = {kind: i for i, kind in enumerate(types)}
    return {
        image: (np.array(places), np.array([[number[kind]] for kind in kinds[image]], dtype=np.float32))
        for image, places in cells.items()
    }, types


def _split(
    rows: list[dict[str, str]], images: dict[str, tuple[NDArray[np.float64], NDArray[np.float32]]], n_types: int
) -> Split:
    """Return images as graphs."""
    graphs = [radius_graph(images[row["imageID"]][0], CUTOFF_UM, images[row["imageID"]][1]) for row in rows]
    labels, donors = [row["stage"] for row in rows], [row["case"] for row in rows]
    return Split(graphs, labels, donors, None, [one_hot(graph, n_types) for graph in graphs])
