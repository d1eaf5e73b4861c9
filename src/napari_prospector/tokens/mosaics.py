"""Mosaic slides: labelled pictures of real tissue, stitched to slides whose truth is known cell by cell.

The pictures are those of EBHI-Seg (H&E, colorectal biopsies, 224 × 224 px, one class each); they stay where they are.
A slide is a grid of cells, one picture each. A negative slide holds pictures of harmless classes; in a positive one,
5 to 25 % of the cells hold the class looked for.

Few patients stand behind some classes, so patients come first: each belongs to one *pool*, each pool to training or
test, and a slide is stitched from one pool alone. A pool is the `group` of its slides; folds that keep groups together
never see one patient, let alone one picture, twice.
"""

from __future__ import annotations

import csv
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_prospector.errors import FileFormatError, InvalidInputError, MissingFileError, UnknownNameError
from napari_prospector.tokens.pyramid import (
    CohortProgress,
    MadeSlide,
    atomic_path,
    write_cohort_table,
    write_pyramid,
    write_truth,
)

__all__ = [
    "CELL_PX",
    "NEGATIVE_LABEL",
    "NOMINAL_MPP",
    "TASKS",
    "MosaicLayout",
    "MosaicSlide",
    "MosaicTask",
    "Picture",
    "make_mosaic_cohort",
    "mosaic_layout",
    "read_picture",
]

CELL_PX = 224
"""Side of a picture, px."""

NOMINAL_MPP = 0.5
"""µm per px that the slides state, so that a tile of 224 px at 0.5 µm is one cell.

Nominal: the pictures were taken at 400 ×, and no exact pixel size was published.
"""

NEGATIVE_LABEL = "negative"

_PREVALENCE = (0.05, 0.25)
_TEST_SHARE = 1 / 3
_COLUMNS = ("class", "patient", "image")

BoolArray = npt.NDArray[np.bool_]
Generator = np.random.Generator


@dataclass(frozen=True)
class MosaicTask:
    """What to look for, among what: classes of the manifest. `label` is that of positive slides."""

    label: str
    positive: str
    negatives: tuple[str, ...]


TASKS: Mapping[str, MosaicTask] = {
    "adenocarcinoma": MosaicTask("adenocarcinoma", "adenocarcinoma", ("normal", "polyp")),
    "high-grade": MosaicTask("high-grade", "high_grade_in", ("low_grade_in",)),
    "serrated": MosaicTask("serrated", "serrated_adenoma", ("polyp",)),
}
"""The tasks by name. The last two are harder: their classes look alike but for morphology."""


@dataclass(frozen=True)
class Picture:
    """A picture of the manifest: its path below the folder, its class and its patient."""

    image: str
    kind: str
    patient: str


@dataclass(frozen=True, eq=False)
class MosaicSlide:
    """A slide as a plan.

    Attributes
    ----------
    name
        File name without ending.
    label, group, split
        As in a cohort table; `group` is the pool.
    pictures
        (rows, cols) int32: which picture of the layout each cell holds.
    truth
        (rows, cols) boolean: whether it is of the class looked for.
    """

    name: str
    label: str
    group: str
    split: str
    pictures: npt.NDArray[np.int32]
    truth: BoolArray


@dataclass(frozen=True, eq=False)
class MosaicLayout:
    """Slides as plans: what a benchmark needs to embed each picture once and to put graphs together without files.

    Attributes
    ----------
    task
        What is looked for.
    folder
        Where the pictures are.
    pictures
        Those that the slides hold, each once.
    slides
        Training first.
    """

    task: MosaicTask
    folder: Path
    pictures: tuple[Picture, ...]
    slides: tuple[MosaicSlide, ...]

    def support(self) -> dict[str, dict[str, dict[str, int]]]:
        """Return how many distinct pictures and patients stand behind each class, by split: what a figure rests on."""
        support: dict[str, dict[str, dict[str, int]]] = {}
        for split in sorted({slide.split for slide in self.slides}):
            used = {index for slide in self.slides if slide.split == split for index in np.unique(slide.pictures)}
            by_class = support.setdefault(split, {})
            for kind in (self.task.positive, *self.task.negatives):
                held = [self.pictures[index] for index in used if self.pictures[index].kind == kind]
                by_class[kind] = {"pictures": len(held), "patients": len({picture.patient for picture in held})}
        return support


