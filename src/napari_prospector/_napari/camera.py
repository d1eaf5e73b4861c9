"""The camera of a viewer, by whatever name the version of napari has it, and how it flies to a place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.viewer import Viewer

__all__ = ["camera_of", "fly_to"]


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
