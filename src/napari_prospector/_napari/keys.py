"""The keys of all widgets: undo, redo, help, and the widget's main button."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence, QShortcut

from napari_prospector._napari.help_page import show_help

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QPushButton, QWidget

    from napari_prospector._napari.workspace import Workspace

__all__ = ["bind_keys"]


def bind_keys(widget: QWidget, workspace: Workspace, main: QPushButton | None = None) -> None:
    """Give a widget the keys that all of ours have; they act while the focus is in it, and die with it.

    A field in which text is being typed keeps its own undo.

    Parameters
    ----------
    widget
        A dock widget.
    workspace
        Of its viewer.
    main
        The button that does the widget's work, pressed by Ctrl+Return.
    """
    acts: list[tuple[str, Callable[[], object]]] = [
        ("Ctrl+Z", workspace.undo),
        ("Ctrl+Shift+Z", workspace.redo),
        ("Ctrl+Y", workspace.redo),
        ("F1", partial(show_help, widget)),
    ]
    if main is not None:
        acts.append(("Ctrl+Return", main.click))
    # so that a click on bare ground is enough
    widget.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
    for keys, act in acts:
        shortcut = QShortcut(QKeySequence(keys), widget)
        shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        shortcut.activated.connect(act)
