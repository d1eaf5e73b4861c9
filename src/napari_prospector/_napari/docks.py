"""The widgets of this plugin as docks of a viewer: each opened once, all of them tabs of one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QTabBar, QWidget

if TYPE_CHECKING:
    from napari.viewer import Viewer

__all__ = ["PLUGIN", "DockedWidget", "open_widget", "show_named", "show_widget"]

PLUGIN = "napari-prospector"

Widget = TypeVar("Widget", bound=QWidget)


class DockedWidget(QWidget):
    """A widget that is gone for good once its dock is closed; its tasks stop with it.

    napari only takes the widget of a closed dock out of the window: without a parent it would live on, unseen.
    """

    def changeEvent(self, event: QEvent | None) -> None:
        """Go when taken out of the dock."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.deleteLater()


def open_widget(viewer: Viewer, kind: type[Widget]) -> Widget | None:
    """Return the widget of a class that a viewer has open; None where it is not."""
    bare = getattr(viewer, "__wrapped__", viewer)
    return next((widget for widget in bare.window.dock_widgets.values() if isinstance(widget, kind)), None)


def show_widget(viewer: Viewer, kind: type[Widget], name: str) -> Widget:
    """Return the widget of a class, opened as a tab beside our others if it is not there yet, and on top.

    Parameters
    ----------
    viewer
        Where to show it.
    kind
        Its class.
    name
        Its display name in the manifest.
    """
    widget = open_widget(viewer, kind)
    if widget is None:
        widget = show_named(viewer, name)
        assert isinstance(widget, kind)
    dock = widget.parent()
    assert isinstance(dock, QWidget)
    dock.show()
    dock.raise_()
    return widget


def show_named(viewer: Viewer, name: str) -> QWidget:
    """Return the widget with a display name of the manifest, opened if it is not there yet, and on top."""
    bare = getattr(viewer, "__wrapped__", viewer)
    dock, widget = bare.window.add_plugin_dock_widget(PLUGIN, name, tabify=True)
    # napari adds the plugin's name, and seven such tabs would not fit
    dock.setWindowTitle(name)
    dock.show()
    dock.raise_()
    _show_titles_whole(dock)
    assert isinstance(widget, QWidget)
    return widget


def _show_titles_whole(dock: QWidget) -> None:
    """Let the tabs of docks be narrow enough for seven, and scroll rather than cut their titles off."""
    window = dock.window()
    for bar in window.findChildren(QTabBar):
        if bar.parent() is window and not bar.styleSheet():
            bar.setElideMode(Qt.TextElideMode.ElideNone)
            bar.setUsesScrollButtons(True)
            bar.setStyleSheet("QTabBar::tab { padding: 3px 1px; }")
