"""The panel in a real viewer: from a dropped slide to a map, and everything that may come between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_prospector._napari import job as job_module
from napari_prospector._napari.layers import provenance
from napari_prospector._napari.panel import ProspectPanel, show_panel
from napari_prospector.tokens.store import TokenGrid

OURS = "napari-prospector"
LONG_MS = 60_000


@pytest.fixture
def slow(mean_colour: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embed one tile at a time, half asleep."""
    encode = mean_colour.encode

    def encode_slowly(tiles: np.ndarray) -> np.ndarray:
        time.sleep(0.05)
        return encode(tiles)

    monkeypatch.setattr(mean_colour, "encode", encode_slowly)
    monkeypatch.setattr(mean_colour, "batch_size", 1, raising=False)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What napari's corner says."""
    from napari.utils import notifications

    notes: list[Any] = []
    monkeypatch.setattr(notifications.notification_manager, "dispatch", notes.append)
    return notes


@pytest.fixture
def panel(viewer: Any, slide_file: Path, head_file: Path, qtbot: Any) -> Iterator[ProspectPanel]:
    """A panel that is ready to start: a slide is open and the head is loaded."""
    viewer.open(str(slide_file), plugin=OURS)
    panel = show_panel(viewer)
    panel.choose_head(head_file)
    qtbot.waitUntil(panel.run_button.isEnabled, timeout=LONG_MS)
    yield panel
    if panel.is_running:
        panel.cancel()
        qtbot.waitUntil(lambda: not panel.is_running, timeout=LONG_MS)


def finish(panel: ProspectPanel, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not panel.is_running, timeout=LONG_MS)


def start_slowly(panel: ProspectPanel, qtbot: Any) -> None:
    """Start, and wait until tiles are being embedded."""
    panel.run_button.click()
    qtbot.waitUntil(lambda: panel.tasks.progress.value() >= 1, timeout=LONG_MS)


def names(viewer: Any) -> list[str]:
    return [layer.name for layer in viewer.layers]


def test_the_panel_says_what_is_missing(viewer: Any, slide_file: Path, head_file: Path, qtbot: Any) -> None:
    panel = show_panel(viewer)
    assert panel.hint.text() == "Open a slide: drop its file on the viewer."
    assert not panel.run_button.isEnabled()
    viewer.open(str(slide_file), plugin=OURS)
    assert panel.form.slide.currentText() == "case7"
    assert panel.form.slide_caption.text() == "1,427 × 1,787 px, 0.5 µm per pixel"
    assert "Choose a head" in panel.hint.text()
    panel.choose_head(head_file)
    assert panel.hint.text() == "square.prospector is being loaded."
    qtbot.waitUntil(panel.run_button.isEnabled, timeout=LONG_MS)
    assert panel.hint.isHidden()
    assert panel.form.target.currentText() == "tumour"
    assert panel.form.tokens.edit.placeholderText() == "case7.tif.mean-colour.tokens.zarr"


def test_from_slide_to_map(viewer: Any, panel: ProspectPanel, planted: Any, qtbot: Any, said: list[Any]) -> None:
    panel.run_button.click()
    assert panel.is_running
    assert not panel.run_button.isEnabled()
    finish(panel, qtbot)
    assert names(viewer) == ["case7", "case7 · concepts", "case7 · decision", "case7 · evidence"]
    drawn, concepts = viewer.layers["case7 · evidence"], viewer.layers["case7 · concepts"]
    expected = np.zeros(planted.grid, bool)
    expected[planted.tokens] = True
    np.testing.assert_array_equal(np.nan_to_num(drawn.data) > 0, expected)
    assert drawn.contrast_limits[0] == -drawn.contrast_limits[1]
    assert [layer.visible for layer in viewer.layers] == [True, False, False, True]
    slide = viewer.layers["case7"]
    corner_px = np.array([place.start for place in planted.pixels]) - 0.5
    corner_token = np.array([place.start for place in planted.tokens]) - 0.5
    for layer in (drawn, concepts):
        assert layer.data_to_world(corner_token) == pytest.approx(slide.data_to_world(corner_px))
        assert provenance(layer)["head"] == "square.prospector"
    assert "tumour" in panel.verdict.text()
    assert panel.section.isVisibleTo(panel)
    assert not said


