"""The widget Concepts in a real viewer: named, merged, hidden, undone; tiles, pairs and the canvas."""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QCoreApplication, QEvent, QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QLineEdit, QMenu

from napari_prospector._napari.camera import camera_of
from napari_prospector._napari.concepts_widget import ConceptsWidget
from napari_prospector._napari.docks import show_widget
from napari_prospector._napari.drawn_layers import layers_on
from napari_prospector._napari.kernel_grid import ALONE
from napari_prospector._napari.legend_table import HIGHLIGHTED, NAME, SHOWN
from napari_prospector._napari.panel import show_panel
from napari_prospector._napari.workspace import Workspace, workspace_of
from napari_prospector.core.colors import concept_colors
from napari_prospector.core.head import load_head
from napari_prospector.study.project import StudySlide
from napari_prospector.tokens import tilepictures

LONG_MS = 60_000
LABELS = ["tumour", "normal"] * 3


@pytest.fixture
def cohort(tissue_cohort: Path) -> tuple[Path, Path]:
    """The folder of the slides, and the head that was fitted on them."""
    return tissue_cohort, tissue_cohort / "tissue.prospector"


@pytest.fixture
def workspace(viewer: Any, cohort: tuple[Path, Path], tmp_path: Path, qtbot: Any) -> Workspace:
    """A study of the six slides, with a head of its own."""
    workspace = workspace_of(viewer)
    folder, head = cohort
    slides = [StudySlide(folder / f"case{number}.tif", label) for number, label in enumerate(LABELS)]
    workspace.edit("Add slides", workspace.study.with_slides(slides))
    workspace.use_head(Path(shutil.copy(head, tmp_path / "own.prospector")))
    qtbot.waitUntil(lambda: workspace.head is not None, timeout=LONG_MS)
    return workspace


@pytest.fixture
def widget(viewer: Any, workspace: Workspace, qtbot: Any) -> Iterator[ConceptsWidget]:
    widget = show_widget(viewer, ConceptsWidget, "Concepts")
    yield widget
    bars = widget.tiles.tasks, widget.pairs.tasks
    for bar in bars:
        bar.cancel()
    qtbot.waitUntil(lambda: not any(bar.is_running for bar in bars), timeout=LONG_MS)


@pytest.fixture
def drawn(viewer: Any, workspace: Workspace, widget: ConceptsWidget, cohort: Any, qtbot: Any) -> Any:
    """The map of the first slide, drawn; says the concept grid and finds its layers."""
    viewer.open(str(cohort[0] / "case0.tif"), plugin="napari-prospector")
    panel = show_panel(viewer)
    qtbot.waitUntil(panel.run_button.isEnabled, timeout=LONG_MS)
    panel.run_button.click()
    qtbot.waitUntil(lambda: bool(workspace.maps) and not panel.is_running, timeout=LONG_MS)
    return workspace.maps[0]


def names(workspace: Workspace) -> tuple[str, ...]:
    assert workspace.head is not None
    return workspace.head.concept_names_


def cell(widget: ConceptsWidget, concept: int, column: int) -> Any:
    """Return the index of a cell of the table as it is sorted."""
    index = widget.table._index(concept)
    assert index is not None
    return index.siblingAtColumn(column)


def settle(widget: ConceptsWidget, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not widget.tiles.tasks.is_running and widget.tiles.gallery is not None, timeout=LONG_MS)


def test_without_a_head_there_is_a_sentence(viewer: Any) -> None:
    widget = show_widget(viewer, ConceptsWidget, "Concepts")
    assert widget.empty.isVisibleTo(widget)
    assert "No head is in use" in widget.empty.text()
    assert not widget.table.isVisibleTo(widget)
    assert not any(action.isEnabled() for action in widget.actions_of.values())


