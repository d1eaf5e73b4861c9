"""What is open in a viewer, as a record that a project keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_prospector._napari.camera import camera_of
from napari_prospector._napari.layers import provenance

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_prospector._napari.workspace import Workspace

__all__ = ["SHOWN", "view_record"]

SHOWN = ("visible", "opacity", "blending")
"""Of a layer, what a user sets by hand."""


def view_record(viewer: Viewer, workspace: Workspace) -> dict[str, Any]:
    """Return what is open, in types of JSON: slides, and how the layers that lie on them are shown.

    Layers of other plugins, and slides that were read from no file, cannot be opened again and are left out.
    """
    slides = {source.layer.unique_id: source for source in workspace.sources}
    layers = []
    for layer in viewer.layers:
        noted = provenance(layer)
        source = slides.get(layer.unique_id) or slides.get(noted.get("slide_id"))
        if source is not None and source.path is not None:
            kind = source.kind if source.layer is layer else noted.get("kind")
            shown = {name: getattr(layer, name) for name in SHOWN}
            layers.append({"key": source.key, "kind": kind, "map": noted.get("map"), "name": layer.name, **shown})
    camera = camera_of(viewer)
    seen = {"center": [float(at) for at in camera.center], "zoom": float(camera.zoom)}
    return {"layers": layers, "camera": seen}
