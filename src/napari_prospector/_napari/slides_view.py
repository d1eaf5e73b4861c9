"""The table of the cohort on the screen: several rows are edited at once, keys open and remove."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from qtpy.QtCore import QEvent, QModelIndex, Qt, Signal
from qtpy.QtGui import QPainter
from qtpy.QtWidgets import QAbstractItemView, QComboBox, QHeaderView, QStyledItemDelegate, QTableView, QWidget

from napari_prospector._napari.slides_model import THUMBNAIL_PX, Column, SlidesModel

if TYPE_CHECKING:
    from qtpy.QtCore import QAbstractItemModel, QPersistentModelIndex
    from qtpy.QtGui import QKeyEvent, QMouseEvent, QPaintEvent
    from qtpy.QtWidgets import QStyleOptionViewItem

    from napari_prospector.study.project import StudySlide

    Index: TypeAlias = QModelIndex | QPersistentModelIndex

__all__ = ["SlidesView"]

WIDTHS = {Column.NAME: 88, Column.LABEL: 68, Column.STATE: 132, Column.MPP: 50}
EMPTY = "Drop slides, folders\nor a cohort table (.csv) here."


class SlidesView(QTableView):
    """The table of a `SlidesModel`.

    Parameters
    ----------
    model
        The slides.
    """

    edited = Signal(int, object, str)
    """A column, the slides that are meant, and what was typed."""
    opened = Signal(object)
    """The slides to open."""
    removed = Signal(object)
    """The slides to take out of the cohort."""

    def __init__(self, model: SlidesModel) -> None:
        super().__init__()
        self._slides = model
        self.setModel(model)
        self.setAccessibleName("Slides of the cohort")
        self.setItemDelegate(ChoiceDelegate(self))
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        triggers = QAbstractItemView.EditTrigger
        self.setEditTriggers(triggers.EditKeyPressed | triggers.AnyKeyPressed | triggers.DoubleClicked)
        self.setTabKeyNavigation(False)
        self.setWordWrap(False)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setShowGrid(False)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        # what is dropped is for the widget
        self.setAcceptDrops(False)
        self.viewport().setAcceptDrops(False)
        self._set_headers()

    def _set_headers(self) -> None:
        """Give the columns their widths; a click on a header sorts, a third click leaves the study's own order."""
        rows, columns = self.verticalHeader(), self.horizontalHeader()
        rows.hide()
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        rows.setDefaultSectionSize(THUMBNAIL_PX + 4)
        columns.setHighlightSections(False)
        columns.setSortIndicatorClearable(True)
        columns.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        columns.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self.setSortingEnabled(True)
        columns.setStretchLastSection(True)
        columns.setMinimumSectionSize(36)
        columns.resizeSection(Column.PICTURE, THUMBNAIL_PX + 8)
        for column, width in WIDTHS.items():
            columns.resizeSection(column, width)

    @property
    def selected(self) -> list[StudySlide]:
        """The slides whose rows are selected, from top to bottom."""
        # rows are selected whole; of a range Qt asks nothing of each cell, as it does for `selectedRows`
        ranges = self.selectionModel().selection()
        rows = sorted({row for part in ranges for row in range(part.top(), part.bottom() + 1)})
        return [self._slides.slide_at(row) for row in rows]

    def select(self, paths: Sequence[Path]) -> None:
        """Select the rows of slides, and bring the first one in sight."""
        from qtpy.QtCore import QItemSelectionModel

        selection = self.selectionModel()
        selection.clearSelection()
        flags = QItemSelectionModel.SelectionFlag
        for number, path in enumerate(paths):
            row = self._slides.row_of(path)
            if row is None:
                continue
            index = self._slides.index(row, Column.NAME)
            selection.select(index, flags.Select | flags.Rows)
            if number == 0:
                selection.setCurrentIndex(index, flags.NoUpdate)
                self.scrollTo(index)

    def meant(self, index: Index) -> list[Path]:
        """Return the slides that an edit of a cell is for: all selected ones, if it is among them."""
        slide = self._slides.slide_at(index.row())
        selected = self.selected
        return [one.path for one in selected] if slide in selected else [slide.path]

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Open with Enter, remove with Delete; other keys edit the cell or move."""
        is_editing = self.state() == QAbstractItemView.State.EditingState
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and not is_editing:
            self.opened.emit(self.selected)
        elif event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace) and not is_editing:
            self.removed.emit(self.selected)
        else:
            super().keyPressEvent(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Open the slide, unless the cell can be edited."""
        index = self.indexAt(event.position().toPoint())
        if index.isValid() and not index.flags() & Qt.ItemFlag.ItemIsEditable:
            self.opened.emit([self._slides.slide_at(index.row())])
            return
        super().mouseDoubleClickEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Say in an empty table what may be dropped."""
        super().paintEvent(event)
        if self._slides.rowCount() == 0:
            painter = QPainter(self.viewport())
            color = self.palette().text().color()
            color.setAlphaF(0.6)
            painter.setPen(color)
            painter.drawText(self.viewport().rect(), int(Qt.AlignmentFlag.AlignCenter), EMPTY)
            painter.end()


class ChoiceDelegate(QStyledItemDelegate):
    """Edits labels and groups in a box that lists those that exist, and pixel sizes in a field.

    Parameters
    ----------
    view
        The table.
    """

    def __init__(self, view: SlidesView) -> None:
        super().__init__(view)
        self._view = view

    def initStyleOption(self, option: QStyleOptionViewItem | None, index: Index) -> None:
        """Cut sentences off at their end, names in the middle; put the picture in the middle of its cell."""
        super().initStyleOption(option, index)
        if option is not None and index.column() == Column.STATE:
            option.textElideMode = Qt.TextElideMode.ElideRight
        elif option is not None and index.column() == Column.PICTURE:
            option.decorationAlignment = Qt.AlignmentFlag.AlignCenter

    def createEditor(self, parent: QWidget, option: QStyleOptionViewItem, index: Index) -> QWidget:
        """Return a box with the values of the column that exist."""
        if index.column() not in (Column.LABEL, Column.GROUP):
            editor = super().createEditor(parent, option, index)
            assert editor is not None
            return editor
        box = QComboBox(parent)
        box.setEditable(True)
        box.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        box.setAccessibleName("Label" if index.column() == Column.LABEL else "Group")
        slides = index.model().slides
        values = {slide.label if index.column() == Column.LABEL else slide.group for slide in slides}
        box.addItems(sorted(value for value in values if value))
        box.activated.connect(lambda _: self._finish(box))
        return box

    def setEditorData(self, editor: QWidget | None, index: Index) -> None:
        """Show what the cell holds."""
        if isinstance(editor, QComboBox):
            editor.setEditText(index.data(Qt.ItemDataRole.EditRole))
            line = editor.lineEdit()
            if line is not None:
                line.selectAll()
            return
        super().setEditorData(editor, index)

    def setModelData(self, editor: QWidget | None, model: QAbstractItemModel | None, index: Index) -> None:
        """Hand on what was typed, if it is new."""
        text = editor.currentText() if isinstance(editor, QComboBox) else editor.text()  # type: ignore[union-attr]
        if text.strip() != index.data(Qt.ItemDataRole.EditRole):
            self._view.edited.emit(index.column(), self._view.meant(index), text.strip())

    def eventFilter(self, editor: Any, event: Any) -> bool:
        """Take Enter for the end of typing in a box, too."""
        if (
            isinstance(editor, QComboBox)
            and event.type() == QEvent.Type.KeyPress
            and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        ):
            self._finish(editor)
            return True
        return bool(super().eventFilter(editor, event))

    def _finish(self, box: QComboBox) -> None:
        """Take what stands in a box."""
        self.commitData.emit(box)
        self.closeEditor.emit(box, QStyledItemDelegate.EndEditHint.NoHint)