def load(panel: ProspectPanel, head: Path, qtbot: Any) -> None:
    """Choose a head and wait until it is there."""
    panel.choose_head(head)
    qtbot.waitUntil(panel.run_button.isEnabled, timeout=LONG_MS)


def listed_maps(panel: ProspectPanel) -> list[str]:
    return [panel.form.map.itemText(i) for i in range(panel.form.map.count())]


def test_the_best_map_of_the_head_is_drawn_unless_another_is_chosen(
    viewer: Any, panel: ProspectPanel, refined_head_file: Path, planted: Any, qtbot: Any
) -> None:
    load(panel, refined_head_file, qtbot)
    assert panel.form.map.currentText() == "refined"
    assert "best map: refined" in panel.form.head_caption.text()
    panel.run_button.click()
    finish(panel, qtbot)
    assert names(viewer) == ["case7", "case7 · concepts", "case7 · evidence", "case7 · decision", "case7 · refined"]
    drawn = viewer.layers["case7 · refined"]
    assert provenance(drawn)["map"] == "refined"
    assert drawn.contrast_limits[1] == pytest.approx(panel.workspace.head.color_limits_["refined"])  # type: ignore[union-attr]
    inside = np.zeros(planted.grid, bool)
    inside[planted.tokens] = True
    assert np.nanmin(drawn.data[inside]) > np.nanmax(drawn.data[~inside])
    assert panel.section.color_bar.toolTip().startswith("Refined: ")
    panel.form.map.setCurrentText("evidence")
    assert panel.section.color_bar.toolTip().startswith("Evidence: ")
    assert [layer.name for layer in viewer.layers if layer.visible] == ["case7", "case7 · evidence"]


def test_the_maps_that_are_offered_are_those_of_the_head(
    panel: ProspectPanel, head_file: Path, refined_head_file: Path, qtbot: Any
) -> None:
    from qtpy.QtCore import Qt

    assert listed_maps(panel) == ["evidence", "decision"]
    load(panel, refined_head_file, qtbot)
    assert listed_maps(panel) == ["evidence", "decision", "refined"]
    hints = [panel.form.map.itemData(i, Qt.ItemDataRole.ToolTipRole) for i in range(3)]
    assert hints[2].startswith("Refined: what a read-out of the embeddings finds")
    assert ["best of this head" in hint for hint in hints] == [False, False, True]


def test_the_users_choice_of_a_map_stays_with_another_head_that_draws_it(
    panel: ProspectPanel, head_file: Path, refined_head_file: Path, qtbot: Any
) -> None:
    panel.form.map.setCurrentText("decision")
    load(panel, refined_head_file, qtbot)
    assert panel.request.map == "decision"
    panel.form.map.setCurrentText("refined")
    load(panel, head_file, qtbot)
    assert panel.request.map == "evidence"
    panel.form.head.set_path(None)
    assert panel.request.map is None
    load(panel, refined_head_file, qtbot)
    assert panel.request.map == "refined"


def test_a_second_run_replaces_the_layers_of_the_first(viewer: Any, panel: ProspectPanel, qtbot: Any) -> None:
    for map_name in ("evidence", "evidence", "decision"):
        panel.form.map.setCurrentText(map_name)
        panel.run_button.click()
        finish(panel, qtbot)
    assert sorted(names(viewer)) == ["case7", "case7 · concepts", "case7 · decision", "case7 · evidence"]


def test_a_layer_of_the_user_is_not_replaced(viewer: Any, panel: ProspectPanel, qtbot: Any) -> None:
    mine = viewer.add_image(np.zeros((11, 13)), name="case7 · evidence")
    panel.run_button.click()
    finish(panel, qtbot)
    assert mine in viewer.layers


