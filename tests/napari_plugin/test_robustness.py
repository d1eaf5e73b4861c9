"""Whatever happens to layers, files and windows meanwhile: no traceback, but a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npe2 import PluginManifest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLabel,
    QLineEdit,
    QScrollArea,
    QScrollBar,
    QTabBar,
    QWidget,
)

from napari_prospector._napari.docks import show_named, show_widget
from napari_prospector._napari.drawn_layers import layers_on
from napari_prospector._napari.panel import ProspectPanel, show_panel
from napari_prospector._napari.start_widget import StartWidget
from napari_prospector._napari.tasks import TaskBar
from napari_prospector._napari.workspace import workspace_of
from napari_prospector.core.graph import grid_graph
from napari_prospector.core.head import ProspectorHead
from napari_prospector.study.project import StudySlide
from napari_prospector.study.project_files import Project

MANIFEST = Path(__file__).resolve().parents[2] / "src" / "napari_prospector" / "napari.yaml"
WIDGETS = [one.display_name for one in PluginManifest.from_file(MANIFEST).contributions.widgets or ()]
OURS = "napari-prospector"
LONG_MS = 20_000
CONTROLS = (QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox, QLineEdit, QAbstractItemView)


@pytest.fixture(autouse=True)
def no_traceback() -> Any:
    """Fail where napari was told of an error that is no sentence of ours."""
    from napari.utils.notifications import ErrorNotification, notification_manager

    before = len(notification_manager.records)
    yield
    assert [one for one in notification_manager.records[before:] if isinstance(one, ErrorNotification)] == []


@pytest.fixture
def drawn(viewer: Any, slide_file: Path, head_file: Path, qtbot: Any) -> ProspectPanel:
    """All widgets, with a map on a slide."""
    viewer.open(str(slide_file), plugin=OURS)
    for name in WIDGETS:
        show_named(viewer, name)
    panel = show_panel(viewer)
    panel.ask(head_file)
    qtbot.waitUntil(lambda: bool(panel.workspace.maps) and not panel.is_running, timeout=LONG_MS)
    qtbot.waitUntil(lambda: panel.section.is_settled, timeout=LONG_MS)
    return panel


def rest(viewer: Any, qtbot: Any) -> None:
    """Wait until no task of a widget is at work."""
    window = viewer.window._qt_window
    qtbot.wait(50)
    qtbot.waitUntil(lambda: not any(bar.is_running for bar in window.findChildren(TaskBar)), timeout=LONG_MS)


@pytest.mark.parametrize("kind", ["slide", "map", "concepts", "all"])
def test_layers_are_deleted_under_all_widgets(viewer: Any, drawn: ProspectPanel, kind: str, qtbot: Any) -> None:
    source = drawn.workspace.current
    assert source is not None
    gone = {
        "slide": [source.layer],
        "all": list(viewer.layers),
        "map": layers_on(viewer, source, "map"),
        "concepts": layers_on(viewer, source, "concepts"),
    }[kind]
    for layer in gone:
        viewer.layers.remove(layer)
    rest(viewer, qtbot)
    drawn.section.opacity.setValue(20)
    drawn.section.threshold.outline.setChecked(True)
    rest(viewer, qtbot)
    if kind in ("slide", "all"):
        assert not drawn.run_button.isEnabled()
        assert drawn.hint.text().endswith(".")


def test_layers_are_deleted_while_a_job_works_on_them(
    viewer: Any, drawn: ProspectPanel, slide_file: Path, qtbot: Any
) -> None:
    drawn.start()
    assert drawn.is_running
    viewer.layers.clear()
    rest(viewer, qtbot)
    assert "was removed" in drawn.tasks.status.text()


def test_layers_are_renamed_and_a_second_run_finds_them(viewer: Any, drawn: ProspectPanel, qtbot: Any) -> None:
    for number, layer in enumerate(viewer.layers):
        layer.name = f"<b>{number}</b>"
    n_layers = len(viewer.layers)
    drawn.start()
    rest(viewer, qtbot)
    assert len(viewer.layers) == n_layers
    assert drawn.workspace.map_of(drawn.workspace.current) is not None


@pytest.mark.parametrize("units", ["nm", "mm", "pixel"])
def test_units_are_changed_under_all_widgets(viewer: Any, drawn: ProspectPanel, units: str, qtbot: Any) -> None:
    source = drawn.workspace.current
    assert source is not None
    source.layer.units = (units, units)
    rest(viewer, qtbot)
    for layer in layers_on(viewer, source, "map", "concepts"):
        assert layer.units == source.layer.units
    drawn.start()
    rest(viewer, qtbot)
    assert np.all(np.isfinite(viewer.layers.extent.world))


def test_a_second_run_keeps_layers_and_opacity(viewer: Any, drawn: ProspectPanel, qtbot: Any) -> None:
    source = drawn.workspace.current
    assert source is not None
    before = layers_on(viewer, source, "map", "concepts")
    for layer in before:
        layer.opacity = 0.3
    drawn.start()
    rest(viewer, qtbot)
    after = layers_on(viewer, source, "map", "concepts")
    assert [id(layer) for layer in after] == [id(layer) for layer in before]
    assert {layer.opacity for layer in after} == {0.3}


def test_a_head_of_another_encoder_is_refused_in_a_sentence(
    viewer: Any, drawn: ProspectPanel, tmp_path: Path, qtbot: Any
) -> None:
    rng = np.random.default_rng(3)
    graphs = [grid_graph(np.ones((5, 7), bool), rng.normal(i % 2, 1, (35, 11)).astype(np.float32)) for i in range(8)]
    head = ProspectorHead(n_concepts=2, radius=0, refine=False, n_folds=2, random_state=0)
    card = {"name": "unheard-of", "loader": "test", "source": "x", "tile_px": 67, "mpp": 1.0, "n_dims": 11}
    head.fit(graphs, ["normal", "tumour"] * 4).save(tmp_path / "other.prospector", {"encoder": card})
    drawn.choose_head(tmp_path / "other.prospector")
    qtbot.waitUntil(lambda: drawn.workspace.head is not None, timeout=LONG_MS)
    drawn.start()
    rest(viewer, qtbot)
    assert "unheard-of" in drawn.tasks.status.text() + drawn.hint.text()


def test_a_window_is_closed_in_the_middle_of_a_job(
    plugin: Any, make_napari_viewer: Callable[..., Any], slide_file: Path, head_file: Path, qtbot: Any
) -> None:
    viewer = make_napari_viewer(strict_qt="raise")
    viewer.open(str(slide_file), plugin=OURS)
    panel = show_panel(viewer)
    panel.ask(head_file)
    qtbot.waitUntil(lambda: panel.is_running, timeout=LONG_MS)
    viewer.close()
    qtbot.wait(200)


def test_two_windows_work_each_for_itself(
    viewer: Any, drawn: ProspectPanel, make_napari_viewer: Callable[..., Any], slide_file: Path, qtbot: Any
) -> None:
    other = make_napari_viewer(strict_qt="raise")
    other.open(str(slide_file), plugin=OURS)
    panel = show_panel(other)
    assert workspace_of(other).maps == ()
    assert panel.workspace is not drawn.workspace
    other.layers.clear()
    assert len(drawn.workspace.maps) == 1


@pytest.mark.parametrize("damage", ["{", '{"format": "other"}', ""])
def test_a_damaged_project_is_a_sentence(viewer: Any, tmp_path: Path, damage: str, qtbot: Any) -> None:
    folder = tmp_path / "hurt.prospect-project"
    with Project(folder) as project:
        project.save(project.study.with_slides([StudySlide(tmp_path / "a.tif", "tumour")]), {})
    (folder / "project.json").write_text(damage)
    start = show_widget(viewer, StartWidget, "Start")
    start.open_project(folder)
    rest(viewer, qtbot)
    assert "project.json" in start.bar.status.text()
    assert workspace_of(viewer).study.slides == ()


def test_a_project_whose_slide_is_gone_opens_without_it(
    viewer: Any, tmp_path: Path, slide_file: Path, qtbot: Any
) -> None:
    folder = tmp_path / "mine.prospect-project"
    gone = tmp_path / "gone.tif"
    shown = {"name": "gone", "kind": "slide", "map": None, "visible": True, "opacity": 1.0, "blending": "translucent"}
    layers = [{**shown, "key": str(gone)}, {**shown, "key": str(slide_file), "name": "case7"}]
    with Project(folder) as project:
        rows = [StudySlide(gone, "tumour"), StudySlide(slide_file, "normal")]
        project.save(project.study.with_slides(rows), {"layers": layers})
    start = show_widget(viewer, StartWidget, "Start")
    start.open_project(folder)
    qtbot.waitUntil(lambda: len(viewer.layers) == 1, timeout=LONG_MS)
    rest(viewer, qtbot)
    assert "gone.tif" in start.bar.status.text()
    assert len(workspace_of(viewer).study.slides) == 2


@pytest.mark.parametrize("name", WIDGETS)
def test_every_control_has_a_name_and_keys_reach_it(viewer: Any, name: str) -> None:
    widget = show_named(viewer, name)
    texts = {label.buddy() for label in widget.findChildren(QLabel)}
    controls = [one for one in widget.findChildren(QWidget) if isinstance(one, CONTROLS) and not _is_qts_own(one)]
    assert controls
    for one in controls:
        said = one.accessibleName() or (one.text() if isinstance(one, QAbstractButton) else "")
        assert said or one in texts, f"{type(one).__name__} {one.toolTip()!r} has no name"
        assert one.focusPolicy() & Qt.FocusPolicy.TabFocus, f"{said!r} is not reached by Tab"


def _is_qts_own(one: QWidget) -> bool:
    """Whether a control is a part of another: a list that pops up, a scroll bar, what scrolls tabs."""
    parts = (QComboBox, QAbstractSpinBox, QTabBar, QLineEdit, QAbstractItemView)
    above = one.parent()
    while above is not None and not isinstance(above, parts):
        above = above.parent()
    return isinstance(one, QScrollBar) or above is not None or type(one).__name__ == "QComboBoxListView"


@pytest.mark.parametrize("name", WIDGETS)
def test_nothing_is_cut_off_in_a_narrow_dock(viewer: Any, name: str) -> None:
    widget = show_named(viewer, name)
    assert widget.minimumSizeHint().width() <= 320
    for area in widget.findChildren(QScrollArea):
        if area.widgetResizable() and area.widget() is not None:
            assert area.widget().minimumSizeHint().width() <= 300
