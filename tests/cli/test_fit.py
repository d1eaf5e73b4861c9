import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_study import Study, write_table

from napari_prospector.core.head import load_head
from napari_prospector.tokens.store import TokenGrid


def three_classes(study: Study, folder: Path) -> Path:
    """A table of the study's token grids with three classes."""
    rows = [[str(study.grid(number)), "abc"[number % 3]] for number in range(9)]
    return write_table(folder / "three.csv", ["path", "label"], rows)


def test_a_head_is_written_and_described(study: Study, prospect: Any, tmp_path: Path) -> None:
    out = tmp_path / "new folder é" / "h.prospector"
    words = ("--n-concepts", "2", "--kernel", "linear", "--positive", "normal", "--seed", "5")
    code, text, err = prospect("fit", study.table, "-o", out, *words)
    assert code == 0
    assert "looks for: **normal**" in text
    assert "Note: Probabilities are not calibrated" in err
    head = load_head(out)
    assert (head.n_concepts, head.kernel, head.random_state, sum(head.n_data_.values())) == (2, "linear", 5, 6)


def test_json_is_one_object(study: Study, prospect_json: Any, tmp_path: Path) -> None:
    code, found = prospect_json("fit", study.table, "-o", tmp_path / "h.prospector", "--n-concepts", "2")
    assert code == 0
    assert (found["target"], found["n_data"], found["classes"]) == ("tumour", 6, {"normal": 3, "tumour": 3})


def test_select_says_what_it_chose(
    study: Study, prospect_json: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_prospector.core import selection

    small = selection.Grid(n_concepts=(2, 3), radius=(1,), l1_ratio=())
    monkeypatch.setattr(selection.select_head, "__defaults__", (None, small, None))
    code, found = prospect_json("fit", study.table, "-o", tmp_path / "h.prospector", "--select", "--folds", "2")
    assert code == 0
    assert found["n_settings"] >= len(found["selection"]) > 1
    assert found["sentence"].startswith(f"Chose {found['selection'][0]['n_concepts']} concepts")
    assert load_head(tmp_path / "h.prospector").card_["selected"] == found["sentence"]


def test_fit_without_options_says_what_it_chose_why_and_how_sure_it_is(
    study: Study, prospect_json: Any, tmp_path: Path
) -> None:
    code, found = prospect_json("fit", study.table, "-o", tmp_path / "h.prospector")
    assert code == 0
    head = load_head(tmp_path / "h.prospector")
    assert found["sentence"] == head.selection_.sentence()
    assert f"the {found['map']} map" in found["sentence"]
    assert "from labels of 6 data" in found["sentence"]
    assert found["maps"] == ["evidence", "decision", "refined"]
    assert {row["map"] for row in found["selection"]} >= set(found["maps"])
    assert all(row["excess_low"] <= row["excess_high"] for row in found["selection"])


def test_a_head_may_do_without_the_refined_map(study: Study, prospect_json: Any, tmp_path: Path) -> None:
    words = ("--no-refine", "--n-concepts", "2", "--radius", "1", "--kernel", "fold-change")
    code, found = prospect_json("fit", study.table, "-o", tmp_path / "h.prospector", *words)
    assert code == 0
    assert (found["maps"], found["map"]) == (["evidence", "decision"], "evidence")


def test_the_slides_of_a_patient_may_be_one_datum(study: Study, prospect_json: Any, tmp_path: Path) -> None:
    rows = [[study.grid(number % 6), "ab"[number % 2], f"p{number}"] for number in range(6)]
    doubled = tmp_path / "twice.tokens.zarr"
    shutil.copytree(study.grid(0), doubled)
    table = write_table(tmp_path / "c.csv", ["path", "label", "group"], [*rows, [doubled, "a", "p0"]])
    code, found = prospect_json("fit", table, "-o", tmp_path / "h.prospector", "--datum", "group", "--n-concepts", "2")
    assert code == 0
    assert (found["n_data"], found["classes"]) == (6, {"a": 3, "b": 3})
    torn = write_table(tmp_path / "t.csv", ["path", "label", "group"], [*rows, [doubled, "b", "p0"]])
    code, found = prospect_json("fit", torn, "-o", tmp_path / "t.prospector", "--datum", "group")
    assert code == 1
    assert "p0" in found["error"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--select", "--radius", "2"), "--select chooses --radius"),
        (("--kernel", "quadratic"), "'auto', 'fold-change', 'linear'"),
        (("--n-concepts", "0"), "--n-concepts"),
        (("--radius", "far"), "a whole number of at least 0, or auto; got 'far'"),
    ],
)
def test_options_that_cannot_be_are_wrong_usage(
    words: tuple[str, ...], reason: str, study: Study, prospect: Any, tmp_path: Path
) -> None:
    code, _, err = prospect("fit", study.table, "-o", tmp_path / "h.prospector", *words)
    assert code == 2
    assert reason in err


