"""The camera of a viewer, by whatever name the version of napari has it, and how it flies to a place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QWidget

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer

__all__ = ["camera_of", "canvas_of", "drawing_of", "fly_to", "screen_px"]


def camera_of(viewer: Viewer) -> Any:
    """Return the camera; since napari 0.9 it belongs to the scene."""
    return getattr(viewer, "scene", viewer).camera


def fly_to(viewer: Viewer, centre: tuple[float, float], extent: float) -> None:
    """Show a place in the middle of the canvas.

    Parameters
    ----------
    viewer
        Its camera is moved.
    centre
        (row, col) in the world.
    extent
        What is to fit the canvas about that centre, in the world's unit; the zoom stays where it is 0.
    """
    camera = camera_of(viewer)
    camera.center = (*camera.center[:-2], *centre)
    if extent > 0:
        bare = getattr(viewer, "__wrapped__", viewer)
        # since napari 0.9 the canvas is a model of its own
        size = bare.canvas.size if hasattr(bare, "canvas") else bare._canvas_size
        camera.zoom = min(size) / extent


def canvas_of(viewer: Viewer) -> QWidget:
    """Return the widget that layers are drawn on."""
    from qtpy.QtOpenGLWidgets import QOpenGLWidget

    bare = getattr(viewer, "__wrapped__", viewer)
    canvas = bare.window._qt_window.centralWidget().findChild(QOpenGLWidget)
    assert isinstance(canvas, QWidget)
    return canvas


def drawing_of(viewer: Viewer, layer: Layer) -> Any:
    """Return what a layer is drawn by; None where this napari does not tell.

    To hold it is to keep the buffers of the graphics card: freed while the window is shown, those of a Shapes layer
    bring Mesa's drivers down at the next paint (napari 0.9.2 with vispy 0.17).
    """
    bare = getattr(viewer, "__wrapped__", viewer)
    canvas = getattr(getattr(bare.window, "_qt_viewer", None), "canvas", None)
    return getattr(getattr(canvas, "layer_to_visual", {}).get(layer), "node", None)


def screen_px(viewer: Viewer, layer: Layer) -> float:
    """Return how many pixels of the screen one pixel of a layer takes, at the zoom at hand."""
    corner = np.asarray(layer.data_to_world((0.0,) * layer.ndim))
    steps = [np.asarray(layer.data_to_world(step)) - corner for step in np.eye(layer.ndim)[-2:]]
    wide = float(np.sqrt(np.prod([np.linalg.norm(step) for step in steps])))
    return float(camera_of(viewer).zoom) * wide
