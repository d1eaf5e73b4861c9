"""What is open in a viewer, as a record that a project keeps, and the viewer as that record says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject

from napari_prospector._napari.camera import camera_of
from napari_prospector._napari.layers import provenance, slide_layer
from napari_prospector._napari.progress import JobProgress, Steps
from napari_prospector.errors import ProspectorError

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_prospector._napari.tasks import TaskBar
    from napari_prospector._napari.workspace import Workspace
    from napari_prospector.study.project import Study
    from napari_prospector.study.project_files import Project

__all__ = ["Reopening", "read_for_viewer", "view_record"]

# of a layer, what a user sets by hand
SHOWN = ("visible", "opacity", "blending")


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


def read_for_viewer(folder: Path) -> Callable[[], Steps[Project]]:
    """Return what opens a project in a thread."""

    def steps() -> Steps[Project]:
        from napari_prospector.errors import MissingFileError
        from napari_prospector.study.project_files import Project

        yield JobProgress(f"Reading {folder.name}")
        if not (folder / "project.json").exists():
            raise MissingFileError(f"There is no project in {folder.name}: it has no project.json. Choose another.")
        return Project(folder)

    return steps


class Reopening(QObject):
    """Show a project in a viewer: its slides, then its maps, then all of it as it was seen last.

    Parameters
    ----------
    viewer, workspace
        Where; slides that are open there are closed.
    view
        What `view_record` gave.
    bar
        Shows how far it is, and what could not be opened.
    """

    def __init__(self, viewer: Viewer, workspace: Workspace, view: Mapping[str, Any], bar: TaskBar) -> None:
        super().__init__(bar)
        self._viewer, self._workspace, self._bar = viewer, workspace, bar
        self._layers: list[dict[str, Any]] = list(view.get("layers", ()))
        self._camera: Mapping[str, Any] = view.get("camera", {})
        self._missing: list[str] = []

    def start(self, study: Study) -> None:
        """Put the study in the workspace, then open its slides."""
        for source in list(self._workspace.sources):
            self._close(source.layer)
        self._workspace.open_study(study)
        self._bar.run(self._slide_steps(study), self._end, self._add)

    def _close(self, slide: Any) -> None:
        """Close a slide with all that lies on it."""
        for layer in list(self._viewer.layers):
            if layer is slide or provenance(layer).get("slide_id") == slide.unique_id:
                self._viewer.layers.remove(layer)

    def _slide_steps(self, study: Study) -> Callable[[], Steps[list[str]]]:
        """Return what opens the slides one after the other; a missing one is told and the others go on."""
        wanted = [layer for layer in self._layers if layer["kind"] == "slide"]

        def steps() -> Steps[list[str]]:
            from napari_prospector.tokens.slides import open_slide

            problems = []
            for number, entry in enumerate(wanted):
                yield JobProgress("Opening slides", number, len(wanted))
                row = study.slide(Path(entry["key"]))
                try:
                    slide = open_slide(entry["key"], mpp=None if row is None else row.mpp)
                except ProspectorError as error:
                    problems.append(str(error))
                    continue
                array, arguments, kind = slide_layer(slide)
                found = (array, {**arguments, "name": entry["name"]}, kind)
                yield JobProgress("Opening slides", number + 1, len(wanted), found=found)
            return problems

        return steps

    def _add(self, layer: tuple[Any, dict[str, Any], str]) -> None:
        """Add a slide's layer."""
        from napari.layers import Layer

        self._viewer.add_layer(Layer.create(*layer))

    def _end(self, problems: list[str]) -> None:
        """Show layers as they were seen, and say what could not be opened."""
        self._show_as_before()
        if problems:
            self._bar.say("\n".join(problems), is_error=True)

    def _show_as_before(self) -> None:
        """Set what a user had set by hand, of the layers that are there."""
        names = {layer.name: layer for layer in self._viewer.layers}
        for entry in self._layers:
            layer = names.get(entry["name"])
            if layer is not None:
                for name in SHOWN:
                    setattr(layer, name, entry[name])
        if self._camera:
            camera = camera_of(self._viewer)
            camera.center, camera.zoom = self._camera["center"], self._camera["zoom"]
