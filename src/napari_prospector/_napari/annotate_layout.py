"""Where the controls of *Annotate* lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QSlider, QVBoxLayout

from napari_prospector._napari.annotator import LARGEST_BRUSH_PX, SMALLEST_BRUSH_PX
from napari_prospector._napari.class_list import ClassList
from napari_prospector._napari.fields import UndoButtons
from napari_prospector._napari.region_table import RegionTable
from napari_prospector._napari.tasks import TaskBar
from napari_prospector._napari.tool_buttons import ToolButtons

if TYPE_CHECKING:
    from napari_prospector._napari.annotate_widget import AnnotateWidget
    from napari_prospector._napari.workspace import Workspace

__all__ = ["lay_out"]


def lay_out(widget: AnnotateWidget, workspace: Workspace) -> None:
    """Make the controls of the widget, and put them under each other."""
    _make(widget, workspace)
    column = QVBoxLayout(widget)
    column.setSpacing(6)
    column.addWidget(widget.slide)
    column.addWidget(widget.tools)
    _row(column, widget.brush_label, widget.brush, widget.brush_width)
    column.addWidget(widget.classes)
    column.addWidget(widget.table, 1)
    _row(column, widget.label_button, widget.lock_button, widget.delete_button, widget.clear_button)
    column.addWidget(widget.use)
    _row(column, widget.import_button, widget.export_button, widget.undo)
    column.addWidget(widget.bar)
    widget.setMinimumWidth(300)


def _make(widget: AnnotateWidget, workspace: Workspace) -> None:
    """Make the controls."""
    widget.slide = _text()
    widget.tools, widget.classes, widget.table = ToolButtons(), ClassList(), RegionTable()
    widget.brush = QSlider(Qt.Orientation.Horizontal)
    widget.brush.setRange(SMALLEST_BRUSH_PX, LARGEST_BRUSH_PX // 2)
    widget.brush.setAccessibleName("Width of the brush")
    widget.brush.setToolTip("Width of the brush on the screen, so zoom in to be exact. Keys [ and ].")
    widget.brush_label, widget.brush_width = QLabel("Brush"), QLabel()
    widget.brush_width.setMinimumWidth(widget.fontMetrics().horizontalAdvance("00,000 µm"))
    widget.brush_width.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    widget.label_button = _button("Set class", "Give the selected regions the class that is chosen above.")
    widget.lock_button = _button("Lock", "Keep the selected regions from being changed, or let them be changed again.")
    widget.delete_button = _button("Delete", "Delete the selected regions.")
    widget.clear_button = _button("Delete all …", "Delete all regions of the slide; you are asked before.")
    widget.import_button = _button("Import …", "Add the regions of a GeoJSON file, as QuPath writes them.")
    widget.export_button = _button("Export …", "Write the regions as GeoJSON, for QuPath and others.")
    widget.use, widget.undo, widget.bar = _text(), UndoButtons(workspace), TaskBar("Stopped; nothing was changed.")
    widget.use.setToolTip(
        "What Fit can learn from, and the truth that maps are measured against. “not here” marks where attribution "
        "is unwanted."
    )
    widget.table.setMinimumHeight(90)


def _text() -> QLabel:
    """Return a text that is broken into lines and never taken for HTML."""
    label = QLabel()
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    return label


def _button(text: str, tip: str) -> QPushButton:
    """Return a button that may be narrow."""
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setMinimumWidth(40)
    return button


def _row(column: QVBoxLayout, *widgets: Any) -> None:
    """Put controls side by side."""
    row = QHBoxLayout()
    row.setSpacing(4)
    for each in widgets:
        row.addWidget(each)
    column.addLayout(row)
