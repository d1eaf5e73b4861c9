"""`prospect evaluate` with the annotations of QuPath as truth."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from small_study import COLS, MPP, N_SLIDES, N_TEST, ROWS, TILE, Study, write_table

from napari_prospector.study.geojson import write_geojson
from napari_prospector.study.outlines import outlines
from napari_prospector.tokens.geometry import GridGeometry


def annotated(study: Study, folder: Path, label: str) -> Path:
    """Write the table of the study with annotations of the nests instead of masks."""
    geometry, rows = GridGeometry(ROWS, COLS, TILE, TILE, (0, 0), MPP), []
    for number in range(N_SLIDES - N_TEST, N_SLIDES):
        nests = np.zeros((ROWS, COLS), bool)
        nests[1, number % (COLS - 1) :][:2] = number % 2 == 0
        truth = write_geojson(folder / f"{number}.geojson", outlines(nests, geometry, label))
        rows.append([study.slide(number), "normal" if number % 2 else "tumour", f"p{number}", "test", truth])
    return write_table(folder / "cohort.csv", ["path", "label", "group", "split", "truth"], rows)


def figures(folder: Path) -> list[dict[str, str]]:
    with (folder / "evaluation.csv").open(encoding="utf-8") as stream:
        return [{name: cell for name, cell in row.items() if "seconds" not in name} for row in csv.DictReader(stream)]


def test_annotations_measure_as_masks_of_the_same_regions_do(study: Study, prospect: Any, tmp_path: Path) -> None:
    words = ("--grids", study.tokens, "--no-baselines", "--pictures", "0")
    table = annotated(study, tmp_path, "tumour")
    assert prospect("evaluate", study.head, study.table, "-o", tmp_path / "masks", *words)[0] == 0
    assert prospect("evaluate", study.head, table, "-o", tmp_path / "regions", *words)[0] == 0
    assert figures(tmp_path / "masks") == figures(tmp_path / "regions")


def test_annotations_of_a_class_called_otherwise_are_refused(study: Study, prospect: Any, tmp_path: Path) -> None:
    table = annotated(study, tmp_path, "Tumor")
    words = ("-o", tmp_path / "e", "--grids", study.tokens, "--no-baselines")
    code, _, err = prospect("evaluate", study.head, table, *words)
    assert code == 1
    assert "must hold a region of class 'tumour'; its classes are 'Tumor'. Call the class as" in " ".join(err.split())
