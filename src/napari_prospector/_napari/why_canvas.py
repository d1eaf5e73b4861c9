"""Why on the canvas: clicks and arrow keys while the widget listens, and the marker that shows what was asked about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector._napari.camera import camera_of
from napari_prospector._napari.layers import METADATA_KEY, provenance
from napari_prospector._napari.progress import JobProgress, Steps

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer

    from napari_prospector._napari.sources import Source
    from napari_prospector._napari.workspace import DrawnMap
    from napari_prospector.study.annotations import Region
    from napari_prospector.tokens.geometry import GridGeometry

__all__ = ["CanvasEars", "Marker", "rectangle_region", "slide_px", "token_box", "warming", "world_of"]

# a mouse that moved less than this, in pixels of the screen, has clicked
STILL_PX = 4.0
KEYS = {"Up": (-1, 0), "Down": (1, 0), "Left": (0, -1), "Right": (0, 1)}
# white on black is seen on any tissue and any map; widths on the screen
LINES = ((0, "black", 3.0), (0, "white", 1.2), (1, "black", 5.5), (1, "white", 2.5))

World = tuple[float, float]


class CanvasEars:
    """Listens to a viewer; hears nothing while the active layer is being drawn on.

    Parameters
    ----------
    viewer
        Not wrapped.
    on_click
        Told where, (row, col) in the world, after a click without a drag.
    on_step
        Told (rows, cols) to go, after an arrow key.
    on_drag
        Told two corners of a rectangle in the world, and whether the mouse was let go, while `is_dragging`.
    """

    def __init__(
        self,
        viewer: Viewer,
        on_click: Callable[[World], None],
        on_step: Callable[[int, int], None],
        on_drag: Callable[[World, World, bool], None],
    ) -> None:
        self._viewer = viewer
        self._on_click, self._on_step, self._on_drag = on_click, on_step, on_drag
        self._is_listening = self._has_keys = False
        self.is_dragging = False
        """Whether a drag draws a rectangle, instead of moving the camera."""

    def listen(self, mouse: bool, keys: bool) -> None:
        """Begin or cease to listen."""
        if mouse != self._is_listening:
            self._is_listening = mouse
            if mouse:
                self._viewer.mouse_drag_callbacks.append(self._drag)
            else:
                self._viewer.mouse_drag_callbacks.remove(self._drag)
        if keys != self._has_keys:
            self._has_keys = keys
            for key, (rows, cols) in KEYS.items():
                step = self._stepping(rows, cols) if keys else None
                self._viewer.bind_key(key, step, overwrite=True)

    def close(self) -> None:
        """Listen no more."""
        self.listen(False, False)

    def _stepping(self, rows: int, cols: int) -> Callable[[Any], None]:
        """Return what an arrow key does."""

        def step(_: Any) -> None:
            self._on_step(rows, cols)

        return step

    def _drag(self, viewer: Any, event: Any) -> Iterator[None]:
        """Tell a click from a drag, from press to release."""
        if event.button != 1 or event.modifiers or _is_drawing(self._viewer):
            return
        pressed, start, is_rectangle = np.array(event.pos), _place(event), self.is_dragging
        event.handled = is_rectangle
        yield
        while event.type == "mouse_move":
            if is_rectangle:
                event.handled = True
                self._on_drag(start, _place(event), False)
            yield
        if is_rectangle:
            self._on_drag(start, _place(event), True)
        elif np.abs(np.array(event.pos) - pressed).max() < STILL_PX:
            self._on_click(_place(event))


def _place(event: Any) -> World:
    """Return where the mouse is, (row, col) in the world."""
    row, col = (float(event.position[axis]) for axis in event.dims_displayed[-2:])
    return row, col


def _is_drawing(viewer: Viewer) -> bool:
    """Say whether the mouse draws on the active layer."""
    layer = viewer.layers.selection.active
    return layer is not None and (str(layer.mode) != "pan_zoom" or not layer.mouse_pan)


def slide_px(viewer: Viewer, source: Source, geometry: GridGeometry, at: World) -> tuple[float, float]:
    """Return the level-0 pixel of a slide that lies at a place of the world.

    Parameters
    ----------
    viewer
        Where the slide is open; it says what the world is counted in.
    source, geometry
        The slide, and its grid.
    at
        (row, col) in the world.
    """
    place = np.array(at) * _units_per_world(viewer, source.layer)
    row, col = np.asarray(source.layer.world_to_data(place), dtype=np.float64)[-2:]
    if source.kind == "tokens":
        row, col = geometry.centre_px(0, 0) + geometry.stride * np.array([row, col])
    return float(row), float(col)


def world_of(viewer: Viewer, source: Source, geometry: GridGeometry, px: NDArray[np.float64]) -> World:
    """Return where a level-0 pixel of a slide lies in the world: the way back from `slide_px`."""
    cell = px
    if source.kind == "tokens":
        cell = (px - geometry.centre_px(0, 0)) / geometry.stride
    place = np.asarray(source.layer.data_to_world(tuple(cell)), dtype=np.float64)[-2:]
    row, col = (place / _units_per_world(viewer, source.layer)).tolist()
    return row, col


def _units_per_world(viewer: Viewer, layer: Layer) -> NDArray[np.float64]:
    """Return the units of a layer in one unit of the world, for either axis; layers may have different ones."""
    units = getattr(viewer.layers.extent, "units", None)
    if units is None or len(units) < 2:
        return np.ones(2)
    pairs = zip(units[-2:], layer.units[-2:], strict=True)
    return np.array([1.0 if one == own else float((1 * one).to(own).magnitude) for one, own in pairs])


def rectangle_region(
    viewer: Viewer, source: Source, geometry: GridGeometry, corners: tuple[World, World], name: str
) -> Region:
    """Return a rectangle of the world as a region of a slide, however the slide lies.

    Raises
    ------
    InvalidInputError
        It encloses nothing.
    """
    from napari_prospector.study.annotations import Region

    (row0, col0), (row1, col1) = corners
    ring = [(row0, col0), (row0, col1), (row1, col1), (row1, col0)]
    # a region's outline runs from corner to corner of pixels, napari's from centre to centre
    outline = np.array([slide_px(viewer, source, geometry, place) for place in ring]) + 0.5
    return Region(((outline,),), name=name)


def token_box(geometry: GridGeometry, row: int, col: int, reach: int = 0) -> NDArray[np.float64]:
    """Return the corners (4, 2) of a token and so many around it, in napari's pixels, within the grid."""
    first = max(row - reach, 0), max(col - reach, 0)
    stop = min(row + reach + 1, geometry.rows), min(col + reach + 1, geometry.cols)
    row0, col0, row1, col1 = geometry.region(first, stop)
    return np.array([(row0, col0), (row0, col1), (row1, col1), (row1, col0)], dtype=np.float64) - 0.5