def mosaic_layout(
    ebhi_folder: str | os.PathLike[str],
    task: str | MosaicTask,
    n_train: int = 40,
    n_test: int = 20,
    cells: int | tuple[int, int] = 12,
    seed: int = 0,
    scattered: bool = False,
    n_pools: tuple[int, int] = (5, 3),
) -> MosaicLayout:
    """Plan a cohort of mosaic slides.

    Parameters
    ----------
    ebhi_folder
        Holds `manifest.csv` (columns class, patient, image) and the pictures it names.
    task
        A name of `TASKS`, or a task of other classes of the manifest.
    n_train, n_test
        How many slides; every other one is positive. At least two each.
    cells
        Rows and columns of a slide, at least 4 each; one number for both.
    seed
        Decides everything: which patients are test patients, and every cell.
    scattered
        Positive cells lie singly, no two sharing an edge, instead of in one to three patches. Averaging over neighbours
        helps with patches; with these it does not.
    n_pools
        Pools of patients for training and for test. More pools are more independent groups, each of fewer pictures.

    Returns
    -------
    MosaicLayout
        The plan.

    Raises
    ------
    UnknownNameError
        Where the task is unknown.
    MissingFileError, FileFormatError
        Where there is no manifest, or it lacks a column.
    InvalidInputError
        Where an argument is not as said, or the patients are too few for the pools.
    """
    if isinstance(task, str) and task not in TASKS:
        raise UnknownNameError(f"task must be one of {', '.join(TASKS)}, or a MosaicTask; got {task!r}")
    shape = (cells, cells) if isinstance(cells, int) else (cells[0], cells[1])
    _check_numbers(n_train, n_test, shape, seed, n_pools)
    chosen = TASKS[task] if isinstance(task, str) else task
    table = [row for row in _read_manifest(Path(ebhi_folder)) if row.kind in (chosen.positive, *chosen.negatives)]
    own = zlib.crc32(repr(task).encode())  # any number but the first few, which are those of the tasks by name
    rng = np.random.default_rng((seed, sorted(TASKS).index(task) if isinstance(task, str) else own))
    pools = _pools(table, chosen, n_pools, rng)
    slides: list[MosaicSlide] = []
    for split, n_slides, first, n_split_pools in (("train", n_train, 0, n_pools[0]), ("test", n_test, *n_pools)):
        for index in range(n_slides):
            number = index // 2 % n_split_pools
            pictures, truth = _stitched(table, pools == first + number, chosen, shape, index % 2 == 0, scattered, rng)
            label = chosen.label if index % 2 == 0 else NEGATIVE_LABEL
            name = f"{split}-{index + 1:03d}"
            slides.append(MosaicSlide(name, label, f"{split}-pool-{number + 1}", split, pictures, truth))
    return _compact(MosaicLayout(chosen, Path(ebhi_folder), tuple(table), tuple(slides)))


def make_mosaic_cohort(
    folder: str | os.PathLike[str],
    ebhi_folder: str | os.PathLike[str],
    task: str,
    n_train: int = 40,
    n_test: int = 20,
    cells: int | tuple[int, int] = 12,
    seed: int = 0,
    scattered: bool = False,
    n_pools: tuple[int, int] = (5, 3),
) -> Iterator[CohortProgress]:
    """Stitch the slides of `mosaic_layout` and write them as a cohort.

    Writes `slides/*.tif` (tiled by cell, JPEG, stating `NOMINAL_MPP`), `truth/*.png` (one px per cell), `mosaics.json`
    (which picture is in which cell, and how many pictures and patients stand behind each class: bootstrap over those)
    and, last, `cohort.csv`. The same arguments give the same files.

    Parameters
    ----------
    folder
        Where to write; made when missing.
    ebhi_folder, task, n_train, n_test, cells, seed, scattered, n_pools
        As in `mosaic_layout`.

    Yields
    ------
    CohortProgress
        After each slide; the table is there when the iterator ends.

    Raises
    ------
    StorageError
        Where a file cannot be written.
    ProspectorError
        As `mosaic_layout` does, and where a picture is missing or damaged.
    """
    root = Path(folder)
    layout = mosaic_layout(ebhi_folder, task, n_train, n_test, cells, seed, scattered, n_pools)
    pictures = [read_picture(layout, index) for index in range(len(layout.pictures))]
    rows = []
    for slide in layout.slides:
        row = MadeSlide(
            path=f"slides/{slide.name}.tif",
            label=slide.label,
            group=slide.group,
            split=slide.split,
            mpp=NOMINAL_MPP,
            truth=f"truth/{slide.name}.png",
        )
        write_truth(root / row.truth, slide.truth)
        bands = (np.concatenate([pictures[index] for index in line], axis=1) for line in slide.pictures)
        shape = (slide.pictures.shape[0] * CELL_PX, slide.pictures.shape[1] * CELL_PX)
        write_pyramid(root / row.path, bands, NOMINAL_MPP, shape=shape, tile_px=CELL_PX)
        rows.append(row)
        yield CohortProgress(done=len(rows), total=len(layout.slides), path=root / row.path)
    with atomic_path(root / "mosaics.json") as partial:
        partial.write_text(json.dumps(_sidecar(layout, rows, seed, scattered), indent=1) + "\n", encoding="utf-8")
    write_cohort_table(root / "cohort.csv", rows)