@pytest.mark.usefixtures("slow")
def test_cancel_takes_effect_within_two_seconds_and_the_job_goes_on_later(
    viewer: Any, panel: ProspectPanel, slide_file: Path, qtbot: Any
) -> None:
    start_slowly(panel, qtbot)
    assert " of " in panel.tasks.status.text()
    pressed = time.perf_counter()
    panel.tasks.cancel_button.click()
    finish(panel, qtbot)
    assert time.perf_counter() - pressed < 2
    assert "Stopped" in panel.tasks.status.text()
    assert names(viewer) == ["case7"]
    grid = TokenGrid.open(slide_file.with_name("case7.tif.mean-colour.tokens.zarr"))
    assert not grid.is_complete
    # no writer holds the store any more
    TokenGrid.open(grid.path, "r+").close()
    panel.run_button.click()
    finish(panel, qtbot)
    assert "case7 · evidence" in names(viewer)


@pytest.mark.usefixtures("slow")
def test_removing_the_slide_while_its_job_runs_stops_the_job(
    viewer: Any, panel: ProspectPanel, slide_file: Path, qtbot: Any, said: list[Any]
) -> None:
    start_slowly(panel, qtbot)
    viewer.layers.remove("case7")
    finish(panel, qtbot)
    assert names(viewer) == []
    assert panel.tasks.status.text() == "The slide was removed, so its job stopped. What was embedded is kept."
    assert not panel.run_button.isEnabled()
    assert not said
    TokenGrid.open(slide_file.with_name("case7.tif.mean-colour.tokens.zarr"), "r+").close()


@pytest.mark.usefixtures("slow")
def test_closing_the_window_while_a_job_runs_is_harmless(viewer: Any, panel: ProspectPanel, qtbot: Any) -> None:
    from qtpy.QtCore import QThreadPool

    start_slowly(panel, qtbot)
    task = panel.tasks._task
    assert task is not None
    stop = task._stop
    panel.tasks._task = None
    viewer.close()
    qtbot.waitUntil(stop.is_set, timeout=LONG_MS)
    assert QThreadPool.globalInstance().waitForDone(2000)


@pytest.mark.usefixtures("slow")
def test_a_renamed_and_moved_slide_gets_its_map_where_it_is_now(
    viewer: Any, panel: ProspectPanel, planted: Any, qtbot: Any
) -> None:
    start_slowly(panel, qtbot)
    slide = viewer.layers["case7"]
    slide.name, slide.scale, slide.translate = "liver", (2, 2), (17, -5)
    finish(panel, qtbot)
    assert names(viewer) == ["liver", "liver · concepts", "liver · decision", "liver · evidence"]
    drawn = viewer.layers["liver · evidence"]
    corner = np.array([place.start for place in planted.pixels]) - 0.5
    token = np.array([place.start for place in planted.tokens]) - 0.5
    assert drawn.data_to_world(token) == pytest.approx(slide.data_to_world(corner))
    assert panel.form.slide.currentText() == "liver"


def test_the_layers_of_a_map_are_named_after_their_slide_when_it_is_renamed(
    viewer: Any, panel: ProspectPanel, qtbot: Any
) -> None:
    panel.run_button.click()
    finish(panel, qtbot)
    slide, *drawn = list(viewer.layers)
    endings = [layer.name.removeprefix(slide.name) for layer in drawn]
    drawn[0].name, endings[0] = "mine", "mine"
    for name in ("first", "second"):
        slide.name = name
    assert [layer.name.removeprefix("second") for layer in drawn] == endings


