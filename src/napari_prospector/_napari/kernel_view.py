"""The kernel of a head as a heatmap: pointed at, moved in by arrow keys, clicked."""

from __future__ import annotations

import html

import numpy as np
from qtpy.QtCore import QEvent, QPoint, QRect, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QResizeEvent
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_prospector._napari.kernel_grid import ALONE, KernelGrid

__all__ = ["KernelView"]

STRIP, GAP = 8, 5
"""Widths in pixels of the colours beside rows and columns, and of the space between one column and the pairs."""
LEAST_CELL, MOST_CELL = 5, 28


class KernelView(QWidget):
    """A cell for each concept alone, in a column of its own, and for each pair.

    Attributes
    ----------
    at
        (row, col) of the cell at hand, col `ALONE` for the column of concepts alone; None while there is none.
    """

    pointed = Signal(int, int)
    """The cell under the pointer, or the one that arrow keys moved to."""
    chosen = Signal(int, int)
    """A cell was clicked, or Enter pressed on it."""

    def __init__(self) -> None:
        super().__init__()
        self.grid: KernelGrid | None = None
        self.at: tuple[int, int] | None = None
        self._pointed: tuple[int, int] | None = None
        self._alone, self._pairs = QImage(), QImage()
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Weights of pairs of concepts")

    def set_grid(self, grid: KernelGrid | None) -> None:
        """Show another kernel; the cell at hand stays that of the same concepts."""
        before, at = self.grid, self.at
        self.grid, self._pointed = grid, None
        if grid is None or before is None or at is None or set(before.concepts) != set(grid.concepts):
            self.at = None
        else:
            row, col = at
            self.at = grid.place_of(before.concepts[row]), col if col == ALONE else grid.place_of(before.concepts[col])
        if grid is not None:
            self._alone, self._pairs = (_image(pixels) for pixels in grid.pixels())
        self._fit()
        self.update()

    @property
    def cell(self) -> int:
        """Width of a cell in pixels."""
        n = 1 if self.grid is None else len(self.grid.concepts)
        return int(max(LEAST_CELL, min(MOST_CELL, (self.width() - STRIP - GAP - 2) // (n + 1))))

    def rect_of(self, row: int, col: int) -> QRect:
        """Return where a cell is drawn."""
        cell = self.cell
        left = STRIP if col == ALONE else STRIP + cell + GAP + col * cell
        return QRect(left, STRIP + row * cell, cell, cell)

    def cell_at(self, place: QPoint) -> tuple[int, int] | None:
        """Return the cell at a place of the widget; None beside all of them."""
        if self.grid is None:
            return None
        n, cell = len(self.grid.concepts), self.cell
        row = (place.y() - STRIP) // cell
        if place.y() < STRIP or row >= n:
            return None
        if STRIP <= place.x() < STRIP + cell:
            return row, ALONE
        first = STRIP + cell + GAP
        col = (place.x() - first) // cell
        is_pair = self.grid.has_pairs and place.x() >= first and col < n
        return (row, col) if is_pair else None

    def sizeHint(self) -> QSize:
        """Return the size of all cells."""
        n = 1 if self.grid is None else len(self.grid.concepts)
        return QSize(STRIP + GAP + (n + 1) * self.cell + 2, STRIP + n * self.cell + 2)

    def minimumSizeHint(self) -> QSize:
        """Return the size of all cells at their smallest."""
        n = 1 if self.grid is None else len(self.grid.concepts)
        return QSize(STRIP + GAP + (n + 1) * LEAST_CELL + 2, self.sizeHint().height())

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Give cells the room that there is."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        """Be as high as the cells are."""
        if self.height() != self.sizeHint().height():
            self.setFixedHeight(self.sizeHint().height())
        self.updateGeometry()

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Say what is under the pointer."""
        if event is None:
            return
        found = self.cell_at(event.position().toPoint())
        if found is not None and self.grid is not None:
            QToolTip.showText(event.globalPosition().toPoint(), html.escape(self.grid.text(*found)), self)
            if found != self._pointed:
                self.pointed.emit(*found)
        self._pointed = found

    def leaveEvent(self, event: QEvent | None) -> None:
        """Say again what the cell at hand is."""
        self._pointed = None
        if self.at is not None:
            self.pointed.emit(*self.at)

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Choose the cell under the pointer."""
        found = None if event is None else self.cell_at(event.position().toPoint())
        if found is not None and event is not None and event.button() == Qt.MouseButton.LeftButton:
            self._choose(found)

    def event(self, event: QEvent | None) -> bool:
        """Keep arrow keys and Enter from shortcuts of the window while this has the focus."""
        if isinstance(event, QKeyEvent) and event.type() == QEvent.Type.ShortcutOverride:
            if event.key() in (*_STEPS, *_ENTER):
                event.accept()
                return True
        return bool(super().event(event))

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Move the cell at hand by arrow keys; Enter or Space chooses it."""
        if event is None or self.grid is None:
            return
        if event.key() in _STEPS:
            self._move(*_STEPS[Qt.Key(event.key())])
        elif event.key() in _ENTER and self.at is not None:
            self._choose(self.at)
        else:
            super().keyPressEvent(event)

    def _move(self, down: int, right: int) -> None:
        """Go to a neighbouring cell; from none to the first."""
        assert self.grid is not None
        n = len(self.grid.concepts)
        last = n - 1 if self.grid.has_pairs else ALONE
        row, col = (0, ALONE) if self.at is None else (self.at[0] + down, self.at[1] + right)
        self.at = min(max(row, 0), n - 1), min(max(col, ALONE), last)
        self._say()
        self.pointed.emit(*self.at)
        self.update()

    def _choose(self, cell: tuple[int, int]) -> None:
        """Take a cell in hand and tell of it."""
        self.at = cell
        self._say()
        self.update()
        self.chosen.emit(*cell)

    def _say(self) -> None:
        """Describe the cell at hand to those who do not see it."""
        if self.grid is not None and self.at is not None:
            self.setAccessibleDescription(self.grid.text(*self.at))

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw cells, colours of rows and columns, what is hidden, and the cell at hand."""
        if self.grid is None or not len(self.grid.concepts):
            return
        painter = QPainter(self)
        n, cell = len(self.grid.concepts), self.cell
        painter.drawImage(self._block(ALONE, ALONE), self._alone)
        if self.grid.has_pairs:
            painter.drawImage(self._block(0, n - 1), self._pairs)
        shade = self.palette().window().color()
        shade.setAlphaF(0.75)
        for at, (red, green, blue) in enumerate(self.grid.colors.tolist()):
            beside, above = self.rect_of(at, ALONE), self.rect_of(0, at)
            painter.fillRect(0, beside.top(), STRIP - 2, cell, QColor(red, green, blue))
            if self.grid.has_pairs:
                painter.fillRect(above.left(), 0, cell, STRIP - 2, QColor(red, green, blue))
            if self.grid.is_hidden[at]:
                painter.fillRect(beside, shade)
                if self.grid.has_pairs:
                    painter.fillRect(self.rect_of(at, 0).united(self.rect_of(at, n - 1)), shade)
                    painter.fillRect(self.rect_of(0, at).united(self.rect_of(n - 1, at)), shade)
        if self.at is not None:
            self._draw_frame(painter, self.rect_of(*self.at))
        painter.end()

    def _block(self, first: int, last: int) -> QRect:
        """Return where some columns are drawn."""
        assert self.grid is not None
        return self.rect_of(0, first).united(self.rect_of(len(self.grid.concepts) - 1, last))

    def _draw_frame(self, painter: QPainter, cell: QRect) -> None:
        """Draw a frame that is seen on any colour; thicker while keys move it."""
        width = 2 if self.hasFocus() else 1
        for color, margin in ((QColor("white"), 1 + width), (QColor("black"), 1)):
            painter.setPen(QPen(color, width))
            painter.drawRect(cell.adjusted(-margin, -margin, margin - 1, margin - 1))


_STEPS = {
    Qt.Key.Key_Up: (-1, 0),
    Qt.Key.Key_Down: (1, 0),
    Qt.Key.Key_Left: (0, -1),
    Qt.Key.Key_Right: (0, 1),
}
_ENTER = (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space)


def _image(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> QImage:
    """Return a picture (rows, cols, 3) for Qt, with pixels of its own."""
    rows, cols = pixels.shape[:2]
    return QImage(np.ascontiguousarray(pixels).tobytes(), cols, rows, 3 * cols, QImage.Format.Format_RGB888).copy()
