"""A cohort written as a table reads back as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_prospector.errors import InvalidInputError
from napari_prospector.study.cohort import Cohort, CohortRow
from napari_prospector.study.cohort_table import write_cohort


def test_what_is_written_reads_back_with_relative_paths(tmp_path: Path) -> None:
    rows = [
        CohortRow(tmp_path / "slides" / "a, b.svs", 'tumour "x"', "p;1", "train", 0.1234567890123, None, 2),
        CohortRow(tmp_path.parent / "c.svs", "normal\nhere", None, "test", None, tmp_path / "truth" / "c.png", 3),
    ]
    table = write_cohort(tmp_path / "new" / "cohort.csv", rows)
    text = table.read_text(encoding="utf-8")
    assert text.startswith("path,label,group,split,mpp,truth\n")
    assert str(tmp_path) not in text
    read = Cohort.read(table, check_files=False)
    # the second label holds a line break, so lines are counted otherwise
    assert [(r.path, r.label, r.group, r.split, r.mpp, r.truth) for r in read] == [
        (r.path, r.label, r.group, r.split, r.mpp, r.truth) for r in rows
    ]


def test_columns_that_nobody_fills_are_left_out_and_labels_may_be_empty(tmp_path: Path) -> None:
    table = write_cohort(tmp_path / "c.csv", [CohortRow(tmp_path / "a.svs", "")])
    assert table.read_text(encoding="utf-8") == "path,label\na.svs,\n"
    assert Cohort.read(table, check_files=False, needs_labels=False).labels == ("",)
    with pytest.raises(InvalidInputError, match="line 2, column label: must not be empty"):
        Cohort.read(table, check_files=False)


def test_a_table_without_slides_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="Add slides first"):
        write_cohort(tmp_path / "c.csv", [])
    assert not (tmp_path / "c.csv").exists()
