"""Rows of pictures: the nearest examples of a place, a row for each class."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QFont, QFontMetrics, QGuiApplication, QIcon, QImage, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QLabel,
    QListView,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_prospector._napari.layers import layer_name
from napari_prospector._napari.why_cohort import PICTURE_PX

if TYPE_CHECKING:
    from napari_prospector._napari.why_ask import ExamplePicture, Nearest
    from napari_prospector.study.nearest import Example

__all__ = ["ExampleRows", "pixmap_of"]


class ExampleRows(QWidget):
    """Shows examples; double click or Enter asks to go to one."""

    chosen = Signal(object)
    """The `Example` to go to."""

    def __init__(self) -> None:
        super().__init__()
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(2)
        self.rows: dict[Hashable, QListWidget] = {}
        self._items: dict[Example, QListWidgetItem] = {}

    def clear(self) -> None:
        """Show none."""
        self._items = {}
        for row in self.rows.values():
            row.clear()
        self.setVisible(False)

    def show_nearest(self, nearest: Nearest) -> None:
        """Show examples, with their pictures to come."""
        if list(self.rows) != list(nearest.found):
            self._make_rows(list(nearest.found))
        self._items = {}
        blank = QIcon(_blank())
        for label, examples in nearest.found.items():
            row = self.rows[label]
            row.clear()
            for example in examples:
                slide = nearest.cohort.slides[example.slide].path.name
                short = QFontMetrics(_font()).elidedText(layer_name(slide), Qt.TextElideMode.ElideMiddle, PICTURE_PX)
                item = QListWidgetItem(blank, f"{short}\n{example.distance:.2f}")
                words = f"{label}: {slide}, row {example.row}, column {example.col}; distance {example.distance:.3g}"
                item.setFont(_font())
                item.setData(Qt.ItemDataRole.UserRole, example)
                item.setData(Qt.ItemDataRole.AccessibleTextRole, words)
                item.setData(Qt.ItemDataRole.ToolTipRole, _plain(words))
                row.addItem(item)
                self._items[example] = item
        self.setVisible(True)

    def show_picture(self, found: ExamplePicture) -> None:
        """Show the picture of an example, if it still is one."""
        item = self._items.get(found.example)
        if item is not None:
            item.setIcon(QIcon(pixmap_of(found.picture.pixels)))
            if found.picture.problem is not None:
                item.setToolTip(item.toolTip() + "<br>" + _plain(found.picture.problem))

    def _make_rows(self, labels: list[Hashable]) -> None:
        """Make an empty row for each class."""
        while (item := self._column.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.deleteLater()
        self.rows = {}
        for label in labels:
            caption = QLabel(str(label))
            caption.setTextFormat(Qt.TextFormat.PlainText)
            row = _row(f"Nearest examples of {label}")
            row.itemActivated.connect(self._choose)
            self._column.addWidget(caption)
            self._column.addWidget(row)
            self.rows[label] = row

    def _choose(self, item: QListWidgetItem) -> None:
        """Ask to go to an example."""
        self.chosen.emit(item.data(Qt.ItemDataRole.UserRole))


def _row(name: str) -> QListWidget:
    """Return a list of pictures in one line."""
    row = QListWidget()
    row.setAccessibleName(name)
    row.setViewMode(QListView.ViewMode.IconMode)
    row.setFlow(QListView.Flow.LeftToRight)
    row.setWrapping(False)
    row.setMovement(QListView.Movement.Static)
    row.setFrameShape(QFrame.Shape.NoFrame)
    row.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    row.setIconSize(QSize(PICTURE_PX, PICTURE_PX))
    row.setTextElideMode(Qt.TextElideMode.ElideMiddle)
    row.setWordWrap(True)  # else both lines are made one
    row.setUniformItemSizes(True)
    row.setMinimumWidth(80)
    lines = 2 * QFontMetrics(_font()).lineSpacing()
    row.setGridSize(QSize(PICTURE_PX + 8, PICTURE_PX + lines + 12))
    row.setFixedHeight(PICTURE_PX + lines + 18)
    row.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
    row.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    return row


def pixmap_of(pixels: NDArray[np.uint8]) -> QPixmap:
    """Return a picture (rows, cols, 3) for Qt."""
    rows, cols = pixels.shape[:2]
    image = QImage(np.ascontiguousarray(pixels).tobytes(), cols, rows, 3 * cols, QImage.Format.Format_RGB888)
    return QPixmap.fromImage(image)


def _font() -> QFont:
    """Return small letters; of an item's own font the size is known, while a list has that of napari's style sheet."""
    font = QFont(QGuiApplication.font())
    font.setPointSizeF(7.5)
    return font


def _blank() -> QPixmap:
    """Return what is shown until a picture comes."""
    pixmap = QPixmap(PICTURE_PX, PICTURE_PX)
    pixmap.fill(Qt.GlobalColor.transparent)
    return pixmap


def _plain(text: str) -> str:
    """Return text for a tooltip, whatever it looks like."""
    from html import escape

    return f"<span>{escape(text)}</span>"