def test_a_head_must_be_named_as_heads_are(study: Study, prospect: Any, tmp_path: Path) -> None:
    code, _, err = prospect("fit", study.table, "-o", tmp_path / "h.safetensors")
    assert code == 2
    assert "must end in .prospector" in err


@pytest.mark.parametrize(
    ("columns", "rows", "reason"),
    [
        (["path", "label"], [[0, "a"], [1, "a"]], "at least 2 classes"),
        (["path", "lable"], [[0, "a"], [1, "b"]], "Did you mean 'label'?"),
        (["path", "label", "mpp"], [[0, "a", "0"], [1, "b", "1"]], "line 2, column mpp"),
        (["path", "label"], [], "at least one row"),
    ],
)
def test_a_table_that_cannot_be_learned_from_is_refused(
    columns: list[str], rows: list[list[Any]], reason: str, study: Study, prospect: Any, tmp_path: Path
) -> None:
    table = write_table(tmp_path / "c.csv", columns, [[study.slide(row[0]), *row[1:]] for row in rows])
    code, _, err = prospect("fit", table, "-o", tmp_path / "h.prospector", "--grids", study.tokens)
    assert code == 1
    assert reason in err
    assert not (tmp_path / "h.prospector").exists()


def test_slides_that_cannot_be_embedded_are_all_named(study: Study, prospect_json: Any, tmp_path: Path) -> None:
    for name in ("one.tif", "two.tif"):
        (tmp_path / name).touch()
    table = write_table(tmp_path / "c.csv", ["path", "label"], [["one.tif", "a"], ["two.tif", "b"]])
    code, found = prospect_json("fit", table, "-o", tmp_path / "h.prospector")
    assert code == 1
    assert "2 of 2 could not be" in found["error"]
    assert "one.tif" in found["error"]
    assert "two.tif" in found["error"]


def test_embeddings_that_are_not_numbers_are_refused(study: Study, prospect: Any, tmp_path: Path) -> None:
    spoiled = tmp_path / "spoiled.tokens.zarr"
    shutil.copytree(study.grid(0), spoiled)
    with TokenGrid.open(spoiled, "r+") as grid:
        block = next(iter(grid.blocks()))
        wrong = np.full((*grid.state[block.tokens].shape, grid.n_dims), np.nan, np.float32)
        grid.embeddings[block.tokens] = wrong
    rows = [[study.grid(number), "ab"[number % 2]] for number in range(1, 6)]
    table = write_table(tmp_path / "c.csv", ["path", "label"], [["spoiled.tokens.zarr", "a"], *rows])
    code, _, err = prospect("fit", table, "-o", tmp_path / "h.prospector")
    assert code == 1
    assert "holds NaN" in err
    assert not (tmp_path / "h.prospector").exists()


def test_an_encoder_that_the_grids_do_not_hold_is_refused(study: Study, prospect: Any, tmp_path: Path) -> None:
    code, _, err = prospect(
        "fit", study.table, "-o", tmp_path / "h.prospector", "--grids", study.tokens, "--encoder", "mobilenetv2_100"
    )
    assert code == 1
    assert "hold 'stain-texture'" in err


def test_more_than_two_classes_are_one_fit(study: Study, prospect_json: Any, tmp_path: Path) -> None:
    code, found = prospect_json("fit", three_classes(study, tmp_path), "-o", tmp_path / "h.prospector")
    assert code == 0
    assert (found["classes"], found["target"]) == ({"a": 3, "b": 3, "c": 3}, None)


def test_missing_grids_are_not_embedded_with_another_encoder_than_the_rest(
    study: Study, prospect: Any, tmp_path: Path
) -> None:
    grids = shutil.copytree(study.tokens, tmp_path / "grids")
    shutil.rmtree(grids / "slide 0.tif.tokens.zarr")
    for store in grids.iterdir():
        card = (store / "zarr.json").read_text(encoding="utf-8")
        (store / "zarr.json").write_text(card.replace('"name": "stain-texture"', '"name": "uni"'), encoding="utf-8")
    code, _, err = prospect("fit", study.table, "-o", tmp_path / "h.prospector", "--grids", grids)
    assert code == 1
    assert "holds tokens of 'uni', and 1 slides without a token grid" in err
    assert "Pass --encoder uni" in err
    assert not (grids / "slide 0.tif.tokens.zarr").exists()
