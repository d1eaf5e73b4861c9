"""The widget Concepts: the legend of the head is the place to name, merge, hide and highlight what it sees.

A thin shell. `concept_legend` says what the rows are and what an edit leads to; every edit is one of the study, so
that it can be undone, and is written into the head's file a moment later. Layers follow through `live_maps`.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QAction
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QSizePolicy,
    QSplitter,
    QTabWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_prospector._napari.concept_legend import (
    ACTIONS,
    LegendEdit,
    LegendRow,
    edit_rows,
    legend_rows,
    refusals,
    rename_row,
    set_highlighted,
    set_shown,
)
from napari_prospector._napari.concept_picking import ConceptPicking
from napari_prospector._napari.docks import DockedWidget
from napari_prospector._napari.fields import UndoButtons
from napari_prospector._napari.gallery_job import class_shares_of
from napari_prospector._napari.keys import bind_keys
from napari_prospector._napari.legend_table import LegendTable
from napari_prospector._napari.live_maps import live_maps_of
from napari_prospector._napari.pairs_tab import PairsTab
from napari_prospector._napari.request import MAPS
from napari_prospector._napari.tiles_tab import TilesTab
from napari_prospector._napari.workspace import workspace_of
from napari_prospector.errors import ProspectorError

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_prospector.core.concept_edits import ConceptEdits

__all__ = ["ConceptsWidget"]

NO_HEAD = "No head is in use, so there are no concepts yet. Fit one under 'Fit', or choose one under 'Prospect'."
TEXTS = {
    "rename": ("Rename", "F2", "Name the chosen concept, in its place."),
    "merge": ("Merge", "M", "Make the chosen concepts one: one name, one colour, one row. No score changes."),
    "split": ("Split", "S", "Undo a merge: each concept has its own name again."),
    "hide": ("Hide", "H", "Let the chosen concepts count 0 in maps, or count again."),
    "highlight": ("Highlight", "L", "Highlight only the chosen concepts: all others are pale. Again: none."),
}


class ConceptsWidget(DockedWidget):
    """The concepts of the head in use.

    Parameters
    ----------
    napari_viewer
        The viewer whose workspace holds the head.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer: Viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self._workspace = workspace_of(napari_viewer)
        live_maps_of(self._viewer, self._workspace)
        self._rows: tuple[LegendRow, ...] = ()
        self.target, self.map = QComboBox(), QComboBox()
        self.filter = QLineEdit()
        self.undo = UndoButtons(self._workspace)
        self.table = LegendTable()
        self.actions_of = {name: QAction(TEXTS[name][0], self) for name in ACTIONS}
        self.said = QLabel()
        self.empty = QLabel(NO_HEAD)
        self.tiles = TilesTab(self._viewer, self._workspace)
        self.pairs = PairsTab(self._viewer, self._workspace)
        self.tabs = QTabWidget()
        self._lay_out()
        self._connect()
        bind_keys(self, self._workspace)
        picking = ConceptPicking(self._viewer, self.choose_concept)
        # not a method: of a widget that is gone none can be called
        self.destroyed.connect(lambda *_: picking.stop())
        self.refresh()

    def _lay_out(self) -> None:
        """Put the legend over tiles and pairs, the border between them to be moved."""
        self._shape_fields()
        self._shape_texts()
        self.tabs.addTab(self.tiles, "Tiles")
        self.tabs.addTab(self.pairs, "Pairs")
        self.tabs.setDocumentMode(True)
        self._parts = QSplitter(Qt.Orientation.Vertical)
        self._parts.addWidget(self._legend())
        self._parts.addWidget(self.tabs)
        self._parts.setChildrenCollapsible(False)
        self._parts.setStretchFactor(0, 1)
        self._parts.setStretchFactor(1, 1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(6, 6, 6, 6)
        outer.addWidget(self.empty)
        outer.addWidget(self._parts, 1)
        self.setMinimumWidth(290)

    def _shape_fields(self) -> None:
        """Say what the fields over the table are, and let them be narrow."""
        self.filter.setPlaceholderText("Filter by name")
        self.filter.setAccessibleName("Filter by name")
        self.filter.setClearButtonEnabled(True)
        for field, name, hint in (
            (self.target, "Class", "The class that weights above 0 speak for."),
            (
                self.map,
                "Map",
                "Weights of the evidence map: where the class lives. Of the decision map: what the classifier used.",
            ),
        ):
            field.setAccessibleName(name)
            field.setToolTip(hint)
            field.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            field.setMinimumContentsLength(5)
        self.map.addItems(MAPS[:2])  # those that are sums of weights

    def _legend(self) -> QWidget:
        """Return the table, with fields over it and buttons under it."""
        top, weights, under = QHBoxLayout(), QHBoxLayout(), QHBoxLayout()
        top.addWidget(self.filter, 1)
        top.addWidget(self.undo)
        for widget, stretch in ((QLabel("Weight for"), 0), (self.target, 1), (self.map, 1)):
            weights.addWidget(widget, stretch)
        for name in ACTIONS:
            under.addWidget(self._button(name))
        under.setSpacing(2)
        whole = QWidget()
        column = QVBoxLayout(whole)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        for item in (top, weights, self.table, under, self.said):
            column.addLayout(item) if isinstance(item, QHBoxLayout) else column.addWidget(item)
        return whole

    def _button(self, name: str) -> QToolButton:
        """Return a button for what can be done with chosen rows, with its key in the tooltip."""
        button = QToolButton()
        button.setDefaultAction(self.actions_of[name])
        button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        return button

    def _shape_texts(self) -> None:
        """Let sentences wrap, and be text whatever a name looks like."""
        for label in (self.said, self.empty):
            label.setWordWrap(True)
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self.said.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.said.setAccessibleName("What came of it")
        self.said.hide()
        self.table.setMinimumHeight(110)

    def _connect(self) -> None:
        """Listen to fields, the table and the workspace."""
        self.target.activated.connect(self.refresh)
        self.map.activated.connect(self.refresh)
        self.pairs.order.activated.connect(self.refresh)
        self.filter.textChanged.connect(self.table.set_filter)
        self.table.chosen.connect(self._follow_choice)
        self.table.asked.connect(self._act)
        self.table.legend.renamed.connect(self.rename)
        self.table.legend.shown_changed.connect(self._set_shown)
        self.table.legend.highlighted_changed.connect(self._set_highlighted)
        self.table.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.table.customContextMenuRequested.connect(self._open_menu)
        for name, act in zip(
            ACTIONS, (self._rename, self._merge, self._split, self._hide, self._highlight), strict=True
        ):
            self.actions_of[name].triggered.connect(act)
        self.pairs.pair_chosen.connect(self.table.choose)
        self.tiles.found.connect(self.refresh)
        self._workspace.head_changed.connect(self.refresh)

    @property
    def edits(self) -> ConceptEdits | None:
        """The edits of the head in use."""
        return None if self._workspace.head is None else self._workspace.head.concept_edits_

    def refresh(self, *_: Any) -> None:
        """Show the concepts of the head in use, or say why there are none."""
        head = self._workspace.head
        self.empty.setVisible(head is None)
        self._parts.setVisible(head is not None)
        if head is None:
            path, problem = self._workspace.study.head, self._workspace.head_problem
            self.empty.setText(problem or (NO_HEAD if path is None else f"{path.name} is being loaded."))
            self._rows = ()
            self.table.set_rows((), (), "")
            self._follow_choice()
            return
        target, classes = self._list_targets(), [str(name) for name in head.classes_.tolist()]
        gallery = self.tiles.gallery
        shares = None if gallery is None else class_shares_of(head, gallery.examples)
        self._rows = legend_rows(head, target, self.map.currentText(), shares)
        self.table.set_rows(self._rows, classes, str(target))
        self.pairs.show_head(head, self._rows, target, self.map.currentText())
        self._follow_choice()

    def choose_concept(self, concept: int) -> None:
        """Choose the row of a concept, such as the one that was clicked on the canvas."""
        self.filter.clear()
        self.table.choose([concept])

    def rename(self, concept: int, name: str) -> None:
        """Name a concept."""
        self._edit(lambda edits: rename_row(edits, concept, name))

    def act(self, action: str) -> None:
        """Do with the chosen rows what a button says."""
        chosen = self.table.concepts
        if self.actions_of[action].isEnabled() and chosen:
            self._edit(lambda edits: edit_rows(action, edits, chosen))

    def _list_targets(self) -> Hashable:
        """List the classes of the head, and return the chosen one as the head holds it."""
        head = self._workspace.head
        assert head is not None
        classes = head.classes_.tolist()
        names = [str(name) for name in classes]
        if [self.target.itemText(i) for i in range(self.target.count())] != names:
            first = classes.index(head.target_) if head.target_ in classes else 0
            self.target.clear()
            self.target.addItems(names)
            self.target.setCurrentIndex(first)
        found: Hashable = classes[max(self.target.currentIndex(), 0)]
        return found

    def _edit(self, change: Callable[[ConceptEdits], LegendEdit | None]) -> None:
        """Change the study as a function of the edits says; a refusal is a sentence."""
        edits = self.edits
        if edits is None:
            return
        self._say("")
        try:
            made = change(edits)
        except ProspectorError as error:
            self._say(str(error))
            return
        if made is not None and made.edits != edits:
            self._workspace.edit(made.text, replace(self._workspace.study, concepts=made.edits))

    def _follow_choice(self) -> None:
        """Say what can be done with the chosen rows, and show the tiles of the first."""
        edits, chosen = self.edits, self.table.concepts
        reasons = dict.fromkeys(ACTIONS, "") if edits is None else refusals(edits, chosen)
        is_hidden = edits is not None and bool(chosen) and edits.hidden.issuperset(chosen)
        for name, action in self.actions_of.items():
            text, key, hint = TEXTS[name]
            action.setText("Show" if name == "hide" and is_hidden else text)
            action.setEnabled(reasons[name] is None)
            action.setToolTip(f"{html.escape(reasons[name] or hint)} ({key})")
        rows = {row.concept: row for row in self._rows}
        order = [rows[concept] for concept in self.table.shown_concepts if concept in rows]
        first = rows.get(chosen[0]) if chosen else None
        self.tiles.show_rows(order, first, self.target.currentText())

    def _act(self, action: str) -> None:
        """Do what a key of the table says, or say why not."""
        if action == "rename":
            self._rename()
            return
        edits = self.edits
        reason = None if edits is None else refusals(edits, self.table.concepts)[action]
        self._say(reason or "")
        self.act(action)

    def _rename(self) -> None:
        """Let the name of the chosen row be typed."""
        if self.actions_of["rename"].isEnabled():
            self.table.edit_name()

    def _merge(self) -> None:
        """Merge the chosen rows."""
        self.act("merge")

    def _split(self) -> None:
        """Split the chosen rows."""
        self.act("split")

    def _hide(self) -> None:
        """Hide the chosen rows, or show them."""
        self.act("hide")

    def _highlight(self) -> None:
        """Highlight only the chosen rows."""
        self.act("highlight")

    def _set_shown(self, concept: int, is_shown: bool) -> None:
        """Show or hide one row, as its box says."""
        self._edit(lambda edits: set_shown(edits, [concept], is_shown))

    def _set_highlighted(self, concept: int, is_on: bool) -> None:
        """Highlight one row beside others, as its box says."""
        self._edit(lambda edits: set_highlighted(edits, [concept], is_on))

    def _open_menu(self, place: QPoint) -> None:
        """Open the menu of the chosen rows."""
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        menu.addActions(list(self.actions_of.values()))
        viewport = self.table.viewport()
        assert viewport is not None
        menu.exec(viewport.mapToGlobal(place))
        menu.deleteLater()

    def _say(self, sentence: str) -> None:
        """Say why something could not be done; nothing hides the line."""
        self.said.setText(sentence)
        self.said.setVisible(bool(sentence))
