import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_study import N_SLIDES, N_TEST, Study, write_table

from napari_prospector.core.head import load_head
from napari_prospector.study.head_maps import maps_of

FILES = [
    "evaluation.csv",
    "evaluation.json",
    "evaluation.png",
    "evaluation_data.csv",
    "evaluation_pairs.csv",
    "evaluation_probabilities.csv",
    "evaluation_reliability.csv",
    "evaluation_strata.csv",
    "pictures",
    "report.html",
]


def test_the_table_fits_a_terminal_and_the_rest_is_in_files(study: Study, prospect: Any, tmp_path: Path) -> None:
    code, out, _ = prospect("evaluate", study.head, study.table, "-o", tmp_path / "e", "--pictures", "2")
    assert code == 0
    assert max(map(len, out.partition("Means over")[0].splitlines())) <= 100
    assert "…" not in out  # no cell is cut
    for column in ("method, map", "AP [low, high]", "AUROC", "AUPRC", "Dice", "pooled", "constant", "Brier", "fit"):
        assert column in out
    assert f"prospector, {load_head(study.head).best_map_} *" in out
    for row in ("prospector", "mean-pooled", "constant", "random", "prevalence"):
        assert f"\n {row}" in out
    assert sorted(path.name for path in (tmp_path / "e").iterdir()) == FILES
    assert len(list((tmp_path / "e" / "pictures").iterdir())) == 2


def _head_rows(study: Study) -> list[str]:
    """A row for every map of the head."""
    return ["prospector"] * len(maps_of(load_head(study.head)))


def test_json_is_one_object_and_holds_what_the_file_holds(study: Study, prospect_json: Any, tmp_path: Path) -> None:
    words = ("--no-baselines", "--pictures", "0", "--target", "tumour")
    code, found = prospect_json("evaluate", study.head, study.table, "-o", tmp_path, *words)
    assert code == 0
    assert [row["method"] for row in found["rows"]] == [*_head_rows(study), "constant", "random", "prevalence"]
    files = found.pop("files")
    assert json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8")) == found
    assert sorted(Path(path).name for path in files) == [name for name in FILES if name != "pictures"]
    assert found["n_data"] == N_TEST


def _rows(study: Study) -> list[dict[str, str]]:
    with study.table.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_cohort_without_truth_is_refused(study: Study, prospect: Any, tmp_path: Path) -> None:
    rows = [[study.folder / row["path"], row["label"]] for row in _rows(study)]
    table = write_table(tmp_path / "c.csv", ["path", "label"], rows)
    code, _, err = prospect("evaluate", study.head, table, "-o", tmp_path / "e", "--grids", study.tokens)
    assert code == 1
    assert "must name a truth for some test row of class 'tumour'" in err
    assert not list((tmp_path / "e").glob("*"))


def test_a_target_that_the_head_does_not_know_is_refused(study: Study, prospect: Any, tmp_path: Path) -> None:
    code, _, err = prospect("evaluate", study.head, study.table, "-o", tmp_path, "--target", "nix")
    assert code == 1
    assert "--target must be one of normal, tumour" in err


def test_truths_that_show_no_region_of_the_class_are_refused(study: Study, prospect: Any, tmp_path: Path) -> None:
    code, _, err = prospect("evaluate", study.head, study.table, "-o", tmp_path / "e", *WORDS, "--target", "normal")
    assert code == 1
    assert "must show a region" in err
    assert "--target" in err
    assert not list((tmp_path / "e").glob("*"))


@pytest.mark.parametrize("damage", [b"", b"no picture"])
def test_a_damaged_truth_is_refused(damage: bytes, study: Study, prospect: Any, tmp_path: Path) -> None:
    (tmp_path / "t.png").write_bytes(damage)
    rows = [[study.folder / row["path"], row["label"], row["split"], tmp_path / "t.png"] for row in _rows(study)]
    table = write_table(tmp_path / "c.csv", ["path", "label", "split", "truth"], rows)
    code, _, err = prospect("evaluate", study.head, table, "-o", tmp_path / "e", "--grids", study.tokens)
    assert code == 1
    assert "t.png" in err


def _without_split(study: Study, path: Path, rows: range, group: str | None = None) -> Path:
    """Some rows of the cohort, none of them marked train or test."""
    chosen = [
        [study.folder / row["path"], row["label"], group or row["group"], study.folder / row["truth"]]
        for row in _rows(study)[rows.start : rows.stop]
    ]
    return write_table(path, ["path", "label", "group", "truth"], chosen)


