"""The widget Why, asked with a real mouse on a real canvas."""

from __future__ import annotations

import gc
import math
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QGuiApplication, QMouseEvent
from qtpy.QtWidgets import QApplication

from napari_prospector._napari.camera import camera_of
from napari_prospector._napari.docks import show_widget
from napari_prospector._napari.panel import ProspectPanel, show_panel
from napari_prospector._napari.request import default_tokens_path
from napari_prospector._napari.why_canvas import world_of
from napari_prospector._napari.why_regions import region_names
from napari_prospector._napari.why_widget import NO_MAP, OUTSIDE, WhyWidget
from napari_prospector.core.head import load_head
from napari_prospector.study.annotations import Region
from napari_prospector.study.project import StudySlide
from napari_prospector.tokens.embed import embed_slide
from napari_prospector.tokens.slides import open_slide

OURS = "napari-prospector"
LONG_MS = 60_000


@pytest.fixture
def screen(plugin: Any, make_napari_viewer: Callable[..., Any]) -> Any:
    """A viewer on the screen."""
    viewer = make_napari_viewer(show=True, strict_qt="raise")
    viewer.window.resize(1280, 800)
    return viewer


def draw(viewer: Any, slide: Path, head: Path, qtbot: Any, name: str | None = None) -> None:
    """Open a slide, and draw its maps."""
    viewer.open(str(slide), plugin=OURS)
    panel = show_panel(viewer)
    panel.choose_head(head)
    qtbot.waitUntil(panel.run_button.isEnabled, timeout=LONG_MS)
    if name is not None:
        panel.form.map.setCurrentText(name)
    run(panel, qtbot)


def run(panel: ProspectPanel, qtbot: Any) -> None:
    panel.run_button.click()
    qtbot.waitUntil(lambda: not panel.is_running, timeout=LONG_MS)


def why_of(viewer: Any, qtbot: Any) -> WhyWidget:
    widget = show_widget(viewer, WhyWidget, "Why")
    qtbot.waitUntil(lambda: widget.isVisible() and widget.marker.is_warm, timeout=LONG_MS)
    return widget


@pytest.fixture
def why(screen: Any, slide_file: Path, near_head_file: Path, qtbot: Any) -> WhyWidget:
    """The widget, beside a slide with its maps; evidence is shown."""
    draw(screen, slide_file, near_head_file, qtbot, "evidence")
    return why_of(screen, qtbot)


def answered(widget: WhyWidget, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not widget.asker.is_at_work and not widget.examples.tasks.is_running, timeout=LONG_MS)
    qtbot.waitUntil(lambda: not widget.asker.is_at_work, timeout=LONG_MS)


def screen_point(viewer: Any, world: tuple[float, float]) -> QPoint:
    """Return the pixel of the canvas that shows a place."""
    camera, native = camera_of(viewer), viewer.window._qt_viewer.canvas.native
    middle = np.array([native.height(), native.width()]) / 2
    row, col = middle + (np.array(world) - np.array(camera.center[-2:])) * camera.zoom
    return QPoint(round(col), round(row))


def place_of(viewer: Any, widget: WhyWidget, px: tuple[float, float], number: int = -1) -> tuple[float, float]:
    drawn = widget.workspace.maps[number]
    return world_of(viewer, drawn.source, drawn.geometry, np.array(px))


def click(viewer: Any, widget: WhyWidget, px: tuple[float, float], qtbot: Any, number: int = -1) -> None:
    """Click on a pixel of the slide."""
    at = screen_point(viewer, place_of(viewer, widget, px, number))
    qtbot.mouseClick(viewer.window._qt_viewer.canvas.native, Qt.MouseButton.LeftButton, pos=at)
    answered(widget, qtbot)


