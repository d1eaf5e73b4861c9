"""Normalized from embedding to map: what a head was fitted on is what it sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_study import Study, write_table

from napari_prospector.core.head import load_head
from napari_prospector.tokens.store import TokenGrid

FIT = ("--n-concepts", "2", "--folds", "2")


@pytest.fixture(scope="module")
def slides(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of the first six slides, in a folder without token grids."""
    rows = [[study.slide(number), "tumour" if number % 2 == 0 else "normal"] for number in range(6)]
    return write_table(tmp_path_factory.mktemp("normalized") / "cohort.csv", ["path", "label"], rows)


def test_a_head_of_normalized_tiles_has_new_slides_normalized_too(
    study: Study, slides: Path, prospect: Any, prospect_json: Any, tmp_path: Path
) -> None:
    head, maps = tmp_path / "head.prospector", tmp_path / "maps"
    code, _, err = prospect("fit", slides, "-o", head, *FIT, "--stain-normalize", "macenko")
    assert code == 0, err
    assert load_head(head).card_["encoder"]["stain_normalize"] == "macenko"
    assert "stain normalized: macenko" in load_head(head).describe()
    assert prospect("map", head, study.slide(8), "-o", maps)[0] == 0
    grid = maps / "tokens" / "slide 8.tif.tokens.zarr"
    assert TokenGrid.open(grid).card["stain_normalize"] == "macenko"
    code, out, _ = prospect("info", grid)
    assert "stain: hematoxylin " in out
    assert "scanner not stated; normalized: macenko" in out
    code, found = prospect_json("map", head, study.grid(9), "-o", maps)
    assert code == 1
    assert "fitted on tiles with stain_normalize='macenko'" in found["errors"]["slide 9.tif.tokens.zarr"]


def test_a_grid_that_is_there_is_not_gone_on_with_in_another_way(
    study: Study, prospect: Any, prospect_json: Any, tmp_path: Path
) -> None:
    words = ("embed", study.slide(0), "-o", tmp_path, "--tissue", "all")
    code, found = prospect_json(*words, "--stain-normalize", "macenko")
    assert (code, found["encoder"]["stain_normalize"]) == (0, "macenko")
    code, _, err = prospect(*words)
    assert code == 1
    assert "encoder.stain_normalize is 'macenko' there and None here" in err
    assert prospect(*words, "--stain-normalize", "reinhard")[0] == 2


def test_fitting_on_grids_that_were_not_normalized_is_not_taken_for_it(
    study: Study, prospect: Any, tmp_path: Path
) -> None:
    words = ("fit", study.table, "-o", tmp_path / "head.prospector", *FIT)
    code, _, err = prospect(*words, "--stain-normalize", "macenko")
    assert code == 1
    assert "--stain-normalize says 'macenko'; the token grids in" in err
    assert "leave --stain-normalize out" in err