def test_a_widget_that_is_opened_late_shows_the_present_state_with_the_heaviest_concept_first(
    workspace: Workspace, widget: ConceptsWidget
) -> None:
    assert workspace.head is not None
    weights = workspace.head.concept_weights("evidence", "tumour")[0]
    assert list(widget.table.shown_concepts) == np.argsort(-weights, kind="stable").tolist()
    assert widget.target.currentText() == "tumour"
    for concept in range(4):
        color = cell(widget, concept, NAME).data(Qt.ItemDataRole.DecorationRole)
        assert np.abs(np.array(color.getRgbF()[:3]) - concept_colors(4)[concept]).max() < 0.01
    widget.target.setCurrentText("normal")
    widget.target.activated.emit(0)
    assert list(widget.table.shown_concepts) == np.argsort(weights, kind="stable").tolist()


def test_a_name_is_typed_in_its_place_and_undone(workspace: Workspace, widget: ConceptsWidget, qtbot: Any) -> None:
    widget.table.choose([2])
    widget.table.setFocus()
    QTest.keyClick(widget.table, Qt.Key.Key_F2)
    editor = widget.table.findChild(QLineEdit)
    assert editor is not None
    assert editor.text() == "concept 2"
    editor.selectAll()
    QTest.keyClicks(editor, "purple glands")
    QTest.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: names(workspace)[2] == "purple glands", timeout=LONG_MS)
    assert cell(widget, 2, NAME).data() == "purple glands"
    assert workspace.undo_text == "Rename concept 2 to purple glands"
    assert widget.table.concepts == (2,)
    widget.undo.undo_button.click()
    assert names(workspace)[2] == "concept 2"
    widget.undo.redo_button.click()
    assert cell(widget, 2, NAME).data() == "purple glands"
    workspace.keeper.save()
    qtbot.waitUntil(lambda: workspace.keeper.is_saved, timeout=LONG_MS)
    assert workspace.study.head is not None
    assert load_head(workspace.study.head).concept_names_[2] == "purple glands"


def test_a_name_that_another_concept_has_is_refused_in_a_sentence(workspace: Workspace, widget: ConceptsWidget) -> None:
    before = workspace.study
    widget.rename(0, "concept 1")
    assert workspace.study == before
    assert "'concept 1' is the name of concept 1" in widget.said.text()
    assert widget.said.isVisibleTo(widget)
    widget.rename(0, "<b>stroma</b>")
    assert not widget.said.isVisibleTo(widget)
    assert "&lt;b&gt;stroma" in cell(widget, 0, NAME).data(Qt.ItemDataRole.ToolTipRole)


def test_keys_merge_split_hide_and_highlight_the_chosen_rows(workspace: Workspace, widget: ConceptsWidget) -> None:
    def press(key: Qt.Key) -> Any:
        QTest.keyClick(widget.table, key)
        assert workspace.head is not None
        return workspace.head.concept_edits_

    widget.table.choose([1, 3])
    merged = press(Qt.Key.Key_M)
    assert merged.members(3) == (1, 3)
    assert widget.table.concepts == (1,)
    assert len(widget.table.shown_concepts) == 3
    assert press(Qt.Key.Key_H).hidden == {1, 3}
    assert widget.actions_of["hide"].text() == "Show"
    assert press(Qt.Key.Key_H) == merged
    assert press(Qt.Key.Key_L).highlighted == {1, 3}
    assert press(Qt.Key.Key_L) == merged
    assert press(Qt.Key.Key_S).members(1) == (1,)
    assert press(Qt.Key.Key_S).members(1) == (1,)
    assert "merged" in widget.said.text(), "why nothing happened"
    for _ in range(6):
        workspace.undo()
    assert workspace.head is not None
    assert workspace.head.concept_edits_.is_untouched


def test_buttons_say_why_they_cannot_be_pressed(widget: ConceptsWidget) -> None:
    widget.table.choose([1])
    assert [name for name, action in widget.actions_of.items() if action.isEnabled()] == ["rename", "hide", "highlight"]
    assert "two or more" in widget.actions_of["merge"].toolTip()
    widget.table.choose([1, 2])
    assert not widget.actions_of["rename"].isEnabled()
    widget.actions_of["merge"].trigger()
    assert widget.actions_of["split"].isEnabled()


