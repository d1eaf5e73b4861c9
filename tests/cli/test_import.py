"""`prospect import` makes token grids of other tools' features, named so that the rest of the work finds them."""

from __future__ import annotations

from pathlib import Path

import foreign_stores as made
import imagecodecs
import numpy as np
import pytest

from napari_prospector.tokens.store import TokenGrid


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    folder = tmp_path / "slides"
    folder.mkdir()
    for name in ("case7", "case8"):
        (folder / f"{name}.png").write_bytes(imagecodecs.png_encode(np.full((3000, 2500, 3), 200, np.uint8)))
    table = tmp_path / "cohort.csv"
    table.write_text("path,label,mpp\nslides/case7.png,tumour,0.25\nslides/case8.png,normal,0.25\n")
    return folder


def test_features_of_a_cohort_become_the_grids_that_fit_looks_for(prospect, tmp_path, slides):
    files = [made.trident(tmp_path / f"{name}.h5") for name in ("case7", "case8")]
    code, out, err = prospect("import", *files, "-o", tmp_path / "tokens", "--slides", tmp_path / "cohort.csv")
    assert (code, err) == (0, "")
    assert "case7.h5: 5 tokens of 'uni_v1' in" in out
    for name in ("case7", "case8"):
        grid = TokenGrid.open(tmp_path / "tokens" / f"{name}.png.tokens.zarr")
        assert grid.attrs["slide_name"] == f"{name}.png"


def test_slides_may_be_a_folder_or_the_one_slide(prospect_json, tmp_path, slides):
    path = made.trident(tmp_path / "case7.h5")
    for number, place in enumerate((slides, slides / "case8.png")):
        code, found = prospect_json("import", path, "-o", tmp_path / str(number), "--slides", place, "--mpp", "0.25")
        assert code == 0
        assert found["imported"][0]["done"] == 5
    assert (tmp_path / "1" / "case8.png.tokens.zarr").is_dir()


def test_what_fails_is_told_and_the_others_go_on(prospect, tmp_path):
    files = [made.trident(tmp_path / "case7.h5"), tmp_path / "none.h5"]
    code, out, err = prospect("import", *files, "-o", tmp_path / "tokens", "--mpp", "0.25")
    assert code == 3
    assert "case7.h5: 5 tokens" in out
    assert "There are no features at" in err


def test_moved_tiles_are_told(prospect, tmp_path):
    coords = made.XY.copy()
    coords[-1] += 40
    path = made.trident(tmp_path / "case7.h5", coords)
    code, _, err = prospect("import", path, "-o", tmp_path / "tokens", "--mpp", "0.25")
    assert code == 0
    assert "Note: case7.h5: 1 of 5 tiles lie off the grid" in err


def test_a_missing_pixel_size_is_asked_for(prospect, tmp_path):
    code, _, err = prospect("import", made.trident(tmp_path / "case7.h5"), "-o", tmp_path / "tokens")
    assert code == 1
    assert "Pass mpp (--mpp), or the slide" in err


def test_features_without_their_slide_are_refused(prospect, tmp_path, slides):
    path = made.trident(tmp_path / "case9.h5")
    code, _, err = prospect("import", path, "-o", tmp_path / "tokens", "--slides", slides)
    assert code == 1
    assert "must belong to one of the slides; none is called case9" in err


def test_one_slide_for_several_features_is_refused(prospect, tmp_path, slides):
    files = [made.trident(tmp_path / f"{name}.h5") for name in ("case7", "case8")]
    code, _, err = prospect("import", *files, "-o", tmp_path / "tokens", "--slides", slides / "case7.png")
    assert code == 1
    assert "there are features of 2. Name a folder" in err


def test_a_head_of_imported_features_says_how_new_slides_get_theirs(prospect, tmp_path, slides):
    stores = []
    for number in range(6):
        path = made.trident(tmp_path / f"case{number}.h5", shift=np.sin(number) + 5 * (number % 2))
        assert prospect("import", path, "-o", tmp_path / "tokens", "--mpp", "0.25")[0] == 0
        stores.append(f"tokens/case{number}.tokens.zarr,{'tumour' if number % 2 else 'normal'}")
    table = tmp_path / "imported.csv"
    table.write_text("path,label\n" + "\n".join(stores))
    head = tmp_path / "h.prospector"
    assert prospect("fit", table, "-o", head, "--n-concepts", "2", "--radius", "1", "--folds", "2")[0] == 0
    code, _, err = prospect("map", head, tmp_path / stores[0].split(",")[0], "-o", tmp_path / "maps")
    assert code == 0, err
    assert (tmp_path / "maps" / "case0.concepts.ome.tif").is_file()
    code, _, err = prospect("map", head, slides / "case7.png", "-o", tmp_path / "maps", "--mpp", "0.25")
    assert code == 1
    assert "made from imported features of 'uni_v1'" in err
    assert "prospect import" in err
