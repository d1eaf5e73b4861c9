"""Mosaics of labelled images: exact truth, patients apart."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_prospector.errors import InvalidInputError, MissingFileError, UnknownNameError
from napari_prospector.tokens.mosaics import MOSAIC_TASKS, TissueImage, make_mosaic_cohort, mosaic_layouts, read_images
from napari_prospector.tokens.slides import open_slide


def images_of(n_patients: int = 8, n_each: int = 3) -> list[TissueImage]:
    tissues = ("serrated_adenoma", "polyp")
    return [
        TissueImage(f"{tissue}/{patient}-{i}.png", tissue, f"{tissue} patient {patient}")
        for tissue in tissues
        for patient in range(n_patients)
        for i in range(n_each)
    ]


@pytest.mark.parametrize("task", sorted(MOSAIC_TASKS))
@pytest.mark.parametrize("seed", range(5))
def test_no_patient_is_in_training_and_in_test_nor_at_two_sites(shared: Path, task: str, seed: int) -> None:
    images = read_images(shared / "data" / "histology" / "ebhi")
    layouts = mosaic_layouts(images, task, seed=seed)
    places: dict[str, set[str]] = {}
    for layout in layouts:
        for number in np.unique(layout.images):
            places.setdefault(images[number].patient, set()).add(layout.group)
    assert {len(groups) for groups in places.values()} == {1}
    assert {layout.group for layout in layouts} == {
        f"{split}-site-{i}" for split in ("train", "test") for i in (1, 2, 3, 4)
    }


def test_the_truth_is_where_images_of_the_positive_class_lie_and_only_in_positive_slides() -> None:
    images = images_of()
    for layout in mosaic_layouts(images, "serrated", n_train=11, n_test=7, cells=9, seed=3):
        is_positive = np.vectorize(lambda i: images[i].tissue == "serrated_adenoma")(layout.images)
        np.testing.assert_array_equal(is_positive, layout.truth)
        assert layout.truth.any() == (layout.label == "serrated")
        assert layout.label in ("serrated", "negative")


def test_positive_cells_are_5_to_25_percent_in_at_most_three_patches_or_scattered() -> None:
    from scipy.ndimage import label

    together = [one for one in mosaic_layouts(images_of(), "serrated", seed=1) if one.truth.any()]
    apart = [one for one in mosaic_layouts(images_of(), "serrated", seed=1, scattered=True) if one.truth.any()]
    for layout in (*together, *apart):
        assert 0.04 < layout.truth.mean() < 0.26
    assert max(label(layout.truth)[1] for layout in together) <= 3
    assert np.mean([label(layout.truth)[1] for layout in apart]) > 6


def test_the_same_seed_gives_the_same_layout_and_another_seed_another() -> None:
    first, again, other = (mosaic_layouts(images_of(), "serrated", seed=seed)[0].images for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_slides_hold_the_pixels_of_their_images_and_read_as_pyramids(shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "histology" / "ebhi"
    steps = list(make_mosaic_cohort(tmp_path, source, "high-grade", n_train=2, n_test=2, cells=4, seed=2))
    assert [step.done for step in steps] == [1, 2, 3, 4]
    images, layouts = read_images(source), mosaic_layouts(read_images(source), "high-grade", 2, 2, 4, 2)
    with open(tmp_path / "cohort.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["label"] for row in rows] == ["high-grade", "negative"] * 2
    for row, layout in zip(rows, layouts, strict=True):
        with open_slide(tmp_path / row["path"]) as slide:
            assert slide.mpp == pytest.approx(0.5)
            found = slide.read(2 * 224, 3 * 224, 224, 224).astype(float)
        with open_slide(source / images[layout.images[2, 3]].file) as image:
            expected = image.read(0, 0, 224, 224).astype(float)
        assert np.abs(found - expected).mean() < 3  # JPEG of quality 95
        truth = tifffile.imread if row["truth"].endswith("tif") else open_slide
        assert truth(tmp_path / row["truth"]).shape == (4, 4)


def test_the_record_counts_the_images_and_patients_that_the_cohort_rests_on(shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "histology" / "ebhi"
    list(make_mosaic_cohort(tmp_path, source, "serrated", n_train=2, n_test=2, cells=4))
    record = json.loads((tmp_path / "mosaics.json").read_text())
    used = {file for line in record["cells"]["train-001"] for file in line}
    used |= {file for line in record["cells"]["train-002"] for file in line}
    assert sum(tissue["images"] for tissue in record["rests_on"]["train"].values()) == len(used)


def test_what_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Task 'melanoma' is unknown. There are 'adenocarcinoma'"):
        mosaic_layouts(images_of(), "melanoma")
    with pytest.raises(InvalidInputError, match="at least 2 and cells at least 4; got 1, 20 and 12"):
        mosaic_layouts(images_of(), "serrated", n_train=1)
    with pytest.raises(InvalidInputError, match="at least two patients"):
        mosaic_layouts(images_of(n_patients=1), "serrated")
    with pytest.raises(MissingFileError, match="no manifest.csv in"):
        list(make_mosaic_cohort(tmp_path, tmp_path, "serrated"))