def test_boxes_hide_and_highlight_one_row(workspace: Workspace, widget: ConceptsWidget) -> None:
    model = widget.table.model()
    assert model is not None
    off, on = Qt.CheckState.Unchecked, Qt.CheckState.Checked
    assert model.setData(cell(widget, 2, SHOWN), off.value, Qt.ItemDataRole.CheckStateRole)
    assert model.setData(cell(widget, 1, HIGHLIGHTED), on.value, Qt.ItemDataRole.CheckStateRole)
    assert workspace.head is not None
    assert workspace.head.concept_edits_.hidden == {2}
    assert workspace.head.concept_edits_.highlighted == {1}
    state = cell(widget, 2, SHOWN).data(Qt.ItemDataRole.CheckStateRole)
    assert Qt.CheckState(state) == off


def test_text_filters_rows_and_headers_sort_them(widget: ConceptsWidget) -> None:
    widget.rename(3, "Stroma")
    QTest.keyClicks(widget.filter, "stro")
    assert widget.table.shown_concepts == (3,)
    widget.choose_concept(1)
    assert widget.filter.text() == "", "what is chosen is seen"
    assert widget.table.concepts == (1,)
    widget.table.sortByColumn(NAME, Qt.SortOrder.AscendingOrder)
    assert widget.table.shown_concepts == (0, 1, 2, 3)


def test_layers_and_maps_follow_at_once(
    viewer: Any, workspace: Workspace, widget: ConceptsWidget, drawn: Any, qtbot: Any
) -> None:
    (layer,) = layers_on(viewer, drawn.source, "concepts")
    evidence = next(one for one in layers_on(viewer, drawn.source, "map") if one.name.endswith("evidence"))
    before = evidence.data.copy()
    widget.table.choose([1, 2])
    widget.act("merge")
    widget.rename(1, "mucosa")
    qtbot.waitUntil(lambda: layer.features["concept"][3] == "mucosa", timeout=LONG_MS)
    np.testing.assert_array_equal(layer.colormap.colors[2], layer.colormap.colors[3])
    np.testing.assert_array_equal(evidence.data, before)
    widget.act("hide")
    qtbot.waitUntil(lambda: not np.array_equal(evidence.data, before, equal_nan=True), timeout=LONG_MS)
    head = workspace.head
    assert head is not None
    assert head.concept_edits_.hidden == {1, 2}
    np.testing.assert_allclose(
        evidence.data[drawn.mask], head.prospect(drawn.graph, "evidence", "tumour"), atol=1e-5, rtol=1e-5
    )
    workspace.undo()
    qtbot.waitUntil(lambda: np.allclose(evidence.data, before, equal_nan=True, atol=1e-6), timeout=LONG_MS)


def test_typical_tiles_of_the_chosen_concept_are_shown_and_kept(
    workspace: Workspace, widget: ConceptsWidget, cohort: Any, qtbot: Any
) -> None:
    assert widget.tiles.view.tiles.rowCount() == 0
    widget.table.choose([1])
    settle(widget, qtbot)
    tiles, gallery = widget.tiles.view.tiles, widget.tiles.gallery
    assert gallery is not None
    assert tiles.examples == gallery.of_group([1], 12)
    assert len(tiles.examples) > 2
    for example in tiles.examples:
        picture = gallery.pictures[example.slide, example.row, example.col]
        assert picture.problem is None
        grid = gallery.grids[example.slide]
        # the encoder's first three numbers are the mean colour of the tile
        seen = np.asarray(grid.embeddings[example.row, example.col])[:3]
        np.testing.assert_allclose(picture.pixels.mean(axis=(0, 1)) / 255, seen, atol=0.02)
    tip = tiles.data(tiles.index(0), Qt.ItemDataRole.ToolTipRole)
    first = tiles.examples[0]
    assert f"case{first.slide}.tif" in tip
    assert f"class {LABELS[first.slide]}" in tip
    widget.table.choose([2])
    assert not widget.tiles.tasks.is_running, "all pictures are read by then"
    assert tiles.examples == gallery.of_group([2], 12)
    widget.table.choose([1, 2])
    widget.act("merge")
    settle(widget, qtbot)
    assert widget.tiles.gallery is gallery
    assert tiles.examples == gallery.of_group([1, 2], 12)


