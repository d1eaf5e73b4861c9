"""Mosaic slides: labelled images of real tissue stitched into slides whose truth is known exactly.

A negative mosaic holds images of the negative classes; in a positive one 5 to 25 % of the cells are replaced by images
of the positive class, in one to three patches or as scattered single cells. Patients never cross from training to
test. Within either, patients are divided among *sites* and a slide draws from one site alone, so that folds and
bootstrap samples over the column `group` never share an image.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import FileFormatError, InvalidInputError, MissingFileError, UnknownNameError
from napari_prospector.tokens.generate import CohortProgress
from napari_prospector.tokens.pyramid import MadeSlide, atomic_path, write_cohort_table, write_pyramid, write_truth
from napari_prospector.tokens.slides import open_slide

__all__ = ["MOSAIC_TASKS", "MosaicLayout", "TissueImage", "make_mosaic_cohort", "mosaic_layouts", "read_images"]

CELL_PX = 224
NOMINAL_MPP = 0.5
"""The images state no pixel size; at this one a cell is a tile of 224 px at 0.5 µm per pixel."""

LARGEST_PATCHES = 3
POSITIVE_SHARE = (0.05, 0.25)


@dataclass(frozen=True)
class MosaicTask:
    """What is to be found (one class of images) and among what."""

    positive: str
    negatives: tuple[str, ...]


MOSAIC_TASKS = {
    "adenocarcinoma": MosaicTask("adenocarcinoma", ("normal", "polyp")),
    "high-grade": MosaicTask("high_grade_in", ("low_grade_in",)),
    "serrated": MosaicTask("serrated_adenoma", ("polyp",)),
}


@dataclass(frozen=True)
class TissueImage:
    """One labelled image: its file, relative to the folder of the manifest, its class and its patient."""

    file: str
    tissue: str
    patient: str


@dataclass(frozen=True, eq=False)
class MosaicLayout:
    """Which image lies where in a mosaic.

    Attributes
    ----------
    name
        Of the slide, without extension.
    label
        The task's name, or "negative".
    split, group
        "train" or "test"; the site.
    images
        Shape (cells, cells): numbers of the images.
    truth
        Shape (cells, cells), boolean: cells of the positive class.
    """

    name: str
    label: str
    split: str
    group: str
    images: NDArray[np.int64]
    truth: NDArray[np.bool_]


def read_images(folder: str | os.PathLike[str]) -> tuple[TissueImage, ...]:
    """Read ``manifest.csv`` (columns class, patient, image) of a folder of labelled images.

    Raises
    ------
    MissingFileError
        If there is no manifest.
    FileFormatError
        If it lacks a column.
    """
    manifest = Path(folder) / "manifest.csv"
    if not manifest.is_file():
        raise MissingFileError(f"There is no manifest.csv in {folder}. Pass the folder of the labelled images.")
    with open(manifest, newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if missing := {"class", "patient", "image"}.difference(reader.fieldnames or ()):
            raise FileFormatError(
                f"{manifest.name} must have columns class, patient, image; it lacks {sorted(missing)}."
            )
        return tuple(TissueImage(row["image"], row["class"], row["patient"]) for row in reader)


def mosaic_layouts(
    images: Sequence[TissueImage],
    task: str,
    n_train: int = 40,
    n_test: int = 20,
    cells: int = 12,
    seed: int = 0,
    *,
    scattered: bool = False,
    n_sites: int = 4,
) -> list[MosaicLayout]:
    """Decide which image lies where, without touching a pixel.

    Parameters
    ----------
    images
        From `read_images`.
    task
        A name of `MOSAIC_TASKS`.
    n_train, n_test
        Slides, every other one positive; at least 2 each.
    cells
        Cells along either side; at least 4.
    seed
        Decides patients, places and images.
    scattered
        Whether positive cells lie one by one instead of in one to three patches.
    n_sites
        Groups of patients in training and in test; fewer where a class has fewer patients.

    Returns
    -------
    list[MosaicLayout]
        Training slides first.

    Raises
    ------
    UnknownNameError
        If there is no such task.
    InvalidInputError
        If a number is too small, or a class has fewer than two patients.
    """
    if task not in MOSAIC_TASKS:
        raise UnknownNameError(f"Task {task!r} is unknown. There are {', '.join(map(repr, MOSAIC_TASKS))}.")
    if min(n_train, n_test) < 2 or cells < 4:
        raise InvalidInputError(
            f"n_train and n_test must be at least 2 and cells at least 4; got {n_train}, {n_test} and {cells}."
        )
    wanted = MOSAIC_TASKS[task]
    rng = np.random.default_rng(seed)
    classes = (wanted.positive, *wanted.negatives)
    places = _assign_patients(images, classes, n_sites, rng)
    n_sites = 1 + max(site for _, site in places.values())
    layouts = []
    for split, number in (("train", n_train), ("test", n_test)):
        for index in range(number):
            site = (index // 2) % n_sites
            pool = [i for i, image in enumerate(images) if places.get(image.patient) == (split, site)]
            positives = [i for i in pool if images[i].tissue == wanted.positive]
            negatives = [i for i in pool if images[i].tissue in wanted.negatives]
            chosen = rng.choice(negatives, (cells, cells))
            truth = _positive_cells(cells, scattered, rng) if index % 2 == 0 else np.zeros((cells, cells), dtype=bool)
            chosen[truth] = rng.choice(positives, int(truth.sum()))
            label = task if index % 2 == 0 else "negative"
            name = f"{split}-{index + 1:03d}"
            layouts.append(MosaicLayout(name, label, split, f"{split}-site-{site + 1}", chosen, truth))
    return layouts


def make_mosaic_cohort(
    folder: str | os.PathLike[str],
    source: str | os.PathLike[str],
    task: str,
    n_train: int = 40,
    n_test: int = 20,
    cells: int = 12,
    seed: int = 0,
    *,
    scattered: bool = False,
    n_sites: int = 4,
) -> Iterator[CohortProgress]:
    """Stitch a cohort of mosaics and write it.

    Writes `slides/*.tif` (pyramids), `truth/*.png` (a pixel a cell), `mosaics.json` (which image lies where, and on how
    many images and patients the cohort rests) and, last, `cohort.csv`. The same arguments give the same files.

    Parameters
    ----------
    folder
        Where to write; made when missing.
    source
        Folder of labelled images of 224 px with a ``manifest.csv``.
    task, n_train, n_test, cells, seed, scattered, n_sites
        As in `mosaic_layouts`.

    Yields
    ------
    CohortProgress
        After each slide; the table is there when the iterator ends.

    Raises
    ------
    ProspectorError
        As `read_images` and `mosaic_layouts`; if an image is not 224 px square; if a file cannot be written.
    """
    images = read_images(source)
    layouts = mosaic_layouts(images, task, n_train, n_test, cells, seed, scattered=scattered, n_sites=n_sites)
    root = Path(folder)
    rows = []
    for done, layout in enumerate(layouts):
        row = MadeSlide(
            path=f"slides/{layout.name}.tif",
            label=layout.label,
            group=layout.group,
            split=layout.split,
            mpp=NOMINAL_MPP,
            truth=f"truth/{layout.name}.png",
        )
        bands = (_band(Path(source), images, line) for line in layout.images)
        write_truth(root / row.truth, layout.truth)
        write_pyramid(root / row.path, bands, NOMINAL_MPP, shape=(cells * CELL_PX, cells * CELL_PX), quality=95)
        rows.append(row)
        yield CohortProgress(done=done + 1, total=len(layouts), path=root / row.path)
    with atomic_path(root / "mosaics.json") as partial:
        partial.write_text(json.dumps(_record(images, layouts, task, seed), indent=1) + "\n", encoding="utf-8")
    write_cohort_table(root / "cohort.csv", rows)


def _assign_patients(
    images: Sequence[TissueImage], classes: Sequence[str], n_sites: int, rng: np.random.Generator
) -> dict[str, tuple[str, int]]:
    """Give every patient of the classes a split and a site; classes with few patients are served first."""
    patients = {name: sorted({image.patient for image in images if image.tissue == name}) for name in classes}
    fewest = min(len(names) for names in patients.values())
    if fewest < 2:
        raise InvalidInputError(f"every class must come from at least two patients; {patients} do not.")
    n_sites = max(1, min(n_sites, fewest // 2))
    cells = [(split, site) for site in range(n_sites) for split in ("train", "test")]
    places: dict[str, tuple[str, int]] = {}
    for name in sorted(classes, key=lambda one: len(patients[one])):
        n_images = {
            patient: sum(i.patient == patient and i.tissue == name for i in images) for patient in patients[name]
        }
        load = dict.fromkeys(cells, 0)
        for patient in patients[name]:
            if patient in places:
                load[places[patient]] += n_images[patient]
        for patient in rng.permutation([patient for patient in patients[name] if patient not in places]).tolist():
            emptiest = min(cells, key=lambda cell: load[cell])
            places[patient] = emptiest
            load[emptiest] += n_images[patient]
        if min(load.values()) == 0:
            raise InvalidInputError(f"class {name!r} has too few patients for {n_sites} sites. Lower n_sites.")
    return places


def _positive_cells(cells: int, scattered: bool, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Choose 5 to 25 % of the cells: scattered, or grown from one to three seeds."""
    truth = np.zeros((cells, cells), dtype=bool)
    n_wanted = max(1, round(rng.uniform(*POSITIVE_SHARE) * cells**2))
    n_patches = n_wanted if scattered else min(int(rng.integers(1, LARGEST_PATCHES + 1)), n_wanted)
    truth.flat[rng.choice(cells**2, n_patches, replace=False)] = True
    while truth.sum() < n_wanted:
        padded = np.pad(truth, 1)
        beside = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
        truth.flat[rng.choice(np.flatnonzero(beside & ~truth))] = True
    return truth


