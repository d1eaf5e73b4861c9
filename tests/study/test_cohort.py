from __future__ import annotations

from pathlib import Path

import pytest

from napari_prospector.errors import FileFormatError, InvalidInputError, MissingFileError, UnknownNameError
from napari_prospector.study.cohort import Cohort, token_store_path


def write(folder: Path, text: str, *files: str) -> Path:
    """A table, and empty files beside it."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    table = folder / "cohort.csv"
    table.write_text(text, encoding="utf-8")
    return table


FULL = """path,label,group,split,mpp,truth
slides/a.svs,tumour,p1,train,0.25,truth/a.png
slides/b.svs,normal,p1,Train,,
slides/c.svs,tumour,p2,test,0.5,truth/c.png
"""
FILES = ("slides/a.svs", "slides/b.svs", "slides/c.svs", "truth/a.png", "truth/c.png")


def test_a_table_is_read_with_paths_relative_to_its_folder(tmp_path: Path) -> None:
    cohort = Cohort.read(write(tmp_path, FULL, *FILES))
    assert len(cohort) == 3
    assert cohort.labels == ("tumour", "normal", "tumour")
    assert cohort.classes == ("normal", "tumour")
    assert cohort.groups == ("p1", "p1", "p2")
    assert cohort.names == ("a.svs", "b.svs", "c.svs")
    first, second, _ = cohort
    assert first.path == tmp_path / "slides" / "a.svs"
    assert first.truth == tmp_path / "truth" / "a.png"
    assert (first.mpp, first.split, first.line) == (0.25, "train", 2)
    assert (second.mpp, second.truth, second.split) == (None, None, "train")


def test_a_table_of_excel_is_read_as_it_comes(tmp_path: Path) -> None:
    table = write(tmp_path, "", "a.svs", "b, c.svs")
    table.write_bytes("\ufeffPath;Label\r\na.svs; tumour \r\n;;\r\n\r\nb, c.svs;normal\r\n".encode())
    cohort = Cohort.read(table)
    assert cohort.labels == ("tumour", "normal")
    assert [row.line for row in cohort] == [2, 5]
    assert cohort.groups is None


def test_a_quoted_cell_may_hold_commas_and_line_breaks(tmp_path: Path) -> None:
    cohort = Cohort.read(write(tmp_path, 'path,label\na.svs,"tumour,\nhigh grade"\nb.svs,normal\n', "a.svs", "b.svs"))
    assert cohort.labels == ("tumour,\nhigh grade", "normal")


def test_split_picks_rows_and_a_table_without_splits_is_whole(tmp_path: Path) -> None:
    cohort = Cohort.read(write(tmp_path, FULL, *FILES))
    assert cohort.split("train").names == ("a.svs", "b.svs")
    assert cohort.split("test").names == ("c.svs",)
    plain = Cohort.read(write(tmp_path, "path,label\na.svs,x\n", "a.svs"))
    assert plain.split("test") is plain
    with pytest.raises(UnknownNameError, match="'train' or 'test'; got 'val'"):
        cohort.split("val")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=r"cohort\.csv has no row with 'test' in column split"):
        cohort.split("train").split("test")


def test_a_datum_without_group_stands_alone(tmp_path: Path) -> None:
    text = "path,label,group\na.svs,x,p1\nb.svs,y,\nc.svs,y,\nd.svs,y,line 3\n"
    groups = Cohort.read(write(tmp_path, text, "a.svs", "b.svs", "c.svs", "d.svs")).groups
    assert groups is not None
    assert len(set(groups)) == 4
    assert groups[0] == "p1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,lable\na.svs,x\n", r"unknown column 'lable'\. Did you mean 'label'\? Columns are path, label, group"),
        ("path,label,stain\na.svs,x,HE\n", r"unknown column 'stain'\. Columns are"),
        ("path,label,label\na.svs,x,x\n", "the column 'label' twice"),
        ("path,group\na.svs,p1\n", "columns path and label; 'label' is missing"),
        ("", "must start with a header"),
        ("path,label\n", "must hold at least one row below its header"),
        ("path,label\n,x\n", r"cohort\.csv, line 2, column path: must not be empty"),
        ("path,label\na.svs,\n", "line 2, column label: must not be empty"),
        ("path,label\na.svs\n", "line 2, column label: must not be empty"),
        ("path,label\na.svs,x,p1\n", "line 2 has 3 cells for 2 columns; quote"),
        ("path,label\na.svs,x\nb.svs,y\n./a.svs,y\n", r"line 4, column path: a\.svs is in line 2 already"),
        ('path,label,mpp\na.svs,x,"0,25"\n', "line 2, column mpp: .* 0.05-20, with a decimal point; got '0,25'"),
        ("path,label,mpp\na.svs,x,352.9\n", "line 2, column mpp: .* 0.05-20; got '352.9'"),
        ("path,label,mpp\na.svs,x,nan\n", "line 2, column mpp: .* got 'nan'"),
        ("path,label,split\na.svs,x,valid\n", "line 2, column split: must be train, test or empty; got 'valid'"),
        ("path,label,split\na.svs,x,train\nb.svs,x,\n", "line 3, column split: must not be empty where other rows"),
        (
            "path,label,group,split\na.svs,x,p1,train\nb.svs,y,p1,test\nc.svs,y,p1,test\n",
            r"cohort\.csv, lines 2 and 3, column group: 'p1' is both in train and in test; a patient must",
        ),
    ],
)
def test_what_is_wrong_is_told_with_line_and_column(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Cohort.read(write(tmp_path, text, "a.svs", "b.svs", "c.svs"))


def test_several_problems_are_told_at_once(tmp_path: Path) -> None:
    rows = "".join(f"s{i}.svs,x,{i}\n" for i in range(21, 28))
    with pytest.raises(InvalidInputError, match=r"(?s)7 problems:\n  line 2, column mpp.*line 6.*\n… and 2 more$"):
        Cohort.read(write(tmp_path, "path,label,mpp\n" + rows))


def test_missing_files_are_told_with_their_lines(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"line 3, column path: there is no file .*b\.svs\.$"):
        Cohort.read(write(tmp_path, "path,label\na.svs,x\nb.svs,y\n", "a.svs"))
    with pytest.raises(MissingFileError, match=r"line 2, column truth: there is no file .*a\.png\.$"):
        Cohort.read(write(tmp_path, "path,label,truth\na.svs,x,a.png\n", "a.svs"))
    assert len(Cohort.read(tmp_path / "cohort.csv", check_files=False)) == 1
    with pytest.raises(MissingFileError, match="no cohort table at"):
        Cohort.read(tmp_path / "other.csv")


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="is a folder"):
        Cohort.read(tmp_path)
    table = write(tmp_path, "")
    table.write_bytes(b"path,label\na.svs,na\xefve\n")
    with pytest.raises(FileFormatError, match="must be CSV text in UTF-8; byte 19 is not"):
        Cohort.read(table)
    table.write_text('path,label\na.svs,"x\n')
    with pytest.raises(FileFormatError, match=r"cohort\.csv, line \d, is no CSV"):
        Cohort.read(table)


def test_one_class_is_refused_where_something_is_to_be_learned(tmp_path: Path) -> None:
    cohort = Cohort.read(write(tmp_path, "path,label\na.svs,x\nb.svs,x\n", "a.svs", "b.svs"))
    with pytest.raises(InvalidInputError, match="at least 2 classes to learn from; column label says 'x' in all of 2"):
        cohort.require_classes()
    Cohort.read(write(tmp_path, FULL, *FILES)).require_classes()


def test_the_fingerprint_knows_contents_labels_and_groups_but_neither_folders_nor_order(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    lines = FULL.splitlines(keepends=True)
    cohort = Cohort.read(write(here, FULL, *FILES))
    moved = Cohort.read(write(there, lines[0] + lines[3] + lines[1] + lines[2], *FILES))
    assert cohort.fingerprint() == moved.fingerprint()
    assert cohort.fingerprint(["1f", "2f", "3f"]) == moved.fingerprint(["3f", "1f", "2f"])
    assert cohort.fingerprint(["1f", "2f", "3f"]) != cohort.fingerprint(["2f", "1f", "3f"])
    other = Cohort.read(write(there, FULL.replace("normal", "benign"), *FILES))
    assert cohort.fingerprint() != other.fingerprint()
    other = Cohort.read(write(there, FULL.replace("p2", "p7"), *FILES))
    assert cohort.fingerprint() != other.fingerprint()
    with pytest.raises(InvalidInputError, match="one fingerprint for each of 3 rows; got 2"):
        cohort.fingerprint(["1f", "2f"])


def test_a_token_grid_is_found_under_the_name_of_its_slide_or_by_its_own_path(tmp_path: Path) -> None:
    text = "path,label\nslides/a.svs,x\ndone/b.tokens.zarr,y\n"
    cohort = Cohort.read(write(tmp_path, text, "slides/a.svs", "done/b.tokens.zarr"))
    assert cohort.store_paths(tmp_path / "tokens") == (
        tmp_path / "tokens" / "a.svs.tokens.zarr",
        tmp_path / "done" / "b.tokens.zarr",
    )
    assert token_store_path("tokens", "slides/a.svs") == Path("tokens/a.svs.tokens.zarr")


def test_two_slides_of_one_name_cannot_share_a_token_grid(tmp_path: Path) -> None:
    cohort = Cohort.read(write(tmp_path, "path,label\np1/a.svs,x\np2/a.svs,y\n", "p1/a.svs", "p2/a.svs"))
    with pytest.raises(InvalidInputError, match=r"lines 2, 3 all name a 'a\.svs'"):
        cohort.store_paths("tokens")