def test_a_double_click_opens_the_slide_of_a_tile_and_flies_there(
    viewer: Any, workspace: Workspace, widget: ConceptsWidget, qtbot: Any
) -> None:
    widget.table.choose([0])
    settle(widget, qtbot)
    gallery = widget.tiles.gallery
    assert gallery is not None
    example = widget.tiles.view.tiles.examples[1]
    for n_layers in (1, 1):  # opened once
        widget.tiles.view.doubleClicked.emit(widget.tiles.view.tiles.index(1))
        qtbot.waitUntil(lambda: len(viewer.layers) > 0, timeout=LONG_MS)
        qtbot.wait(50)
        assert len(viewer.layers) == n_layers
        assert viewer.layers[0].name == f"case{example.slide}"
        geometry = gallery.grids[example.slide].geometry
        expected = geometry.centre_um(example.row, example.col)
        assert camera_of(viewer).center[-2:] == pytest.approx(tuple(expected))


def test_slides_that_are_gone_are_told(
    workspace: Workspace, widget: ConceptsWidget, cohort: Any, tmp_path: Path, qtbot: Any
) -> None:
    gone = tuple(
        replace(slide, path=tmp_path / slide.path.name, tokens=grid)
        for slide in workspace.study.slides
        for grid in [next(cohort[0].glob(f"{slide.path.name}.*.tokens.zarr"))]
    )
    workspace.edit("Move", replace(workspace.study, slides=gone))
    widget.table.choose([0])
    settle(widget, qtbot)
    assert "is not there any more" in widget.tiles.caption.text()
    widget.tiles.open_example(widget.tiles.view.tiles.examples[0])
    qtbot.waitUntil(lambda: "case" in widget.tiles.tasks.status.text(), timeout=LONG_MS)


def test_without_slides_the_gallery_is_a_sentence(viewer: Any, cohort: Any, qtbot: Any) -> None:
    workspace, widget = workspace_of(viewer), show_widget(viewer, ConceptsWidget, "Concepts")
    workspace.use_head(cohort[1])
    qtbot.waitUntil(lambda: workspace.head is not None, timeout=LONG_MS)
    widget.table.choose([0])
    assert "no slides yet" in widget.tiles.caption.text()
    assert not widget.tiles.tasks.is_running


def test_the_kernel_says_what_is_under_the_pointer_and_keys_move_in_it(
    workspace: Workspace, widget: ConceptsWidget, qtbot: Any
) -> None:
    widget.tabs.setCurrentIndex(1)
    view, grid = widget.pairs.view, widget.pairs.view.grid
    assert grid is not None
    assert workspace.head is not None
    alone, pairs = workspace.head.concept_weights("evidence", "tumour")
    for row in range(4):
        for col in (ALONE, 0, 1, 2, 3):
            QTest.mouseMove(view, view.rect_of(row, col).center())
            assert view.cell_at(view.rect_of(row, col).center()) == (row, col)
            a = grid.concepts[row]
            weight = alone[a] if col == ALONE else pairs[a, grid.concepts[col]]
            assert grid.weight(row, col) == weight
            shown = view.grab().toImage().pixelColor(view.rect_of(row, col).center()).getRgb()[:3]
            expected = (grid.pixels()[0][row, 0] if col == ALONE else grid.pixels()[1][row, col]).tolist()
            assert np.abs(np.subtract(shown, expected)).max() <= 2
    assert view.cell_at(QPoint(0, 0)) is None
    assert view.cell_at(QPoint(view.width() + 999, 20)) is None
    for key, at in (
        (Qt.Key.Key_Down, (0, ALONE)),
        (Qt.Key.Key_Left, (0, ALONE)),
        (Qt.Key.Key_Right, (0, 0)),
        (Qt.Key.Key_Down, (1, 0)),
        (Qt.Key.Key_Up, (0, 0)),
        (Qt.Key.Key_Up, (0, 0)),
    ):
        QTest.keyClick(view, key)
        assert view.at == at
        assert widget.pairs.said.text() == view.accessibleDescription() == grid.text(*at)