WORDS = ("--no-baselines", "--pictures", "0")


def test_slides_that_the_head_learned_from_are_refused(study: Study, prospect: Any, tmp_path: Path) -> None:
    table = _without_split(study, tmp_path / "c.csv", range(N_SLIDES))
    code, out, err = prospect("evaluate", study.head, table, "-o", tmp_path, "--grids", study.tokens, *WORDS)
    assert (code, out) == (1, "")
    assert "it has learned from 6 of these 10: slide 0.tif, slide 1.tif" in err
    assert "--allow-seen" in err
    assert not list(tmp_path.glob("*.json"))


def test_what_is_measured_on_them_all_the_same_is_called_not_held_out(
    study: Study, prospect: Any, tmp_path: Path
) -> None:
    table = _without_split(study, tmp_path / "c.csv", range(N_SLIDES))
    words = ("--grids", study.tokens, "--allow-seen", *WORDS)
    code, out, _ = prospect("evaluate", study.head, table, "-o", tmp_path / "e", *words)
    assert code == 0
    for text in (out, *((tmp_path / "e" / name).read_text("utf-8") for name in ("evaluation.json", "report.html"))):
        assert "NOT HELD OUT: 6 of 10 slides" in text


def test_other_slides_of_a_patient_that_the_head_learned_from_are_refused_too(
    study: Study, prospect: Any, tmp_path: Path
) -> None:
    table = _without_split(study, tmp_path / "c.csv", range(5, N_SLIDES), group="one patient")
    code, _, err = prospect("evaluate", study.head, table, "-o", tmp_path, "--grids", study.tokens, *WORDS)
    assert code == 1
    assert "it has learned from 5 of these 5" in err
    table = _without_split(study, tmp_path / "c.csv", range(6, N_SLIDES))
    assert prospect("evaluate", study.head, table, "-o", tmp_path, "--grids", study.tokens, *WORDS)[0] == 0


def test_a_head_that_does_not_say_what_it_learned_from_is_evaluated_with_a_word_of_warning(
    study: Study, prospect: Any, tmp_path: Path
) -> None:
    head = load_head(study.head)
    del head.card_["slides"]
    head.save(tmp_path / "old.prospector")
    code, _, err = prospect("evaluate", tmp_path / "old.prospector", study.table, "-o", tmp_path, *WORDS)
    assert code == 0
    assert "does not say which slides it learned from" in err


def test_a_patient_in_both_splits_is_refused(study: Study, prospect: Any, tmp_path: Path) -> None:
    rows = [
        [study.folder / row["path"], row["label"], "p", row["split"], study.folder / row["truth"]]
        for row in _rows(study)
    ]
    table = write_table(tmp_path / "c.csv", ["path", "label", "group", "split", "truth"], rows)
    code, _, err = prospect("evaluate", study.head, table, "-o", tmp_path, "--grids", study.tokens)
    assert code == 1
    assert "'p' is both in train and in test; a patient must be in one of them" in err