def _band(source: Path, images: Sequence[TissueImage], line: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Read one row of cells, (224, cells * 224, 3)."""
    tiles = []
    for number in line:
        with open_slide(source / images[number].file) as image:
            if image.shape != (CELL_PX, CELL_PX):
                raise InvalidInputError(f"{image.name} must be {CELL_PX} px square; it is {image.shape}.")
            tiles.append(image.read(0, 0, CELL_PX, CELL_PX))
    return np.concatenate(tiles, axis=1)


def _record(images: Sequence[TissueImage], layouts: Sequence[MosaicLayout], task: str, seed: int) -> dict[str, object]:
    """Return what the cohort rests on."""
    rests: dict[str, dict[str, dict[str, int]]] = {}
    for split in ("train", "test"):
        used = {int(i) for layout in layouts if layout.split == split for i in np.unique(layout.images)}
        tissues = sorted({images[i].tissue for i in used})
        rests[split] = {
            tissue: {
                "images": sum(images[i].tissue == tissue for i in used),
                "patients": len({images[i].patient for i in used if images[i].tissue == tissue}),
            }
            for tissue in tissues
        }
    cells = {layout.name: [[images[i].file for i in line] for line in layout.images] for layout in layouts}
    return {"task": task, "seed": seed, "nominal_mpp": NOMINAL_MPP, "rests_on": rests, "cells": cells}
