"""Mosaic slides: patients and pictures stay on one side, and the plan is what the files hold."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from scipy import ndimage

from napari_prospector.errors import FileFormatError, InvalidInputError, MissingFileError, UnknownNameError
from napari_prospector.tokens.mosaics import (
    CELL_PX,
    NEGATIVE_LABEL,
    NOMINAL_MPP,
    TASKS,
    MosaicLayout,
    MosaicTask,
    make_mosaic_cohort,
    mosaic_layout,
    read_picture,
)
from napari_prospector.tokens.slides import open_slide

CLASSES = {
    "normal": 11,
    "polyp": 23,
    "adenocarcinoma": 19,
    "low_grade_in": 29,
    "high_grade_in": 13,
    "serrated_adenoma": 17,
}


@pytest.fixture(scope="session")
def pictures_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like EBHI-Seg's: prime numbers of pictures, patients with several classes, one written in two ways."""
    folder = tmp_path_factory.mktemp("ebhi")
    rng = np.random.default_rng(1)
    lines = ["class,patient,image,mask,mask_fraction"]
    for kind, n_pictures in CLASSES.items():
        for index in range(n_pictures):
            patient = f"GTxc{index % 10}" if index % 2 else f"GTXC{index % 10}"
            image = np.broadcast_to(rng.integers(60, 230, 3, dtype=np.uint8), (CELL_PX, CELL_PX, 3)).copy()
            image[: index + 1, :, 0] = 17
            (folder / f"{kind}-{index}.png").write_bytes(imagecodecs.png_encode(image))
            lines.append(f"{kind},{patient},{kind}-{index}.png,,0.5")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def patients(layout: MosaicLayout, slides: str, key: str) -> set[str]:
    return {
        layout.pictures[index].patient
        for slide in layout.slides
        if getattr(slide, key) == slides
        for index in slide.pictures.ravel()
    }


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_patient_and_no_picture_is_in_two_groups(pictures_folder: Path, task: str, seed: int) -> None:
    layout = mosaic_layout(pictures_folder, task, 20, 12, seed=seed)
    groups = sorted({slide.group for slide in layout.slides})
    assert groups == [f"test-pool-{n}" for n in (1, 2, 3)] + [f"train-pool-{n}" for n in (1, 2, 3, 4, 5)]
    of_group = [patients(layout, group, "group") for group in groups]
    assert sum(len(one) for one in of_group) == len(set.union(*of_group))
    assert all(slide.group.startswith(slide.split) for slide in layout.slides)
    for group in groups:
        assert len({slide.label for slide in layout.slides if slide.group == group}) == 2


def test_a_patient_written_in_two_ways_is_one_patient(pictures_folder: Path) -> None:
    layout = mosaic_layout(pictures_folder, "adenocarcinoma")
    assert {picture.patient for picture in layout.pictures} == {f"GTXC{n}" for n in range(10)}
    assert not patients(layout, "train", "split") & patients(layout, "test", "split")


@pytest.mark.parametrize("scattered", [False, True])
def test_truth_is_the_class_of_the_cell(pictures_folder: Path, scattered: bool) -> None:
    layout = mosaic_layout(pictures_folder, "high-grade", 10, 6, cells=(7, 11), scattered=scattered)
    assert [slide.split for slide in layout.slides] == ["train"] * 10 + ["test"] * 6
    for slide in layout.slides:
        assert slide.pictures.shape == slide.truth.shape == (7, 11)
        kinds = np.array([layout.pictures[index].kind for index in slide.pictures.ravel()]).reshape(7, 11)
        assert np.array_equal(slide.truth, kinds == "high_grade_in")
        assert set(kinds[~slide.truth]) == {"low_grade_in"}
        assert slide.truth.any() == (slide.label == "high-grade")
        assert slide.label in {"high-grade", NEGATIVE_LABEL}


