"""A project in a viewer: its slides, then its maps, then all of it as it was seen last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject

from napari_prospector._napari.annotator import annotator_of
from napari_prospector._napari.camera import camera_of
from napari_prospector._napari.drawn_layers import add_result, is_open
from napari_prospector._napari.job import prospect
from napari_prospector._napari.layers import provenance, slide_layer
from napari_prospector._napari.progress import JobProgress, Refusal, Steps
from napari_prospector._napari.request import Facts, ProspectJob, ProspectRequest, plan
from napari_prospector._napari.view_record import SHOWN
from napari_prospector._napari.warming import warm_up
from napari_prospector.errors import ProspectorError

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_prospector._napari.job import ProspectResult
    from napari_prospector._napari.sources import Source
    from napari_prospector._napari.tasks import TaskBar
    from napari_prospector._napari.workspace import Workspace
    from napari_prospector.study.project import Study
    from napari_prospector.study.project_files import Project

__all__ = ["Reopening", "read_for_viewer"]


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
        self._view = view
        self._layers: list[dict[str, Any]] = list(view.get("layers", ()))
        self._camera: Mapping[str, Any] = view.get("camera", {})
        self._problems: list[str] = []

    def start(self, study: Study) -> None:
        """Put the study in the workspace, then open its slides."""
        for source in list(self._workspace.sources):
            # what was read from no file could not be opened again
            if source.path is not None:
                self._close(source.layer)
        # what is not open yet is not gone: until all is there, the view that was saved is kept
        self._workspace.keeper.hold_view(self._view)
        self._is_waiting = False
        self._workspace.open_study(study)
        self._bar.finished.connect(self._rest)
        self._bar.run(self._slide_steps(study), self._end, self._add)

    def _rest(self) -> None:
        """Let the project follow what is seen again, once all is open, or nothing more will be."""
        if not self._bar.is_running and not self._is_waiting:
            self._workspace.keeper.hold_view(None)
            self._bar.finished.disconnect(self._rest)
            self.deleteLater()

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
                warm_up()
                found = (array, {**arguments, "name": entry["name"]}, kind)
                yield JobProgress("Opening slides", number + 1, len(wanted), found=found)
            return problems

        return steps

    def _add(self, layer: tuple[Any, dict[str, Any], str]) -> None:
        """Add a slide's layer."""
        from napari.layers import Layer

        self._viewer.add_layer(Layer.create(*layer))

    def _end(self, problems: list[str]) -> None:
        """Go on with the maps, once the head is loaded."""
        self._problems += problems
        if self._mapped() and self._workspace.study.head is not None:
            self._is_waiting = True
            self._workspace.head_changed.connect(self._draw)
            self._draw()
        else:
            self._finish([])

    def _mapped(self) -> list[Source]:
        """Return the slides that are open and had maps."""
        keys = {layer["key"] for layer in self._layers if layer["kind"] in ("map", "concepts")}
        return [source for source in self._workspace.sources if source.key in keys]

    def _draw(self) -> None:
        """Draw the maps of slides again, from tokens that are there."""
        workspace = self._workspace
        if workspace.head is None and workspace.head_problem is None:
            return
        workspace.head_changed.disconnect(self._draw)
        self._is_waiting = False
        if workspace.head is None:
            self._finish([str(workspace.head_problem)])
            return
        jobs = [(source, self._job(source)) for source in self._mapped()]
        self._bar.run(_drawing(jobs), self._finish, self._add_map)

    def _job(self, source: Source) -> ProspectJob | Refusal:
        """Return what draws the maps of a slide."""
        workspace = self._workspace
        shown = [layer["map"] for layer in self._layers if layer["key"] == source.key and layer["visible"]]
        row = None if source.path is None else workspace.study.slide(source.path)
        request = ProspectRequest(
            layer=source.name,
            kind=source.kind,
            path=source.path,
            head=workspace.study.head,
            map=next((name for name in shown if name is not None), None),
            mpp=None if row is None else row.mpp,
            tokens=None if row is None else row.tokens,
        )
        return plan(request, Facts(source.mpp, workspace.head, workspace.head_problem))

    def _add_map(self, found: tuple[Source, ProspectResult]) -> None:
        """Add the layers of a map that is drawn, where its slide is still open."""
        source, result = found
        if is_open(self._viewer, source):
            self._workspace.keep_map(add_result(self._viewer, source, result))

    def _finish(self, problems: list[str]) -> None:
        """Show layers as they were seen, and say what could not be opened or drawn."""
        self._show_as_before()
        if told := self._problems + problems:
            self._bar.say("\n".join(told), is_error=True)
        self._rest()

    def _show_as_before(self) -> None:
        """Set what a user had set by hand, of the layers that are there."""
        if any(layer["kind"] == "annotations" for layer in self._layers):
            annotator_of(self._viewer).refresh()
        self._order()
        names = {layer.name: layer for layer in self._viewer.layers}
        for entry in self._layers:
            layer = names.get(entry["name"])
            if layer is not None:
                for name in SHOWN:
                    setattr(layer, name, entry[name])
        if self._camera:
            camera = camera_of(self._viewer)
            camera.center, camera.zoom = self._camera["center"], self._camera["zoom"]

    def _order(self) -> None:
        """Put the layers that were there into the order in which they were; others lie above them."""
        layers = self._viewer.layers
        wanted = [layers[entry["name"]] for entry in self._layers if entry["name"] in layers]
        for place, layer in enumerate(wanted):
            if (at := layers.index(layer)) != place:
                layers.move(at, place)


def _drawing(jobs: list[tuple[Source, ProspectJob | Refusal]]) -> Callable[[], Steps[list[str]]]:
    """Return what draws maps one after the other; what cannot be drawn is told, and the others go on."""

    def steps() -> Steps[list[str]]:
        problems = []
        for number, (source, job) in enumerate(jobs):
            yield JobProgress("Drawing maps", number, len(jobs))
            if isinstance(job, Refusal):
                problems.append(job.sentence)
                continue
            if not any(place.exists() for place in (job.tokens, *job.also_look_in)):
                problems.append(
                    f"The tokens of {job.layer} are gone, so its map is not drawn. Prospect embeds it again."
                )
                continue
            try:
                result = yield from prospect(job)
            except ProspectorError as error:
                problems.append(str(error))
                continue
            yield JobProgress("Drawing maps", number + 1, len(jobs), found=(source, result))
        return problems

    return steps
