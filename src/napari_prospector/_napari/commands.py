"""What napari's menus and its command palette call: one small function for each command that is not a widget.

napari hands them the viewer. Each does what a button does, in the widget that has the button, opened where it is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_prospector._napari.workspace import workspace_of

if TYPE_CHECKING:
    from napari.viewer import Viewer
    from qtpy.QtWidgets import QWidget

__all__ = ["export_map", "open_help", "open_project", "open_settings", "redo", "save_project_as", "undo"]


def undo(viewer: Viewer) -> None:
    """Take back the last edit, of whichever widget."""
    workspace = workspace_of(viewer)
    text = workspace.undo_text
    workspace.undo()
    _tell("There is nothing to undo." if text is None else f"Undone: {text}")


def redo(viewer: Viewer) -> None:
    """Do again what was taken back last."""
    workspace = workspace_of(viewer)
    text = workspace.redo_text
    workspace.redo()
    _tell("There is nothing to redo." if text is None else f"Done again: {text}")


def open_project(viewer: Viewer) -> None:
    """Ask for a project and open it, in the widget Start."""
    from napari_prospector._napari.docks import show_widget
    from napari_prospector._napari.start_widget import StartWidget

    show_widget(viewer, StartWidget, "Start").ask_project()


def save_project_as(viewer: Viewer) -> None:
    """Ask where the project is to be kept from now on, in the widget Start."""
    from napari_prospector._napari.docks import show_widget
    from napari_prospector._napari.start_widget import StartWidget

    show_widget(viewer, StartWidget, "Start").ask_place()


def export_map(viewer: Viewer) -> None:
    """Show where the map of the slide at hand is exported, in the widget Prospect; without a map say so."""
    from napari_prospector._napari.panel import show_panel

    panel, workspace = show_panel(viewer), workspace_of(viewer)
    if workspace.map_of(workspace.current) is None:
        _tell("There is no map on this slide yet. Press Prospect first.")
    else:
        # the frame scrolls to what has the focus
        panel.section.export.button.setFocus()


def open_help(viewer: Viewer) -> None:
    """Show what each widget and each key does."""
    from napari_prospector._napari.help_page import show_help

    show_help(_window(viewer))


def open_settings(viewer: Viewer) -> None:
    """Show the settings: napari's preferences, or our own dialog below napari 0.9."""
    from napari_prospector._napari.settings_dialog import show_settings

    show_settings(viewer, _window(viewer))


def _tell(sentence: str) -> None:
    """Say what happened, in the corner of the window."""
    from napari.utils.notifications import show_info

    show_info(sentence)


def _window(viewer: Viewer) -> QWidget:
    """Return the main window of a viewer."""
    window: QWidget = getattr(viewer, "__wrapped__", viewer).window._qt_window
    return window
