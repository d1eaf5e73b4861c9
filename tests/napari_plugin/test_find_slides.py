"""What is dropped on the cohort, as slides; without a window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from slide_files import drawn, write_dicom

from napari_prospector._napari.find_slides import Found, find_slides, is_cohort_table
from napari_prospector.errors import InvalidInputError
from napari_prospector.study.project import StudySlide


def drive(steps: Any) -> tuple[list[StudySlide], Found]:
    """Return the slides that were found on the way, and what came of it."""
    slides: list[StudySlide] = []
    while True:
        try:
            slides += next(steps).found or ()
        except StopIteration as end:
            return slides, end.value


@pytest.fixture
def folder(planted: Any, tmp_path: Path) -> Path:
    """Two slides, one in a folder of its own, among other things."""
    within = tmp_path / "batch" / "deep"
    within.mkdir(parents=True)
    planted.write(tmp_path / "batch" / "a.tif")
    planted.write(within / "b.tif")
    (within / "broken.svs").write_bytes(b"not a slide")
    (tmp_path / "batch" / "notes.txt").write_text("nothing", encoding="utf-8")
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "batch" / "figure.png")
    (tmp_path / "batch" / ".hidden.tif").write_bytes(b"")
    (tmp_path / "batch" / "a.tif.stain-texture.tokens.zarr").mkdir()
    return tmp_path / "batch"


def test_a_folder_is_searched_and_pictures_are_told_from_slides(folder: Path) -> None:
    slides, found = drive(find_slides([folder]))
    # a damaged slide is taken: the table tells what is wrong with it
    assert [slide.path.relative_to(folder).as_posix() for slide in slides] == ["a.tif", "deep/b.tif", "deep/broken.svs"]
    assert found == Found(3)
    assert found.sentence(2) == "2 slides were added. 1 were there already."


def test_a_file_that_is_no_slide_is_left_out_with_the_reason(folder: Path) -> None:
    slides, found = drive(find_slides([folder / "notes.txt", folder / "a.tif", folder / "gone.tif"]))
    assert [slide.path.name for slide in slides] == ["a.tif"]
    assert len(found.left_out) == 2
    assert "notes.txt must be a slide by its content" in found.sentence(1)
    assert "(and 1 more)" in found.sentence(1)


def test_a_plain_picture_is_a_slide_where_it_is_named(folder: Path) -> None:
    slides, _ = drive(find_slides([folder / "figure.png"]))
    assert [slide.path.name for slide in slides] == ["figure.png"]


def test_a_folder_without_slides_gives_its_token_grids(tmp_path: Path) -> None:
    (tmp_path / "tokens" / "a.svs.tokens.zarr").mkdir(parents=True)
    slides, _ = drive(find_slides([tmp_path]))
    assert [slide.path.name for slide in slides] == ["a.svs.tokens.zarr"]


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    _, found = drive(find_slides([tmp_path]))
    assert "There is no slide in there" in found.sentence(0)


def test_a_table_gives_its_rows_labelled_or_not_and_missing_files_too(tmp_path: Path) -> None:
    table = tmp_path / "cohort.csv"
    table.write_text("path,label,group,mpp\nslides/a.svs,tumour,p1,0.25\nb.svs,,,\n", encoding="utf-8")
    slides, _ = drive(find_slides([table]))
    assert slides == [
        StudySlide(tmp_path / "slides" / "a.svs", "tumour", "p1", mpp=0.25),
        StudySlide(tmp_path / "b.svs"),
    ]


def test_all_that_is_wrong_with_a_table_is_told_with_lines_and_columns(tmp_path: Path) -> None:
    table = tmp_path / "cohort.csv"
    table.write_text("path,label,mpp\na.svs,x,wide\na.svs,y,\n,z,\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"(?s)2 problems.*line 2, column mpp.*line 4, column path"):
        drive(find_slides([table]))


@pytest.mark.parametrize(
    ("text", "is_cohort"),
    [
        ("path,label\n", True),
        ('\n"Label";"Path";group\n', True),
        ("index,axis-0,axis-1\n0,1,2\n", False),
        ("path\n", False),
        ("", False),
    ],
)
def test_a_cohort_table_is_known_by_its_header(tmp_path: Path, text: str, is_cohort: bool) -> None:
    table = tmp_path / "t.csv"
    table.write_text(text, encoding="utf-8-sig")
    assert is_cohort_table(table) is is_cohort
    assert not is_cohort_table(tmp_path / "gone.csv")


def test_slides_that_lie_beside_dicom_files_are_found_and_the_dicom_files_are_told(folder: Path) -> None:
    write_dicom(folder / "scan.dcm", drawn())
    slides, found = drive(find_slides([folder]))
    assert [slide.path.name for slide in slides] == ["a.tif", "b.tif", "broken.svs"]
    assert found.left_out == ("scan.dcm is DICOM and lies among other slides in batch. Add it by itself.",)
