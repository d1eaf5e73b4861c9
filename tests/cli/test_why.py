"""`prospect why`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_study import COLS, MPP, ROWS, TILE, Study

from napari_prospector.core.head import load_head
from napari_prospector.tokens.store import TokenGrid


@pytest.mark.parametrize("map_name", ["evidence", "decision", "refined"])
def test_the_parts_of_every_token_add_up_to_its_score(map_name: str, study: Study, prospect_json: Any) -> None:
    head = load_head(study.head)
    with TokenGrid.open(study.grid(0)) as grid:
        scores = head.prospect(grid.graph(), map_name, "tumour")
    for token in (0, 7, ROWS * COLS - 1):
        row, col = divmod(token, COLS)
        words = ("--token", f"{row},{col}", "--map", map_name, "--target", "tumour")
        code, found = prospect_json("why", study.head, study.grid(0), *words)
        assert code == 0
        assert math.fsum(part["value"] for part in found["parts"]) == found["score"]
        assert found["score"] == pytest.approx(scores[token], abs=1e-5)
        assert (found["slide"], found["map"], found["target"]) == ("slide 0.tif", map_name, "tumour")


def test_a_place_in_micrometres_is_the_token_that_looks_there(study: Study, prospect_json: Any) -> None:
    at = ((1 * TILE + 3) * MPP, (4 * TILE - 0.6) * MPP)
    code, found = prospect_json("why", study.head, study.grid(0), "--at", f"{at[0]},{at[1]}")
    assert (code, found["row"], found["col"]) == (0, 1, 3)
    assert found["centre_um"] == [(TILE + (TILE - 1) / 2) * MPP, (3 * TILE + (TILE - 1) / 2) * MPP]


def test_bars_are_drawn_for_people(study: Study, prospect: Any) -> None:
    code, out, _ = prospect("why", study.head, study.grid(0), "--token", "1,1")
    assert code == 0
    assert "Token (row 1, column 1) of slide 0.tif" in out
    assert "itself: " in out
    assert "█" in out
    total = next(line for line in out.splitlines() if line.strip().startswith("sum = score")).split()[-1]
    assert total == out.splitlines()[1].split()[-1]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "either --at ROW_UM,COL_UM or --token ROW,COL"),
        (("--token", "1,1", "--at", "1,1"), "either --at ROW_UM,COL_UM or --token ROW,COL"),
        (("--token", "1"), "'1' is no pair such as 3,5"),
        (("--at", "a,b"), "'a,b' is no pair such as 120.5,340"),
        (("--token", f"1,{COLS}"), f"at row 1, column {COLS} there is none. The nearest is --token 1,{COLS - 1}."),
        (("--at", "1,-9"), "there is none. The nearest is --token 0,0."),
        (("--token", "1,1", "--target", "flu"), "flu"),
    ],
)
def test_what_cannot_be_answered_is_refused(words: tuple[str, ...], sentence: str, study: Study, prospect: Any) -> None:
    code, _, err = prospect("why", study.head, study.grid(0), *words)
    assert code in (1, 2)
    assert sentence in " ".join(err.split())
    assert "Traceback" not in err


def test_a_map_that_the_head_does_not_draw_is_refused(plain_head: Path, study: Study, prospect: Any) -> None:
    code, _, err = prospect("why", plain_head, study.grid(0), "--token", "1,1", "--map", "refined")
    assert code != 0
    assert "fitted without refinement" in err


def test_hidden_concepts_are_told(study: Study, prospect: Any, prospect_json: Any, tmp_path: Path) -> None:
    copy = tmp_path / "hidden.prospector"
    with TokenGrid.open(study.grid(0)) as grid:
        concept = int(load_head(study.head).concepts(grid.graph())[6])
    assert prospect("concepts", study.head, "--hide", str(concept), "-o", copy)[0] == 0
    code, out, _ = prospect("why", copy, study.grid(0), "--token", "1,1", "--map", "evidence")
    assert code == 0
    assert "(hidden)" in out
    assert "Hidden, so that they" in out
    found = prospect_json("why", copy, study.grid(0), "--token", "1,1", "--map", "evidence")[1]
    assert np.abs([part["value"] for part in found["parts"] if part["hidden"]]).sum() == 0
