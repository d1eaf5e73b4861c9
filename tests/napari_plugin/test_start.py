"""The first widget, and the keeper that loses nothing."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QMessageBox

from napari_prospector._napari import keeper as keeper_module
from napari_prospector._napari.docks import show_widget
from napari_prospector._napari.keeper import unnamed_projects
from napari_prospector._napari.panel import ProspectPanel
from napari_prospector._napari.start_widget import StartWidget
from napari_prospector._napari.workspace import Workspace, workspace_of
from napari_prospector.errors import StoreBusyError
from napari_prospector.study.annotations import Region
from napari_prospector.study.project import Study, StudySlide
from napari_prospector.study.project_files import Project, read_project

LONG_MS = 20_000


@pytest.fixture
def workspace(viewer: Any, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr(keeper_module, "SAVE_AFTER_MS", 20)
    return workspace_of(viewer)


@pytest.fixture
def start(viewer: Any, workspace: Workspace, qtbot: Any) -> StartWidget:
    widget = show_widget(viewer, StartWidget, "Start")
    qtbot.waitUntil(lambda: not widget.bar.is_running, timeout=LONG_MS)
    return widget


def add_slide(workspace: Workspace, path: Path, label: str | None = "tumour") -> None:
    workspace.edit(f"Add {path.name}", workspace.study.with_slides([StudySlide(path, label)]))


def saved(workspace: Workspace, qtbot: Any) -> Path:
    """Wait until all is on the disk; return the project's folder."""
    qtbot.waitUntil(lambda: workspace.keeper.is_saved and workspace.keeper.project is not None, timeout=LONG_MS)
    assert workspace.keeper.project is not None
    return workspace.keeper.project.folder


def test_the_three_ways_to_begin_have_a_sentence_each(start: StartWidget) -> None:
    for button in (start.sample_button, start.slides_button, start.project_button):
        assert button.isEnabled()
        assert button.toolTip().endswith(".")
    assert not start.recent.isVisibleTo(start)
    assert "nothing has been changed" in start.kept.text()


def test_every_change_is_kept_without_asking(
    workspace: Workspace, start: StartWidget, tmp_path: Path, qtbot: Any
) -> None:
    add_slide(workspace, tmp_path / "a.svs")
    folder = saved(workspace, qtbot)
    assert read_project(folder)[0] == workspace.study
    assert "no name yet" in start.kept.text()
    workspace.undo()
    saved(workspace, qtbot)
    assert read_project(folder)[0].slides == ()


def test_work_without_a_name_is_offered_again_after_a_crash(workspace: Workspace, tmp_path: Path, qtbot: Any) -> None:
    add_slide(workspace, tmp_path / "a.svs")
    saved(workspace, qtbot)
    assert unnamed_projects() == [], "what is open is not offered"
    assert workspace.keeper.project is not None
    workspace.keeper.project.close()  # as the system does when a process dies
    (found,) = unnamed_projects()
    assert found.summary == "1 slide"


def test_a_project_is_saved_under_a_name_and_opened_in_another_viewer(
    viewer: Any, workspace: Workspace, start: StartWidget, tmp_path: Path, qtbot: Any, planted: Any, user_folder: Path
) -> None:
    slide = planted.write(tmp_path / "a.tif")
    viewer.open(str(slide), plugin="napari-prospector")
    add_slide(workspace, slide)
    unnamed = saved(workspace, qtbot)
    viewer.layers["a"].opacity = 0.37
    start.save_as(tmp_path / "mine")
    qtbot.waitUntil(lambda: not start.bar.is_running, timeout=LONG_MS)
    folder = tmp_path / "mine.prospect-project"
    assert workspace.keeper.is_named
    assert not unnamed.exists()
    add_slide(workspace, tmp_path / "gone.tif", None)
    assert saved(workspace, qtbot) == folder

    workspace.keeper.close()
    study = read_project(folder)[0]
    workspace.edit("Forget all", replace(study, slides=()))  # another viewer, with other work
    workspace.keeper.project = None
    start.open_project(folder)
    qtbot.waitUntil(lambda: not start.bar.is_running, timeout=LONG_MS)
    qtbot.waitUntil(lambda: "a" in viewer.layers, timeout=LONG_MS)
    assert [path.path.name for path in workspace.study.slides] == ["a.tif", "gone.tif"]
    assert viewer.layers["a"].opacity == pytest.approx(0.37)
    assert workspace.undo_text is None
    start.look_for_recent()
    qtbot.waitUntil(lambda: start.recent.count() >= 1, timeout=LONG_MS)
    assert "mine" in [start.recent.item(row).text() for row in range(start.recent.count())]


