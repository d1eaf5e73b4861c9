"""Choosing a concept on the canvas: a click on the concepts layer, while that layer is selected."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_prospector._napari.layers import provenance

if TYPE_CHECKING:
    from napari.viewer import Viewer

__all__ = ["ConceptPicking"]

STILL_PX = 4.0  # on the screen: hands shake
MODES = ("pan_zoom", "pick")
"""In which a click is none of painting."""


class ConceptPicking:
    """Listens to clicks on the concepts layers of a viewer until `stop`.

    Parameters
    ----------
    viewer
        Its viewer, not wrapped.
    on_pick
        Bound method that is told the number of the concept under the pointer; held weakly.
    """

    def __init__(self, viewer: Viewer, on_pick: Callable[[int], None]) -> None:
        self._viewer = viewer
        told = weakref.WeakMethod(on_pick)

        def clicked(layer: Any, event: Any) -> Generator[None]:
            if event.button != 1 or event.modifiers:
                return
            pressed = np.array(event.pos)
            yield
            while event.type == "mouse_move":
                yield
            if np.abs(np.array(event.pos) - pressed).max() >= STILL_PX:  # a drag moves the canvas
                return
            label = layer.get_value(event.position, world=True)
            method = told()
            if method is not None and str(layer.mode) in MODES and label is not None and int(np.max(label)) > 0:
                method(int(np.max(label)) - 1)

        self._clicked = clicked
        viewer.layers.events.inserted.connect(self._listen)
        self._listen()

    def stop(self) -> None:
        """Listen no longer."""
        self._viewer.layers.events.inserted.disconnect(self._listen)
        for layer in self._viewer.layers:
            if self._clicked in layer.mouse_drag_callbacks:
                layer.mouse_drag_callbacks.remove(self._clicked)

    def _listen(self, event: Any = None) -> None:
        """Listen to the concepts layers that are there."""
        for layer in self._viewer.layers:
            if provenance(layer).get("kind") == "concepts" and self._clicked not in layer.mouse_drag_callbacks:
                layer.mouse_drag_callbacks.append(self._clicked)
