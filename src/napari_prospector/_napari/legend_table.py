"""The legend as a table: swatch and name, shares in either class, weight, and what is shown and highlighted."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import (
    QAbstractTableModel,
    QEvent,
    QItemSelectionModel,
    QModelIndex,
    QRectF,
    QSize,
    QSortFilterProxyModel,
    Qt,
    Signal,
)
from qtpy.QtGui import QColor, QKeyEvent, QPainter
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QStyledItemDelegate, QStyleOptionViewItem, QTableView

from napari_prospector._napari.concept_legend import LegendRow, signed

__all__ = ["COLUMNS", "KEYS", "LegendModel", "LegendTable"]

SHOWN, NAME, SHARES, WEIGHT, HIGHLIGHTED = range(5)
COLUMNS = ("Shown", "Concept", "Share", "Weight", "Highlighted")
HEADINGS = ("◉", "Concept", "Share", "Weight", "★")
HINTS = (
    "Whether the concept counts in maps and is drawn. Hidden concepts, and every pair with them, count 0.",
    "The concept's colour, the same everywhere, and its name. F2 or a double click names it.",
    "Share of the tokens of each class that are of the concept.",
    "What a token of the concept gives by itself: above 0 speaks for the class.",
    "Highlighted concepts stand out on the canvas; while there are some, all others are pale.",
)
SORT_ROLE = Qt.ItemDataRole.UserRole
ROW_ROLE = Qt.ItemDataRole.UserRole + 1
ROW_PX, CLASS_PX = 26, 11
# the ends of a map's colours: for the class, against it
FOR, AGAINST = QColor("#dd6a1f"), QColor("#2f7fbf")
KEYS = {
    Qt.Key.Key_F2: "rename",
    Qt.Key.Key_M: "merge",
    Qt.Key.Key_S: "split",
    Qt.Key.Key_H: "hide",
    Qt.Key.Key_L: "highlight",
}


class LegendModel(QAbstractTableModel):
    """Rows of `LegendRow`."""

    renamed = Signal(int, str)
    """A concept, and the name that was typed."""
    shown_changed = Signal(int, bool)
    """A concept is to be shown, or hidden."""
    highlighted_changed = Signal(int, bool)
    """A concept is to be highlighted, or not."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: tuple[LegendRow, ...] = ()
        self.classes: tuple[str, ...] = ()
        self.target = ""

    def set_rows(self, rows: Sequence[LegendRow], classes: Sequence[str], target: str) -> None:
        """Show other rows; where they are of the same concepts only what is said of them changes."""
        kept = {row.concept for row in self.rows} == {row.concept for row in rows} and self.classes == tuple(classes)
        if not kept:
            self.beginResetModel()
        self.classes, self.target = tuple(classes), target
        if kept:
            new = {row.concept: row for row in rows}
            self.rows = tuple(new[row.concept] for row in self.rows)
            if self.rows:
                self.dataChanged.emit(self.index(0, 0), self.index(len(self.rows) - 1, len(COLUMNS) - 1))
        else:
            self.rows = tuple(rows)
            self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of rows."""
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of columns."""
        return 0 if parent is not None and parent.isValid() else len(COLUMNS)

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        """Say that names can be typed, and boxes ticked."""
        flags = super().flags(index)
        if index.column() == NAME:
            return flags | Qt.ItemFlag.ItemIsEditable
        if index.column() in (SHOWN, HIGHLIGHTED):
            return flags | Qt.ItemFlag.ItemIsUserCheckable
        return flags

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the name of a column, and what it means."""
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return HEADINGS[section]
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.AccessibleTextRole:
            return COLUMNS[section]
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.ToolTipRole:
            return HINTS[section]
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what a cell shows, sorts by and says."""
        if not index.isValid():
            return None
        row, column = self.rows[index.row()], index.column()
        if role == ROW_ROLE:
            return row
        if role == SORT_ROLE:
            return self._sorted_by(row, column)
        if role == Qt.ItemDataRole.ToolTipRole:
            return _rich(self.details(row))
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return ". ".join(self.details(row))
        if role == Qt.ItemDataRole.CheckStateRole and column in (SHOWN, HIGHLIGHTED):
            is_on = not row.is_hidden if column == SHOWN else row.is_highlighted
            return Qt.CheckState.Checked if is_on else Qt.CheckState.Unchecked
        if column == NAME:
            return self._name(row, role)
        return None

    def setData(self, index: QModelIndex, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        """Ask for what was typed or ticked; it is shown once it is so."""
        concept = self.rows[index.row()].concept
        if index.column() == NAME and role == Qt.ItemDataRole.EditRole:
            self.renamed.emit(concept, str(value))
            return True
        if role != Qt.ItemDataRole.CheckStateRole:
            return False
        is_on = Qt.CheckState(value) == Qt.CheckState.Checked
        (self.shown_changed if index.column() == SHOWN else self.highlighted_changed).emit(concept, is_on)
        return True

    def details(self, row: LegendRow) -> list[str]:
        """Return all that is known of a row, in lines."""
        lines = [row.name]
        if len(row.members) > 1:
            lines.append("Merged: concepts " + ", ".join(map(str, row.members)))
        if row.shares is not None:
            lines += [f"{_percent(share)} of {name}" for name, share in zip(self.classes, row.shares, strict=True)]
        lines.append(f"Weight for {self.target}: {row.weights_text}")
        if row.is_hidden:
            lines.append("Hidden: counts 0 in maps")
        return lines

    def _name(self, row: LegendRow, role: int) -> Any:
        """Return the name, or how it is drawn."""
        if role == Qt.ItemDataRole.DisplayRole:
            return row.label
        if role == Qt.ItemDataRole.EditRole:
            return row.name
        if role == Qt.ItemDataRole.DecorationRole:
            return QColor(*row.color)
        return None

    def _sorted_by(self, row: LegendRow, column: int) -> Any:
        """Return what a column is sorted by."""
        at = self.classes.index(self.target) if self.target in self.classes else 0
        keys = (not row.is_hidden, row.name.casefold(), row.shares[at] if row.shares else -1.0, row.weight)
        return (*keys, row.is_highlighted)[column]


class ShareBars(QStyledItemDelegate):
    """A bar for each class, that of the class that is looked for in the colour that speaks for it."""

    def paint(self, painter: QPainter | None, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Draw bars and percentages, or a dash where nobody knows."""
        super().paint(painter, option, index)
        row = index.data(ROW_ROLE)
        model = index.model()
        source = model.sourceModel() if isinstance(model, QSortFilterProxyModel) else model
        if painter is None or not isinstance(source, LegendModel):
            return
        painter.save()
        painter.setPen(option.palette.text().color())
        area = QRectF(option.rect).adjusted(4, 3, -4, -3)
        if row.shares is None:
            painter.drawText(area, Qt.AlignmentFlag.AlignCenter, "–")
            painter.restore()
            return
        font = painter.font()
        height = area.height() / len(row.shares)
        font.setPixelSize(max(8, min(10, int(height))))
        painter.setFont(font)
        room = painter.fontMetrics().horizontalAdvance("100 %") + 2
        largest = max((max(other.shares) for other in source.rows if other.shares is not None), default=0.0) or 1.0
        for at, (name, share) in enumerate(zip(source.classes, row.shares, strict=True)):
            line = QRectF(area.left(), area.top() + at * height, area.width(), height)
            width = (line.width() - room) * share / largest
            painter.setOpacity(0.4 if row.is_hidden else 1)
            bar = QRectF(line.left(), line.top() + 1, max(width, 1), line.height() - 2)
            painter.fillRect(bar, FOR if name == source.target else AGAINST)
            painter.drawText(line, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, _percent(share))
        painter.restore()


class WeightBar(QStyledItemDelegate):
    """A bar from the middle: to the right for the class, to the left against it."""

    def paint(self, painter: QPainter | None, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Draw the bar, and the weight over it."""
        super().paint(painter, option, index)
        row = index.data(ROW_ROLE)
        model = index.model()
        source = model.sourceModel() if isinstance(model, QSortFilterProxyModel) else model
        if painter is None or not isinstance(source, LegendModel):
            return
        largest = max((abs(other.weight) for other in source.rows), default=0.0) or 1.0
        painter.save()
        area = QRectF(option.rect).adjusted(4, 3, -4, -3)
        middle = area.center().x()
        width = area.width() / 2 * row.weight / largest
        painter.setOpacity(0.4 if row.is_hidden else 1)
        bar = QRectF(min(middle, middle + width), area.bottom() - 4, abs(width), 4)
        painter.fillRect(bar, FOR if row.weight > 0 else AGAINST)
        painter.setPen(option.palette.text().color())
        painter.drawLine(int(middle), int(area.bottom()) - 5, int(middle), int(area.bottom()) + 1)
        font = painter.font()
        font.setPixelSize(max(9, min(11, int(area.height()) - 6)))
        painter.setFont(font)
        above = area.adjusted(0, 0, 0, -5)
        painter.drawText(above, Qt.AlignmentFlag.AlignCenter, signed(row.weight))
        painter.restore()


class LegendTable(QTableView):
    """The table, sorted by clicking headers, filtered by text, worked by mouse and keys."""

    asked = Signal(str)
    """One of `ACTIONS`, by its key."""
    chosen = Signal()
    """Other rows are chosen: look at `concepts`."""

    def __init__(self) -> None:
        super().__init__()
        self.legend = LegendModel()
        self._sorted = QSortFilterProxyModel(self)
        self._sorted.setSourceModel(self.legend)
        self._sorted.setSortRole(SORT_ROLE)
        self._sorted.setFilterKeyColumn(NAME)
        self._sorted.setFilterCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        self.setModel(self._sorted)
        self._bars = ShareBars(self), WeightBar(self)
        for column, delegate in zip((SHARES, WEIGHT), self._bars, strict=True):
            self.setItemDelegateForColumn(column, delegate)
        self.setAccessibleName("Concepts")
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setTabKeyNavigation(False)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)  # numbers stand at the end
        self.setIconSize(QSize(12, 12))
        self.setSortingEnabled(True)
        self.sortByColumn(WEIGHT, Qt.SortOrder.DescendingOrder)
        self._shape()
        selection = self.selectionModel()
        assert selection is not None
        selection.selectionChanged.connect(self._tell_chosen)

    def _shape(self) -> None:
        """Give columns the room that they need, and names the rest."""
        columns, rows = self.horizontalHeader(), self.verticalHeader()
        assert columns is not None
        assert rows is not None
        rows.hide()
        rows.setMinimumSectionSize(16)
        rows.setDefaultSectionSize(ROW_PX)
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        columns.setHighlightSections(False)
        columns.setMinimumSectionSize(24)
        columns.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        columns.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        for column, width in ((SHOWN, 24), (SHARES, 58), (WEIGHT, 60), (HIGHLIGHTED, 24)):
            self.setColumnWidth(column, width)

    @property
    def concepts(self) -> tuple[int, ...]:
        """The chosen rows, from top to bottom."""
        selection = self.selectionModel()
        assert selection is not None
        rows = sorted(index.row() for index in selection.selectedRows(NAME))
        return tuple(self._sorted.index(row, NAME).data(ROW_ROLE).concept for row in rows)

    @property
    def shown_concepts(self) -> tuple[int, ...]:
        """All rows that the filter leaves, from top to bottom."""
        return tuple(self._sorted.index(row, NAME).data(ROW_ROLE).concept for row in range(self._sorted.rowCount()))

    def set_rows(self, rows: Sequence[LegendRow], classes: Sequence[str], target: str) -> None:
        """Show other rows; what was chosen stays so, in the group that it is in now."""
        chosen = self.concepts
        group_of = {member: row.concept for row in rows for member in row.members}
        self.legend.set_rows(rows, classes, target)
        heights = self.verticalHeader()
        assert heights is not None
        heights.setDefaultSectionSize(max(ROW_PX, CLASS_PX * len(classes) + 4))
        wanted = [group_of[concept] for concept in chosen if concept in group_of]
        if set(wanted) != set(self.concepts):
            self.choose(wanted)

    def set_filter(self, text: str) -> None:
        """Show the rows whose name holds a text."""
        self._sorted.setFilterFixedString(text)

    def choose(self, concepts: Sequence[int]) -> None:
        """Choose rows, and bring the first of them into view."""
        selection = self.selectionModel()
        assert selection is not None
        indices = [index for concept in concepts if (index := self._index(concept)) is not None]
        flags = QItemSelectionModel.SelectionFlag
        selection.clearSelection()
        for index in indices:
            selection.select(index, flags.Select | flags.Rows)
        if indices:
            selection.setCurrentIndex(indices[0], flags.NoUpdate)
            self.scrollTo(indices[0])

    def edit_name(self) -> None:
        """Let the name of the chosen row be typed in its place."""
        if (chosen := self.concepts) and (index := self._index(chosen[0])) is not None:
            self.setCurrentIndex(index)
            self.edit(index)

    def event(self, event: QEvent | None) -> bool:
        """Keep our keys from shortcuts of the window while the table has the focus."""
        if isinstance(event, QKeyEvent) and event.type() == QEvent.Type.ShortcutOverride and _action(event) is not None:
            event.accept()
            return True
        return bool(super().event(event))

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Do what our keys say."""
        action = None if event is None else _action(event)
        if action is None:
            super().keyPressEvent(event)
        else:
            self.asked.emit(action)

    def _index(self, concept: int) -> QModelIndex | None:
        """Return the cell of a concept's name; None where the filter hides it."""
        at = next((n for n, row in enumerate(self.legend.rows) if concept in row.members), -1)
        index = self._sorted.mapFromSource(self.legend.index(at, NAME)) if at >= 0 else QModelIndex()
        return index if index.isValid() else None

    def _tell_chosen(self, *_: Any) -> None:
        """Tell that other rows are chosen."""
        self.chosen.emit()


def _action(event: QKeyEvent) -> str | None:
    """Return what a key does; nothing together with Ctrl, Alt or Meta."""
    if event.modifiers() & ~(Qt.KeyboardModifier.ShiftModifier | Qt.KeyboardModifier.KeypadModifier):
        return None
    return next((action for key, action in KEYS.items() if event.key() == key), None)


def _percent(share: float) -> str:
    """Return a share as people say it."""
    if math.isnan(share):  # a class that no slide has
        return "–"
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 9.95 else f"{percent:.1f} %"


def _rich(lines: Sequence[str]) -> str:
    """Return lines as a tooltip; names are text, whatever they look like."""
    return "<qt>" + "<br>".join(html.escape(line) for line in lines) + "</qt>"
