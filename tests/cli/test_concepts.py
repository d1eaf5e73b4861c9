"""`prospect concepts`: what it lists, what it changes, and how it is undone."""

from __future__ import annotations

import csv
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from small_study import Study

from napari_prospector.core.concept_edits import ConceptEdits
from napari_prospector.core.head import load_head
from napari_prospector.study.omezarr_maps import read_omezarr


@pytest.fixture
def head(study: Study, tmp_path: Path) -> Path:
    """A head of three concepts that may be changed; a space in its name."""
    return Path(shutil.copy(study.head, tmp_path / "my head.prospector"))


def test_concepts_are_listed_with_name_shares_and_weight(head: Path, prospect: Any, prospect_json: Any) -> None:
    code, found = prospect_json("concepts", head)
    fitted = load_head(head)
    assert (code, found["written"]) == (0, None)
    assert [row["name"] for row in found["concepts"]] == ["concept 0", "concept 1", "concept 2"]
    assert sum(row["shares"]["tumour"] for row in found["concepts"]) == pytest.approx(1)
    monograms, _ = fitted.concept_weights()
    assert [row["weights"]["tumour"] for row in found["concepts"]] == monograms.tolist()
    code, out, err = prospect("concepts", head)
    assert (code, err) == (0, "")
    for said in ("of normal", "of tumour", "weight for tumour", "concept 2", f"{monograms[1]:+.3g}"):
        assert said in out


def test_listing_changes_nothing(head: Path, prospect: Any) -> None:
    before = head.read_bytes()
    assert prospect("concepts", head)[0] == 0
    assert head.read_bytes() == before


def test_concepts_are_named_merged_and_hidden_in_place(head: Path, prospect: Any) -> None:
    code, out, err = prospect("concepts", head, "--rename", "1=glands = and more", "--merge", "1,2", "--hide", "0")
    assert code == 0
    edits = load_head(head).concept_edits_
    assert edits == ConceptEdits.of(3).merge([1, 2]).rename(1, "glands = and more").hide(0)
    assert "merged with 2" in out
    assert "Probabilities of whole data are as they were learned" in out.replace("\n", " ")
    assert "my head.prospector written." in err
    assert [path.name for path in head.parent.iterdir()] == [head.name]


@pytest.mark.parametrize(
    "words",
    [
        ["--rename", "0=stroma", "--hide", "2"],
        ["--merge", "0,2"],
        ["--merge", "1,2", "--rename", "2=glands", "--hide", "1"],
    ],
)
def test_what_it_says_of_undoing_undoes(words: list[str], head: Path, prospect: Any) -> None:
    assert prospect("concepts", head, "--rename", "2=it's mucus")[0] == 0
    before = load_head(head).concept_edits_
    err = prospect("concepts", head, *words)[2]
    assert load_head(head).concept_edits_ != before
    hint = err.partition("To undo: prospect ")[2].strip()
    err = prospect(*shlex.split(hint))[2]
    assert load_head(head).concept_edits_ == before
    hint = err.partition("To undo: prospect ")[2].strip()
    prospect(*shlex.split(hint))
    assert load_head(head).concept_edits_ != before


def test_with_another_place_the_head_stays_as_it_was(head: Path, prospect_json: Any) -> None:
    before, out = head.read_bytes(), head.parent / "new" / "b.prospector"
    code, found = prospect_json("concepts", head, "--hide", "0,1", "-o", out)
    assert (code, found["written"]) == (0, str(out))
    assert head.read_bytes() == before
    assert load_head(out).concept_edits_.hidden == {0, 1}
    assert [row["hidden"] for row in found["concepts"]] == [True, True, False]
    code, found = prospect_json("concepts", out, "--show", "1")
    assert [row["hidden"] for row in found["concepts"]] == [True, False, False]


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["--merge", "0,7"], 1, "from 0 to 2; got 7"),
        (["--rename", "0=concept 1"], 1, "is the name of concept 1"),
        (["--rename", "0="], 1, "a letter at least"),
        (["--split", "0"], 1, "Concept 0 is not merged"),
        (["--hide", "a"], 2, "'a' is no list of concept numbers, such as 3 or 3,5"),
        (["--rename", "stroma"], 2, "'stroma' is no number and name of a concept"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_written(
    words: list[str], code: int, reason: str, head: Path, prospect: Any
) -> None:
    before = head.read_bytes()
    came, out, err = prospect("concepts", head, "--hide", "2", *words)
    assert (came, out) == (code, "")
    assert reason in " ".join(err.split())
    assert head.read_bytes() == before


def test_info_says_what_is_merged_and_hidden(head: Path, prospect: Any, prospect_json: Any) -> None:
    prospect("concepts", head, "--merge", "0,1", "--rename", "0=stroma", "--hide", "2")
    _, found = prospect_json("info", head)
    assert (found["merged_concepts"], found["hidden_concepts"]) == ([[0, 1]], [2])
    assert any("Hidden, so that they" in note for note in found["notes"])
    out = prospect("info", head)[1]
    assert "merged concepts (weights as learned, one name): stroma (0, 1)" in out
    assert "count 0 in maps: concept 2" in out


def test_maps_have_the_number_and_the_name_of_the_group_and_hidden_concepts_count_0(
    head: Path, study: Study, prospect: Any, prospect_json: Any, tmp_path: Path
) -> None:
    prospect("concepts", head, "--merge", "0,2", "--rename", "0=stroma, pink", "--hide", "1")
    out = tmp_path / "maps"
    code, _, err = prospect("map", head, study.grid(8), "-o", out, "--map", "refined", "--ome-zarr")
    assert code == 0
    assert "Hidden, so that they and every pair with them count 0 in maps: concept 1." in err
    assert read_omezarr(out / "slide 8.refined.prospect.ome.zarr").origin.hidden == (1,)
    assert prospect_json("info", out / "slide 8.refined.ome.tif")[1]["hidden concepts"] == "1"
    labels = tifffile.imread(out / "slide 8.concepts.ome.tif")
    assert 3 not in labels
    with open(out / "slide 8.refined.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["concept_name"] for row in rows if row["concept"] == "0"} == {"stroma, pink"}
    hidden = np.array([row["concept"] == "1" for row in rows])
    scores = np.array([float(row["refined"]) for row in rows])
    assert hidden.any()
    assert not scores[hidden].any()
    assert scores[~hidden].all()


def test_a_picture_has_one_name_and_one_colour_for_merged_concepts(head: Path, study: Study, prospect: Any) -> None:
    from napari_prospector.study.figures import picture_of
    from napari_prospector.tokens.store import TokenGrid

    prospect("concepts", head, "--merge", "0,2", "--rename", "0=stroma")
    merged = load_head(head)
    with TokenGrid.open(study.grid(8)) as grid:
        picture = picture_of(merged, grid)
        concepts = merged.concepts(grid.graph())
    np.testing.assert_array_equal(picture.concepts, np.where(concepts == 2, 0, concepts))
    assert picture.concept_names == ("stroma", "concept 1", "stroma")
    assert picture.n_hidden == 0
    hiding = picture_of(merged.with_edits(merged.concept_edits_.hide([1, 2])), TokenGrid.open(study.grid(8)))
    assert hiding.n_hidden == 2