def test_of_two_slides_the_newest_is_chosen_and_each_gets_its_map(
    viewer: Any, panel: ProspectPanel, planted: Any, tmp_path: Path, qtbot: Any
) -> None:
    viewer.open(str(planted.write(tmp_path / "case8.tif", planted=False)), plugin=OURS)
    assert panel.form.slide.currentText() == "case8"
    panel.run_button.click()
    finish(panel, qtbot)
    panel.form.slide.setCurrentText("case7")
    panel.run_button.click()
    finish(panel, qtbot)
    assert {"case7 · evidence", "case8 · evidence"} <= set(names(viewer))
    assert np.nanmax(viewer.layers["case8 · evidence"].data) <= 0 < np.nanmax(viewer.layers["case7 · evidence"].data)


def test_tokens_of_another_encoder_are_refused_in_a_sentence(
    viewer: Any, panel: ProspectPanel, slide_file: Path, qtbot: Any, said: list[Any]
) -> None:
    panel.run_button.click()
    finish(panel, qtbot)
    panel.workspace.head.card_["encoder"]["tile_px"] = 71  # type: ignore[union-attr]
    panel.run_button.click()
    finish(panel, qtbot)
    assert "71" in panel.tasks.status.text()
    assert [note.message for note in said] == [panel.tasks.status.text()]
    assert "Traceback" not in panel.tasks.status.text()


def test_a_file_that_is_no_head_is_refused_in_a_sentence(panel: ProspectPanel, tmp_path: Path, qtbot: Any) -> None:
    fake = tmp_path / "fake.prospector"
    fake.write_text("no head")
    panel.choose_head(fake)
    qtbot.waitUntil(lambda: "fake.prospector is not a head file" in panel.hint.text(), timeout=LONG_MS)
    assert not panel.run_button.isEnabled()
    panel.choose_head(tmp_path / "nowhere.prospector")
    qtbot.waitUntil(lambda: "No head file at" in panel.hint.text(), timeout=LONG_MS)


