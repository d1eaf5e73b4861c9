"""The Slides widget, driven like a user drives it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import QCoreApplication, QEvent, QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QComboBox, QFileDialog, QLineEdit

from napari_prospector._napari import samples
from napari_prospector._napari.slides_model import Column
from napari_prospector._napari.slides_widget import SlidesWidget, show_slides
from napari_prospector._napari.workspace import workspace_of
from napari_prospector.errors import MissingFileError
from napari_prospector.study.cohort import Cohort
from napari_prospector.study.project import EncoderChoice, Study, StudySlide
from napari_prospector.tokens.store import TokenGrid

OURS = "napari-prospector"
CHOICE = EncoderChoice("mean-colour")


@pytest.fixture
def widget(viewer: Any, qtbot: Any) -> SlidesWidget:
    workspace_of(viewer).open_study(Study(encoder=CHOICE))
    return show_slides(viewer)


@pytest.fixture
def files(planted: Any, tmp_path: Path) -> list[Path]:
    folder = tmp_path / "slides"
    folder.mkdir()
    return [planted.write(folder / name, seed=seed) for seed, name in enumerate(("a.tif", "b.tif", "c.tif"))]


@pytest.fixture
def filled(widget: SlidesWidget, files: list[Path], qtbot: Any) -> SlidesWidget:
    """The widget with three slides that were looked at."""
    widget.add(files)
    wait_until_known(widget, qtbot)
    return widget


def wait_until_known(widget: SlidesWidget, qtbot: Any, n_slides: int = 3) -> None:
    """Wait until the slides are there and were looked at."""
    qtbot.waitUntil(
        lambda: (
            not widget.ui.adding.is_running
            and widget.model.rowCount() == n_slides
            and all(widget.model.state_of(slide) is not None for slide in widget.model.slides)
        ),
        timeout=30_000,
    )


def cell(widget: SlidesWidget, row: int, column: Column, role: Any = Qt.ItemDataRole.DisplayRole) -> Any:
    """Return what a cell shows."""
    return widget.model.index(row, column).data(role)


def column(widget: SlidesWidget, column: Column) -> list[str]:
    """Return what a column shows."""
    return [cell(widget, row, column) for row in range(widget.model.rowCount())]


def type_into(widget: SlidesWidget, row: int, place: Column, text: str) -> None:
    """Edit a cell with the keyboard."""
    widget.table.edit(widget.model.index(row, place))
    within = widget.table.viewport()
    boxes = [box for box in within.findChildren(QComboBox) if not box.isHidden()]
    line = boxes[0].lineEdit() if boxes else next(one for one in within.findChildren(QLineEdit) if not one.isHidden())
    line.selectAll()
    QTest.keyClicks(line, text)
    QTest.keyClick(boxes[0] if boxes else line, Qt.Key.Key_Return)
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def drop(widget: SlidesWidget, paths: list[Path]) -> None:
    """Drop files on the widget."""
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    action, button = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton
    widget.dropEvent(QDropEvent(QPointF(5, 5), action, mime, button, Qt.KeyboardModifier.NoModifier))


def test_a_dropped_folder_fills_the_table_as_one_edit(widget: SlidesWidget, files: list[Path], qtbot: Any) -> None:
    drop(widget, [files[0].parent])
    wait_until_known(widget, qtbot)
    assert column(widget, Column.NAME) == ["a.tif", "b.tif", "c.tif"]
    assert column(widget, Column.MPP) == ["0.5"] * 3
    assert column(widget, Column.STATE) == ["not embedded"] * 3
    assert widget.ui.adding.status.text() == "3 slides were added."
    qtbot.waitUntil(lambda: cell(widget, 0, Column.PICTURE, Qt.ItemDataRole.DecorationRole) is not None, timeout=20_000)
    assert widget.ui.undo.undo_button.toolTip() == "Undo: Add slides"
    widget.ui.undo.undo_button.click()
    assert widget.model.rowCount() == 0
    widget.ui.undo.redo_button.click()
    assert widget.model.rowCount() == 3


def test_two_thousand_rows_do_not_hold_the_window(widget: SlidesWidget, tmp_path: Path, qtbot: Any) -> None:
    slides = [StudySlide(tmp_path / f"s{number:04d}.svs", f"l{number % 7}") for number in range(2000)]
    study = widget.workspace.study.with_slides(slides)
    times = []

    def timed(work: Any) -> None:
        started = time.process_time()
        work()
        times.append(time.process_time() - started)

    timed(lambda: widget.workspace.edit("Add slides", study))
    timed(lambda: widget.table.sortByColumn(Column.LABEL, Qt.SortOrder.DescendingOrder))
    timed(lambda: widget.remove(slides[::2]))
    timed(widget.workspace.undo)
    assert column(widget, Column.LABEL)[:3] == ["l6"] * 3
    assert widget.model.rowCount() == 2000
    # 100 ms on a quiet machine; this one may be busy
    assert max(times) < 0.4
    qtbot.waitUntil(lambda: not widget._states.is_busy, timeout=30_000)
    assert set(column(widget, Column.STATE)) == {"no file"}


def test_several_rows_get_a_label_at_once_and_it_is_undone_at_once(filled: SlidesWidget, files: list[Path]) -> None:
    filled.table.select(files[:2])
    type_into(filled, 1, Column.LABEL, "tumour")
    assert column(filled, Column.LABEL) == ["tumour", "tumour", ""]
    assert filled.workspace.undo_text == "Label 2 slides tumour"
    filled.table.select(files[2:])
    assert filled.ui.label.itemText(0) == "tumour"
    filled.ui.label.setEditText("normal")
    filled.ui.label_button.click()
    assert column(filled, Column.LABEL) == ["tumour", "tumour", "normal"]
    type_into(filled, 2, Column.GROUP, "patient 7")
    assert filled.workspace.study.slides[2].group == "patient 7"
    filled.workspace.undo()
    filled.workspace.undo()
    filled.workspace.undo()
    assert column(filled, Column.LABEL) == ["", "", ""]


def test_a_missing_pixel_size_is_asked_for_and_taken(widget: SlidesWidget, tmp_path: Path, qtbot: Any) -> None:
    bare = tmp_path / "bare.png"
    Image.fromarray(np.full((300, 400, 3), 200, np.uint8)).save(bare)
    widget.add([bare])
    wait_until_known(widget, qtbot, 1)
    assert (cell(widget, 0, Column.MPP), cell(widget, 0, Column.STATE)) == ("fill in", "no pixel size")
    assert cell(widget, 0, Column.MPP, Qt.ItemDataRole.FontRole).italic()
    assert widget.ui.embed_all_button.toolTip() == "Fill in the pixel size of these slides first, in the column µm/px."
    type_into(widget, 0, Column.MPP, "wide")
    qtbot.waitUntil(lambda: "A pixel size is a number" in widget.bar.status.text())
    type_into(widget, 0, Column.MPP, "0,5")
    qtbot.waitUntil(lambda: cell(widget, 0, Column.STATE) == "not embedded")
    assert widget.workspace.study.slides[0].mpp == 0.5
    assert widget.ui.embed_all_button.isEnabled()


def test_a_pixel_size_that_the_file_states_cannot_be_overwritten(filled: SlidesWidget) -> None:
    assert not filled.model.index(0, Column.MPP).flags() & Qt.ItemFlag.ItemIsEditable
    filled._edit_cells(Column.MPP, [filled.workspace.study.slides[0].path], "0.7")
    assert filled.workspace.study.slides[0].mpp is None


def test_sorting_keeps_the_selection_and_a_third_click_brings_the_own_order_back(
    filled: SlidesWidget, files: list[Path]
) -> None:
    filled.table.select([files[0]])
    filled.table.sortByColumn(Column.NAME, Qt.SortOrder.DescendingOrder)
    assert column(filled, Column.NAME) == ["c.tif", "b.tif", "a.tif"]
    assert [slide.path for slide in filled.table.selected] == [files[0]]
    filled.table.sortByColumn(-1, Qt.SortOrder.AscendingOrder)
    assert column(filled, Column.NAME) == ["a.tif", "b.tif", "c.tif"]


def test_delete_takes_slides_out_and_their_files_stay(filled: SlidesWidget, files: list[Path]) -> None:
    filled.table.select(files[:2])
    QTest.keyClick(filled.table, Qt.Key.Key_Delete)
    assert column(filled, Column.NAME) == ["c.tif"]
    assert files[0].exists()
    filled.workspace.undo()
    assert column(filled, Column.NAME) == ["a.tif", "b.tif", "c.tif"]


def test_enter_opens_a_slide_and_again_brings_it_to_the_front(
    filled: SlidesWidget, files: list[Path], viewer: Any, qtbot: Any
) -> None:
    for file in files[:2]:
        n_layers = len(viewer.layers)
        filled.table.select([file])
        QTest.keyClick(filled.table, Qt.Key.Key_Return)
        qtbot.waitUntil(lambda n=n_layers: len(viewer.layers) == n + 1, timeout=20_000)
    assert [layer.name for layer in viewer.layers] == ["a", "b"]
    viewer.layers["a"].visible = False
    filled.table.select([files[0]])
    QTest.keyClick(filled.table, Qt.Key.Key_Return)
    assert [layer.name for layer in viewer.layers] == ["b", "a"]
    assert viewer.layers["a"].visible
    assert filled.workspace.current is not None
    assert filled.workspace.current.name == "a"


def test_a_double_click_opens_the_slide(filled: SlidesWidget, viewer: Any, qtbot: Any) -> None:
    place = filled.table.visualRect(filled.model.index(1, Column.NAME)).center()
    QTest.mouseClick(filled.table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    QTest.mouseDClick(filled.table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    qtbot.waitUntil(lambda: [layer.name for layer in viewer.layers] == ["b"], timeout=20_000)


def test_all_are_embedded_and_the_tokens_can_be_shown(
    filled: SlidesWidget, files: list[Path], viewer: Any, qtbot: Any
) -> None:
    filled.embed(filled._meant(selected=False))  # the doctor knows no 'mean-colour'
    qtbot.waitUntil(lambda: not filled.bar.is_running, timeout=60_000)
    assert filled.bar.status.text() == "3 slides are embedded."
    assert all(text.endswith(" tiles embedded") for text in column(filled, Column.STATE))
    assert filled.ui.embed_all_button.toolTip() == "All of these are embedded with this encoder."
    filled.table.select([files[0]])
    assert not filled.ui.grid_button.isEnabled()
    filled.ui.open_button.click()
    qtbot.waitUntil(lambda: len(viewer.layers) == 1, timeout=20_000)
    assert filled.ui.grid_button.isEnabled()
    filled.ui.grid_button.click()
    qtbot.waitUntil(lambda: any(" · tokens" in layer.name for layer in viewer.layers), timeout=20_000)
    n_layers = len(viewer.layers)
    filled.ui.grid_button.click()
    qtbot.wait(300)
    assert len(viewer.layers) == n_layers, "shown twice they are there once"
    assert filled.workspace.current.name == "a"


def test_the_doctor_is_asked_first_and_what_fails_is_not_begun(filled: SlidesWidget, qtbot: Any) -> None:
    filled.workspace.edit("x", replace(filled.workspace.study, encoder=EncoderChoice("no <b>such</b>")))
    wait_until_known(filled, qtbot)
    filled.ui.embed_all_button.click()
    qtbot.waitUntil(lambda: not filled.bar.is_running, timeout=60_000)
    assert "✗ encoder (would fail)" in filled.ui.verdict.text()
    assert "&lt;b&gt;such" in filled.ui.verdict.text()
    assert filled.ui.anyway_button.isHidden()
    assert not list(filled.workspace.study.slides[0].path.parent.glob("*.zarr"))


def test_a_warning_waits_for_start_anyway(filled: SlidesWidget, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_prospector._napari import slides_widget
    from napari_prospector._napari.progress import JobProgress, Steps
    from napari_prospector.tokens.doctor import Check

    def warned(job: Any) -> Steps[tuple[Check, ...]]:
        yield JobProgress("Looking")
        return (Check("device", "amber", "cpu: 2 cores.", "See how long."),)

    monkeypatch.setattr(slides_widget, "check_embedding", warned)
    filled.ui.embed_all_button.click()
    qtbot.waitUntil(lambda: not filled.bar.is_running, timeout=60_000)
    assert not filled.ui.anyway_button.isHidden()
    assert set(column(filled, Column.STATE)) == {"not embedded"}
    filled.ui.anyway_button.click()
    qtbot.waitUntil(lambda: not filled.bar.is_running, timeout=60_000)
    assert all(text.endswith(" tiles embedded") for text in column(filled, Column.STATE))


def test_check_and_estimate_says_tiles_time_and_room(filled: SlidesWidget, qtbot: Any) -> None:
    filled.ui.encoder.name.setEditText("stain-texture")
    filled.ui.encoder._take()
    assert filled.workspace.undo_text == "Choose the encoder stain-texture"
    wait_until_known(filled, qtbot)
    filled.ui.check_button.click()
    qtbot.waitUntil(lambda: "on this machine" in filled.bar.status.text(), timeout=60_000)
    assert "3 slides: " in filled.bar.status.text()
    assert filled.ui.verdict.text() == "✓ Everything that embedding needs is there."
    assert all("tiles of tissue" in text for text in column(filled, Column.STATE))


def test_cancel_keeps_what_is_embedded_and_embed_goes_on(
    filled: SlidesWidget, mean_colour: Any, files: list[Path], qtbot: Any
) -> None:
    plain = mean_colour.encode

    def slowly(tiles: np.ndarray) -> np.ndarray:
        time.sleep(0.2)
        return np.asarray(plain(tiles))

    mean_colour.encode = slowly
    filled.table.select([files[1]])
    filled.embed(filled._meant(selected=True))
    qtbot.waitUntil(lambda: " of " in cell(filled, 1, Column.STATE), timeout=30_000)
    with qtbot.waitSignal(filled.bar.finished, timeout=2000):
        filled.bar.cancel_button.click()
    assert "What was embedded is kept" in filled.bar.status.text()
    mean_colour.encode = plain
    filled.embed(filled._meant(selected=True))
    qtbot.waitUntil(lambda: not filled.bar.is_running, timeout=60_000)
    grid = filled.model.state_of(filled.model.slide_at(1)).tokens
    assert TokenGrid.open(grid).is_complete


def test_a_table_is_saved_and_opened_again(
    filled: SlidesWidget, files: list[Path], tmp_path: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "cohort.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(table), ""))
    filled._edit_cells(Column.LABEL, files[:2], "tumour")
    filled.ui.save_button.click()
    qtbot.waitUntil(lambda: filled.ui.adding.status.text() == "Saved 3 slides in cohort.csv.", timeout=10_000)
    assert "slides/a.tif,tumour" in table.read_text(encoding="utf-8")
    assert Cohort.read(table, needs_labels=False).labels == ("tumour", "tumour", "")
    filled.remove(filled.workspace.study.slides)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(table), ""))
    filled.ui.table_button.click()
    wait_until_known(filled, qtbot)
    assert column(filled, Column.LABEL) == ["tumour", "tumour", ""]


def test_a_wrong_table_is_told_whole(widget: SlidesWidget, tmp_path: Path, qtbot: Any) -> None:
    table = tmp_path / "wrong.csv"
    table.write_text("path,label,mpp\na.svs,x,wide\n,y,\n", encoding="utf-8")
    widget.add([table])
    qtbot.waitUntil(lambda: "line 3, column path: must not be empty" in widget.ui.adding.status.text(), timeout=10_000)
    assert "line 2, column mpp" in widget.ui.adding.status.text()
    assert widget.workspace.study.slides == ()


def test_a_cohort_table_dropped_on_the_viewer_becomes_the_cohort(
    viewer: Any, files: list[Path], tmp_path: Path, qtbot: Any
) -> None:
    table = tmp_path / "cohort.csv"
    table.write_text("path,label\nslides/a.tif,x\nslides/b.tif,y\n", encoding="utf-8")
    assert viewer.open(str(table), plugin=OURS) == []
    widget = show_slides(viewer)
    wait_until_known(widget, qtbot, 2)
    assert column(widget, Column.LABEL) == ["x", "y"]
    other = tmp_path / "points.csv"
    other.write_text("index,axis-0,axis-1\n0,1.0,2.0\n", encoding="utf-8")
    assert [layer.name for layer in viewer.open(str(other), plugin="napari")] == ["points"]


def test_a_widget_opened_late_shows_what_is_there_and_closing_it_is_harmless(
    viewer: Any, files: list[Path], qtbot: Any
) -> None:
    workspace = workspace_of(viewer)
    slides = [StudySlide(file, "<b>x</b>") for file in files]
    workspace.edit("Add slides", replace(workspace.study, slides=tuple(slides), encoder=CHOICE))
    first = show_slides(viewer)
    wait_until_known(first, qtbot)
    assert column(first, Column.LABEL) == ["<b>x</b>"] * 3
    first.embed(first._meant(selected=False))
    viewer.window.remove_dock_widget(first)
    again = show_slides(viewer)
    assert again is not first
    wait_until_known(again, qtbot)
    workspace.edit("Remove", workspace.study.without_slides(files[:1]))
    assert again.model.rowCount() == 2


def test_the_sample_cohort_is_drawn_labelled_and_its_first_slide_opens(
    viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(samples, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(samples, "N_SLIDES", 4)
    monkeypatch.setattr(samples, "COHORT_SHAPE", (1500, 1600))
    layers = viewer.open_sample(OURS, "cohort")
    assert [layer.name for layer in layers] == ["slide-001"]
    widget = show_slides(viewer)
    wait_until_known(widget, qtbot, 4)
    assert column(widget, Column.LABEL) == ["tumour", "normal"] * 2
    assert all(slide.truth is not None and slide.truth.exists() for slide in widget.workspace.study.slides)
    assert all(slide.group for slide in widget.workspace.study.slides)
    # the second time it is there, and already in the cohort
    viewer.open_sample(OURS, "cohort")
    qtbot.waitUntil(lambda: not widget.ui.adding.is_running, timeout=20_000)
    assert widget.model.rowCount() == 4


def test_without_real_histology_the_sample_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROSPECTOR_SHARED", str(tmp_path))
    with pytest.raises(MissingFileError, match="PROSPECTOR_SHARED names; there is none"):
        next(samples.real_sample_cohort())