def test_a_pair_that_is_clicked_lists_its_places_and_the_camera_flies_to_them(
    viewer: Any, workspace: Workspace, widget: ConceptsWidget, drawn: Any, qtbot: Any
) -> None:
    show_widget(viewer, ConceptsWidget, "Concepts")
    widget.tabs.setCurrentIndex(1)
    pairs, view = widget.pairs, widget.pairs.view
    grid = view.grid
    assert grid is not None
    sprite = np.full(drawn.mask.shape, -1)
    sprite[drawn.mask] = drawn.concepts
    QTest.mouseClick(view, Qt.MouseButton.LeftButton, pos=view.rect_of(0, 2).center())
    assert set(widget.table.concepts) == {grid.concepts[0], grid.concepts[2]}
    qtbot.waitUntil(lambda: not pairs.tasks.is_running, timeout=LONG_MS)
    # the commonest concept with itself
    common = int(np.bincount(drawn.concepts).argmax())
    place = view.rect_of(grid.place_of(common), grid.place_of(common)).center()
    QTest.mouseClick(view, Qt.MouseButton.LeftButton, pos=place)
    qtbot.waitUntil(lambda: pairs.places.n_found > 0, timeout=LONG_MS)
    assert f"concept {common} × concept {common}" in pairs.found.text()
    assert widget.table.concepts == (common,)
    assert pairs.listed.count() == len(pairs.places.tokens)
    assert all(sprite[token] == common for token in pairs.places.tokens)
    for number in (0, 1):
        pairs.next_button.click()
        expected = np.array(pairs.places.centres_px[number]) * drawn.geometry.slide_mpp
        assert camera_of(viewer).center[-2:] == pytest.approx(tuple(expected))
    pairs.previous_button.click()
    pairs.previous_button.click()
    assert pairs.listed.currentRow() == len(pairs.places.tokens) - 1
    viewer.layers.remove(drawn.source.layer.name)
    assert pairs.places.n_found == 0, "of a slide that was closed there are no places"
    view.at = (0, ALONE)
    QTest.keyClick(view, Qt.Key.Key_Return)
    assert "Draw it under 'Prospect'" in pairs.found.text()


def test_a_click_on_the_concepts_layer_chooses_the_row(
    viewer: Any, workspace: Workspace, widget: ConceptsWidget, drawn: Any, qtbot: Any
) -> None:
    (layer,) = layers_on(viewer, drawn.source, "concepts")
    row, col = np.argwhere(drawn.mask)[17]

    def click(*, moved: bool = False) -> None:
        at = tuple(layer.data_to_world((row, col)))
        event: Any = SimpleNamespace(type="mouse_press", position=at, pos=(70, 80), button=1, modifiers=())
        for callback in list(layer.mouse_drag_callbacks):
            steps = callback(layer, event)
            if steps is not None:
                next(steps, None)
                event.type, event.pos = "mouse_move", (90, 80) if moved else (71, 79)
                next(steps, None)
                event.type = "mouse_release"
                next(steps, None)

    click()
    assert widget.table.concepts == (), "what is not shown is not clicked"
    layer.visible = True
    click(moved=True)
    assert widget.table.concepts == ()
    click()
    assert widget.table.concepts == (int(drawn.concepts[17]),)
    settle(widget, qtbot)
    n_callbacks = len(layer.mouse_drag_callbacks)
    viewer.window.remove_dock_widget(widget)
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    assert len(layer.mouse_drag_callbacks) == n_callbacks - 1, "a widget that is gone listens to nothing"
    workspace.edit("Name", replace(workspace.study, concepts=workspace.head.concept_edits_.rename(0, "x")))  # type: ignore[union-attr]