@pytest.mark.parametrize("bug", [RuntimeError("out of memory"), ZeroDivisionError("a bug")])
def test_a_bug_keeps_its_traceback_and_frees_the_panel(
    panel: ProspectPanel, qtbot: Any, said: list[Any], bug: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise bug

    monkeypatch.setattr(job_module, "_load_encoder", broken)
    with qtbot.capture_exceptions() as raised:
        panel.run_button.click()
        finish(panel, qtbot)
    # a slot of napari's own that listens to errors of workers takes one argument too few for PySide6
    ours = [error for _, error, _ in raised if "create_worker.<locals>" not in str(error)]
    assert ours + [note.exception for note in said] == [bug]
    assert bug.__traceback__ is not None
    assert type(bug).__name__ in panel.tasks.status.text()
    assert panel.run_button.isEnabled()


def test_a_pixel_size_is_asked_for_only_where_none_is_stated(
    viewer: Any, panel: ProspectPanel, planted: Any, tmp_path: Path, qtbot: Any
) -> None:
    assert panel.form.mpp.isHidden()
    from PIL import Image

    with Image.new("RGB", (1787, 1427), (232, 160, 200)) as picture:
        picture.save(tmp_path / "photo.png")
    viewer.open(str(tmp_path / "photo.png"), plugin="napari")
    assert panel.form.slide.currentText() == "photo"
    assert not panel.form.mpp.isHidden()
    assert "photo.png states no pixel size" in panel.hint.text()
    panel.form.mpp.setValue(0.5)
    assert panel.run_button.isEnabled()
    assert panel.request.mpp == 0.5


def test_weights_are_asked_for_only_where_the_encoder_has_some(panel: ProspectPanel, qtbot: Any) -> None:
    assert panel.form.weights.isHidden()
    head = panel.workspace.head
    assert head is not None
    head.card_["encoder"]["weights_sha256"] = "ab" * 32
    panel.form.show_head(head, "with weights")
    assert not panel.form.weights.isHidden()


def test_a_path_can_be_dropped_on_its_field(panel: ProspectPanel, tmp_path: Path) -> None:
    from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
    from qtpy.QtGui import QDragEnterEvent, QDropEvent

    dropped = QMimeData()
    dropped.setUrls([QUrl.fromLocalFile(str(tmp_path / "x.tokens.zarr"))])
    move, left, none = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    entering = QDragEnterEvent(QPoint(1, 1), move, dropped, left, none)
    panel.form.tokens.dragEnterEvent(entering)
    assert entering.isAccepted()
    panel.form.tokens.dropEvent(QDropEvent(QPointF(1, 1), move, dropped, left, none))
    assert panel.request.tokens == tmp_path / "x.tokens.zarr"


@pytest.mark.usefixtures("slow")
def test_a_job_that_ends_while_another_slide_is_at_hand_draws_on_its_own_slide(
    viewer: Any, panel: ProspectPanel, planted: Any, tmp_path: Path, qtbot: Any
) -> None:
    viewer.open(str(planted.write(tmp_path / "case8.tif", planted=False)), plugin=OURS)
    panel.form.slide.setCurrentText("case7")
    start_slowly(panel, qtbot)
    viewer.layers.selection.active = viewer.layers["case8"]
    assert panel.form.slide.currentText() == "case8"
    finish(panel, qtbot)
    assert "case7 · evidence" in names(viewer)
    assert "case8 · evidence" not in names(viewer)
    drawn = viewer.layers["case7 · evidence"]
    assert provenance(drawn)["slide_id"] == viewer.layers["case7"].unique_id
    viewer.layers.selection.active = drawn
    assert panel.form.slide.currentText() == "case7"
    assert panel.verdict.text().startswith("case7: ")


def test_what_was_drawn_is_kept_by_the_workspace_and_forgotten_with_its_slide(
    viewer: Any, panel: ProspectPanel, planted: Any, qtbot: Any
) -> None:
    panel.run_button.click()
    finish(panel, qtbot)
    kept = panel.workspace.map_of(panel.workspace.current)
    assert kept is not None
    assert set(kept.maps) == {"evidence", "decision"}
    assert kept.concepts.shape == (kept.graph.n_tokens,)
    assert kept.shown == "evidence"
    row, col = (place.start for place in planted.tokens)
    token = kept.token_at(row, col)
    assert token is not None
    assert kept.head.prospect(kept.graph, "evidence")[token] == pytest.approx(kept.maps["evidence"][row, col], rel=1e-6)
    viewer.layers.remove("case7")
    assert panel.workspace.maps == ()
    assert panel.verdict.isHidden()


def test_an_array_of_nobodys_file_is_asked_for_its_pixel_size(viewer: Any, panel: ProspectPanel) -> None:
    viewer.add_image(np.zeros((113, 131, 3), np.uint8), rgb=True, name="array")
    assert panel.hint.text().startswith("Layer 'array' states no pixel size. Fill in 'Pixel size'")
    assert not panel.run_button.isEnabled()


def test_layers_that_cannot_be_prospected_are_not_offered(viewer: Any, panel: ProspectPanel) -> None:
    viewer.add_image(np.zeros((113, 131)), name="grey")
    viewer.add_points(np.zeros((3, 2)))
    assert [panel.form.slide.itemText(i) for i in range(panel.form.slide.count())] == ["case7"]


def test_a_token_grid_can_be_prospected_without_its_slide(
    viewer: Any, panel: ProspectPanel, slide_file: Path, planted: Any, qtbot: Any
) -> None:
    panel.run_button.click()
    finish(panel, qtbot)
    slide_file.unlink()
    viewer.layers.clear()
    viewer.open(str(slide_file.with_name("case7.tif.mean-colour.tokens.zarr")), plugin=OURS)
    panel.run_button.click()
    finish(panel, qtbot)
    drawn = viewer.layers["case7.tif.mean-colour · evidence"]
    world = drawn.data_to_world(np.array([place.start for place in planted.tokens]) - 0.5)
    assert world == pytest.approx([(place.start - 0.5) * planted.mpp for place in planted.pixels])