def test_positive_cells_are_a_twentieth_to_a_quarter_in_at_most_three_patches(pictures_folder: Path) -> None:
    layout = mosaic_layout(pictures_folder, "serrated", 80, 2, cells=13)
    truths = [slide.truth for slide in layout.slides if slide.label != NEGATIVE_LABEL]
    shares = [truth.mean() for truth in truths]
    assert 0.045 < min(shares) < 0.09
    assert 0.21 < max(shares) < 0.255
    assert {ndimage.label(truth)[1] for truth in truths} == {1, 2, 3}


def test_scattered_cells_share_no_edge(pictures_folder: Path) -> None:
    layout = mosaic_layout(pictures_folder, "serrated", 40, 2, cells=13, scattered=True)
    for slide in layout.slides:
        assert ndimage.label(slide.truth)[1] == slide.truth.sum()
    assert max(slide.truth.mean() for slide in layout.slides) > 0.21


def test_the_seed_decides_everything(pictures_folder: Path) -> None:
    one, same, other = (mosaic_layout(pictures_folder, "adenocarcinoma", 4, 2, seed=seed) for seed in (3, 3, 4))
    assert one.pictures == same.pictures
    assert all(np.array_equal(a.pictures, b.pictures) for a, b in zip(one.slides, same.slides, strict=True))
    assert patients(one, "test", "split") != patients(other, "test", "split")


def test_the_layout_holds_each_picture_once_and_counts_what_stands_behind_a_figure(pictures_folder: Path) -> None:
    layout = mosaic_layout(pictures_folder, "adenocarcinoma", 6, 4)
    used = np.unique(np.concatenate([slide.pictures.ravel() for slide in layout.slides]))
    assert np.array_equal(used, np.arange(len(layout.pictures)))
    support = layout.support()
    assert set(support) == {"train", "test"}
    assert set(support["train"]) == {"adenocarcinoma", "normal", "polyp"}
    total = sum(by_class["polyp"]["pictures"] for by_class in support.values())
    assert total == sum(picture.kind == "polyp" for picture in layout.pictures) <= 23
    assert all(1 <= n["patients"] <= n["pictures"] for by_class in support.values() for n in by_class.values())


def test_the_files_hold_what_the_layout_says(pictures_folder: Path, tmp_path: Path) -> None:
    plan = {"n_train": 4, "n_test": 2, "cells": (5, 7), "seed": 5}
    layout = mosaic_layout(pictures_folder, "adenocarcinoma", **plan)  # type: ignore[arg-type]
    steps = list(make_mosaic_cohort(tmp_path, pictures_folder, "adenocarcinoma", **plan))  # type: ignore[arg-type]
    assert [(step.done, step.total) for step in steps] == [(done, 6) for done in range(1, 7)]
    with (tmp_path / "cohort.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["label"], row["group"], row["split"]) for row in rows] == [
        (slide.label, slide.group, slide.split) for slide in layout.slides
    ]
    for row, planned in zip(rows, layout.slides, strict=True):
        truth = imagecodecs.png_decode((tmp_path / row["truth"]).read_bytes())
        assert np.array_equal(truth > 127, planned.truth)
        with open_slide(tmp_path / row["path"]) as slide:
            assert slide.shape == (5 * CELL_PX, 7 * CELL_PX)
            assert slide.require_mpp() == pytest.approx(NOMINAL_MPP)
            for (i, j), index in np.ndenumerate(planned.pictures):
                cell = slide.read(i * CELL_PX, j * CELL_PX, CELL_PX, CELL_PX).astype(int)
                assert np.abs(cell - read_picture(layout, int(index))).max() < 16  # JPEG, and cells do not bleed


