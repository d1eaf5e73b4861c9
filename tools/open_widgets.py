"""Open every widget of the manifest in a real viewer, one after another; for an environment that holds only the wheel.

Run by try_wheel.py. What is asked of the manifest is asked of whatever it holds: a new widget needs no line here.
"""

from __future__ import annotations

import importlib
import sys
from types import TracebackType
from typing import Any

__all__ = ["main"]

PLUGIN = "napari-prospector"

_broken: list[BaseException] = []


def main() -> int:
    """Find the plugin, import what its commands name, open its widgets; return an exit code."""
    import napari
    from npe2 import PluginManager
    from qtpy import API_NAME

    sys.excepthook = remember
    manager = PluginManager.instance()
    manager.discover()
    if PLUGIN not in {manifest.name for manifest in manager.iter_manifests()}:
        print(f"npe2 does not find {PLUGIN}.", file=sys.stderr)
        return 1
    contributions = manager.get_manifest(PLUGIN).contributions
    for command in contributions.commands or ():
        module, _, name = (command.python_name or "").partition(":")
        getattr(importlib.import_module(module), name)
    print(f"napari {napari.__version__}, {API_NAME}: {len(contributions.commands or ())} commands lead somewhere")
    viewer = napari.Viewer()
    closed = [widget.display_name for widget in contributions.widgets or () if not opens(viewer, widget.display_name)]
    viewer.close()
    for error in _broken:
        sys.__excepthook__(type(error), error, error.__traceback__)
    if closed or not contributions.widgets:
        print(f"These widgets do not open: {closed or 'there are none'}.", file=sys.stderr)
    return 1 if closed or _broken or not contributions.widgets else 0


def opens(viewer: Any, name: str) -> bool:
    """Whether a widget of the plugin opens, is seen, and is as large as it must be to be used."""
    from qtpy.QtWidgets import QApplication

    dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, name)
    widget = getattr(widget, "native", widget)  # magicgui's own are wrapped
    for _ in range(5):
        QApplication.processEvents()
    is_seen = bool(widget.isVisible() and widget.width() > 100 and widget.height() > 50)
    print(f"  {name}: {widget.width()} x {widget.height()} px{'' if is_seen else ', not to be seen'}", flush=True)
    viewer.window.remove_dock_widget(dock)
    return is_seen


def remember(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Keep what was raised in a slot, which Qt would only print."""
    _broken.append(error.with_traceback(trace))


if __name__ == "__main__":
    sys.exit(main())
