"""Strokes: what brush, eraser and lasso make of regions, and how a stroke is shown while it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QObject, QPointF, Qt
from qtpy.QtGui import QColor, QPainter, QPainterPath, QPen
from qtpy.QtWidgets import QWidget

from napari_prospector.study.annotations import Region, brush_stroke, merged, region_of_shape, subtract

if TYPE_CHECKING:
    from qtpy.QtGui import QPaintEvent

__all__ = ["Stroke", "StrokeView", "stroked"]

# of the brush's radius: so fine is the outline of a stroke
FINENESS = 0.02
# of the radius: points of the mouse that lie closer say nothing new
STEP = 0.1


@dataclass(frozen=True, eq=False)
class Stroke:
    """What the mouse drew.

    Attributes
    ----------
    tool
        ``"brush"``, ``"eraser"`` or ``"lasso"``.
    points
        Shape (n, 2), (row, col) in continuous level-0 pixels.
    radius_px
        Of the brush, in level-0 pixels.
    label
        The class in hand.
    """

    tool: str
    points: NDArray[np.float64]
    radius_px: float
    label: str | None


def stroked(regions: Sequence[Region], stroke: Stroke) -> tuple[Region, ...]:
    """Return regions after a stroke.

    Parameters
    ----------
    regions
        Those of the slide.
    stroke
        A lasso adds what it goes round. A brush adds what it covers, to the regions of its class that it touches. An
        eraser takes what it covers from all regions. Locked ones stay.

    Raises
    ------
    InvalidInputError
        A lasso encloses nothing.
    """
    if stroke.tool == "lasso":
        return (*regions, Region(((stroke.points,),), stroke.label))
    region = _covered(stroke)
    return merged(regions, region) if stroke.tool == "brush" else subtract(regions, region)


def _covered(stroke: Stroke) -> Region:
    """Return what the brush covers, without points that are too close together to be seen."""
    points = stroke.points
    kept = [0]
    for number in range(1, len(points)):
        if np.hypot(*(points[number] - points[kept[-1]])) >= STEP * stroke.radius_px:
            kept.append(number)
    if kept[-1] != len(points) - 1:
        kept.append(len(points) - 1)
    covered = brush_stroke(points[kept], stroke.radius_px, stroke.label)
    return region_of_shape(covered.shape.simplify(FINENESS * stroke.radius_px), covered) or covered


class StrokeView(QWidget):
    """A stroke under way, and the circle of the brush, drawn over the canvas; the mouse goes through.

    Parameters
    ----------
    canvas
        What layers are drawn on.
    """

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAttribute(Qt.WidgetAttribute.WA_NoSystemBackground)
        self._points: list[QPointF] = []
        self._at: QPointF | None = None
        self._width, self._color, self._is_brush = 1.0, QColor("white"), True
        self.resize(canvas.size())
        canvas.installEventFilter(self)
        self.show()

    def set_pen(self, width: float, color: tuple[int, int, int], *, is_brush: bool) -> None:
        """Draw with a brush of a width in pixels of the screen, or with a thin line."""
        self._width, self._color, self._is_brush = width, QColor(*color), is_brush
        self.update()

    def point_at(self, place: Sequence[float] | None) -> None:
        """Show the circle of the brush at a place (x, y) of the canvas; None: nowhere."""
        self._at = None if place is None or not self._is_brush else QPointF(*map(float, place[:2]))
        self.update()

    def extend(self, place: Sequence[float]) -> None:
        """Go on with the stroke, to a place (x, y) of the canvas."""
        self._points.append(QPointF(*map(float, place[:2])))
        self.point_at(place)

    def clear(self) -> None:
        """Take the stroke away."""
        self._points = []
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw stroke and circle."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self._points:
            path = QPainterPath(self._points[0])
            for point in self._points[1:] or self._points:
                path.lineTo(point)
            color = QColor(self._color)
            color.setAlpha(110 if self._is_brush else 255)
            pen = QPen(color, self._width if self._is_brush else 2.0)
            pen.setCapStyle(Qt.PenCapStyle.RoundCap)
            pen.setJoinStyle(Qt.PenJoinStyle.RoundJoin)
            painter.strokePath(path, pen)
        if self._at is not None:
            for color, width in ((QColor(0, 0, 0, 160), 3.0), (self._color, 1.5)):
                painter.setPen(QPen(color, width))
                painter.drawEllipse(self._at, self._width / 2, self._width / 2)
        painter.end()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Stay as large as the canvas, and show no circle when the mouse leaves it."""
        if event.type() == QEvent.Type.Resize and isinstance(watched, QWidget):
            self.resize(watched.size())
        elif event.type() == QEvent.Type.Leave:
            self.point_at(None)
        return False
