"""The widget Why: click a place, and see what its score is made of, what looks like it, and how regions compare.

A thin shell. What is asked becomes a `Question`; the steps of `why_ask` answer it in a thread, part by part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QDockWidget, QVBoxLayout

from napari_prospector._napari.bar_chart import ChartRow
from napari_prospector._napari.camera import camera_of, fly_to
from napari_prospector._napari.docks import DockedWidget
from napari_prospector._napari.drawn_layers import is_open, layers_on
from napari_prospector._napari.keys import bind_keys
from napari_prospector._napari.layers import provenance
from napari_prospector._napari.why_ask import Asker, ExamplePicture, Nearest, Question, TokenReader, answering
from napari_prospector._napari.why_canvas import CanvasEars, Marker, slide_px, token_box, warming, world_of
from napari_prospector._napari.why_cohort import is_same_head
from napari_prospector._napari.why_examples import pixmap_of
from napari_prospector._napari.why_examples_section import ExamplesSection
from napari_prospector._napari.why_layout import WhyLayout, say
from napari_prospector._napari.why_region_values import RegionValues
from napari_prospector._napari.workspace import DrawnMap, workspace_of
from napari_prospector.study.why_answer import TokenAnswer, shown_values
from napari_prospector.tokens.tilepictures import TilePicture

if TYPE_CHECKING:
    from napari.viewer import Viewer
    from qtpy.QtGui import QHideEvent, QShowEvent

    from napari_prospector.core.head import ProspectorHead

__all__ = ["WhyWidget"]

MOVES = ("scale", "translate", "rotate", "shear", "affine", "units")
NO_MAP = "Nothing is drawn here yet. Draw a map under 'Prospect', then click on it."
OUTSIDE = "There is no token there: it is outside of the tissue. Click on the map."
World = tuple[float, float]


class WhyWidget(DockedWidget):
    """Why a place has its score.

    Parameters
    ----------
    napari_viewer
        The viewer that holds slides and maps.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer: Viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.workspace = workspace_of(napari_viewer)
        self.examples = ExamplesSection(self._viewer, self.workspace)
        self.regions = RegionValues(self._viewer, self.workspace, self._head_of, self._map_of)
        self.ui = WhyLayout(self.examples, self.regions)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.ui)
        self._asked: tuple[DrawnMap, int, int] | None = None
        self.answer: TokenAnswer | None = None
        self._reader, self.asker = TokenReader(), Asker(self)
        self._followed: list[Any] = []
        self._dock: QDockWidget | None = None
        self._is_seen = False
        self._ears = CanvasEars(self._viewer, self._click, self._step, self._drag)
        self.marker, self.warmer = Marker(self._viewer), Asker(self)
        self._connect()
        bind_keys(self, self.workspace)
        self._clear()
        self._follow()
        self.warmer.ask(warming)

    def _connect(self) -> None:
        """Listen to controls, answers and the workspace."""
        ui, workspace = self.ui, self.workspace
        ui.ask.toggled.connect(self._listen)
        ui.map.activated.connect(self._ask_again)
        ui.view.stepped.connect(self._step)
        ui.copy.clicked.connect(self.copy_text)
        self.examples.outdated.connect(self._ask_token_again)
        self.regions.box.dragging.connect(self._listen)
        self.regions.shown.connect(self._allow_copy)
        self.asker.found.connect(self._show_found)
        self.asker.refused.connect(self._clear)
        self.warmer.finished.connect(self._begin_marking)
        workspace.maps_changed.connect(self._follow)
        workspace.sources_changed.connect(self._follow)
        workspace.head_changed.connect(self._take_head)

    # -- while it is seen

    def showEvent(self, event: QShowEvent) -> None:
        """Listen to the canvas, and mark what was asked about."""
        super().showEvent(event)
        dock = self.parent()
        if isinstance(dock, QDockWidget) and dock is not self._dock:
            self._dock = dock
            # a tab behind others is not hidden, as Qt sees it
            dock.visibilityChanged.connect(self._be_seen)
        self._be_seen(True)

    def hideEvent(self, event: QHideEvent) -> None:
        """Leave the canvas as it was."""
        super().hideEvent(event)
        self._be_seen(False)

    def _be_seen(self, is_seen: bool) -> None:
        """Listen and mark while the widget is seen; otherwise leave the canvas as it was."""
        self._is_seen = is_seen
        if is_seen:
            self._listen()
            self._mark()
        else:
            self.regions.box.disarm()
            self._ears.close()
            self.marker.remove()

    def _listen(self, _: bool = False) -> None:
        """Listen to what is wanted now."""
        is_armed, is_on = self.regions.box.armed is not None, self.ui.ask.isChecked()
        self._ears.is_dragging = is_armed
        self._ears.listen(self._is_seen and (is_on or is_armed), self._is_seen and is_on)

    def _mark(self, _: Any = None) -> None:
        """Mark the token that was asked about, while the widget is seen."""
        if self._asked is not None and self._is_seen and is_open(self._viewer, self._asked[0].source):
            drawn, row, col = self._asked
            reach = 1 if self._map_of(drawn) == "refined" else drawn.head.radius_
            boxes = [token_box(drawn.geometry, row, col, reach), token_box(drawn.geometry, row, col)]
            self.marker.show(drawn, boxes)

    def _begin_marking(self, _: Any) -> None:
        """Mark from now on."""
        self.marker.is_warm = True
        self._mark()

    # -- asking

    def ask_at(self, at: World) -> None:
        """Ask about a place of the world, on whichever slide lies there; the one at hand comes first."""
        maps = sorted(self.workspace.maps, key=lambda drawn: drawn.source.layer is not self._current_layer())
        for drawn in maps:
            if drawn.source.layer.visible:
                place = drawn.geometry.token_at(*slide_px(self._viewer, drawn.source, drawn.geometry, at))
                if place is not None and drawn.mask[place]:
                    self.ask(drawn, *place)
                    self.workspace.choose(drawn.source)
                    return
        self._clear(OUTSIDE if maps else NO_MAP)

    def ask(self, drawn: DrawnMap, row: int, col: int) -> None:
        """Ask about a token of a drawn map."""
        self._asked = drawn, row, col
        head, reader = self._head_of(drawn), self._reader
        cohort, with_own = self.examples.cohort_for(head), self.examples.with_own.isChecked()
        question = Question(drawn, head, self._map_of(drawn), row, col, cohort, with_own)
        self.asker.ask(lambda: answering(question, reader))
        self._mark()

    def _click(self, at: World) -> None:
        """Ask where the mouse was clicked."""
        if self.ui.ask.isChecked():
            self.ask_at(at)

    def _step(self, rows: int, cols: int) -> None:
        """Ask about the next token in a direction; glass is stepped over."""
        if self._asked is None:
            return
        drawn, row, col = self._asked
        n_rows, n_cols = drawn.mask.shape
        row, col = row + rows, col + cols
        while 0 <= row < n_rows and 0 <= col < n_cols:
            if drawn.mask[row, col]:
                self.ask(drawn, row, col)
                self._keep_in_sight(drawn, row, col)
                return
            row, col = row + rows, col + cols

    def _keep_in_sight(self, drawn: DrawnMap, row: int, col: int) -> None:
        """Move the camera to a token that is out of sight."""
        at = np.array(world_of(self._viewer, drawn.source, drawn.geometry, drawn.geometry.centre_px(row, col)))
        camera = camera_of(self._viewer)
        size = self._viewer.canvas.size if hasattr(self._viewer, "canvas") else self._viewer._canvas_size
        if (np.abs(at - np.array(camera.center[-2:])) > 0.48 * np.array(size) / camera.zoom).any():
            fly_to(self._viewer, (float(at[0]), float(at[1])), 0)

    def _drag(self, start: World, now: World, is_done: bool) -> None:
        """Draw a rectangle with the mouse."""
        corners, drawn = self.regions.drag(start, now, is_done), self.workspace.map_of(self.workspace.current)
        if corners is not None and drawn is not None:
            self.marker.show(drawn, [corners])

    def _ask_token_again(self, _: Any = None) -> None:
        """Ask the same question under what holds now."""
        if self._asked is not None:
            self.ask(*self._asked)

    def _ask_again(self, _: Any = None) -> None:
        """Ask the same question, and compare the same regions, under what holds now."""
        self._ask_token_again()
        self.regions.compare()

    def _take_head(self) -> None:
        """Follow the head: concepts may be called otherwise, merged or hidden; one that is being read says nothing."""
        if self.workspace.head is not None:
            self._ask_again()

    def _follow(self) -> None:
        """Follow maps and slides: what is drawn anew is explained anew, what is gone is explained no more."""
        if self._asked is not None:
            drawn, row, col = self._asked
            kept = self.workspace.map_of(drawn.source) if is_open(self._viewer, drawn.source) else None
            if kept is None or kept.geometry != drawn.geometry or not kept.mask[row, col]:
                self._clear("The map that was asked about is gone." if kept is None else "")
            elif kept is not drawn:
                self.ask(kept, row, col)
            elif self.answer is not None:
                self._show_answer(self.answer)  # slides may be called otherwise
        elif not self.workspace.maps:
            self._clear(NO_MAP)
        elif self.ui.message.text() == NO_MAP:
            self._clear()
        self._list_maps()
        self._watch()
        self.regions.follow()

    def _list_maps(self) -> None:
        """Offer the maps of the slide that is asked about, or at hand."""
        drawn = self._asked[0] if self._asked else self.workspace.map_of(self.workspace.current)
        field, chosen = self.ui.map, self.ui.map.currentData()
        field.blockSignals(True)
        field.clear()
        field.addItem("map that is shown", None)
        for name in () if drawn is None else drawn.maps:
            field.addItem(name, name)
        field.setCurrentIndex(max(0, field.findData(chosen)) if chosen is not None else 0)
        field.blockSignals(False)

    def _watch(self) -> None:
        """Listen to which maps are shown and to where their slides lie; nothing is listened to twice."""
        for emitter, listener in self._followed:
            emitter.disconnect(listener)
        self._followed = []
        for drawn in self.workspace.maps:
            for layer in layers_on(self._viewer, drawn.source, "map"):
                self._followed.append((layer.events.visible, self._ask_again))
            self._followed += [(getattr(drawn.source.layer.events, name), self._mark) for name in MOVES]
        for emitter, listener in self._followed:
            emitter.connect(listener)

    def _head_of(self, drawn: DrawnMap) -> ProspectorHead:
        """Return the head that drew a map, with its concepts as they are called, merged and hidden now."""
        head = self.workspace.head
        return head if head is not None and is_same_head(head, drawn.head) else drawn.head

    def _map_of(self, drawn: DrawnMap) -> str:
        """Return the map that is explained: the chosen one, or the one that is shown."""
        chosen = self.ui.map.currentData()
        if chosen in drawn.maps:
            return str(chosen)
        shown = [provenance(layer)["map"] for layer in layers_on(self._viewer, drawn.source, "map") if layer.visible]
        return str(shown[-1]) if shown else drawn.shown

    def _current_layer(self) -> Any:
        """Return the layer of the slide at hand."""
        current = self.workspace.current
        return None if current is None else current.layer

    # -- answers

    def _show_found(self, found: Any) -> None:
        """Show part of an answer."""
        if isinstance(found, TokenAnswer):
            self._show_answer(found)
        elif isinstance(found, TilePicture):
            self.ui.view.show_picture(pixmap_of(found.pixels), found.problem)
            if found.problem is not None:
                say(self.ui.message, "\n".join(filter(None, [self.ui.message.text(), found.problem])))
        elif isinstance(found, Nearest):
            self.examples.show_nearest(found)
        elif isinstance(found, ExamplePicture):
            self.examples.show_picture(found)

    def _show_answer(self, answer: TokenAnswer) -> None:
        """Show a score and its parts."""
        assert self._asked is not None
        self.answer = answer
        drawn = self._asked[0]
        values, total = shown_values([bar.value for bar in answer.bars], answer.score)
        lines = (
            drawn.source.name,
            f"row {answer.row}, column {answer.col}",
            answer.concept,
            f"{answer.map} for {answer.target}: {total}",
        )
        say(self.ui.where, "\n".join(lines))
        rows = [
            ChartRow(bar.caption(), None if bar.is_hidden else bar.color, (bar.value,), (text,))
            for bar, text in zip(answer.bars, values, strict=True)
        ]
        self.ui.chart.set_rows([*rows, ChartRow("= score", None, (None,), (total,), is_sum=True)] if rows else ())
        notes = [answer.problem or ""]
        head = self.workspace.head
        if head is not None and not is_same_head(head, drawn.head):
            notes.append("Another head drew this map than the one that is at hand now.")
        say(self.ui.message, "\n".join(filter(None, notes)))
        self._allow_copy()

    def _clear(self, sentence: str = "") -> None:
        """Show no answer, and why."""
        self._asked = self.answer = None
        self.asker.forget()
        self.marker.remove()
        self.ui.view.show_picture(None, None)
        self.ui.chart.set_rows(())
        self.examples.clear()
        say(self.ui.where, "" if sentence else "Click on a map.")
        say(self.ui.message, sentence)
        self._allow_copy()

    def _allow_copy(self) -> None:
        """Offer to copy where there is something."""
        self.ui.copy.setEnabled(self.answer is not None or self.regions.comparison is not None)

    def text(self) -> str:
        """Return what is shown as plain text."""
        lines = []
        if self.answer is not None and self._asked is not None:
            lines += self.answer.lines(self._asked[0].source.name)
        if self.regions.comparison is not None:
            lines += ([""] if lines else []) + self.regions.comparison.lines()
        return "\n".join(lines)

    def copy_text(self) -> None:
        """Put what is shown on the clipboard."""
        QGuiApplication.clipboard().setText(self.text())
