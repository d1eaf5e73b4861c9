"""One slide in every lossless format gives the same tokens, by the command line and from a cohort table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from slide_files import write_dicom, write_zarr
from small_study import COLS, MPP, ROWS, TILE, draw, write_table

from napari_prospector.study.cohort import Cohort
from napari_prospector.tokens.pyramid import write_pyramid
from napari_prospector.tokens.store import TokenGrid

IMAGE = draw(0, np.eye(ROWS, COLS, dtype=bool))


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same pixels, lossless, at the pixel size of the study."""
    folder = tmp_path_factory.mktemp("formats")
    (folder / "series").mkdir()
    Image.fromarray(IMAGE).save(folder / "s.png", dpi=(25400 / MPP, 25400 / MPP))
    return {
        "tiff": write_pyramid(folder / "s.tif", IMAGE, MPP, quality=None),
        "png": folder / "s.png",
        "ome-zarr 0.4": write_zarr(folder / "four.ome.zarr", [IMAGE, IMAGE[::2, ::2]], "0.4", pixel=MPP),
        "ome-zarr 0.5": write_zarr(folder / "five.zarr", [IMAGE, IMAGE[::2, ::2]], "0.5", pixel=MPP),
        "dicom": write_dicom(folder / "s.dcm", IMAGE, MPP, codec="jpeg 2000"),
        "dicom series": write_dicom(folder / "series" / "level.dcm", IMAGE, MPP).parent,
    }


def test_a_cohort_of_all_formats_is_embedded_alike(slides: dict[str, Path], prospect: Any, tmp_path: Path) -> None:
    rows = [[path, "tumour" if number % 2 else "normal"] for number, path in enumerate(slides.values())]
    table = write_table(tmp_path / "cohort.csv", ["path", "label"], rows)
    tokens = tmp_path / "tokens"
    assert prospect("embed", table, "-o", tokens, "--tissue", "all")[0] == 0
    stores = Cohort.read(table).store_paths(tokens)
    assert [store.name for store in stores][2:4] == ["four.ome.zarr.tokens.zarr", "five.zarr.tokens.zarr"]
    found = []
    for store in stores:
        with TokenGrid.open(store) as grid:
            assert grid.mask.shape == (ROWS, COLS)
            found.append(np.asarray(grid.embeddings[...]))
    for embeddings in found[1:]:
        np.testing.assert_array_equal(embeddings, found[0])
    assert prospect("embed", table, "-o", tokens, "--tissue", "all")[0] == 0


@pytest.mark.parametrize(
    ("name", "format_name"), [("ome-zarr 0.4", "OME-Zarr 0.4"), ("dicom", "DICOM"), ("dicom series", "DICOM")]
)
def test_info_tells_format_and_pixel_size_of_files_and_folders(
    slides: dict[str, Path], prospect_json: Any, name: str, format_name: str
) -> None:
    code, found = prospect_json("info", slides[name])
    assert code == 0
    assert (found["kind"], found["format"], found["mpp"]) == ("slide", format_name, pytest.approx(MPP))
    assert found["shape"] == [ROWS * TILE, COLS * TILE]


def test_info_tells_a_damaged_slide_from_a_folder_that_is_none(prospect: Any, tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "s.ome.zarr", [IMAGE])
    (path / "0" / "zarr.json").unlink()
    code, _, err = prospect("info", path)
    assert code == 1
    assert "must hold the level '0' that it lists; it is missing" in err
    (tmp_path / "empty").mkdir()
    code, _, err = prospect("info", tmp_path / "empty")
    assert code == 1
    assert "a folder that is no token grid and no slide" in err


def test_a_slide_without_pixel_size_is_asked_for_it_whatever_its_format(prospect: Any, tmp_path: Path) -> None:
    zarr = write_zarr(tmp_path / "s.zarr", [IMAGE], unit=None)
    dicom = write_dicom(tmp_path / "s.dcm", IMAGE, None)
    for path in (zarr, dicom):
        code, _, err = prospect("embed", path, "-o", tmp_path / "tokens")
        assert code == 1
        assert f"{path.name} states no pixel size. Pass" in err