def test_a_head_without_pairs_has_a_column_only(viewer: Any, head_file: Path, tmp_path: Path, qtbot: Any) -> None:
    workspace, widget = workspace_of(viewer), show_widget(viewer, ConceptsWidget, "Concepts")
    workspace.use_head(Path(shutil.copy(head_file, tmp_path)))
    qtbot.waitUntil(lambda: workspace.head is not None, timeout=LONG_MS)
    view = widget.pairs.view
    assert "has no pairs" in widget.pairs.said.text()
    assert view.cell_at(view.rect_of(1, ALONE).center()) == (1, ALONE)
    assert view.cell_at(view.rect_of(1, 1).center()) is None


def test_another_head_while_tiles_are_looked_for_begins_anew(
    workspace: Workspace, widget: ConceptsWidget, cohort: Any, tmp_path: Path, qtbot: Any
) -> None:
    widget.table.choose([0])
    assert widget.tiles.tasks.is_running
    head = load_head(cohort[1])
    head.with_edits(head.concept_edits_.rename(0, "other")).save(tmp_path / "other.prospector")
    workspace.use_head(tmp_path / "other.prospector")
    assert widget.empty.isVisibleTo(widget)
    assert widget.empty.text() == "other.prospector is being loaded."
    qtbot.waitUntil(lambda: workspace.head is not None, timeout=LONG_MS)
    assert cell(widget, 0, NAME).data() == "other"
    widget.table.choose([2])
    settle(widget, qtbot)
    assert widget.tiles.view.tiles.rowCount() > 0
    workspace.undo()
    qtbot.waitUntil(lambda: workspace.head is not None, timeout=LONG_MS)
    assert cell(widget, 0, NAME).data() == "concept 0"


def test_cancel_stops_reading_and_the_arrow_goes_on(
    workspace: Workspace, widget: ConceptsWidget, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = tilepictures.tile_picture

    def read_slowly(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.05)
        return read(*arguments, **options)

    monkeypatch.setattr(tilepictures, "tile_picture", read_slowly)
    widget.table.choose([0])
    qtbot.waitUntil(lambda: widget.tiles.gallery is not None and bool(widget.tiles.gallery.pictures), timeout=LONG_MS)
    widget.tiles.tasks.cancel_button.click()
    qtbot.waitUntil(lambda: not widget.tiles.tasks.is_running, timeout=2000)
    gallery = widget.tiles.gallery
    assert gallery is not None
    n_read = len(gallery.pictures)
    widget.table.choose([3])
    assert not widget.tiles.tasks.is_running
    monkeypatch.undo()
    widget.tiles.again_button.click()
    settle(widget, qtbot)
    assert len(gallery.pictures) > n_read
    assert widget.tiles.gallery is gallery


def test_opened_and_closed_again_and_again_nothing_is_left(
    viewer: Any, workspace: Workspace, cohort: Any, qtbot: Any
) -> None:
    for _ in range(4):
        widget = show_widget(viewer, ConceptsWidget, "Concepts")
        widget.table.choose([1])
        viewer.window.remove_dock_widget(widget)  # while its tiles are looked for
        del widget
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    qtbot.wait(50)
    gc.collect()
    assert not [one for one in QApplication.allWidgets() if isinstance(one, ConceptsWidget)]
    workspace.edit("Hide", replace(workspace.study, concepts=workspace.head.concept_edits_.hide(1)))  # type: ignore[union-attr]
    workspace.undo()


def test_the_menu_of_rows_is_that_of_the_buttons(widget: ConceptsWidget, monkeypatch: pytest.MonkeyPatch) -> None:
    offered: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        QMenu, "exec", lambda menu, _: offered.extend((one.text(), one.isEnabled()) for one in menu.actions())
    )
    widget.table.choose([0, 2])
    widget.table.customContextMenuRequested.emit(QPoint(5, 5))
    assert offered == [("Rename", False), ("Merge", True), ("Split", False), ("Hide", True), ("Highlight", True)]
