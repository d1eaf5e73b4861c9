"""*Annotate* in a real viewer: drawn with the mouse, undone, read from GeoJSON and written to it, lost never."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt

from napari_prospector._napari.annotate_widget import AnnotateWidget, show_annotate
from napari_prospector._napari.annotation_layer import ENDING
from napari_prospector._napari.annotator import Annotator, annotator_of
from napari_prospector._napari.camera import camera_of, canvas_of
from napari_prospector._napari.outlines import path_of
from napari_prospector._napari.workspace import workspace_of
from napari_prospector.study.annotations import Region
from napari_prospector.study.geojson import read_geojson, write_geojson

OURS = "napari-prospector"
SQUARE = np.array([[100.0, 200.0], [100.0, 500.0], [400.0, 500.0], [400.0, 200.0]])
HOLE = np.array([[200.5, 300.25], [200.5, 400.25], [300.5, 400.25], [300.5, 300.25]])
LEFT = Qt.MouseButton.LeftButton


def donut(label: str = "tumour", **fields: Any) -> Region:
    return Region(((SQUARE, HOLE), (SQUARE + 600.1,)), label, **fields)


def ring(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, np.float64)


@pytest.fixture
def widget(viewer: Any, slide_file: Path, qtbot: Any) -> AnnotateWidget:
    """The widget, with a slide open."""
    viewer.open(str(slide_file), plugin=OURS)
    return show_annotate(viewer)


@pytest.fixture
def on_screen(
    plugin: Any, make_napari_viewer: Callable[..., Any], slide_file: Path, qtbot: Any
) -> tuple[Any, AnnotateWidget]:
    """The same on the screen, one pixel of the slide to one of the screen, its pixel (700, 800) in the middle."""
    viewer = make_napari_viewer(show=True, strict_qt="raise")
    viewer.window.resize(1280, 800)
    viewer.open(str(slide_file), plugin=OURS)
    widget = show_annotate(viewer)
    qtbot.wait(50)
    camera_of(viewer).zoom = 2.0
    camera_of(viewer).center = (0, 350, 400)
    qtbot.wait(150)
    return viewer, widget


def annotator(widget: AnnotateWidget) -> Annotator:
    return annotator_of(widget._viewer)


def shapes(widget: AnnotateWidget) -> Any:
    shown = annotator(widget).at_hand
    assert shown is not None
    return shown.layer


def draw(widget: AnnotateWidget, *regions: Region) -> None:
    """Put regions on the slide at hand, and have them drawn."""
    annotator(widget).edit("Draw", [*annotator(widget).regions, *regions])
    annotator(widget).refresh()
    annotator(widget).settle()


def place(viewer: Any, row: float, col: float) -> QPoint:
    """Return where a pixel of the slide lies on the canvas."""
    canvas = canvas_of(viewer)
    return QPoint(round(canvas.width() / 2 + col - 800), round(canvas.height() / 2 + row - 700))


def test_a_polygon_is_drawn_with_the_mouse_and_undone_with_a_key(
    on_screen: tuple[Any, AnnotateWidget], qtbot: Any
) -> None:
    viewer, widget = on_screen
    canvas = canvas_of(viewer)
    widget.tools.buttons["polygon"].click()
    corners = [(600, 700), (600, 900), (800, 900), (800, 700)]
    for row, col in corners:
        at = place(viewer, row, col)
        qtbot.mouseMove(canvas, at)
        qtbot.mouseClick(canvas, LEFT, pos=at)
        qtbot.wait(20)
    qtbot.mouseDClick(canvas, LEFT, pos=place(viewer, 800, 700))
    qtbot.waitUntil(lambda: len(annotator(widget).regions) == 1, timeout=5000)
    (region,) = annotator(widget).regions
    assert region.label == "tumour"
    assert region.area_px == pytest.approx(200 * 200, rel=0.03)
    np.testing.assert_allclose(region.bounds, (600.5, 700.5, 800.5, 900.5), atol=2)
    qtbot.waitUntil(lambda: list(shapes(widget).shape_type) == ["path"], timeout=5000)
    assert widget.table.regions.rowCount() == 1
    qtbot.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert annotator(widget).regions == ()
    qtbot.waitUntil(lambda: len(shapes(widget).data) == 0, timeout=5000)
    qtbot.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    assert annotator(widget).regions == (region,)
    qtbot.waitUntil(lambda: len(shapes(widget).data) == 1, timeout=5000)


def stroke(viewer: Any, qtbot: Any, *places: tuple[float, float], modifier: Any = None) -> None:
    """Draw with the button held."""
    canvas = canvas_of(viewer)
    keys = Qt.KeyboardModifier.NoModifier if modifier is None else modifier
    points = [place(viewer, row, col) for row, col in places]
    qtbot.mouseMove(canvas, points[0])
    qtbot.wait(30)
    qtbot.mousePress(canvas, LEFT, keys, points[0])
    qtbot.wait(10)
    for start, stop in zip(points, points[1:], strict=False):
        for step in np.linspace(0, 1, 9)[1:]:
            qtbot.mouseMove(canvas, start + (stop - start) * float(step))
            qtbot.wait(10)
        # Qt drops moves that come faster than the canvas is drawn; a corner must not be among them
        qtbot.wait(60)
    qtbot.mouseRelease(canvas, LEFT, keys, points[-1])
    qtbot.wait(20)


def test_strokes_of_the_brush_join_and_the_eraser_takes_out(on_screen: tuple[Any, AnnotateWidget], qtbot: Any) -> None:
    viewer, widget = on_screen
    camera_before = tuple(camera_of(viewer).center)
    widget.tools.buttons["brush"].click()
    annotator(widget).set_brush(40)
    stroke(viewer, qtbot, (700, 700), (700, 900))
    (first,) = annotator(widget).regions
    # a band of 200 by 40 with two half discs
    assert first.area_px == pytest.approx(200 * 40 + np.pi * 20**2, rel=0.03)
    stroke(viewer, qtbot, (640, 800), (760, 800))
    (cross,) = annotator(widget).regions
    assert cross.id == first.id
    assert cross.area_px == pytest.approx(first.area_px + (120 - 40) * 40 + np.pi * 20**2, rel=0.04)
    annotator(widget).choose_class("normal")
    stroke(viewer, qtbot, (700, 720), (700, 760))
    assert [region.label for region in annotator(widget).regions] == ["tumour", "normal"]
    widget.tools.buttons["eraser"].click()
    stroke(viewer, qtbot, (700, 600), (700, 1000))
    assert [len(region.polygons) for region in annotator(widget).regions] == [2]
    for _ in range(2):
        annotator(widget).undo()
    assert annotator(widget).regions == (cross,)
    assert tuple(camera_of(viewer).center) == camera_before
    annotator(widget).settle()
    np.testing.assert_array_equal(shapes(widget).data[0], path_of(cross.polygons[0][0]))


def test_a_lasso_goes_round_and_the_view_pans_again_afterwards(
    on_screen: tuple[Any, AnnotateWidget], qtbot: Any
) -> None:
    viewer, widget = on_screen
    widget.tools.buttons["lasso"].click()
    stroke(viewer, qtbot, (600, 700), (600, 900), (800, 900), (800, 700))
    (region,) = annotator(widget).regions
    assert region.area_px == pytest.approx(200 * 200, rel=0.02)
    widget.tools.buttons["move"].click()
    before = tuple(camera_of(viewer).center)
    stroke(viewer, qtbot, (700, 700), (760, 790))
    assert tuple(camera_of(viewer).center) != before


def test_a_dragged_point_is_one_step_and_changes_one_point(on_screen: tuple[Any, AnnotateWidget], qtbot: Any) -> None:
    viewer, widget = on_screen
    region = Region(((ring((600.1, 700.2), (600.1, 900.2), (800.1, 900.2), (800.1, 700.2)),),), "tumour", "mine")
    draw(widget, region)
    widget.tools.buttons["points"].click()
    shapes(widget).selected_data = {0}
    qtbot.wait(50)
    stroke(viewer, qtbot, (800, 900), (850, 950))
    (moved,) = annotator(widget).regions
    assert workspace_of(viewer).undo_text == "Change a region"
    np.testing.assert_array_equal(moved.polygons[0][0][[0, 1, 3]], region.polygons[0][0][[0, 1, 3]])
    np.testing.assert_allclose(moved.polygons[0][0][2], (850.5, 950.5), atol=2)
    annotator(widget).undo()
    assert annotator(widget).regions == (region,)


def test_a_click_within_a_region_selects_the_smallest_one_there_and_in_its_hole_none(
    on_screen: tuple[Any, AnnotateWidget], qtbot: Any
) -> None:
    viewer, widget = on_screen
    box = np.array([[0, 0], [0, 300], [300, 300], [300, 0]]) + (550.0, 650.0)
    outer, inner = Region(((box, box * 0.1 + (620, 720)),)), Region(((box * 0.3 + (505, 605),),))
    draw(widget, outer, inner)
    widget.tools.buttons["select"].click()
    for at, expected in (((800, 900), [outer.id]), ((715, 830), [inner.id]), ((690, 790), []), ((500, 600), [])):
        stroke(viewer, qtbot, at)
        assert annotator(widget).at_hand.selected_ids == expected, at  # type: ignore[union-attr]
        assert widget.table.selected_ids == expected


def test_what_napari_deletes_pastes_and_moves_follows_into_the_study(widget: AnnotateWidget) -> None:
    region = donut(name="mine")
    draw(widget, region)
    layer = shapes(widget)
    assert list(layer.shape_type) == ["path"] * 3
    layer.selected_data = {0, 1, 2}
    layer._copy_data()
    layer._paste_data()
    annotator(widget).settle()
    assert [len(each.polygons) for each in annotator(widget).regions] == [2, 2]
    assert len({each.id for each in annotator(widget).regions}) == 2
    layer.selected_data = {1}
    layer.remove_selected()
    annotator(widget).settle()
    assert [len(polygon) for polygon in annotator(widget).regions[0].polygons] == [1, 1]
    for _ in range(2):
        annotator(widget).undo()
    assert annotator(widget).regions == (region,)
    annotator(widget).settle()
    assert len(shapes(widget).data) == 3


def test_undo_and_redo_bring_layer_and_study_to_every_state_and_back(widget: AnnotateWidget) -> None:
    states: list[tuple[Region, ...]] = [()]
    layer: Any = None
    for number in range(5):
        draw(widget, donut("tumour" if number % 2 else "normal", name=str(number)))
        layer = shapes(widget)
        states.append(annotator(widget).regions)

    def check(state: tuple[Region, ...]) -> None:
        annotator(widget).settle()
        assert annotator(widget).regions == state
        expected = sorted(path_of(ring).tobytes() for each in state for polygon in each.polygons for ring in polygon)
        assert sorted(np.asarray(path).tobytes() for path in layer.data) == expected
        assert len(layer.features) == len(layer.data)

    for state in states[-2::-1]:
        annotator(widget).undo()
        check(state)
    for state in states[1:]:
        annotator(widget).redo()
        check(state)


def test_geometry_is_exact_from_slide_to_layer_to_geojson_to_layer(
    widget: AnnotateWidget, viewer: Any, planted: Any, tmp_path: Path, qtbot: Any
) -> None:
    rows, cols = planted.pixels
    corners = [(rows.start, cols.start), (rows.start, cols.stop), (rows.stop, cols.stop), (rows.stop, cols.start)]
    square = Region(((ring(*corners),),), "tumour", "<b>planted</b>", extra={"properties": {"colour of eyes": "green"}})
    draw(widget, square, donut("Region*"))
    # the outline in the world is the square's edge: half a pixel up-left of the centre of its first pixel
    world = shapes(widget).data_to_world(shapes(widget).data[0][0])
    np.testing.assert_allclose(world, (np.array(corners[0]) - 0.5) * planted.mpp)
    widget.export_file(tmp_path / "out.geojson")
    qtbot.waitUntil(lambda: not widget.bar.is_running, timeout=10_000)
    before = annotator(widget).regions
    assert read_geojson(tmp_path / "out.geojson").regions == before
    points = json.loads((tmp_path / "out.geojson").read_text())["features"][0]["geometry"]["coordinates"][0]
    assert [tuple(reversed(point)) for point in points[:4]] == corners
    annotator(widget).edit("Delete", ())
    viewer.open(str(tmp_path / "out.geojson"), plugin=OURS)
    qtbot.waitUntil(lambda: not widget.bar.is_running, timeout=10_000)
    assert annotator(widget).regions == before
    assert widget.bar.status.text().startswith("2 regions of out.geojson are on case7.")


def test_the_writer_of_the_layer_writes_the_study(widget: AnnotateWidget, viewer: Any, tmp_path: Path) -> None:
    draw(widget, donut(name="a"))
    file = tmp_path / "regions.geojson"
    assert shapes(widget).save(str(file), plugin=OURS) == [str(file)]
    assert read_geojson(file).regions == annotator(widget).regions


def test_regions_without_a_slide_are_refused_with_a_sentence(viewer: Any, tmp_path: Path) -> None:
    write_geojson(tmp_path / "a.geojson", [donut()])
    viewer.open(str(tmp_path / "a.geojson"), plugin=OURS)
    widget = show_annotate(viewer)
    assert widget.bar.status.text() == "Open the slide of a.geojson first, then import its regions."
    assert not widget.tools.isEnabled()
    assert "drop its file" in widget.slide.text()


def test_a_file_that_is_no_geojson_is_told(widget: AnnotateWidget, tmp_path: Path, qtbot: Any) -> None:
    (tmp_path / "a.geojson").write_text("no JSON")
    widget.import_file(tmp_path / "a.geojson")
    qtbot.waitUntil(lambda: not widget.bar.is_running, timeout=10_000)
    assert "a.geojson" in widget.bar.status.text()
    assert annotator(widget).regions == ()


def test_a_layer_that_is_taken_away_loses_nothing_and_comes_back(widget: AnnotateWidget, viewer: Any) -> None:
    draw(widget, donut())
    viewer.layers.remove(shapes(widget))
    annotator(widget).refresh()
    assert annotator(widget).is_hidden
    assert len(annotator(widget).regions) == 1
    assert "its regions are kept" in widget.slide.text()
    widget.tools.buttons["select"].click()
    annotator(widget).settle()
    assert len(shapes(widget).data) == 3


def test_a_slide_that_is_closed_and_opened_again_has_its_regions(
    widget: AnnotateWidget, viewer: Any, slide_file: Path
) -> None:
    draw(widget, donut())
    viewer.layers.remove("case7")
    annotator(widget).refresh()
    assert len(viewer.layers) == 0
    assert not widget.tools.isEnabled()
    viewer.open(str(slide_file), plugin=OURS)
    annotator(widget).refresh()
    assert [layer.name for layer in viewer.layers] == ["case7", f"case7{ENDING}"]
    annotator(widget).settle()
    assert len(shapes(widget).data) == 3


def test_two_slides_keep_their_regions_apart(widget: AnnotateWidget, viewer: Any, planted: Any, tmp_path: Path) -> None:
    draw(widget, donut("tumour"))
    viewer.open(str(planted.write(tmp_path / "b.tif")), plugin=OURS)
    assert annotator(widget).regions == ()
    draw(widget, donut("normal"), donut("normal"))
    viewer.layers.selection.active = viewer.layers["case7"]
    assert [region.label for region in annotator(widget).regions] == ["tumour"]
    assert widget.table.regions.rowCount() == 1
    viewer.layers.selection.active = viewer.layers[f"b{ENDING}"]
    assert [region.label for region in annotator(widget).regions] == ["normal"] * 2
    assert widget.slide.text() == "b"


@pytest.fixture
def plain(viewer: Any) -> AnnotateWidget:
    """The widget, with a picture from no file, rotated and sheared."""
    viewer.add_image(
        np.full((900, 1300, 3), 200, np.uint8), name="plain", rgb=True, scale=(0.5, 0.5), rotate=20, units=("um", "um")
    )
    return show_annotate(viewer)


def test_outlines_lie_where_the_slide_lies_whatever_becomes_of_it(plain: AnnotateWidget, viewer: Any) -> None:
    draw(plain, donut())
    slide = viewer.layers["plain"]
    for change in ({"scale": (0.25, 0.5)}, {"translate": (7, 11)}, {"rotate": 50}, {"shear": [0.3]}):
        for name, value in change.items():
            setattr(slide, name, value)
        corner = SQUARE[0] - 0.5
        np.testing.assert_allclose(shapes(plain).data_to_world(corner), slide.data_to_world(corner))
    slide.units = ("mm", "mm")
    assert [str(unit) for unit in shapes(plain).units] == ["millimeter"] * 2


def test_a_picture_from_no_file_keeps_its_regions_when_it_is_renamed(plain: AnnotateWidget, viewer: Any) -> None:
    draw(plain, donut())
    viewer.layers["plain"].name = "other"
    annotator(plain).refresh()
    assert list(workspace_of(viewer).study.annotations) == ["layer:other"]
    assert shapes(plain).name == f"other{ENDING}"
    annotator(plain).undo()
    annotator(plain).refresh()
    assert viewer.layers[0].name == "plain"
    assert len(annotator(plain).regions) == 1


def test_the_table_names_flies_and_selects(on_screen: tuple[Any, AnnotateWidget], qtbot: Any) -> None:
    viewer, widget = on_screen
    draw(widget, donut("tumour"), Region(((SQUARE + 200,),), "normal"))
    table = widget.table
    texts = [table.regions.data(table.regions.index(1, column)) for column in range(3)]
    assert texts == ["normal", "", "0.0225 mm²"]
    at = table.visualRect(table.regions.index(1, 0)).center()
    qtbot.mouseClick(table.viewport(), LEFT, pos=at)
    np.testing.assert_allclose(camera_of(viewer).center[-2:], (np.array([450, 550]) - 0.5) * 0.5)
    assert set(shapes(widget).selected_data) == {3}
    shapes(widget).selected_data = {1}
    assert table.selected_ids == [annotator(widget).regions[0].id]
    assert table.regions.setData(table.regions.index(0, 1), "<b>mine</b>")
    assert annotator(widget).regions[0].name == "<b>mine</b>"


def test_buttons_class_lock_and_delete_the_selected_regions(
    widget: AnnotateWidget, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(widget, donut("tumour"), donut("tumour"), donut("tumour"))
    widget.table.selectRow(1)
    annotator(widget).choose_class("not here")
    widget.label_button.click()
    assert [region.label for region in annotator(widget).regions] == ["tumour", "not here", "tumour"]
    widget.lock_button.click()
    assert [region.locked for region in annotator(widget).regions] == [False, True, False]
    assert widget.lock_button.text() == "Unlock"
    annotator(widget).settle()
    shapes(widget).remove([3, 4, 5])
    annotator(widget).settle()
    assert len(annotator(widget).regions) == 3
    assert "locked" in widget.bar.status.text()
    widget.table.selectRow(0)
    widget.delete_button.click()
    assert len(annotator(widget).regions) == 2
    answers = iter([False, True])
    monkeypatch.setattr(widget, "_agrees", lambda *_: next(answers))
    widget.clear_button.click()
    assert len(annotator(widget).regions) == 2
    widget.clear_button.click()
    assert annotator(widget).regions == ()
    annotator(widget).undo()
    assert len(annotator(widget).regions) == 2


def test_classes_are_added_renamed_coloured_and_deleted(
    widget: AnnotateWidget, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(widget, donut("tumour"))
    widget.classes.added.emit("necrosis")
    assert annotator(widget).label == "necrosis"
    widget.classes.renamed.emit("tumour", "carcinoma")
    assert annotator(widget).regions[0].label == "carcinoma"
    widget.classes.colored.emit("carcinoma", (10, 20, 30))
    annotator(widget).settle()
    np.testing.assert_allclose(shapes(widget).edge_color[0][:3] * 255, (10, 20, 30), atol=0.5)
    widget.classes.added.emit("necrosis")
    assert "'necrosis' is there already" in widget.bar.status.text()
    widget.classes.deleted.emit("not here")
    assert "must stay" in widget.bar.status.text()
    monkeypatch.setattr(widget, "_agrees", lambda *_: True)
    widget.classes.deleted.emit("carcinoma")
    assert annotator(widget).regions[0].label is None
    names = [each.name for each in annotator(widget).classes]
    assert names == ["normal", "necrosis", "not here"]


def test_keys_choose_class_tool_and_brush(on_screen: tuple[Any, AnnotateWidget], qtbot: Any) -> None:
    viewer, widget = on_screen
    widget.tools.buttons["select"].click()
    canvas = canvas_of(viewer)
    qtbot.keyClick(canvas, Qt.Key.Key_2)
    assert annotator(widget).label == "normal"
    assert widget.classes.name == "normal"
    qtbot.keyClick(canvas, Qt.Key.Key_B)
    assert annotator(widget).tool == "brush"
    assert widget.tools.buttons["brush"].isChecked()
    wide = annotator(widget).brush_px
    qtbot.keyClick(canvas, Qt.Key.Key_BracketRight)
    assert annotator(widget).brush_px > wide
    shapes(widget).mode = "add_rectangle"
    assert widget.tools.buttons["rectangle"].isChecked()


def test_a_widget_that_is_closed_and_opened_again_shows_what_is_there(
    widget: AnnotateWidget, viewer: Any, qtbot: Any
) -> None:
    draw(widget, donut())
    layer = shapes(widget)
    viewer.window.remove_dock_widget(widget)
    widget.deleteLater()
    qtbot.wait(20)
    layer.remove([0, 1, 2])
    again = show_annotate(viewer)
    annotator(again).settle()
    assert again.table.regions.rowCount() == 0
    annotator(again).undo()
    assert again.table.regions.rowCount() == 1
