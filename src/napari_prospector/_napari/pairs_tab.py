"""Pairs of concepts: the kernel as a heatmap, and the places on the slide at hand where a pair occurs."""

from __future__ import annotations

import html
from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_prospector._napari.concept_legend import LegendRow, have_same_concepts
from napari_prospector._napari.concept_places import Places, find_places, fly_to_px
from napari_prospector._napari.drawn_layers import is_open
from napari_prospector._napari.fields import ColorBar
from napari_prospector._napari.kernel_grid import ALONE, ORDERS, kernel_grid
from napari_prospector._napari.kernel_view import KernelView
from napari_prospector._napari.tasks import TaskBar

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_prospector._napari.workspace import DrawnMap, Workspace
    from napari_prospector.core.head import ProspectorHead

__all__ = ["PairsTab"]

HINT = "Point at a cell, or move with the arrow keys; click it, or press Enter, to list where it occurs."
MERGED = "Merged concepts keep a row each, side by side: their pairs were learned apart, and so are their weights."


class PairsTab(QWidget):
    """The heatmap, and the places of the pair that was clicked.

    Parameters
    ----------
    viewer
        Its viewer, not wrapped.
    workspace
        Of the viewer.
    """

    pair_chosen = Signal(object)
    """The concepts of the cell that was clicked, one or two."""

    def __init__(self, viewer: Viewer, workspace: Workspace) -> None:
        super().__init__()
        self._viewer, self._workspace = viewer, workspace
        self._drawn: DrawnMap | None = None
        self.places = Places()
        self.order = QComboBox()
        self.view = KernelView()
        self.bar = ColorBar(_colors())
        self.said, self.found = _line("The cell at hand"), _line("Where it occurs")
        self.previous_button, self.next_button = QToolButton(), QToolButton()
        self.listed = QListWidget()
        self.tasks = TaskBar()
        self._lay_out()
        self._connect()
        self.forget_places()

    def _lay_out(self) -> None:
        """Put the heatmap over what is said of a cell, and its places under it."""
        self.order.addItems([order.capitalize() for order in ORDERS])
        self.order.setAccessibleName("Order of concepts")
        self.order.setToolTip("By weight: what speaks for the class comes first. By likeness: what pairs alike.")
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QScrollArea.Shape.NoFrame)
        area.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        area.setMinimumHeight(90)
        area.setWidget(self.view)
        self._area = area
        for button, text, hint in (
            (self.previous_button, "‹", "Go to the place before."),
            (self.next_button, "›", "Go to the next place."),
        ):
            button.setText(text)
            button.setToolTip(hint)
            button.setAccessibleName(hint)
        self.listed.setAccessibleName("Places")
        self.listed.setToolTip("Click a place, or press Enter, to go there.")
        self.listed.setMaximumHeight(62)
        top, row = QHBoxLayout(), QHBoxLayout()
        top.addWidget(self.order)
        top.addWidget(self.bar, 1)
        row.addWidget(self.found, 1)
        row.addWidget(self.previous_button)
        row.addWidget(self.next_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(2, 4, 2, 2)
        column.setSpacing(4)
        column.addLayout(top)
        column.addWidget(area, 1)
        column.addWidget(self.said)
        column.addLayout(row)
        column.addWidget(self.listed)
        column.addWidget(self.tasks)

    def _connect(self) -> None:
        """Listen to the heatmap, the list and the workspace."""
        self.view.pointed.connect(self._point)
        self.view.chosen.connect(self._choose)
        self.previous_button.clicked.connect(self._go_back)
        self.next_button.clicked.connect(self._go_on)
        self.listed.itemClicked.connect(self._go)
        self.listed.itemActivated.connect(self._go)
        self._workspace.sources_changed.connect(self._follow)
        self._workspace.maps_changed.connect(self._follow)

    def show_head(self, head: ProspectorHead, rows: tuple[LegendRow, ...], target: Hashable, map: str) -> None:
        """Show the kernel of a head."""
        grid = kernel_grid(head, rows, target, map, ORDERS[max(self.order.currentIndex(), 0)])
        before = self.view.grid
        self.view.set_grid(grid)
        self.bar.set_scale(grid.limit, "weight", f"Above 0 speaks for {html.escape(grid.target)}.")
        is_merged = any(len(row.members) > 1 for row in rows)
        self.view.setToolTip(html.escape(f"{HINT} {MERGED}" if is_merged else HINT))
        if before is None or self.view.at is None:
            alone = "" if grid.has_pairs else "This head looks at tokens alone: it has no pairs. "
            self.said.setText(alone + HINT)
            self.forget_places()
        else:
            self._point(*self.view.at)

    def forget_places(self) -> None:
        """Show no places."""
        self._drawn = None
        self._show_places(Places(), "")

    def go_to(self, number: int) -> None:
        """Fly to a place of the list."""
        drawn = self._drawn
        if drawn is None or not self.places.tokens or not is_open(self._viewer, drawn.source):
            return
        at = number % len(self.places.tokens)
        self.listed.setCurrentRow(at)
        fly_to_px(self._viewer, drawn.source, drawn.geometry, self.places.centres_px[at])

    def _point(self, row: int, col: int) -> None:
        """Say what a cell is, and bring the one at hand into view."""
        grid = self.view.grid
        if grid is None:
            return
        self.said.setText(grid.text(row, col))
        if (row, col) == self.view.at:
            centre = self.view.rect_of(row, col).center()
            self._area.ensureVisible(centre.x(), centre.y(), 2 * self.view.cell, 2 * self.view.cell)

    def _choose(self, row: int, col: int) -> None:
        """Look for the places of a cell on the slide at hand."""
        grid, head = self.view.grid, self._workspace.head
        if grid is None or head is None or self.tasks.is_running:
            return
        self._point(row, col)
        first, second = grid.concepts[row], ALONE if col == ALONE else grid.concepts[col]
        self.pair_chosen.emit((first,) if second == ALONE else (first, second))
        drawn = self._workspace.map_of(self._workspace.current)
        if drawn is None or not have_same_concepts(drawn.head, head):
            self.forget_places()
            self.found.setText("No map of this head is drawn on the slide at hand. Draw it under 'Prospect'.")
            return
        self._drawn = drawn
        what = grid.name(row, col)
        self.tasks.run(find_places(drawn, first, second), lambda found: self._take_places(drawn, found, what))

    def _take_places(self, drawn: DrawnMap, found: Places, what: str) -> None:
        """Show what was found, unless another slide was taken in hand meanwhile."""
        if self._drawn is drawn:
            self._show_places(found, found.sentence(what, drawn.source.name))

    def _show_places(self, found: Places, sentence: str) -> None:
        """List places."""
        self.places = found
        self.found.setText(sentence)
        self.listed.clear()
        self.listed.addItems([f"{n}: row {row}, column {col}" for n, (row, col) in enumerate(found.tokens, 1)])
        self.listed.setVisible(bool(found.tokens))
        for button in (self.previous_button, self.next_button):
            button.setVisible(bool(found.tokens))

    def _go_on(self) -> None:
        """Fly to the next place."""
        self.go_to(self.listed.currentRow() + 1)

    def _go_back(self) -> None:
        """Fly to the place before."""
        self.go_to(max(self.listed.currentRow(), 0) - 1)

    def _go(self, *_: object) -> None:
        """Fly to the place at hand."""
        self.go_to(self.listed.currentRow())

    def _follow(self) -> None:
        """Forget places of a slide that is no longer at hand."""
        now = self._workspace.map_of(self._workspace.current)
        if self._drawn is None or now is self._drawn:
            return
        if now is None or now.source.layer is not self._drawn.source.layer or now.mask is not self._drawn.mask:
            self.forget_places()
        else:  # the same tokens, drawn again
            self._drawn = now


def _colors() -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return the colours of weights, opaque."""
    from napari_prospector.core.colors import diverging_colors

    return np.column_stack((diverging_colors(33), np.ones(33)))


def _line(name: str) -> QLabel:
    """Return a label for a sentence; names of concepts are text, whatever they look like."""
    label = QLabel()
    label.setAccessibleName(name)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    # a long name must not make the dock wider
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    return label