def test_the_sidecar_tells_which_picture_is_in_which_cell(pictures_folder: Path, tmp_path: Path) -> None:
    layout = mosaic_layout(pictures_folder, "serrated", 4, 2, cells=5)
    for _ in make_mosaic_cohort(tmp_path, pictures_folder, "serrated", 4, 2, cells=5):
        pass
    sidecar = json.loads((tmp_path / "mosaics.json").read_text())
    assert sidecar["mpp_is_nominal"] is True
    assert sidecar["support"] == layout.support()
    for told, slide in zip(sidecar["slides"], layout.slides, strict=True):
        assert told["path"] == f"slides/{slide.name}.tif"
        named = [sidecar["pictures"][index]["image"] for line in told["cells"] for index in line]
        assert named == [layout.pictures[index].image for index in slide.pictures.ravel()]


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        (
            {"task": "polyps"},
            UnknownNameError,
            "task must be one of adenocarcinoma, high-grade, serrated, or a MosaicTask; got 'polyps'",
        ),
        ({"n_train": 1}, InvalidInputError, "n_train must be at least 2, a positive and a negative slide; got 1"),
        ({"cells": (3, 12)}, InvalidInputError, r"cells must be at least 4 either way; got \(3, 12\)"),
        ({"seed": -1}, InvalidInputError, "seed must not be negative; got -1"),
        ({"n_pools": (5, 0)}, InvalidInputError, r"n_pools must be at least 1 for training and for test; got \(5, 0\)"),
        ({"n_pools": (9, 5)}, InvalidInputError, r"too few for n_pools=\(9, 5\)\. Ask for fewer pools"),
    ],
)
def test_what_cannot_be_stitched_is_refused(
    pictures_folder: Path, arguments: dict[str, object], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        mosaic_layout(pictures_folder, **{"task": "serrated", **arguments})  # type: ignore[arg-type]


def test_a_missing_or_foreign_manifest_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"manifest\.csv does not exist.*Name the folder"):
        mosaic_layout(tmp_path, "serrated")
    (tmp_path / "manifest.csv").write_text("class,image\n")
    with pytest.raises(FileFormatError, match="columns class, patient, image; patient is missing"):
        mosaic_layout(tmp_path, "serrated")


@pytest.mark.parametrize(
    ("content", "error", "told"),
    [
        (None, MissingFileError, "does not exist, but the manifest names it"),
        (b"not a png", FileFormatError, "must be a PNG; reading it failed"),
        (imagecodecs.png_encode(np.zeros((7, 11, 3), np.uint8)), FileFormatError, r"got uint8 of shape \(7, 11, 3\)"),
    ],
)
def test_a_bad_picture_is_named(tmp_path: Path, content: bytes | None, error: type[Exception], told: str) -> None:
    lines = [f"{kind},{patient},a.png" for kind in ("polyp", "serrated_adenoma") for patient in "AB"]
    (tmp_path / "manifest.csv").write_text("\n".join(["class,patient,image", *lines]) + "\n")
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    layout = mosaic_layout(tmp_path, "serrated", 2, 2, cells=4, n_pools=(1, 1))
    with pytest.raises(error, match=rf"a\.png.*{told}"):
        read_picture(layout, 0)


@pytest.mark.parametrize("task", TASKS)
def test_the_real_pictures_are_enough_for_five_pools_and_three(shared: Path, task: str) -> None:
    layout = mosaic_layout(shared / "data" / "histology" / "ebhi", task)
    assert len(layout.slides) == 60
    assert not patients(layout, "train", "split") & patients(layout, "test", "split")
    assert all(n["patients"] >= 3 for by_class in layout.support().values() for n in by_class.values())
    assert read_picture(layout, 0).std() > 10


@pytest.mark.parametrize("seed", [0, 3])
def test_a_task_of_ones_own_classes_is_planned_like_those_by_name(pictures_folder: Path, seed: int) -> None:
    own = MosaicTask("low-grade", "low_grade_in", ("polyp",))
    layout = mosaic_layout(pictures_folder, own, 6, 4, 5, seed)
    for slide in layout.slides:
        kinds = np.array([picture.kind for picture in layout.pictures])[slide.pictures]
        assert (kinds[slide.truth] == "low_grade_in").all()
        assert (kinds[~slide.truth] == "polyp").all()
