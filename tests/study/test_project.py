"""A study in its folder: it comes back as it was, and nothing is ever half-written or lost."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from napari_prospector.core.concept_edits import ConceptEdits
from napari_prospector.errors import FileFormatError, MissingFileError, StorageError, StoreBusyError
from napari_prospector.study import project_files
from napari_prospector.study.annotations import AnnotationClass, Region
from napari_prospector.study.cohort import Cohort
from napari_prospector.study.project import EncoderChoice, Study, StudySlide
from napari_prospector.study.project_files import Project, read_project

SQUARE = np.array([(3.0, 5.0), (3.0, 18.25), (16.0, 18.25), (16.0, 5.0)])


def region(label: str, moved: float = 0.0) -> Region:
    return Region(((SQUARE + moved, SQUARE[::-1] / 4 + 5 + moved),), label=label)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    slides = tmp_path / "slides"
    slides.mkdir()
    for name in ("a.svs", "b.svs"):
        (slides / name).touch()
    (slides / "b.png").touch()
    return Study(
        slides=(
            StudySlide(slides / "a.svs", "tumour", "patient; 1", "train", 0.25),
            StudySlide(slides / "b.svs", "normal", "p,2", "test", truth=slides / "b.png", tokens=tmp_path / "b.tokens"),
            StudySlide(slides / "c.svs"),
        ),
        classes=(AnnotationClass("tumour <b>", (200, 0, 0)), AnnotationClass("ngerã 🧬", (0, 20, 40))),
        annotations=MappingProxyType(
            {
                str(slides / "a.svs"): (region("tumour <b>"), region("ngerã 🧬", 0.1)),
                "layer:plain/array": (region("tumour <b>", 1 / 3),),
            }
        ),
        encoder=EncoderChoice("uni", weights=tmp_path / "w.safetensors", tile_px=112, mpp=0.5),
        head=tmp_path / "study.prospect-project" / "heads" / "first.prospector",
        concepts=ConceptEdits.of(7).rename(3, "lymphocytes").merge([3, 5]).hide(1),
    )


VIEW = {"layers": [{"key": "layer:x", "kind": "slide", "name": "a", "opacity": 0.3}], "camera": {"zoom": 0.01}}


def same(first: Study, second: Study) -> None:
    assert replace(first, annotations={}) == replace(second, annotations={})
    assert first.annotations.keys() == second.annotations.keys()
    for key, regions in first.annotations.items():
        for one, other in zip(regions, second.annotations[key], strict=True):
            assert (one.label, one.name, one.id) == (other.label, other.name, other.id)
            for ring, read in zip(one.polygons[0], other.polygons[0], strict=True):
                np.testing.assert_array_equal(ring, read)


def test_a_study_comes_back_as_it_was(tmp_path: Path, study: Study) -> None:
    folder = tmp_path / "study.prospect-project"
    with Project(folder) as project:
        project.save(study, VIEW)
    read, view = read_project(folder)
    same(read, study)
    assert view == VIEW
    with Project(folder) as project:
        same(project.study, study)
        assert project.view == VIEW


def test_slides_and_project_can_be_moved_together(tmp_path: Path, study: Study) -> None:
    with Project(tmp_path / "study.prospect-project") as project:
        key = str(tmp_path / "slides" / "a.svs")
        project.save(study, {"layers": [{"key": key, "name": "a"}]})
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("study.prospect-project", "slides"):
        shutil.move(tmp_path / name, moved / name)
    read, view = read_project(moved / "study.prospect-project")
    assert read.slides[0].path == moved / "slides" / "a.svs"
    assert read.head == moved / "study.prospect-project" / "heads" / "first.prospector"
    assert str(moved / "slides" / "a.svs") in read.annotations
    assert view["layers"][0]["key"] == str(moved / "slides" / "a.svs")


def test_no_absolute_path_is_written(tmp_path: Path, study: Study) -> None:
    folder = tmp_path / "study.prospect-project"
    with Project(folder) as project:
        project.save(study, {"layers": [{"key": str(tmp_path / "slides" / "a.svs")}]})
    for file in folder.rglob("*"):
        assert file.is_dir() or str(tmp_path) not in file.read_text(), file


def test_labelled_slides_are_a_cohort_for_the_command_line(tmp_path: Path, study: Study) -> None:
    with Project(tmp_path / "study.prospect-project") as project:
        project.save(study, {})
    cohort = Cohort.read(tmp_path / "study.prospect-project" / "cohort.csv")
    assert [replace(row, line=0) for row in cohort] == [slide.row() for slide in study.slides[:2]]


def test_only_what_changed_is_written_again(tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = project_files.write_geojson

    def noting(path: Any, *arguments: Any) -> Any:
        written.append(Path(path).name)
        return write(path, *arguments)

    monkeypatch.setattr(project_files, "write_geojson", noting)
    key = study.slides[0].key
    with Project(tmp_path / "study.prospect-project") as project:
        project.save(study, {})
        assert len(written) == 2
        changed = study.with_regions(key, study.regions(key)[:1])
        project.save(changed, {})
        assert len(written) == 3
        project.save(changed.with_regions(key, ()), {})
        assert [file.name for file in (project.folder / "annotations").iterdir()] == [
            name for name in written[:2] if "plain" in name or "array" in name
        ]


def test_two_writers_exclude_each_other_and_readers_do_not_wait(tmp_path: Path) -> None:
    with Project(tmp_path / "a.prospect-project") as project:
        project.save(Study(), {})
        with pytest.raises(StoreBusyError, match="one writer at a time"):
            Project(tmp_path / "a.prospect-project")
        assert read_project(tmp_path / "a.prospect-project") == (Study(), {})
    Project(tmp_path / "a.prospect-project").close()


def test_what_was_saved_survives_a_disk_that_is_full(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "study.prospect-project"
    with Project(folder) as project:
        project.save(study, {})
        replace_file = os.replace

        def full(source: Any, target: Any) -> None:
            if Path(target).name == "project.json":
                raise OSError(28, "No space left on device")
            replace_file(source, target)

        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(StorageError, match="Free space"):
            project.save(Study(), {})
    same(read_project(folder)[0], study)
    assert not list(folder.rglob("*.partial"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is damaged"),
        ("[" * 100_000, "is damaged"),
        ('{"format": "other"}', "not that of a project"),
        ("[1, 2]", "not that of a project"),
        ('{"format": "napari-prospector project", "version": 9}', "of version 9; .* Install a newer one"),
        ('{"format": "napari-prospector project", "version": 1, "slides": 3}', "is damaged"),
    ],
)
def test_a_damaged_project_is_refused_and_left_alone(tmp_path: Path, text: str, sentence: str) -> None:
    folder = tmp_path / "a.prospect-project"
    folder.mkdir()
    (folder / "project.json").write_text(text)
    with pytest.raises(FileFormatError, match=sentence):
        Project(folder)
    assert (folder / "project.json").read_text() == text
    assert [file.name for file in folder.iterdir()] == ["project.json"]


def test_a_folder_without_a_project_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"has no project.json. Check the path"):
        read_project(tmp_path)


def test_the_file_is_json_that_people_can_read(tmp_path: Path, study: Study) -> None:
    with Project(tmp_path / "study.prospect-project") as project:
        project.save(study, VIEW)
    record = json.loads((tmp_path / "study.prospect-project" / "project.json").read_text(encoding="utf-8"))
    assert record["slides"][0]["path"] == "../slides/a.svs"
    assert record["classes"][1]["name"] == "ngerã 🧬"