def read_picture(layout: MosaicLayout, index: int) -> npt.NDArray[np.uint8]:
    """Read a picture of a layout.

    Parameters
    ----------
    layout
        The plan.
    index
        Place in `layout.pictures`.

    Returns
    -------
    npt.NDArray[np.uint8]
        (224, 224, 3), RGB.

    Raises
    ------
    MissingFileError
        Where the picture is not there.
    FileFormatError
        Where it is no RGB PNG of 224 × 224 px.
    """
    path = layout.folder / layout.pictures[index].image
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist, but the manifest names it. Restore it, or drop its row.")
    try:
        image = imagecodecs.png_decode(path.read_bytes())
    except (imagecodecs.PngError, ValueError) as error:
        raise FileFormatError(f"{path} must be a PNG; reading it failed: {error}") from error
    if image.shape != (CELL_PX, CELL_PX, 3) or image.dtype != np.uint8:
        raise FileFormatError(f"{path} must be uint8 of shape (224, 224, 3); got {image.dtype} of shape {image.shape}")
    return np.asarray(image)


def _read_manifest(folder: Path) -> list[Picture]:
    """Read the manifest."""
    path = folder / "manifest.csv"
    if not path.is_file():
        raise MissingFileError(
            f"{path} does not exist. Name the folder that holds EBHI-Seg's manifest.csv and pictures."
        )
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise FileFormatError(
                f"{path} must have the columns {', '.join(_COLUMNS)}; {', '.join(missing)} is missing"
            )
        # Seven patients are written both GTxc… and GTXC…; read as two, they would cross from training to test.
        return [Picture(image=row["image"], kind=row["class"], patient=row["patient"].upper()) for row in reader]


def _pools(
    table: Sequence[Picture], task: MosaicTask, n_pools: tuple[int, int], rng: Generator
) -> npt.NDArray[np.int64]:
    """Return the pool of each picture, training pools first: every patient whole, every class spread over all pools.

    Classes with few patients go first; each patient goes where the class has the least for the pool's size.
    """
    weights = np.repeat([(1 - _TEST_SHARE) / n_pools[0], _TEST_SHARE / n_pools[1]], n_pools)
    classes = (task.positive, *task.negatives)
    patients = {kind: sorted({picture.patient for picture in table if picture.kind == kind}) for kind in classes}
    pool_of: dict[str, int] = {}
    for kind in sorted(classes, key=lambda name: len(patients[name])):
        filled = np.zeros(len(weights))
        for patient in patients[kind]:
            if patient in pool_of:
                filled[pool_of[patient]] += 1
        for patient in rng.permutation([patient for patient in patients[kind] if patient not in pool_of]):
            pool = int(np.lexsort((rng.random(len(weights)), filled / weights))[0])
            pool_of[str(patient)] = pool
            filled[pool] += 1
    pools = np.array([pool_of[picture.patient] for picture in table], np.int64)
    for pool in range(len(weights)):
        held = {picture.kind for picture, one in zip(table, pools, strict=True) if one == pool}
        if task.positive not in held or not held & set(task.negatives):
            raise InvalidInputError(
                f"every pool must hold a patient of {task.positive} and one of {' or '.join(task.negatives)}; "
                f"{len(patients[task.positive])} and {sum(len(patients[kind]) for kind in task.negatives)} patients "
                f"are too few for n_pools={n_pools}. Ask for fewer pools."
            )
    return pools


def _stitched(
    table: Sequence[Picture],
    in_pool: BoolArray,
    task: MosaicTask,
    shape: tuple[int, int],
    positive: bool,
    scattered: bool,
    rng: Generator,
) -> tuple[npt.NDArray[np.int32], BoolArray]:
    """Choose the picture of every cell of a slide from the pictures of one pool."""
    is_positive = np.array([picture.kind == task.positive for picture in table])
    pictures = rng.choice(np.flatnonzero(in_pool & ~is_positive), size=shape).astype(np.int32)
    truth = np.zeros(shape, bool)
    if positive:
        n_cells = max(1, round(rng.uniform(*_PREVALENCE) * truth.size))
        truth = _scattered_cells(shape, n_cells, rng) if scattered else _patches(shape, n_cells, rng)
        pictures[truth] = rng.choice(np.flatnonzero(in_pool & is_positive), size=np.count_nonzero(truth))
    return pictures, truth