def test_a_cohort_that_mixes_pixel_sizes_or_encoders_is_refused(study: Study, prospect: Any, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    shutil.copytree(study.tokens, tokens)
    odd = tokens / "slide 9.tif.tokens.zarr"
    table = _without_split(study, tmp_path / "c.csv", range(6, N_SLIDES))
    card = (odd / "zarr.json").read_text(encoding="utf-8")
    (odd / "zarr.json").write_text(card.replace('"name": "stain-texture"', '"name": "other"'), encoding="utf-8")
    code, _, err = prospect("evaluate", study.head, table, "-o", tmp_path, "--grids", tokens, *WORDS)
    assert code == 1
    assert "differ in name: 'stain-texture' and 'other'" in err
    shutil.rmtree(odd)
    assert prospect("embed", study.slide(9), "-o", tokens, "--tissue", "all", "--tile-mpp", "1.0")[0] == 0
    code, _, err = prospect("evaluate", study.head, table, "-o", tmp_path, "--grids", tokens, *WORDS)
    assert code == 1
    assert "All data must have one pixel size of tiles" in err
    assert not list(tmp_path.glob("*.json"))


def test_a_slide_in_both_splits_under_two_names_is_refused(study: Study, prospect: Any, tmp_path: Path) -> None:
    twin = shutil.copy(study.slide(8), tmp_path / "twin.tif")
    rows = [
        [study.folder / row["path"], row["label"], row["split"], study.folder / row["truth"]] for row in _rows(study)
    ]
    rows.append([twin, "tumour", "train", rows[8][3]])
    table = write_table(tmp_path / "c.csv", ["path", "label", "split", "truth"], rows)
    tokens = shutil.copytree(study.tokens, tmp_path / "tokens")
    assert prospect("embed", twin, "-o", tokens, "--tissue", "all")[0] == 0
    code, _, err = prospect("evaluate", study.head, table, "-o", tmp_path, "--grids", tokens)
    assert code == 1
    assert "no slide may be in train and in test; 'slide 8.tif' (1 in all) is in both" in err


def test_labels_may_be_judged_over_patients(study: Study, prospect_json: Any, tmp_path: Path) -> None:
    rows = [
        [
            study.folder / row["path"],
            row["label"],
            row["label"] + row["split"],
            row["split"],
            study.folder / row["truth"],
        ]
        for row in _rows(study)
    ]
    table = write_table(tmp_path / "c.csv", ["path", "label", "group", "split", "truth"], rows)
    words = ("--grids", study.tokens, "--datum", "group", *WORDS)
    code, found = prospect_json("evaluate", study.head, table, "-o", tmp_path, *words)
    assert code == 0
    assert (found["datum"], found["n_data"]) == ("group", N_TEST)
    said = [(row["datum"], row["label"]) for row in found["probabilities"]]
    assert said == [("slide 6.tif and 1 more", "tumour"), ("slide 7.tif and 1 more", "normal")]
    head = load_head(study.head)
    head.save(tmp_path / "of patients.prospector", {"datum": "group"})
    for name, said, datum in (
        (study.head, (), "slide"),
        (tmp_path / "of patients.prospector", (), "group"),
        (tmp_path / "of patients.prospector", ("--datum", "slide"), "slide"),
    ):
        words = ("--grids", study.tokens, *said, *WORDS)
        assert prospect_json("evaluate", name, table, "-o", tmp_path, *words)[1]["datum"] == datum


def test_baselines_are_chosen_by_name(study: Study, prospect_json: Any, prospect: Any, tmp_path: Path) -> None:
    words = ("--baseline", "mean-pooled", "--baseline", "constant", "--pictures", "0")
    code, found = prospect_json("evaluate", study.head, study.table, "-o", tmp_path, *words)
    assert code == 0
    names = [row["method"] for row in found["rows"]]
    assert names == [*_head_rows(study), "mean-pooled", "constant", "random", "prevalence"]
    assert found["rows"][-4]["fit_seconds"] > 0
    code, _, err = prospect("evaluate", study.head, study.table, "-o", tmp_path, "--baseline", "mean-poled")
    assert code == 1
    assert "Baseline 'mean-poled' is unknown. Close names: 'mean-pooled'" in err
    code, _, err = prospect("evaluate", study.head, study.table, "-o", tmp_path, "--no-baselines", *words[:2])
    assert code == 2
    assert "contradict each other" in err


def test_the_ceiling_says_that_it_was_taught_by_regions(
    study: Study, prospect: Any, prospect_json: Any, tmp_path: Path
) -> None:
    code, found = prospect_json("evaluate", study.head, study.table, "-o", tmp_path, "--ceiling", *WORDS)
    assert code == 0
    plain = next(row for row in found["rows"] if row["method"] == "ceiling, taught by regions")
    assert plain["map"] == "logit"
    assert plain["ap"] == 1
    assert plain["fit_seconds"] > 0
    assert plain["datum_auroc"] is None
    code, out, _ = prospect("evaluate", study.head, study.table, "-o", tmp_path, "--ceiling", "--pictures", "0")
    assert code == 0
    assert max(map(len, out.partition("Means over")[0].splitlines())) <= 100
    assert "…" not in out


def test_missing_grids_of_test_rows_are_embedded_without_any_training_row(
    study: Study, prospect: Any, tmp_path: Path
) -> None:
    rows = [
        [study.folder / row["path"], row["label"], "test", study.folder / row["truth"]]
        for row in _rows(study)
        if row["split"] == "test"
    ]
    table = write_table(tmp_path / "held-out.csv", ["path", "label", "split", "truth"], rows)
    words = ("--grids", tmp_path / "grids", "--baseline", "none")
    code, _, err = prospect("evaluate", study.head, table, "-o", tmp_path / "e", *words)
    assert code == 0, err
    assert len(list((tmp_path / "grids").glob("*.tokens.zarr"))) == len(rows)
