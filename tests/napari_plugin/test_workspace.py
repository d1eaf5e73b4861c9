"""What the widgets share: the study with undo, the head, the slide at hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from napari_prospector._napari.workspace import Workspace, workspace_of
from napari_prospector.core.concept_edits import ConceptEdits
from napari_prospector.core.head import load_head
from napari_prospector.errors import InvalidInputError
from napari_prospector.study.project import Study, StudySlide

OURS = "napari-prospector"


@pytest.fixture
def workspace(viewer: Any) -> Workspace:
    return workspace_of(viewer)


def test_a_viewer_has_one_workspace(viewer: Any, workspace: Workspace) -> None:
    from napari.utils._proxies import PublicOnlyProxy

    assert workspace_of(viewer) is workspace
    assert workspace_of(PublicOnlyProxy(viewer)) is workspace


def test_every_edit_is_told_and_can_be_undone(workspace: Workspace) -> None:
    told: list[tuple[Study, Study]] = []
    workspace.changed.connect(lambda before, after: told.append((before, after)))
    empty = workspace.study
    labelled = empty.with_slides([StudySlide(Path("/a.svs"), "tumour")])
    workspace.edit("Add a.svs", labelled)
    assert workspace.undo_text == "Add a.svs"
    workspace.undo()
    assert workspace.study == empty
    workspace.redo()
    assert workspace.study == labelled
    assert told == [(empty, labelled), (labelled, empty), (empty, labelled)]


def test_a_head_is_loaded_and_undo_brings_the_earlier_one_back(
    workspace: Workspace, head_file: Path, refined_head_file: Path, qtbot: Any
) -> None:
    for file in (head_file, refined_head_file):
        workspace.use_head(file)
        assert workspace.head is None
        qtbot.waitUntil(lambda: workspace.head is not None, timeout=20_000)
    assert workspace.head is not None
    assert "refined" in workspace.head.maps_
    workspace.undo()
    qtbot.waitUntil(lambda: workspace.head is not None, timeout=20_000)
    assert "refined" not in workspace.head.maps_


def test_a_file_that_is_no_head_is_told_in_a_sentence(workspace: Workspace, tmp_path: Path, qtbot: Any) -> None:
    broken = tmp_path / "broken.prospector"
    broken.write_bytes(b"no head")
    workspace.use_head(broken)
    qtbot.waitUntil(lambda: workspace.head_problem is not None, timeout=20_000)
    assert "broken.prospector" in str(workspace.head_problem)


def test_the_slide_at_hand_follows_what_is_opened_selected_and_closed(
    viewer: Any, workspace: Workspace, planted: Any, tmp_path: Path
) -> None:
    assert workspace.current is None
    for name in ("a.tif", "b.tif"):
        viewer.open(str(planted.write(tmp_path / name)), plugin=OURS)
    assert workspace.current is not None
    assert workspace.current.name == "b"
    viewer.layers.selection.active = viewer.layers["a"]
    assert workspace.current.name == "a"
    viewer.layers["a"].name = "renamed"
    assert workspace.current.name == "renamed"
    viewer.layers.remove("renamed")
    assert workspace.current.name == "b"


def test_the_methods_of_a_study_change_what_they_say(tmp_path: Path) -> None:
    a, b, c = (StudySlide(tmp_path / name) for name in ("a", "b", "c"))
    study = Study().with_slides([a, b]).with_slides([b, c, replace(c, label="x")])
    assert [slide.path.name for slide in study.slides] == ["a", "b", "c"]
    study = study.with_fields([a.path, c.path], label="tumour").without_slides([a.path])
    assert [(slide.path.name, slide.label) for slide in study.slides] == [("b", None), ("c", "tumour")]
    assert study.labels == ("tumour",)
    assert [row.path for row in study.cohort()] == [c.path]
    assert study.with_regions("k", ()).annotations == {}
    with pytest.raises(InvalidInputError, match="Give labels under 'Slides'"):
        Study().with_slides([a]).cohort()


def loaded(workspace: Workspace, file: Path, qtbot: Any) -> Any:
    """Use a head, and wait until it is there."""
    workspace.use_head(file)
    qtbot.waitUntil(lambda: workspace.head is not None, timeout=20_000)
    assert workspace.head is not None
    return workspace.head


def test_edits_of_concepts_reach_the_heads_file_and_undo_takes_them_out_again(
    workspace: Workspace, head_file: Path, tmp_path: Path, qtbot: Any
) -> None:
    workspace.keeper._timer.setInterval(10)
    own = tmp_path / "own.prospector"
    own.write_bytes(head_file.read_bytes())
    first = loaded(workspace, own, qtbot).concept_edits_

    def in_file() -> Any:
        qtbot.waitUntil(lambda: workspace.keeper.is_saved, timeout=20_000)
        return load_head(own).concept_edits_

    workspace.edit("Rename", replace(workspace.study, concepts=first.rename(1, "stroma")))
    assert workspace.head is not None
    assert workspace.head.concept_names_[1] == "stroma"
    assert in_file().names[1] == "stroma"
    workspace.undo()
    assert workspace.head.concept_edits_ == first, "although the file said otherwise by then"
    assert in_file() == first
    workspace.redo()
    assert in_file().names[1] == "stroma"


def test_a_head_that_nobody_edits_is_not_written(
    workspace: Workspace, head_file: Path, tmp_path: Path, qtbot: Any
) -> None:
    own = tmp_path / "own.prospector"
    own.write_bytes(head_file.read_bytes())
    before = own.stat().st_mtime_ns
    loaded(workspace, own, qtbot)
    workspace.edit("Add", workspace.study.with_slides([StudySlide(tmp_path / "a.svs")]))
    qtbot.waitUntil(lambda: workspace.keeper.is_saved, timeout=20_000)
    assert own.stat().st_mtime_ns == before


def test_names_for_another_head_are_told_in_a_sentence(workspace: Workspace, head_file: Path, qtbot: Any) -> None:
    loaded(workspace, head_file, qtbot)
    workspace.edit("Name seven", replace(workspace.study, concepts=ConceptEdits.of(7)))
    assert workspace.head is None
    assert "whose 7 concepts were named here" in str(workspace.head_problem)
    workspace.undo()
    qtbot.waitUntil(lambda: workspace.head is not None, timeout=20_000)
