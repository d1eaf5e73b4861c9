"""Menus, the command palette, and the keys of the help page, pressed in a real window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from npe2 import PluginManifest
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QDialog, QFileDialog, QWidget

from napari_prospector._napari.annotate_widget import AnnotateWidget, show_annotate
from napari_prospector._napari.annotator import annotator_of
from napari_prospector._napari.camera import canvas_of
from napari_prospector._napari.docks import open_widget, show_named
from napari_prospector._napari.help_page import KEYS, WIDGETS, Key, help_html
from napari_prospector._napari.panel import ProspectPanel
from napari_prospector._napari.slides_widget import SlidesWidget
from napari_prospector._napari.start_widget import StartWidget
from napari_prospector._napari.tasks import TaskBar
from napari_prospector._napari.workspace import Workspace, workspace_of
from napari_prospector.study.project import StudySlide
from napari_prospector.study.project_files import Project

MANIFEST = Path(__file__).resolve().parents[2] / "src" / "napari_prospector" / "napari.yaml"
OURS = "napari-prospector"
LONG_MS = 20_000
WORK = "napari-prospector/work"


def in_menu(menu: str) -> list[str]:
    """Return the commands of a menu, as napari shows them."""
    from napari._app_model import get_app_model

    groups = get_app_model().menus.iter_menu_groups(menu)
    return [getattr(item, "command", item).id for group in groups for item in group if hasattr(item, "command")]


def do(command: str) -> None:
    """Run a command as a menu or the palette does."""
    from napari._app_model import get_app_model

    get_app_model().commands.execute_command(f"{OURS}.{command}").result()


def add_slide(workspace: Workspace, path: Path) -> None:
    workspace.edit(f"Add {path.name}", workspace.study.with_slides([StudySlide(path, "tumour")]))


@pytest.fixture
def shown(plugin: Any, make_napari_viewer: Callable[..., Any], qtbot: Any) -> Any:
    """A viewer on the screen."""
    viewer = make_napari_viewer(show=True, strict_qt="raise")
    viewer.window.resize(1280, 800)
    qtbot.waitExposed(viewer.window._qt_window)
    return viewer


def test_widgets_are_in_the_menu_in_the_order_of_the_work(viewer: Any) -> None:
    # napari 0.7 lists widgets by their names
    listed = [command.removeprefix(OURS)[1:].lower() for command in in_menu(f"napari/plugins/{OURS}")]
    order = [name.lower() for name, _ in WIDGETS]
    assert listed == [name for name in order if name in listed]
    assert {"start", "slides", "fit", "prospect"} <= set(listed)


def test_commands_are_in_one_menu_and_in_the_palette(viewer: Any) -> None:
    from napari._app_model import get_app_model

    listed = [command.removeprefix(f"{OURS}.") for command in in_menu(WORK)]
    assert listed == ["open_project", "save_project_as", "export_map", "undo", "redo", "open_settings", "open_help"]
    # what is registered is what the palette searches
    assert {f"{OURS}.{name}" for name in listed} <= {name for name, _ in get_app_model().commands}


def test_undo_and_redo_are_commands(viewer: Any, tmp_path: Path) -> None:
    workspace = workspace_of(viewer)
    add_slide(workspace, tmp_path / "a.tif")
    do("undo")
    assert workspace.study.slides == ()
    do("redo")
    assert len(workspace.study.slides) == 1
    do("redo")
    assert len(workspace.study.slides) == 1


def test_projects_are_saved_and_opened_by_commands(
    viewer: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = workspace_of(viewer)
    add_slide(workspace, tmp_path / "a.tif")
    folder = tmp_path / "mine.prospect-project"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "mine"), ""))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(folder))
    do("save_project_as")
    start = open_widget(viewer, StartWidget)
    assert start is not None
    qtbot.waitUntil(lambda: workspace.keeper.is_named and not start.bar.is_running, timeout=LONG_MS)
    other = Project(tmp_path / "other.prospect-project")
    folder = other.folder
    other.save(workspace.study.with_slides([StudySlide(tmp_path / "b.tif", "normal")]), {})
    other.close()
    do("open_project")
    qtbot.waitUntil(lambda: len(workspace.study.slides) == 2 and not start.bar.is_running, timeout=LONG_MS)


def test_export_without_a_map_is_a_sentence(viewer: Any) -> None:
    from napari.utils.notifications import notification_manager

    do("export_map")
    assert open_widget(viewer, ProspectPanel) is not None
    assert "no map on this slide" in notification_manager.records[-1].message


def test_export_shows_where_a_map_is_exported(viewer: Any, slide_file: Path, head_file: Path, qtbot: Any) -> None:
    viewer.open(str(slide_file), plugin=OURS)
    do("export_map")
    panel = open_widget(viewer, ProspectPanel)
    assert panel is not None
    panel.ask(head_file)
    qtbot.waitUntil(lambda: bool(workspace_of(viewer).maps) and not panel.is_running, timeout=LONG_MS)
    do("export_map")
    assert panel.section.export.button.isVisibleTo(panel)


def test_help_is_a_command_and_names_every_key_and_widget(viewer: Any) -> None:
    do("open_help")
    dialogs = [one for one in viewer.window._qt_window.findChildren(QDialog) if "help" in one.windowTitle()]
    assert len(dialogs) == 1
    dialogs[0].close()
    page = help_html()
    assert all(key.keys in page for key in KEYS)
    names = [one.display_name for one in PluginManifest.from_file(MANIFEST).contributions.widgets or ()]
    assert all(f"<b>{name}</b>" in page for name in names)


def test_two_viewers_have_a_workspace_each(viewer: Any, make_napari_viewer: Callable[..., Any], tmp_path: Path) -> None:
    other = make_napari_viewer(strict_qt="raise")
    add_slide(workspace_of(viewer), tmp_path / "a.tif")
    assert workspace_of(other) is not workspace_of(viewer)
    assert workspace_of(other).study.slides == ()


def press(qtbot: Any, key: Key, target: QWidget) -> None:
    """Press a key of the table where it acts."""
    pressed = QKeySequence(key.keys)[0]
    target.activateWindow()
    target.setFocus()
    qtbot.waitUntil(target.hasFocus, timeout=LONG_MS)
    qtbot.keyClick(target, pressed.key(), pressed.keyboardModifiers())


def of_table(where: str) -> dict[str, Key]:
    """Return the keys that act somewhere."""
    found = {key.keys: key for key in KEYS if where in key.where}
    assert found
    return found


@pytest.mark.parametrize(
    "name", [widget.display_name for widget in PluginManifest.from_file(MANIFEST).contributions.widgets or ()]
)
def test_undo_redo_and_help_work_by_key_in_every_widget(shown: Any, name: str, tmp_path: Path, qtbot: Any) -> None:
    widget, workspace, keys = show_named(shown, name), workspace_of(shown), of_table("any Prospector widget")
    add_slide(workspace, tmp_path / "a.tif")
    bars = widget.findChildren(TaskBar)
    qtbot.waitUntil(lambda: not any(bar.is_running for bar in bars), timeout=LONG_MS)
    target = next((one for one in widget.findChildren(QWidget) if _can_focus(one)), widget)
    press(qtbot, keys["Ctrl+Z"], target)
    assert workspace.study.slides == ()
    press(qtbot, keys["Ctrl+Shift+Z"], target)
    assert len(workspace.study.slides) == 1
    press(qtbot, keys["Ctrl+Z"], target)
    press(qtbot, Key("Ctrl+Y", "", ""), target)
    assert len(workspace.study.slides) == 1
    press(qtbot, keys["F1"], target)
    opened = [one for one in widget.findChildren(QDialog) if "help" in one.windowTitle()]
    assert len(opened) == 1
    opened[0].close()
    # all that are in the table were pressed
    assert set(keys) == {"Ctrl+Z", "Ctrl+Shift+Z", "F1"}


def _can_focus(widget: QWidget) -> bool:
    """Whether Tab reaches a control, and it does not type."""
    return (
        widget.isVisible()
        and widget.isEnabled()
        and bool(widget.focusPolicy() & Qt.FocusPolicy.TabFocus)
        and widget.metaObject().className() in ("QPushButton", "QToolButton", "QSlider", "QCheckBox", "QRadioButton")
    )


@pytest.mark.parametrize(
    ("name", "button"),
    [("Slides", "ui.embed_all_button"), ("Fit", "fit_button"), ("Prospect", "run_button")],
)
def test_the_main_button_has_a_key(shown: Any, name: str, button: str, qtbot: Any) -> None:
    key, widget = of_table(name)["Ctrl+Return"], show_named(shown, name)
    main: Any = widget
    for part in button.split("."):
        main = getattr(main, part)
    pressed: list[bool] = []
    main.clicked.disconnect()
    main.clicked.connect(lambda *_: pressed.append(True))
    main.setEnabled(True)
    press(qtbot, key, next(one for one in widget.findChildren(QWidget) if _can_focus(one) and one is not main))
    assert pressed == [True]


def test_the_table_of_slides_opens_and_removes_by_key(shown: Any, slide_file: Path, qtbot: Any) -> None:
    workspace, keys = workspace_of(shown), of_table("the table of Slides")
    add_slide(workspace, slide_file)
    widget = show_named(shown, "Slides")
    assert isinstance(widget, SlidesWidget)
    widget.table.selectRow(0)
    press(qtbot, keys["Return"], widget.table)
    qtbot.waitUntil(lambda: len(shown.layers) == 1, timeout=LONG_MS)
    press(qtbot, keys["Delete"], widget.table)
    assert workspace.study.slides == ()
    assert slide_file.exists()


def test_recent_work_opens_by_key(shown: Any, tmp_path: Path, qtbot: Any) -> None:
    from napari_prospector._napari.recent import note_recent
    from napari_prospector.study.project import Study

    with Project(tmp_path / "mine.prospect-project") as project:
        project.save(Study(slides=(StudySlide(tmp_path / "a.tif", "tumour"),)), {})
    note_recent(tmp_path / "mine.prospect-project")
    start = show_named(shown, "Start")
    assert isinstance(start, StartWidget)
    qtbot.waitUntil(lambda: start.recent.count() == 1 and not start.bar.is_running, timeout=LONG_MS)
    start.recent.setCurrentRow(0)
    press(qtbot, of_table("Recent work")["Return"], start.recent)
    qtbot.waitUntil(lambda: len(workspace_of(shown).study.slides) == 1, timeout=LONG_MS)


def test_regions_have_their_keys_on_the_canvas(shown: Any, slide_file: Path, qtbot: Any) -> None:
    shown.open(str(slide_file), plugin=OURS)
    widget, keys = show_annotate(shown), of_table("regions")
    assert isinstance(widget, AnnotateWidget)
    draws, workspace, canvas = annotator_of(shown), workspace_of(shown), canvas_of(shown)
    for letter, tool in {"B": "brush", "E": "eraser", "L": "lasso"}.items():
        draws.choose_tool("move")
        press(qtbot, keys[letter], canvas)
        assert draws.tool == tool
    width = draws.brush_px
    press(qtbot, keys["["], canvas)
    assert draws.brush_px < width
    press(qtbot, keys["]"], canvas)
    assert draws.brush_px == pytest.approx(width, abs=2)
    space = keys["Space"]
    qtbot.keyPress(canvas, QKeySequence(space.keys)[0].key())
    assert draws.tool == "move"
    qtbot.keyRelease(canvas, QKeySequence(space.keys)[0].key())
    assert draws.tool == "lasso"
    draws.choose_class(draws.classes[-1].name)
    press(qtbot, keys["1"], canvas)
    assert draws.label == draws.classes[0].name
    add_slide(workspace, slide_file)
    press(qtbot, keys["Ctrl+Z"], canvas)
    assert workspace.study.slides == ()
    press(qtbot, keys["Ctrl+Shift+Z"], canvas)
    assert len(workspace.study.slides) == 1
    assert set(keys) == {"B", "E", "L", "[", "]", "Space", "1", "Ctrl+Z", "Ctrl+Shift+Z"}


def test_keys_of_concepts_and_why_are_those_that_they_bind() -> None:
    from napari_prospector._napari import legend_table, why_canvas

    bound = {QKeySequence(key).toString() for key in legend_table.KEYS}
    assert set(of_table("the table of Concepts")) == bound
    assert {"Up"} & set(of_table("in Why")) <= set(why_canvas.KEYS)


def test_the_guide_lists_every_key_as_the_page_of_help_does() -> None:
    guide = (MANIFEST.parents[2] / "docs" / "napari" / "keys.md").read_text(encoding="utf-8")
    listed = [line for line in guide.splitlines() if line.startswith("| `")]
    assert listed == [f"| `{key.keys}` | {key.where} | {key.does} |" for key in KEYS]
