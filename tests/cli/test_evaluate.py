import csv
import json
from pathlib import Path
from typing import Any

import pytest
from small_study import N_TEST, Study, write_table

FILES = ["evaluation.csv", "evaluation.json", "evaluation_data.csv", "pictures", "report.html"]


def test_the_table_fits_a_terminal_and_the_rest_is_in_files(study: Study, prospect: Any, tmp_path: Path) -> None:
    code, out, _ = prospect("evaluate", study.head, study.table, "-o", tmp_path / "e", "--pictures", "2")
    assert code == 0
    table = out.partition("constant: share")[0].splitlines()
    assert max(map(len, table)) <= 100
    assert "…" not in "".join(table)
    for column in ("method", "map", "AP [low, high]", "AUROC", "AUPRC", "pooled AP", "constant", "datum AUROC"):
        assert column in out
    for row in ("prospector", "mean-pooled", "constant", "random", "prevalence"):
        assert f"\n {row}" in out
    assert sorted(path.name for path in (tmp_path / "e").iterdir()) == FILES
    assert len(list((tmp_path / "e" / "pictures").iterdir())) == 2


def test_json_is_one_object_and_holds_what_the_file_holds(study: Study, prospect_json: Any, tmp_path: Path) -> None:
    words = ("--no-baselines", "--pictures", "0", "--target", "tumour")
    code, found = prospect_json("evaluate", study.head, study.table, "-o", tmp_path, *words)
    assert code == 0
    assert [row["method"] for row in found["rows"]] == ["prospector", "prospector", "constant", "random", "prevalence"]
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
    code, _, err = prospect("evaluate", study.head, table, "-o", tmp_path / "e", "--tokens", study.tokens)
    assert code == 1
    assert "must name a truth for some test row of class 'tumour'" in err
    assert not list((tmp_path / "e").glob("*"))


def test_a_target_that_the_head_does_not_know_is_refused(study: Study, prospect: Any, tmp_path: Path) -> None:
    code, _, err = prospect("evaluate", study.head, study.table, "-o", tmp_path, "--target", "nix")
    assert code == 1
    assert "--target must be one of normal, tumour" in err


@pytest.mark.parametrize("damage", [b"", b"no picture"])
def test_a_damaged_truth_is_refused(damage: bytes, study: Study, prospect: Any, tmp_path: Path) -> None:
    (tmp_path / "t.png").write_bytes(damage)
    rows = [[study.folder / row["path"], row["label"], tmp_path / "t.png"] for row in _rows(study)]
    table = write_table(tmp_path / "c.csv", ["path", "label", "truth"], rows)
    code, _, err = prospect("evaluate", study.head, table, "-o", tmp_path / "e", "--tokens", study.tokens)
    assert code == 1
    assert "t.png" in err