def _patches(shape: tuple[int, int], n_cells: int, rng: Generator) -> BoolArray:
    """Return a mask with `n_cells` cells in one to three patches, each grown cell by cell over its edges."""
    truth = np.zeros(shape, bool)
    n_patches = int(rng.integers(1, min(3, n_cells) + 1))
    for share in np.array_split(np.arange(n_cells), n_patches):
        start = np.unravel_index(rng.choice(np.flatnonzero(~truth)), shape)
        border = [(int(start[0]), int(start[1]))]
        left = len(share)
        while left:
            # A patch hemmed in by another one goes on at that one's edge.
            row, col = border.pop(int(rng.integers(len(border)))) if border else _edge_cell(truth, rng)
            if truth[row, col]:
                continue
            truth[row, col] = True
            left -= 1
            beside = [(row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)]
            border += [at for at in beside if 0 <= at[0] < shape[0] and 0 <= at[1] < shape[1] and not truth[at]]
    return truth


def _edge_cell(truth: BoolArray, rng: Generator) -> tuple[int, int]:
    """Return a cell that is not yet true, beside one that is."""
    row, col = np.unravel_index(rng.choice(np.flatnonzero(ndimage.binary_dilation(truth) & ~truth)), truth.shape)
    return int(row), int(col)


def _scattered_cells(shape: tuple[int, int], n_cells: int, rng: Generator) -> BoolArray:
    """Return a mask with `n_cells` cells, no two sharing an edge; about a third of all cells would find room."""
    truth = np.zeros((shape[0] + 2, shape[1] + 2), bool)
    for index in rng.permutation(shape[0] * shape[1]):
        row, col = index // shape[1] + 1, index % shape[1] + 1
        if truth[row - 1, col] or truth[row + 1, col] or truth[row, col - 1] or truth[row, col + 1]:
            continue
        truth[row, col] = True
        n_cells -= 1
        if n_cells == 0:
            break
    return truth[1:-1, 1:-1]


def _compact(layout: MosaicLayout) -> MosaicLayout:
    """Keep only the pictures that some slide holds."""
    used = np.unique(np.concatenate([slide.pictures.ravel() for slide in layout.slides]))
    slides = tuple(
        MosaicSlide(
            slide.name,
            slide.label,
            slide.group,
            slide.split,
            np.searchsorted(used, slide.pictures).astype(np.int32),
            slide.truth,
        )
        for slide in layout.slides
    )
    return MosaicLayout(layout.task, layout.folder, tuple(layout.pictures[index] for index in used), slides)


def _sidecar(layout: MosaicLayout, rows: Sequence[MadeSlide], seed: int, scattered: bool) -> dict[str, Any]:
    """Return what `mosaics.json` holds."""
    return {
        "task": layout.task.label,
        "positive": layout.task.positive,
        "negatives": list(layout.task.negatives),
        "seed": seed,
        "scattered": scattered,
        "cell_px": CELL_PX,
        "mpp": NOMINAL_MPP,
        "mpp_is_nominal": True,
        "support": layout.support(),
        "pictures": [
            {"image": picture.image, "class": picture.kind, "patient": picture.patient} for picture in layout.pictures
        ],
        "slides": [
            {"path": row.path, "cells": slide.pictures.tolist()} for row, slide in zip(rows, layout.slides, strict=True)
        ],
    }


def _check_numbers(n_train: int, n_test: int, shape: tuple[int, int], seed: int, n_pools: tuple[int, int]) -> None:
    """Refuse what cannot be stitched."""
    for name, n_slides in (("n_train", n_train), ("n_test", n_test)):
        if n_slides < 2:
            raise InvalidInputError(f"{name} must be at least 2, a positive and a negative slide; got {n_slides}")
    if min(shape) < 4:
        raise InvalidInputError(f"cells must be at least 4 either way; got {shape}")
    if seed < 0:
        raise InvalidInputError(f"seed must not be negative; got {seed}")
    if min(n_pools) < 1:
        raise InvalidInputError(f"n_pools must be at least 1 for training and for test; got {n_pools}")