def drag(viewer: Any, first: QPoint, last: QPoint, qtbot: Any) -> None:
    native = viewer.window._qt_viewer.canvas.native
    qtbot.mousePress(native, Qt.MouseButton.LeftButton, pos=first)
    for step in (0.3, 0.6, 1.0):
        at = first + (last - first) * step
        none, left = Qt.MouseButton.NoButton, Qt.MouseButton.LeftButton
        where = QPointF(at)
        glob = QPointF(native.mapToGlobal(at))
        event = QMouseEvent(QEvent.Type.MouseMove, where, glob, none, left, Qt.KeyboardModifier.NoModifier)
        QApplication.sendEvent(native, event)
    qtbot.mouseRelease(native, Qt.MouseButton.LeftButton, pos=last)
    qtbot.wait(20)


def asked(widget: WhyWidget) -> tuple[int, int]:
    assert widget.answer is not None
    return widget.answer.row, widget.answer.col


def test_a_click_on_the_canvas_splits_the_score_of_the_token_there(
    screen: Any, why: WhyWidget, planted: Any, qtbot: Any
) -> None:
    active = screen.layers.selection.active
    click(screen, why, (4.3 * planted.tile, 7.6 * planted.tile), qtbot)
    assert asked(why) == (4, 7)
    answer = why.answer
    assert answer is not None
    assert math.fsum(bar.value for bar in answer.bars) == answer.score
    assert answer.score == pytest.approx(float(screen.layers["case7 · evidence"].data[4, 7]), rel=1e-6)
    rows = why.ui.chart.rows
    assert [row.is_sum for row in rows] == [False] * (len(rows) - 1) + [True]
    assert rows[-1].name == "= score"
    assert math.fsum(float(row.values[0]) for row in rows[:-1]) == answer.score  # type: ignore[arg-type]
    assert "evidence for tumour" in why.ui.where.text()
    assert not why.ui.view.pixmap().isNull()
    # of what the token looks at, nothing but purple
    color = why.ui.view.pixmap().toImage().pixelColor(50, 50)
    assert color.blue() > color.red()
    assert screen.layers.selection.active is active
    assert why.marker.layer is not None
    assert "slide_id" not in why.marker.layer.metadata["napari_prospector"]


def test_a_click_outside_of_the_tissue_says_so(screen: Any, why: WhyWidget, qtbot: Any) -> None:
    click(screen, why, (-40.0, -40.0), qtbot)
    assert why.ui.message.text() == OUTSIDE
    click(screen, why, (20.0, 20.0), qtbot)
    assert why.ui.message.text() == OUTSIDE
    assert why.ui.chart.rows == ()


def test_a_drag_moves_the_camera_and_asks_nothing(screen: Any, why: WhyWidget, planted: Any, qtbot: Any) -> None:
    before = np.array(camera_of(screen).center[-2:])
    start = screen_point(screen, place_of(screen, why, (4.5 * planted.tile, 7.5 * planted.tile)))
    drag(screen, start, start + QPoint(60, 30), qtbot)
    assert why.answer is None
    moved = (before - np.array(camera_of(screen).center[-2:])) * camera_of(screen).zoom
    assert (moved > (5, 10)).all()


def test_nothing_is_asked_while_a_hand_draws_or_the_switch_is_off(
    screen: Any, why: WhyWidget, planted: Any, qtbot: Any
) -> None:
    centre = (4.5 * planted.tile, 7.5 * planted.tile)
    shapes = screen.add_shapes(ndim=2)
    shapes.mode = "add_rectangle"
    click(screen, why, centre, qtbot)
    assert why.answer is None
    shapes.mode = "pan_zoom"
    why.ui.ask.setChecked(False)
    click(screen, why, centre, qtbot)
    assert why.answer is None
    assert why._ears._drag not in screen.mouse_drag_callbacks
    why.ui.ask.setChecked(True)
    click(screen, why, centre, qtbot)
    assert asked(why) == (4, 7)


