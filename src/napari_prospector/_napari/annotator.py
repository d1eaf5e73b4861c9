"""Drawing in one viewer: the tools, the class in hand, and a layer of outlines for each slide that has regions.

It lives as long as the window, whether the widget *Annotate* is open or not.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_prospector._napari.annotation_layer import AnnotationLayer
from napari_prospector._napari.brush import Stroke, StrokeView, stroked
from napari_prospector._napari.camera import camera_of, canvas_of, drawing_of, fly_to, screen_px
from napari_prospector._napari.region_classes import classes_of, color_of, with_classes_of
from napari_prospector._napari.workspace import Workspace, workspace_of
from napari_prospector.errors import ProspectorError
from napari_prospector.study.annotations import AnnotationClass, Region

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_prospector._napari.sources import Source
    from napari_prospector.study.project import Study

__all__ = ["OWN_TOOLS", "TOOLS", "Annotator", "annotator_of"]

OBJECT_NAME = "napari-prospector annotator"

# each tool, and napari's mode for it
TOOLS = {
    "move": "pan_zoom",
    "select": "select",
    "points": "direct",
    "add point": "vertex_insert",
    "remove point": "vertex_remove",
    "polygon": "add_polygon",
    "rectangle": "add_rectangle",
    "lasso": "pan_zoom",
    "brush": "pan_zoom",
    "eraser": "pan_zoom",
}
OWN_TOOLS = ("lasso", "brush", "eraser")
KEYS = {"B": "brush", "E": "eraser", "L": "lasso"}
SMALLEST_BRUSH_PX, LARGEST_BRUSH_PX = 4, 400
REST_MS = 80
# how much of the canvas a region fills that one flies to
FILLED = 0.6


class Annotator(QObject):
    """What draws regions in one viewer; get it with `annotator_of`.

    Parameters
    ----------
    viewer
        Its viewer, not wrapped.
    workspace
        Of the viewer.
    """

    selected = Signal()
    """Other regions are selected."""
    layers_changed = Signal()
    """A layer of outlines was made, drawn, hidden or closed."""
    tool_changed = Signal()
    """Another tool, class or width of the brush is in hand."""
    said = Signal(str)
    """What could not be done, as a sentence."""

    def __init__(self, viewer: Viewer, workspace: Workspace) -> None:
        super().__init__(workspace)
        self.setObjectName(OBJECT_NAME)
        self._viewer, self._workspace = viewer, workspace
        self.tool, self.brush_px = "move", 40
        self.label: str | None = classes_of(workspace.study)[0].name
        self._layers: dict[Any, AnnotationLayer] = {}
        self._keys: dict[Any, list[str]] = {}
        self._hidden: set[Any] = set()
        self._drawings: list[Any] = []
        self._view: StrokeView | None = None
        self._is_choosing = False
        self._later = _timer(self, 0, self.refresh)
        self._clicked = (0.0, 0.0)
        self._after_click = _timer(self, 0, self._select_within)
        self._at_rest = _timer(self, REST_MS, self._keep_width)
        workspace.changed.connect(self._follow)
        workspace.sources_changed.connect(self._later.start)
        viewer.layers.events.removed.connect(self._forget)
        camera_of(viewer).events.zoom.connect(self._zoomed)
        self.refresh()

    @property
    def classes(self) -> tuple[AnnotationClass, ...]:
        """The classes that one can draw in."""
        return classes_of(self._workspace.study)

    @property
    def source(self) -> Source | None:
        """The slide at hand, if it can be drawn on."""
        source = self._workspace.current
        return source if source is not None and source.kind == "slide" else None

    @property
    def at_hand(self) -> AnnotationLayer | None:
        """The outlines of the slide at hand; None where none are shown."""
        return None if self.source is None else self._layers.get(self.source.layer.unique_id)

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions of the slide at hand."""
        return () if self.source is None else self._workspace.study.regions(self.source.key)

    @property
    def is_hidden(self) -> bool:
        """Whether the slide at hand has regions whose layer was taken away."""
        return self.source is not None and bool(self.regions) and self.at_hand is None

    def show(self) -> AnnotationLayer | None:
        """Show the outlines of the slide at hand, on a layer that is made if there is none."""
        source = self.source
        if source is None:
            return None
        self._hidden.discard(source.layer.unique_id)
        return self.at_hand or self._make(source)

    def choose_tool(self, tool: str) -> None:
        """Take a tool, and the slide's outlines as the layer to draw on."""
        shown = self.show()
        if shown is None:
            return
        self._is_choosing = True
        self._viewer.layers.selection.active = shown.layer
        shown.layer.visible = True
        shown.layer.mode = TOOLS[tool]
        shown.layer.mouse_pan = tool == "move"
        if tool in OWN_TOOLS:
            shown.layer.selected_data.clear()
        self._is_choosing = False
        self.tool = tool
        self._show_brush()
        self.tool_changed.emit()

    def choose_class(self, label: str | None) -> None:
        """Draw in another class."""
        if label != self.label:
            self.label = label
            for shown in self._layers.values():
                shown.color_next()
            self._show_brush()
            self.tool_changed.emit()

    def set_brush(self, width_px: float) -> None:
        """Set the width of the brush, in pixels of the screen."""
        self.brush_px = int(min(max(round(width_px), SMALLEST_BRUSH_PX), LARGEST_BRUSH_PX))
        self._show_brush()
        self.tool_changed.emit()

    def brush_on_slide(self) -> float | None:
        """Return the width of the brush at the zoom at hand, in level-0 pixels; None where there is no slide."""
        return None if self.source is None else self.brush_px / screen_px(self._viewer, self.source.layer)

    def edit(self, text: str, regions: Iterable[Region], classes: Iterable[AnnotationClass] = ()) -> None:
        """Put regions in place of those of the slide at hand, so that it can be undone."""
        if self.source is not None:
            study = self._workspace.study.with_regions(self.source.key, regions)
            self._workspace.edit(text, with_classes_of(study, classes))

    def undo(self, *_: Any) -> None:
        """Take back what is being drawn; where nothing is, the last edit."""
        shown = self.at_hand
        if shown is not None and shown.is_unfinished:
            shown.drop_unfinished()
            return
        self.settle()
        self._workspace.undo()

    def redo(self, *_: Any) -> None:
        """Do again what was taken back."""
        self.settle()
        self._workspace.redo()

    def settle(self) -> None:
        """Read what hands did on all layers, at once."""
        for shown in list(self._layers.values()):
            shown.settle()

    def fly_to(self, region: Region) -> None:
        """Move the camera to a region of the slide at hand."""
        if self.source is not None:
            row0, col0, row1, col1 = (edge - 0.5 for edge in region.bounds)
            corners = [(row0, col0), (row0, col1), (row1, col0), (row1, col1)]
            places = np.array([self.source.layer.data_to_world(corner)[-2:] for corner in corners])
            row, col = places.mean(axis=0).tolist()
            fly_to(self._viewer, (row, col), float(np.ptp(places, axis=0).max()) / FILLED)

    def refresh(self) -> None:
        """Have a layer of outlines for each slide that has regions, and none for slides that are closed."""
        open_slides = {source.layer.unique_id: source for source in self._workspace.sources if source.kind == "slide"}
        for name in [name for name in self._layers if name not in open_slides]:
            self._close(name)
        self._follow_names(open_slides)
        for name, source in open_slides.items():
            if name not in self._layers and name not in self._hidden and self._workspace.study.regions(source.key):
                self._make(source)
        self.layers_changed.emit()

    def _make(self, source: Source) -> AnnotationLayer:
        """Make the layer of a slide, above it."""
        shown = AnnotationLayer(source.layer, source.key, self._workspace, lambda: self.label)
        self._layers[source.layer.unique_id] = shown
        selected = set(self._viewer.layers.selection)
        self._viewer.layers.append(shown.layer)
        self._viewer.layers.selection = selected or {shown.layer}
        self._drawings.append(drawing_of(self._viewer, shown.layer))
        shown.selected.connect(self.selected)
        shown.drawn.connect(self.layers_changed)
        shown.said.connect(self.said)
        shown.layer.events.mode.connect(self._hear_mode)
        shown.layer.mouse_drag_callbacks.append(self._drag)
        shown.layer.mouse_move_callbacks.append(self._hover)
        self._bind_keys(shown.layer)
        shown.set_zoom(screen_px(self._viewer, shown.layer))
        shown.settle()
        return shown

    def _bind_keys(self, layer: Any) -> None:
        """Give keys a meaning while the layer is the active one."""
        layer.bind_key("Control-Z", self.undo)
        layer.bind_key("Control-Shift-Z", self.redo)
        layer.bind_key("Control-Y", self.redo)
        layer.bind_key("[", lambda _: self.set_brush(self.brush_px / 1.25))
        layer.bind_key("]", lambda _: self.set_brush(self.brush_px * 1.25))
        layer.bind_key("Space", self._hold_to_move)
        for key, tool in KEYS.items():
            layer.bind_key(key, lambda _, tool=tool: self.choose_tool(tool))
        for number in range(1, 10):
            layer.bind_key(str(number), lambda _, number=number: self._choose_nth(number))

    def _choose_nth(self, number: int) -> None:
        """Draw in the n-th class."""
        if number <= len(self.classes):
            self.choose_class(self.classes[number - 1].name)

    def _hold_to_move(self, layer: Any) -> Generator[None]:
        """Move the camera while the key is held."""
        tool = self.tool
        self.choose_tool("move")
        yield
        self.choose_tool(tool)

    def _hear_mode(self, event: Any) -> None:
        """Follow a mode that was chosen in napari's own controls."""
        mode = str(getattr(event, "mode", event.source.mode))
        if not self._is_choosing and TOOLS.get(self.tool) != mode:
            self.tool = next((tool for tool, its in TOOLS.items() if its == mode), "move")
            event.source.mouse_pan = self.tool == "move"
            self._show_brush()
            self.tool_changed.emit()

    def _show_brush(self) -> None:
        """Show the circle of the brush where one is in hand."""
        if self.tool not in OWN_TOOLS:
            if self._view is not None:
                self._view.hide()
            return
        if self._view is None:
            self._view = StrokeView(canvas_of(self._viewer))
            self._view.destroyed.connect(self._lose_view)
        color = (255, 255, 255) if self.tool == "eraser" else color_of(self.classes, self.label)
        self._view.set_pen(self.brush_px, color, is_brush=self.tool != "lasso")
        self._view.show()

    def _lose_view(self) -> None:
        """Know that the canvas is gone."""
        self._view = None

    def _hover(self, layer: Any, event: Any) -> None:
        """Show the circle of the brush under the mouse."""
        if self._view is not None and self.tool in OWN_TOOLS:
            self._view.point_at(event.pos)

    def _drag(self, layer: Any, event: Any) -> Generator[None]:
        """Draw a stroke from press to release; with *select*, a click within a region selects it."""
        if self.tool == "select":
            yield from self._click(layer, event)
        if self.tool not in OWN_TOOLS or event.button != 1 or self._view is None:
            return
        tool = "eraser" if self.tool == "brush" and "Alt" in event.modifiers else self.tool
        places = [layer.world_to_data(event.position)[-2:]]
        self._view.extend(event.pos)
        yield
        while event.type == "mouse_move":
            places.append(layer.world_to_data(event.position)[-2:])
            self._view.extend(event.pos)
            yield
        # of a quick hand, moves may be dropped: where it let go is always known
        places.append(layer.world_to_data(event.position)[-2:])
        self._view.clear()
        self._finish(layer, tool, np.asarray(places, np.float64) + 0.5)

    def _click(self, layer: Any, event: Any) -> Generator[None]:
        """Remember where a click was that did not become a drag; napari itself finds outlines only."""
        row, col = (float(place) + 0.5 for place in layer.world_to_data(event.position)[-2:])
        yield
        if event.type != "mouse_move":
            self._clicked = row, col
            self._after_click.start()  # when napari has selected what lies under the mouse, or nothing

    def _select_within(self) -> None:
        """Select the smallest region round the place of the last click, unless an outline was hit."""
        shown = self.at_hand
        if shown is None or shown.layer.selected_data:
            return
        round_it = [region for region in shown.regions if _is_within(region, *self._clicked)]
        if round_it:
            shown.select({min(round_it, key=lambda region: region.area_px).id})

    def _finish(self, layer: Any, tool: str, points: Any) -> None:
        """Make an edit of a stroke."""
        shown = next((shown for shown in self._layers.values() if shown.layer is layer), None)
        if shown is None:
            return
        stroke = Stroke(tool, points, self.brush_px / 2 / screen_px(self._viewer, layer), self.label)
        try:
            after = stroked(shown.regions, stroke)
        except ProspectorError as error:
            self.said.emit(str(error))
            return
        if after != shown.regions:
            text = "Erase" if tool == "eraser" else f"Paint {self.label}" if tool == "brush" else f"Draw {self.label}"
            self._workspace.edit(text, with_classes_of(self._workspace.study.with_regions(shown.key, after)))

    def _follow(self, before: Study, after: Study) -> None:
        """Draw what was edited; regions that come back are shown again."""
        for source in self._workspace.sources:
            if before.regions(source.key) != after.regions(source.key):
                self._hidden.discard(source.layer.unique_id)
        for shown in self._layers.values():
            shown.follow()
        if self.label not in {each.name for each in self.classes}:
            self.choose_class(self.classes[0].name)
        self._later.start()

    def _follow_names(self, open_slides: dict[Any, Source]) -> None:
        """Keep the regions of a slide that was read from no file, and is known by its name, when it is renamed."""
        for name, source in open_slides.items():
            names = self._keys.setdefault(name, [source.key])
            if names[-1] != source.key:
                self._move(names[-1], source.key)
                names.append(source.key)
                if name in self._layers:
                    self._layers[name].set_key(source.key)
            elif not self._workspace.study.regions(source.key):
                self._rename_back(source, names, {other.key for other in open_slides.values()})

    def _move(self, old: str, new: str) -> None:
        """Give the regions of one name to another."""
        study = self._workspace.study
        if study.regions(old) and not study.regions(new):
            moved = study.with_regions(new, study.regions(old)).with_regions(old, ())
            self._workspace.edit(f"Rename {old.removeprefix('layer:')}", moved)

    def _rename_back(self, source: Source, names: list[str], taken: set[str]) -> None:
        """Give a slide the name back under which its regions are after an undo."""
        for old in reversed(names):
            if old not in taken and self._workspace.study.regions(old):
                source.layer.name = old.removeprefix("layer:")
                return

    def _zoomed(self, _: Any = None) -> None:
        """Remember that the zoom is another."""
        self._at_rest.start()

    def _keep_width(self) -> None:
        """Keep lines as wide on the screen as they were."""
        for shown in self._layers.values():
            shown.set_zoom(screen_px(self._viewer, shown.layer))
        self.tool_changed.emit()

    def _forget(self, event: Any) -> None:
        """Hide the regions of a slide whose layer of outlines was taken away; the study keeps them."""
        for name, shown in list(self._layers.items()):
            if shown.layer is event.value:
                del self._layers[name]
                shown.close()
                self._hidden.add(name)
                self._later.start()

    def _close(self, name: Any) -> None:
        """Close the outlines of a slide that is closed."""
        shown = self._layers.pop(name)
        shown.close()
        self._hidden.discard(name)
        if shown.layer in self._viewer.layers:
            self._viewer.layers.remove(shown.layer)


def _is_within(region: Region, row: float, col: float) -> bool:
    """Say whether a place lies in a region."""
    row0, col0, row1, col1 = region.bounds
    return row0 <= row <= row1 and col0 <= col <= col1 and region.contains_point(row, col)


def _timer(owner: QObject, rest_ms: int, then: Any) -> QTimer:
    """Return a timer that runs out once after each start."""
    timer = QTimer(owner)
    timer.setSingleShot(True)
    timer.setInterval(rest_ms)
    timer.timeout.connect(then)
    return timer


def annotator_of(viewer: Viewer) -> Annotator:
    """Return what draws in a viewer, made on first use; it lives as long as the viewer's window."""
    workspace = workspace_of(viewer)
    found = workspace.findChild(Annotator, OBJECT_NAME)
    return found if isinstance(found, Annotator) else Annotator(getattr(viewer, "__wrapped__", viewer), workspace)