def test_a_folder_that_is_no_project_is_refused(start: StartWidget, tmp_path: Path, qtbot: Any) -> None:
    start.open_project(tmp_path)
    qtbot.waitUntil(lambda: not start.bar.is_running, timeout=LONG_MS)
    assert "There is no project in" in start.bar.status.text()


def test_a_project_that_is_open_elsewhere_is_refused(start: StartWidget, tmp_path: Path, qtbot: Any) -> None:
    with Project(tmp_path / "a.prospect-project") as project:
        project.save(project.study, {})
        start.open_project(project.folder)
        qtbot.waitUntil(lambda: not start.bar.is_running, timeout=LONG_MS)
    assert "one writer at a time" in start.bar.status.text()


def test_a_disk_that_is_full_is_told_and_tried_again(
    workspace: Workspace, start: StartWidget, tmp_path: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari.utils import notifications

    notes: list[Any] = []
    monkeypatch.setattr(notifications.notification_manager, "dispatch", notes.append)
    add_slide(workspace, tmp_path / "a.svs")
    folder = saved(workspace, qtbot)
    replace_file = os.replace

    def full(source: Any, target: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    add_slide(workspace, tmp_path / "b.svs")
    qtbot.waitUntil(lambda: start.kept.text().startswith("Not saved"), timeout=LONG_MS)
    assert "Free space" in start.kept.text()
    assert len(notes) == 1
    monkeypatch.setattr(os, "replace", replace_file)
    add_slide(workspace, tmp_path / "c.svs")
    qtbot.waitUntil(lambda: "no name yet" in start.kept.text(), timeout=LONG_MS)
    assert len(read_project(folder)[0].slides) == 3


def test_forgetting_asks_first(
    workspace: Workspace, start: StartWidget, tmp_path: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_slide(workspace, tmp_path / "a.svs")
    folder = saved(workspace, qtbot)
    assert workspace.keeper.project is not None
    workspace.keeper.project.close()
    start.look_for_recent()
    qtbot.waitUntil(lambda: start.recent.count() == 1, timeout=LONG_MS)
    start.recent.setCurrentRow(0)
    for answer, is_there in ((QMessageBox.StandardButton.No, True), (QMessageBox.StandardButton.Yes, False)):
        monkeypatch.setattr(QMessageBox, "question", lambda *_, answer=answer: answer)
        start.forget_button.click()
        assert folder.exists() == is_there


def test_help_names_every_key(start: StartWidget, qtbot: Any) -> None:
    from napari_prospector._napari.help_page import KEYS, help_html

    assert all(key.keys in help_html() and key.does in help_html() for key in KEYS)
    start.help_button.click()


def test_annotations_of_a_closed_window_are_on_the_disk(
    workspace: Workspace, viewer: Any, tmp_path: Path, qtbot: Any
) -> None:
    square = Region((([(0.0, 0.0), (0.0, 9.0), (9.0, 9.0)],),), label="tumour")
    workspace.edit("Draw", workspace.study.with_regions("layer:x", [square]))
    viewer.window._qt_window.close()
    file = next(keeper_module.unnamed_folder().glob("*/project.json"))
    assert read_project(file.parent)[0].regions("layer:x")[0].id == square.id


@pytest.mark.parametrize("is_removed_first", [False, True])
def test_a_viewer_that_is_closed_is_remembered_with_its_layers_unless_the_user_removed_them(
    viewer: Any, workspace: Workspace, slide_file: Path, qtbot: Any, is_removed_first: bool
) -> None:
    viewer.open(str(slide_file), plugin="napari-prospector")
    workspace.keeper.touch()
    folder = saved(workspace, qtbot)
    if is_removed_first:
        viewer.layers.clear()
        qtbot.wait(50)
    viewer.close()
    with Project(folder) as project:
        assert len(project.view["layers"]) == int(not is_removed_first)


def test_a_project_reopens_with_its_maps_as_they_were_shown(
    viewer: Any,
    workspace: Workspace,
    start: StartWidget,
    embedded_study: Any,
    head_file: Path,
    tmp_path: Path,
    qtbot: Any,
) -> None:
    slide = embedded_study.slides[1].path
    viewer.open(str(slide), plugin="napari-prospector")
    workspace.edit("Take the cohort", replace(embedded_study, head=head_file))
    qtbot.waitUntil(lambda: workspace.head is not None, timeout=LONG_MS)
    panel = show_widget(viewer, ProspectPanel, "Prospect")
    qtbot.waitUntil(panel.run_button.isEnabled, timeout=LONG_MS)
    panel.run_button.click()
    qtbot.waitUntil(lambda: bool(workspace.maps), timeout=60_000)
    evidence = viewer.layers["s1 · evidence"]
    evidence.opacity = 0.21
    viewer.layers["s1 · concepts"].visible = True
    seen = {layer.name: (layer.visible, layer.opacity, np.array(layer.extent.world)) for layer in viewer.layers}
    scores = np.array(evidence.data)
    start.save_as(tmp_path / "mine")
    qtbot.waitUntil(lambda: not start.bar.is_running and workspace.keeper.is_saved, timeout=LONG_MS)
    workspace.keeper.close()

    workspace.keeper.project = None
    start.open_project(tmp_path / "mine.prospect-project")
    qtbot.waitUntil(lambda: bool(workspace.maps) and not start.bar.is_running, timeout=60_000)
    assert [layer.name for layer in viewer.layers] == list(seen)
    for layer in viewer.layers:
        visible, opacity, extent = seen[layer.name]
        assert (layer.visible, layer.opacity) == (visible, pytest.approx(opacity))
        np.testing.assert_allclose(layer.extent.world, extent)
    np.testing.assert_array_equal(viewer.layers["s1 · evidence"].data, scores)
    assert len(workspace.study.slides) == 8


def project_with(folder: Path, slide: Path) -> Path:
    """Make a project with one slide."""
    with Project(folder) as project:
        project.save(Study().with_slides([StudySlide(slide, "normal")]), {})
    return folder


def test_what_was_changed_in_the_middle_of_saving_is_saved_when_the_window_closes(
    workspace: Workspace, tmp_path: Path, qtbot: Any
) -> None:
    add_slide(workspace, tmp_path / "a.svs")
    folder = saved(workspace, qtbot)
    add_slide(workspace, tmp_path / "b.svs")
    workspace.keeper.save()
    add_slide(workspace, tmp_path / "c.svs")
    workspace.keeper.close()
    assert read_project(folder)[0] == workspace.study
    qtbot.wait(200)
    assert read_project(folder)[0] == workspace.study, "the save that was under way wrote nothing older"


def test_a_project_that_is_opened_takes_nothing_of_the_work_before(
    workspace: Workspace, start: StartWidget, tmp_path: Path, qtbot: Any
) -> None:
    add_slide(workspace, tmp_path / "a.svs")
    mine = saved(workspace, qtbot)
    other = project_with(tmp_path / "other.prospect-project", tmp_path / "theirs.svs")
    project = Project(other)
    add_slide(workspace, tmp_path / "b.svs")
    workspace.keeper.save()
    start._take_project(project)
    assert [slide.path.name for slide in read_project(mine)[0].slides] == ["a.svs", "b.svs"]
    qtbot.wait(200)
    assert [slide.path.name for slide in read_project(other)[0].slides] == ["theirs.svs"]


def test_work_whose_folder_cannot_be_written_any_more_is_kept_without_a_name(
    workspace: Workspace, start: StartWidget, tmp_path: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_slide(workspace, tmp_path / "a.svs")
    start.save_as(tmp_path / "mine")
    qtbot.waitUntil(lambda: workspace.keeper.is_named and workspace.keeper.is_saved, timeout=LONG_MS)
    shutil.rmtree(tmp_path / "mine.prospect-project")
    (tmp_path / "mine.prospect-project").write_text("a file stands here")
    add_slide(workspace, tmp_path / "b.svs")
    workspace.keeper.close()
    (found,) = unnamed_projects()
    assert read_project(found.folder)[0].slides == workspace.study.slides


def test_undo_finds_heads_that_moved_with_their_project(
    workspace: Workspace, start: StartWidget, head_file: Path, tmp_path: Path, qtbot: Any
) -> None:
    heads = workspace.keeper.opened().heads
    heads.mkdir()
    for name in ("tumour-1.prospector", "tumour-2.prospector"):
        shutil.copy(head_file, heads / name)
        workspace.use_head(heads / name)
    saved(workspace, qtbot)
    start.save_as(tmp_path / "mine")
    shutil.copy(head_file, heads / "tumour-3.prospector")  # as a fit does that ends meanwhile
    workspace.use_head(heads / "tumour-3.prospector")
    qtbot.waitUntil(lambda: workspace.keeper.is_named and workspace.keeper.is_saved, timeout=LONG_MS)
    for name in ("tumour-3.prospector", "tumour-2.prospector", "tumour-1.prospector"):
        assert workspace.study.head == tmp_path / "mine.prospect-project" / "heads" / name
        qtbot.waitUntil(lambda: workspace.head is not None, timeout=LONG_MS)
        workspace.undo()


def test_a_layer_that_was_hidden_last_is_hidden_when_the_project_reopens(
    viewer: Any, workspace: Workspace, start: StartWidget, slide_file: Path, qtbot: Any
) -> None:
    viewer.open(slide_file, plugin="napari-prospector")
    add_slide(workspace, slide_file)
    folder = saved(workspace, qtbot)
    viewer.layers[0].opacity = 0.25
    workspace.keeper.close()
    assert [layer["opacity"] for layer in read_project(folder)[1]["layers"]] == [0.25]


def test_layers_that_napari_takes_away_before_it_closes_are_there_when_the_project_reopens(
    viewer: Any, workspace: Workspace, slide_file: Path, qtbot: Any
) -> None:
    viewer.open(slide_file, plugin="napari-prospector")
    add_slide(workspace, slide_file)
    folder = saved(workspace, qtbot)
    viewer.close()
    qtbot.wait(100)
    assert [layer["name"] for layer in read_project(folder)[1]["layers"]] == ["case7"]


def test_layers_that_a_user_takes_away_are_gone_when_the_project_reopens(
    viewer: Any, workspace: Workspace, slide_file: Path, qtbot: Any
) -> None:
    viewer.open(slide_file, plugin="napari-prospector")
    add_slide(workspace, slide_file)
    folder = saved(workspace, qtbot)
    viewer.layers.clear()
    saved(workspace, qtbot)
    viewer.close()
    assert read_project(folder)[1].get("layers", []) == []


def test_a_window_that_closes_while_a_project_opens_leaves_its_view_as_it_was(
    viewer: Any, workspace: Workspace, start: StartWidget, slide_file: Path, tmp_path: Path, qtbot: Any
) -> None:
    entry = {"key": str(slide_file), "kind": "slide", "map": None, "name": "case7"}
    view = {"layers": [{**entry, "visible": True, "opacity": 0.5, "blending": "translucent"}]}
    folder = tmp_path / "mine.prospect-project"
    with Project(folder) as project:
        project.save(Study().with_slides([StudySlide(slide_file)]), view)
    start._take_project(Project(folder))
    workspace.keeper.save()
    workspace.keeper.close()
    assert read_project(folder)[1] == view
    qtbot.waitUntil(lambda: not start.bar.is_running and len(viewer.layers) == 1, timeout=LONG_MS)
    viewer.layers[0].opacity = 0.75
    workspace.keeper.close()
    assert read_project(folder)[1]["layers"][0]["opacity"] == 0.75


def test_work_that_is_open_elsewhere_is_not_forgotten(workspace: Workspace, tmp_path: Path, qtbot: Any) -> None:
    add_slide(workspace, tmp_path / "a.svs")
    folder = saved(workspace, qtbot)
    with pytest.raises(StoreBusyError, match="one writer at a time"):
        keeper_module.forget_unnamed(folder)
    assert folder.exists()


def test_a_window_that_is_kept_open_after_all_goes_on_saving(workspace: Workspace, tmp_path: Path, qtbot: Any) -> None:
    add_slide(workspace, tmp_path / "a.svs")
    folder = saved(workspace, qtbot)
    workspace.keeper.close()
    add_slide(workspace, tmp_path / "b.svs")
    saved(workspace, qtbot)
    assert read_project(folder)[0] == workspace.study
    with pytest.raises(StoreBusyError, match="one writer at a time"):
        Project(folder)
    workspace.keeper.close()