@pytest.mark.parametrize(
    "place",
    [
        {"scale": (0.31, 0.31), "translate": (1200.0, -340.0)},
        {"rotate": 33.0, "scale": (0.5, 0.5), "translate": (10.0, 20.0)},
        {"affine": np.array([[0.0, 1.5, 100.0], [-1.5, 0.0, 7.0], [0.0, 0.0, 1.0]])},
    ],
)
def test_the_click_finds_the_token_however_the_slide_lies(
    screen: Any, why: WhyWidget, planted: Any, qtbot: Any, place: dict[str, Any]
) -> None:
    slide = screen.layers["case7"]
    for name, value in place.items():
        setattr(slide, name, value)
    screen.reset_view()
    qtbot.wait(20)
    for px in ((4.1 * planted.tile, 7.1 * planted.tile), (6.9 * planted.tile, 2.9 * planted.tile)):
        # napari's own way from a pixel to the world is the oracle
        at = screen_point(screen, tuple(slide.data_to_world(px)))
        qtbot.mouseClick(screen.window._qt_viewer.canvas.native, Qt.MouseButton.LeftButton, pos=at)
        answered(why, qtbot)
        assert asked(why) == (int(px[0] // planted.tile), int(px[1] // planted.tile))
        marker: Any = why.marker.layer
        box = [marker.data_to_world(corner) for corner in np.asarray(marker.data[-1])]
        row, col = (int(at // planted.tile) * planted.tile - 0.5 for at in px)
        wanted = [
            slide.data_to_world(corner)
            for corner in [
                (row, col),
                (row, col + planted.tile),
                (row + planted.tile, col + planted.tile),
                (row + planted.tile, col),
            ]
        ]
        np.testing.assert_allclose(box, wanted, atol=1e-3)


def test_arrow_keys_go_from_token_to_token_on_the_canvas_and_in_the_widget(
    screen: Any, why: WhyWidget, planted: Any, qtbot: Any
) -> None:
    click(screen, why, (4.5 * planted.tile, 7.5 * planted.tile), qtbot)
    native = screen.window._qt_viewer.canvas.native
    for key, place in ((Qt.Key.Key_Right, (4, 8)), (Qt.Key.Key_Up, (3, 8))):
        qtbot.keyClick(native, key)
        answered(why, qtbot)
        assert asked(why) == place
    for key, place in ((Qt.Key.Key_Down, (4, 8)), (Qt.Key.Key_Left, (4, 7))):
        qtbot.keyClick(why.ui.view, key)
        answered(why, qtbot)
        assert asked(why) == place
    for _ in range(13):
        qtbot.keyClick(why.ui.view, Qt.Key.Key_Left)
    answered(why, qtbot)
    mask = why.workspace.maps[0].mask
    assert asked(why) == (4, int(np.flatnonzero(mask[4])[0]))


def test_the_map_that_is_shown_or_chosen_is_explained(screen: Any, why: WhyWidget, planted: Any, qtbot: Any) -> None:
    click(screen, why, (4.5 * planted.tile, 7.5 * planted.tile), qtbot)
    screen.layers["case7 · evidence"].visible = False
    screen.layers["case7 · refined"].visible = True
    answered(why, qtbot)
    for name in ("refined", "decision", "evidence"):
        if name != "refined":
            why.ui.map.setCurrentIndex(why.ui.map.findData(name))
            why.ui.map.activated.emit(why.ui.map.currentIndex())
            answered(why, qtbot)
        assert why.answer is not None
        assert why.answer.map == name
        assert math.fsum(bar.value for bar in why.answer.bars) == why.answer.score
        drawn = float(screen.layers[f"case7 · {name}"].data[4, 7])
        assert why.answer.score == pytest.approx(drawn, rel=1e-4)


def test_hidden_and_renamed_concepts_are_followed_at_once(
    screen: Any, why: WhyWidget, planted: Any, qtbot: Any
) -> None:
    click(screen, why, (4.5 * planted.tile, 7.5 * planted.tile), qtbot)
    assert why.answer is not None
    own = why.answer.bars[0].concept
    workspace = why.workspace
    edits = workspace.head.concept_edits_.rename(own, "<b>nest</b>")  # type: ignore[union-attr]
    workspace.edit("Rename", replace(workspace.study, concepts=edits))
    answered(why, qtbot)
    assert why.answer.concept == "<b>nest</b>"
    assert "<b>nest</b>" in why.ui.where.text()
    workspace.edit("Hide", replace(workspace.study, concepts=edits.hide(own)))
    answered(why, qtbot)
    qtbot.waitUntil(lambda: why.answer is not None and why.answer.score == 0, timeout=LONG_MS)
    assert why.ui.chart.rows[0].color is None
    assert "(hidden)" in why.ui.chart.rows[0].name


def test_a_map_that_cannot_be_split_says_so_and_has_its_score(
    screen: Any, why: WhyWidget, planted: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_prospector.study import why_answer

    monkeypatch.setattr(why_answer, "unsplittable", lambda head, map: "It cannot be split.")
    click(screen, why, (4.5 * planted.tile, 7.5 * planted.tile), qtbot)
    assert why.ui.message.text() == "It cannot be split."
    assert why.ui.chart.rows == ()
    assert why.answer is not None
    assert why.answer.score == float(screen.layers["case7 · evidence"].data[4, 7])


def test_two_slides_are_told_apart_and_what_is_closed_is_explained_no_more(
    screen: Any, planted: Any, near_head_file: Path, tmp_path: Path, qtbot: Any
) -> None:
    for name in ("a", "b"):
        draw(screen, planted.write(tmp_path / f"{name}.tif", planted=name == "a"), near_head_file, qtbot)
    screen.layers["b"].translate = (0.0, 1000.0)
    screen.reset_view()
    widget = why_of(screen, qtbot)
    qtbot.wait(20)
    place = (4.5 * planted.tile, 7.5 * planted.tile)
    click(screen, widget, place, qtbot, number=0)
    assert widget.ui.where.text().startswith("a\n")
    score = widget.answer.score  # type: ignore[union-attr]
    assert widget.workspace.current.name == "a"  # type: ignore[union-attr]
    click(screen, widget, place, qtbot, number=1)
    assert widget.ui.where.text().startswith("b\n")
    assert widget.answer.score < score  # type: ignore[union-attr]
    screen.layers["b"].name = "renamed"
    assert widget.ui.where.text().startswith("renamed\n")
    screen.layers.remove("renamed")
    assert widget.answer is None
    assert widget.marker.layer is None
    assert widget.ui.message.text() == "The map that was asked about is gone."
    click(screen, widget, place, qtbot, number=0)
    assert widget.ui.where.text().startswith("a\n")
    screen.layers.remove(screen.layers["why"])
    click(screen, widget, place, qtbot, number=0)
    assert widget.marker.layer is not None


def test_without_a_map_it_says_what_to_do(screen: Any, slide_file: Path, qtbot: Any) -> None:
    widget = why_of(screen, qtbot)
    assert widget.ui.message.text() == NO_MAP
    screen.open(str(slide_file), plugin=OURS)
    widget.ask_at((10.0, 10.0))
    assert widget.ui.message.text() == NO_MAP
    assert not widget.ui.copy.isEnabled()


def test_the_canvas_is_left_as_it_was_when_the_widget_goes(
    screen: Any, slide_file: Path, near_head_file: Path, planted: Any, qtbot: Any
) -> None:
    draw(screen, slide_file, near_head_file, qtbot)
    why = why_of(screen, qtbot)
    click(screen, why, (4.5 * planted.tile, 7.5 * planted.tile), qtbot)
    assert "Left" in [str(key) for key in screen.keymap]
    assert "why" in screen.layers
    n_listening = len(screen.mouse_drag_callbacks)
    show_panel(screen)
    qtbot.waitUntil(lambda: "why" not in screen.layers, timeout=LONG_MS)
    assert len(screen.mouse_drag_callbacks) == n_listening - 1
    assert "Left" not in [str(key) for key in screen.keymap]
    why_of(screen, qtbot)
    qtbot.waitUntil(lambda: "why" in screen.layers, timeout=LONG_MS)
    screen.window.remove_dock_widget(why)
    assert "why" not in screen.layers
    assert len(screen.mouse_drag_callbacks) == n_listening - 1
    gone = weakref.ref(why)
    del why
    gc.collect()
    assert gone() is None
    screen.layers["case7 · evidence"].visible = False
    screen.layers.remove("case7")


@pytest.fixture
def cohort(planted: Any, mean_colour: Any, near_head_file: Path, tmp_path: Path) -> tuple[StudySlide, ...]:
    """Two slides with the square, two without, embedded."""
    card = load_head(near_head_file).card_["encoder"]
    slides = []
    for number in range(4):
        path = planted.write(tmp_path / f"slide {number}.tif", planted=number % 2 == 0, seed=number)
        with open_slide(path) as slide:
            for _ in embed_slide(slide, mean_colour, default_tokens_path(path, card)):
                pass
        slides.append(StudySlide(path, ("tumour", "normal")[number % 2]))
    return tuple(slides)


def test_nearest_examples_of_both_classes_are_shown_and_flown_to(
    screen: Any, cohort: tuple[StudySlide, ...], near_head_file: Path, planted: Any, qtbot: Any
) -> None:
    draw(screen, cohort[0].path, near_head_file, qtbot, "evidence")
    widget = why_of(screen, qtbot)
    widget.workspace.edit("Add slides", widget.workspace.study.with_slides(cohort))
    click(screen, widget, (4.5 * planted.tile, 7.5 * planted.tile), qtbot)
    answered(widget, qtbot)
    rows = widget.examples.rows.rows
    assert list(rows) == ["normal", "tumour"]
    found = {
        name: [row.item(i).data(Qt.ItemDataRole.UserRole) for i in range(row.count())] for name, row in rows.items()
    }
    # the slide that is asked about is left out, so that only one slide of its class is left
    assert {example.slide for example in found["tumour"]} == {2}
    assert {example.slide for example in found["normal"]} <= {1, 3}
    assert len(found["tumour"]) == len(found["normal"]) == 4
    assert all(3 <= one.row < 6 and 7 <= one.col < 9 for one in found["tumour"])
    assert found["tumour"][0].distance < found["normal"][0].distance
    purple = rows["tumour"].item(0).icon().pixmap(64, 64).toImage().pixelColor(30, 30)
    assert purple.blue() > purple.red()
    widget.examples.with_own.setChecked(True)
    answered(widget, qtbot)
    own = [rows["tumour"].item(i).data(Qt.ItemDataRole.UserRole) for i in range(4)]
    assert 0 in {example.slide for example in own}
    assert (0, 4, 7) not in {(example.slide, example.row, example.col) for example in own}
    chosen = found["tumour"][0]
    widget.examples.rows.chosen.emit(chosen)
    qtbot.waitUntil(lambda: "slide 2" in screen.layers, timeout=LONG_MS)
    centre = np.array([chosen.row + 0.5, chosen.col + 0.5]) * planted.tile * planted.mpp - planted.mpp / 2
    np.testing.assert_allclose(camera_of(screen).center[-2:], centre)
    assert asked(widget) == (4, 7)


def test_examples_say_what_they_need(screen: Any, why: WhyWidget, planted: Any, tmp_path: Path, qtbot: Any) -> None:
    click(screen, why, (4.5 * planted.tile, 7.5 * planted.tile), qtbot)
    assert "Give labels under 'Slides'" in why.examples.hint.text()
    slide = StudySlide(planted.write(tmp_path / "bare.tif"), "tumour")
    why.workspace.edit("Add", why.workspace.study.with_slides([slide]))
    click(screen, why, (4.5 * planted.tile, 8.5 * planted.tile), qtbot)
    answered(why, qtbot)
    assert "Embed them under 'Slides'" in why.examples.tasks.status.text()
    assert asked(why) == (4, 8)


def square(row: int, col: int, size: int, tile: int, **fields: Any) -> Region:
    """Return a region of whole tokens."""
    row0, col0, row1, col1 = (at * tile for at in (row, col, row + size, col + size))
    return Region((np.array([[row0, col0], [row0, col1], [row1, col1], [row1, col0]], float)[None],), **fields)


def choose(widget: WhyWidget, number: int, text: str, qtbot: Any) -> None:
    field = widget.regions.box.choices[number]
    field.setCurrentText(text)
    field.activated.emit(field.currentIndex())
    qtbot.waitUntil(lambda: not widget.regions.asker.is_at_work, timeout=LONG_MS)


def test_two_regions_are_compared_and_follow_the_study(screen: Any, why: WhyWidget, planted: Any, qtbot: Any) -> None:
    workspace = why.workspace
    key = workspace.current.key  # type: ignore[union-attr]
    regions = [square(3, 7, 2, planted.tile, label="tumour"), square(7, 3, 3, planted.tile, name="stroma")]
    workspace.edit("Draw", workspace.study.with_regions(key, regions))
    choose(why, 0, "tumour 1", qtbot)
    choose(why, 1, "stroma", qtbot)
    found = why.regions.comparison
    assert found is not None and found.first is not None and found.second is not None  # noqa: PT018
    scores = screen.layers["case7 · evidence"].data
    assert found.first.n_tokens == 4
    assert found.first.total == pytest.approx(float(scores[3:5, 7:9].sum()), rel=1e-6)
    assert found.second.mean == pytest.approx(float(scores[7:10, 3:6].mean()), rel=1e-6)
    assert found.first.area_mm2 == pytest.approx(4 * (planted.tile * planted.mpp / 1000) ** 2)
    assert why.regions.box.chart.rows[-1].is_sum
    assert "Region A: tumour 1" in why.text()
    workspace.edit("Draw", workspace.study.with_regions(key, [square(3, 7, 1, planted.tile, label="tumour")]))
    qtbot.waitUntil(lambda: not why.regions.asker.is_at_work, timeout=LONG_MS)
    assert why.regions.comparison is None
    choose(why, 0, "above the threshold", qtbot)
    assert "Choose a threshold under 'Prospect'" in why.regions.hint.text()


def test_a_rectangle_that_is_dragged_is_a_region_and_the_camera_stays(
    screen: Any, why: WhyWidget, planted: Any, qtbot: Any
) -> None:
    before = camera_of(screen).center
    why.regions.box.rectangle_buttons[0].click()
    corners = [(3.02 * planted.tile, 7.02 * planted.tile), (5.98 * planted.tile, 8.98 * planted.tile)]
    first, last = (screen_point(screen, place_of(screen, why, corner)) for corner in corners)
    drag(screen, first, last, qtbot)
    qtbot.waitUntil(lambda: not why.regions.asker.is_at_work, timeout=LONG_MS)
    found = why.regions.comparison
    assert found is not None
    assert found.first is not None
    assert found.second is None
    assert found.first.n_tokens == 6
    assert camera_of(screen).center == before
    assert why.regions.box.armed is None
    assert why.answer is None


def test_what_is_shown_can_be_copied(screen: Any, why: WhyWidget, planted: Any, qtbot: Any) -> None:
    click(screen, why, (4.5 * planted.tile, 7.5 * planted.tile), qtbot)
    why.ui.copy.click()
    text = QGuiApplication.clipboard().text()
    assert text.splitlines()[0].startswith("Token (row 4, column 7) of case7")
    assert "sum = score" in text


def test_closing_the_window_while_it_answers_is_harmless(screen: Any, why: WhyWidget, planted: Any, qtbot: Any) -> None:
    drawn = why.workspace.maps[0]
    for col in (7, 8, 7, 8):
        why.ask(drawn, 4, col)
    screen.close()


def test_regions_without_a_name_are_numbered_in_their_class_and_thousands_take_no_time() -> None:
    ring = np.array([(0, 0), (0, 9), (9, 9), (9, 0)], float)
    few = [Region(((ring,),), label, name=name) for label, name in (("a", ""), ("b", ""), ("a", "mine"), ("a", ""))]
    assert region_names([*few, Region(((ring,),))]) == ["a 1", "b 1", "mine", "a 2", "region 1"]
    began = time.perf_counter()
    region_names(few * 5_000)
    assert time.perf_counter() - began < 0.5
