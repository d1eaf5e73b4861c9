"""A bar chart for narrow docks: signed bars about a common zero, with names and values, one or two a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPalette, QPen
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

if TYPE_CHECKING:
    from qtpy.QtGui import QPaintEvent

__all__ = ["BarChart", "ChartRow"]

GAP = 6
LEAST_BAR = 60


@dataclass(frozen=True)
class ChartRow:
    """One row.

    Attributes
    ----------
    name
        What stands at its left.
    color
        Red, green, blue, 0 to 255; None is grey.
    values
        A bar each, below each other; None where there is none.
    texts
        What stands at the right of each bar.
    is_sum
        Whether it is what the rows above add up to: no bar, and a line over it.
    """

    name: str
    color: tuple[int, int, int] | None
    values: tuple[float | None, ...]
    texts: tuple[str, ...]
    is_sum: bool = False


class BarChart(QWidget):
    """Draws rows; as high as they need."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._rows: tuple[ChartRow, ...] = ()
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    @property
    def rows(self) -> tuple[ChartRow, ...]:
        """What is drawn."""
        return self._rows

    def set_rows(self, rows: Sequence[ChartRow]) -> None:
        """Draw other rows."""
        self._rows = tuple(rows)
        self.setAccessibleDescription("; ".join(f"{row.name} {' and '.join(row.texts)}" for row in self._rows))
        self.setVisible(bool(self._rows))
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """Return the size of all rows."""
        return QSize(260, sum(self._height(row) for row in self._rows) + 4)

    def minimumSizeHint(self) -> QSize:
        """Return the same height: rows do not shrink."""
        return QSize(160, self.sizeHint().height())

    def event(self, event: QEvent) -> bool:
        """Show the whole name of a row at the mouse."""
        if event.type() == QEvent.Type.ToolTip:
            self._show_tip(event)
            return True
        return bool(super().event(event))

    def row_at(self, y: float) -> ChartRow | None:
        """Return the row at a height."""
        top = 0
        for row in self._rows:
            top += self._height(row)
            if y < top:
                return row
        return None

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw all rows."""
        painter = QPainter(self)
        left, zero, scale, right = self._columns()
        top = 0.0
        text_color = self.palette().color(QPalette.ColorRole.WindowText)
        for row in self._rows:
            height = self._height(row)
            painter.setPen(QPen(text_color))
            if row.is_sum:
                painter.drawLine(0, int(top) + 1, self.width(), int(top) + 1)
            name = self.fontMetrics().elidedText(row.name, Qt.TextElideMode.ElideRight, int(left - GAP))
            middle = Qt.AlignmentFlag.AlignVCenter
            painter.drawText(QRectF(0, top, left - GAP, height), Qt.AlignmentFlag.AlignLeft | middle, name)
            each = height / len(row.texts)
            for number, (value, text) in enumerate(zip(row.values, row.texts, strict=True)):
                line = QRectF(0, top + number * each, self.width(), each)
                painter.setPen(QPen(text_color))
                at = QRectF(right, line.top(), self.width() - right, each)
                painter.drawText(at, Qt.AlignmentFlag.AlignRight | middle, text)
                if value is not None and not row.is_sum:
                    self._draw_bar(painter, row, value * scale, zero, line, faint=number > 0)
            top += height
        if any(not row.is_sum for row in self._rows):
            painter.setPen(QPen(text_color))
            bottom = sum(self._height(row) for row in self._rows if not row.is_sum)
            painter.drawLine(int(zero), 0, int(zero), bottom)
        painter.end()

    def _draw_bar(
        self, painter: QPainter, row: ChartRow, length: float, zero: float, line: QRectF, faint: bool
    ) -> None:
        """Draw one bar; the second of a row is hatched."""
        grey = self.palette().color(QPalette.ColorRole.Mid)
        color = grey if row.color is None else QColor(*row.color)
        bar = QRectF(min(zero, zero + length), line.top() + 2, abs(length), line.height() - 4)
        if bar.width() < 0.5:
            return
        painter.fillRect(bar, color if not faint else QColor(color.red(), color.green(), color.blue(), 90))
        if faint:
            painter.setPen(QPen(color))
            painter.drawRect(bar)

    def _columns(self) -> tuple[float, float, float, float]:
        """Return where names end, where zero is, the pixels of 1, and where values begin."""
        metrics = self.fontMetrics()
        of_texts = max((metrics.horizontalAdvance(text) for row in self._rows for text in row.texts), default=0)
        of_names = max((metrics.horizontalAdvance(row.name) for row in self._rows), default=0)
        right = self.width() - of_texts
        left = min(of_names + GAP + 2.0, max(0.45 * self.width(), 0), max(right - GAP - LEAST_BAR, 0))
        values = [value for row in self._rows if not row.is_sum for value in row.values if value is not None]
        low, high = min([0.0, *values]), max([0.0, *values])
        room = max(right - GAP - left, 1.0)
        scale = room / (high - low) if high > low else 0.0
        return left, left - low * scale, scale, right

    def _height(self, row: ChartRow) -> int:
        """Return how high a row is."""
        line = int(self.fontMetrics().height())
        return len(row.texts) * (line + 2) + (3 if len(row.texts) > 1 else 1)

    def _show_tip(self, event: Any) -> None:
        """Show name and values of the row at the mouse, as they are."""
        row = self.row_at(event.pos().y())
        if row is None:
            QToolTip.hideText()
            return
        from html import escape

        QToolTip.showText(event.globalPos(), escape(f"{row.name}: {', '.join(filter(None, row.texts))}"), self)