def warming() -> Steps[bool]:
    """Outline something where nobody sees it: the first time napari compiles for seconds, which is for a thread."""
    from napari.layers import Shapes

    yield JobProgress("Preparing to mark")
    layer = Shapes(ndim=2)
    box = np.array([(0.0, 0.0), (0.0, 9.0), (9.0, 9.0), (9.0, 0.0)])
    layer.add_rectangles([box] * len(LINES), edge_width=[width for _, _, width in LINES], face_color="transparent")
    return True


class Marker:
    """Outlines a token and its neighbourhood in a layer of its own, which is in no project and never selected."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._layer: Layer | None = None
        self._boxes: list[NDArray[np.float64]] = []
        self.is_warm = False
        """Whether `warming` has been done; until then nothing is shown."""
        camera_of(viewer).events.zoom.connect(self._widen)

    @property
    def layer(self) -> Layer | None:
        """Its layer; None where there is none, or somebody deleted it."""
        return next((layer for layer in self._viewer.layers if layer is self._layer), None)

    def show(self, drawn: DrawnMap, boxes: Sequence[NDArray[np.float64]]) -> None:
        """Outline boxes (4, 2), in pixels of the slide; the last one boldly."""
        if not self.is_warm:
            return
        self._boxes = list(boxes)
        layer = self.layer
        if layer is not None and not _lies_on(layer, drawn):
            self.remove()
            layer = None
        if layer is None:
            layer = self._made(drawn)
        self._draw(layer)
        if self._viewer.layers[-1] is not layer:
            self._viewer.layers.move(self._viewer.layers.index(layer), len(self._viewer.layers))

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        layer, self._layer = self.layer, None
        if layer is not None:
            self._viewer.layers.remove(layer)

    def _made(self, drawn: DrawnMap) -> Layer:
        """Add the layer; what is selected stays selected."""
        from napari.layers import Shapes

        layer = Shapes(
            ndim=2,
            name="why",
            # without a slide_id: no project keeps it, and nobody's selection follows it
            metadata={METADATA_KEY: {"kind": "why", "on": drawn.source.layer.unique_id}},
            **drawn.source.placement(drawn.geometry).of_slide(),
        )
        self._layer = layer
        selection = self._viewer.layers.selection
        selected, active = set(selection), selection.active
        # napari selects what is added; who listens is not to hear of it, for it is taken back at once
        with selection.events.active.blocker():
            self._viewer.add_layer(layer)
            layer.editable = False
            selection.active = active
            if len(selected) > 1:
                selection.update(selected)
        return layer

    def _draw(self, layer: Any) -> None:
        """Draw all boxes, each black with white in it."""
        boxes = [self._boxes[min(number, len(self._boxes) - 1)] for number, _, _ in LINES]
        with layer.block_thumbnail_update():
            if len(layer.data) == len(LINES):
                layer.data = boxes  # colours and widths stay
                return
            with layer.events.data.blocker():
                layer.data = []
            layer.add_rectangles(
                boxes,
                edge_color=[color for _, color, _ in LINES],
                edge_width=[width * self._screen_px(layer) for _, _, width in LINES],
                face_color="transparent",
            )

    def _widen(self, event: Any = None) -> None:
        """Keep lines as wide on the screen as they were."""
        layer: Any = self.layer
        if layer is not None and len(layer.data) == len(LINES):
            layer.edge_width = [width * self._screen_px(layer) for _, _, width in LINES]

    def _screen_px(self, layer: Any) -> float:
        """Return how many of the layer's pixels one of the screen shows."""
        zoom = float(camera_of(self._viewer).zoom)
        scale = float(np.abs(layer.scale[-1])) / float(_units_per_world(self._viewer, layer)[-1])
        return 1 / max(zoom * scale, 1e-9)


def _lies_on(layer: Layer, drawn: DrawnMap) -> bool:
    """Say whether a marker lies where a slide does now."""
    if provenance(layer).get("on") != drawn.source.layer.unique_id:
        return False
    placed = drawn.source.placement(drawn.geometry).of_slide()
    return all(
        np.array_equal(
            np.asarray(getattr(getattr(layer, name), "affine_matrix", getattr(layer, name)), dtype=object),
            np.asarray(value, dtype=object),
        )
        for name, value in placed.items()
    )
