"""The values of two regions of the slide at hand, worked out when regions are chosen, changed or dragged."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_prospector._napari.drawn_layers import layers_on
from napari_prospector._napari.layers import provenance
from napari_prospector._napari.why_ask import Asker, RegionChoice, RegionQuestion, comparing
from napari_prospector._napari.why_canvas import rectangle_region
from napari_prospector._napari.why_layout import say, sentence
from napari_prospector._napari.why_regions import ABOVE, LETTERS, RegionsBox
from napari_prospector.errors import InvalidInputError

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_prospector._napari.workspace import DrawnMap, Workspace
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.study.annotations import Region
    from napari_prospector.study.project import Study
    from napari_prospector.study.why_answer import Comparison

__all__ = ["RegionValues"]

NO_MAP = "Draw a map of this slide under 'Prospect' first."
NOT_OUTLINED = "Nothing is outlined above a threshold. Choose a threshold under 'Prospect' and outline it."

World = tuple[float, float]


class RegionValues(QWidget):
    """Two regions side by side.

    Parameters
    ----------
    viewer, workspace
        Not wrapped.
    head_of, map_of
        The head and the name of the map to measure with, of a drawn map.
    """

    shown = Signal()
    """Other values are shown, or none."""

    def __init__(
        self,
        viewer: Viewer,
        workspace: Workspace,
        head_of: Callable[[DrawnMap], ProspectorHead],
        map_of: Callable[[DrawnMap], str],
    ) -> None:
        super().__init__()
        self._viewer, self._workspace, self._head_of, self._map_of = viewer, workspace, head_of, map_of
        self._slide: Any = None
        self._regions: tuple[Region, ...] = ()
        self.comparison: Comparison | None = None
        self.asker = Asker(self)
        self.box, self.hint = RegionsBox(), sentence("About the regions")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        column.addWidget(self.box)
        column.addWidget(self.hint)
        self.box.changed.connect(self.compare)
        self.asker.finished.connect(self._show)
        self.asker.refused.connect(self._refuse)
        workspace.changed.connect(self._take_study)
        self.follow()

    def follow(self) -> None:
        """Offer the regions of the slide at hand, and measure those that are chosen again."""
        current = self._workspace.current
        layer = None if current is None else current.layer
        if layer is not self._slide:
            self._slide = layer
            self.box.disarm()
            self.box.forget_rectangles()
        self._regions = () if current is None else self._workspace.study.regions(current.key)
        self.box.set_regions(self._regions)
        self.compare()

    def compare(self) -> None:
        """Work out the values of the chosen regions."""
        drawn = self._workspace.map_of(self._workspace.current)
        chosen = [self._meant(number, drawn) for number in range(len(LETTERS))]
        reasons = [choice for choice in chosen if isinstance(choice, str)]
        first, second = (None if isinstance(choice, str) else choice for choice in chosen)
        if reasons or drawn is None or (first is None and second is None):
            self._refuse(reasons[0] if reasons else "")
            return
        name = self._map_of(drawn)
        shape = provenance(drawn.source.layer).get("shape")
        question = RegionQuestion(drawn, self._head_of(drawn), name, first, second, shape)
        self.asker.ask(lambda: comparing(question))

    def drag(self, start: World, now: World, is_done: bool) -> NDArray[np.float64] | None:
        """Take a rectangle that is dragged; return its corners (4, 2) in napari's pixels of the slide."""
        drawn, number = self._workspace.map_of(self._workspace.current), self.box.armed
        if drawn is None or number is None:
            self.box.disarm()
            self._refuse(NO_MAP)
            return None
        try:
            name = f"rectangle {LETTERS[number]}"
            region = rectangle_region(self._viewer, drawn.source, drawn.geometry, (start, now), name)
        except InvalidInputError:
            # the mouse has not moved along one of the axes
            if is_done:
                self.box.disarm()
            return None
        if is_done:
            self.box.take_rectangle(region)
        return np.asarray(region.polygons[0][0] - 0.5)

    def _meant(self, number: int, drawn: DrawnMap | None) -> RegionChoice | str | None:
        """Return a region that is chosen; a sentence where it cannot be measured."""
        choice = self.box.chosen(number)
        if choice is None:
            return None
        if drawn is None:
            return NO_MAP
        if not isinstance(choice, str):
            return choice
        for layer in layers_on(self._viewer, drawn.source, "above"):
            factor = provenance(layer).get("cells_per_token", 1)
            cells = np.asarray(layer.data)[::factor, ::factor] > 0
            if cells.shape == drawn.mask.shape:
                return RegionChoice(ABOVE, cells=cells)
        return NOT_OUTLINED

    def _take_study(self, before: Study, after: Study) -> None:
        """Follow regions that were drawn, changed or deleted."""
        current = self._workspace.current
        if current is not None and after.regions(current.key) != self._regions:
            self.follow()

    def _show(self, comparison: Comparison) -> None:
        """Show values."""
        self.comparison = comparison
        self.box.show_comparison(comparison)
        say(self.hint, "")
        self.shown.emit()

    def _refuse(self, why: str) -> None:
        """Show no values, and why."""
        self.asker.forget()
        self.comparison = None
        self.box.show_comparison(None)
        say(self.hint, why)
        self.shown.emit()
