"""prospect quality and prospect verify, and flagged tiles that fit, map and evaluate leave out."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_study import COLS, ROWS, Study

from napari_prospector.core.head import load_head
from napari_prospector.tokens.store import TokenGrid


@pytest.fixture
def grid(study: Study, tmp_path: Path) -> Path:
    """A token grid to change."""
    return Path(shutil.copytree(study.grid(8), tmp_path / "slide 8.tif.tokens.zarr"))


def middle_blur(store: Path) -> float:
    return float(np.median(TokenGrid.open(store).quality.values[..., 1]))


def test_thresholds_change_what_is_flagged_and_are_kept_on_request(grid: Path, prospect_json: Any) -> None:
    limit = middle_blur(grid)
    code, found = prospect_json("quality", grid, "--threshold", f"blur={limit}")
    assert code == 0
    assert found["shares"]["blur"] == pytest.approx(np.mean(TokenGrid.open(grid).quality.values[..., 1] > limit))
    before = TokenGrid.open(grid).quality.thresholds
    assert before["blur"] != limit
    prospect_json("quality", grid, "--threshold", f"blur={limit}", "--save")
    assert TokenGrid.open(grid).quality.thresholds == before | {"blur": limit}
    assert prospect_json("quality", grid)[1]["shares"] == found["shares"]
    assert prospect_json("info", grid)[1]["flag_shares"] == found["shares"]


def test_flags_come_as_a_picture_or_a_table(grid: Path, prospect: Any, tmp_path: Path) -> None:
    limit = middle_blur(grid)
    code, out, _ = prospect("quality", grid, "--threshold", f"blur={limit}", "-o", tmp_path / "flags.png")
    assert code == 0
    assert "flagged: pen 0.0 % (above " in out
    flagged = TokenGrid.open(grid).quality.values[..., 1] > limit
    image = np.asarray(Image.open(tmp_path / "flags.png"))
    assert image.shape == (ROWS, COLS, 3)
    np.testing.assert_array_equal((image == (230, 153, 0)).all(-1), flagged)
    assert prospect("quality", grid, "--threshold", f"blur={limit}", "-o", tmp_path / "flags.csv")[0] == 0
    with (tmp_path / "flags.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == ROWS * COLS
    assert [row["flags"] == "blur" for row in rows] == flagged.ravel().tolist()


@pytest.mark.parametrize(
    ("words", "code", "match"),
    [
        (("--threshold", "blur"), 2, "must be FLAG=NUMBER"),
        (("--save",), 2, "--save keeps thresholds"),
        (("--threshold", "dust=0.1"), 1, "Quality flag 'dust' is unknown"),
        (("--threshold", "blur=3"), 1, "must be a number, 0 to 1; got 3.0"),
        (("-o", "flags.tif"), 1, "must end in .png or .csv; got flags.tif"),
    ],
)
def test_what_cannot_be_meant_is_refused(grid: Path, prospect: Any, words: Any, code: int, match: str) -> None:
    found, _, err = prospect("quality", grid, *words)
    assert found == code
    assert match in err


def test_a_head_fitted_without_flagged_tiles_leaves_them_out_when_it_maps_and_is_evaluated(
    study: Study, prospect: Any, prospect_json: Any, tmp_path: Path
) -> None:
    limits = [float(np.quantile(TokenGrid.open(study.grid(i)).quality.values[..., 1], 0.7)) for i in range(10)]
    limit = float(np.median(limits))
    head = tmp_path / "a.prospector"
    words = ("--n-concepts", "3", "--folds", "2", "--without", f"pen,blur={limit}", "--grids", study.tokens)
    code, _, err = prospect("fit", study.table, "-o", head, *words)
    assert code == 0, err
    assert load_head(head).card_["without"] == {"pen": None, "blur": limit}
    assert f"without tiles that are flagged: pen, blur above {limit:g}" in prospect("info", head)[1]
    kept = TokenGrid.open(study.grid(8)).usable({"pen": None, "blur": limit})
    assert 0 < kept.sum() < ROWS * COLS
    code, found = prospect_json("map", head, study.grid(8), "-o", tmp_path, "--map", "evidence")
    assert code == 0
    with (tmp_path / "slide 8.evidence.csv").open(encoding="utf-8") as stream:
        places = [(int(row["row"]), int(row["col"])) for row in csv.DictReader(stream)]
    assert places == list(map(tuple, np.argwhere(kept).tolist()))
    words = ("--grids", study.tokens, "--no-baselines", "--pictures", "1")
    code, _, err = prospect("evaluate", head, study.table, "-o", tmp_path / "evaluation", *words)
    assert code == 0, err


def test_sound_files_are_called_ok(study: Study, prospect: Any, prospect_json: Any) -> None:
    slides = study.slide(8).parent
    code, out, _ = prospect("verify", study.grid(8), study.grid(7), study.head, "--slides", slides)
    assert code == 0
    assert out.count(": ok (") == 3
    assert "slide slide 8.tif" in out
    code, found = prospect_json("verify", study.grid(8), "--slide", study.slide(8), "--reembed", "3")
    assert (code, found["is_sound"]) == (0, True)
    assert found["files"][0]["checked"][-1] == "3 tokens embedded again"


def test_every_damaged_file_is_named_and_the_exit_code_is_1(grid: Path, study: Study, prospect: Any) -> None:
    chunk = grid / "embeddings/c/0/0/0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 16
    chunk.write_bytes(content)
    head = grid.with_name("cut.prospector")
    head.write_bytes(study.head.read_bytes()[:-7])
    code, out, _ = prospect("verify", grid, study.grid(7), head, grid.with_name("none.tokens.zarr"))
    assert code == 1
    assert "embeddings/c/0/0/0 cannot be read" in out
    assert out.count(": ok (") == 1
    assert "is not a head file, or it is damaged" in out
    assert "There is no" in out


def test_a_foreign_slide_is_noticed(study: Study, prospect: Any) -> None:
    code, out, _ = prospect("verify", study.grid(8), "--slide", study.slide(7))
    assert code == 1
    assert "it was made from another file than slide 7.tif" in out
    code, out, _ = prospect("verify", study.grid(8), "--slides", study.tokens)
    assert code == 1
    assert "was made from slide 8.tif, which is not in" in out


@pytest.mark.parametrize(
    ("words", "match"),
    [(("--slide", "a.svs", "--slides", "b"), "--slide belongs to one"), (("--reembed", "3"), "needs the slide")],
)
def test_options_of_verify_that_lack_each_other_are_refused(
    study: Study, prospect: Any, words: Any, match: str
) -> None:
    code, _, err = prospect("verify", study.grid(8), *words)
    assert code == 2
    assert match in err
