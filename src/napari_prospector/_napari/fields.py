"""Small widgets of our own: a path one can type, choose or drop, a colour bar, undo and redo."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QRectF, QSize, Qt, Signal
from qtpy.QtGui import QBrush, QColor, QLinearGradient, QPainter, QPen
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QSizePolicy, QToolButton, QWidget

if TYPE_CHECKING:
    from qtpy.QtGui import QDragEnterEvent, QDropEvent, QPaintEvent

    from napari_prospector._napari.workspace import Workspace

__all__ = ["ColorBar", "PathField", "UndoButtons"]

BAR_PX = 12


class PathField(QWidget):
    """A path: typed, chosen in a dialog, or dropped.

    Parameters
    ----------
    ask
        Title of the dialog.
    filter
        File types of the dialog, as Qt writes them.
    mode
        ``"open"`` an existing file, or ``"save"``: a name that need not exist.
    """

    changed = Signal()

    def __init__(self, ask: str, filter: str, mode: Literal["open", "save"] = "open") -> None:
        super().__init__()
        self._ask, self._filter, self._mode = ask, filter, mode
        self.edit = QLineEdit()
        self.edit.setAccessibleName(ask)
        self.edit.editingFinished.connect(self._take_text)
        button = QToolButton()
        button.setText("…")
        button.setToolTip(ask)
        button.setAccessibleName(ask)
        button.clicked.connect(self._choose)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        row.addWidget(self.edit)
        row.addWidget(button)
        self.setAcceptDrops(True)
        self.edit.setAcceptDrops(False)
        self._path: Path | None = None

    @property
    def path(self) -> Path | None:
        """The path; None while the field is empty."""
        return self._path

    def set_path(self, path: Path | None) -> None:
        """Show a path and tell of the change."""
        self.edit.setText("" if path is None else str(path))
        self._take_text()

    def _take_text(self) -> None:
        """Take what stands in the field, and tell of it if it is new."""
        text = self.edit.text().strip()
        path = Path(text).expanduser() if text else None
        self.edit.setToolTip(text)
        if path != self._path:
            self._path = path
            self.changed.emit()

    def _choose(self) -> None:
        """Ask for a path."""
        start = str(self._path or "")
        if self._mode == "open":
            chosen, _ = QFileDialog.getOpenFileName(self, self._ask, start, self._filter)
        else:
            chosen, _ = QFileDialog.getSaveFileName(self, self._ask, start or self.edit.placeholderText(), self._filter)
        if chosen:
            self.set_path(Path(chosen))

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Accept one file."""
        urls = event.mimeData().urls()
        if len(urls) == 1 and urls[0].isLocalFile():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Take the file."""
        event.acceptProposedAction()
        self.set_path(Path(event.mimeData().urls()[0].toLocalFile()))


class ColorBar(QWidget):
    """The colours of a map as they look on pale tissue, with the score at either end.

    Parameters
    ----------
    colors
        Shape (n, 4): red, green, blue, opacity from 0 to 1, evenly from the lowest score to the highest.
    """

    def __init__(self, colors: NDArray[np.float64]) -> None:
        super().__init__()
        self._colors, self._texts = colors, ("", "", "")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def set_scale(self, limit: float, unit: str, meaning: str) -> None:
        """Say what score stands at the ends, in which unit, and what that means."""
        self._texts = (f"−{limit:.2g}", unit, f"+{limit:.2g}")
        self.setToolTip(f"{meaning} From {-limit:.3g} to {limit:.3g}.")
        self.setAccessibleName(f"Colours from {-limit:.3g} to {limit:.3g}, {unit}")
        self.update()

    @property
    def texts(self) -> tuple[str, str, str]:
        """What stands under the lower end, the middle and the upper end."""
        return self._texts

    def sizeHint(self) -> QSize:
        """Return the size of bar and text."""
        return QSize(180, BAR_PX + self.fontMetrics().height() + 4)

    def minimumSizeHint(self) -> QSize:
        """Return the same: the bar does not shrink in height."""
        return QSize(80, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the bar, and the scores under it."""
        painter = QPainter(self)
        bar = QRectF(0, 0, self.width(), BAR_PX)
        painter.fillRect(bar, QColor("#f3e6ee"))
        gradient = QLinearGradient(bar.topLeft(), bar.topRight())
        for at, channels in zip(np.linspace(0, 1, len(self._colors)), self._colors, strict=True):
            gradient.setColorAt(float(at), QColor.fromRgbF(*channels.tolist()))
        painter.fillRect(bar, QBrush(gradient))
        painter.setPen(QPen(self.palette().text().color()))
        under = QRectF(0, BAR_PX + 2, self.width(), self.fontMetrics().height())
        sides = (Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignHCenter, Qt.AlignmentFlag.AlignRight)
        for side, text in zip(sides, self._texts, strict=True):
            painter.drawText(under, side, text)
        painter.end()


class UndoButtons(QWidget):
    """Undo and redo of the study, whichever widget changed it.

    Parameters
    ----------
    workspace
        Of the viewer.
    """

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self._workspace = workspace
        self.undo_button, self.redo_button = QToolButton(), QToolButton()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        for button, sign, act in (
            (self.undo_button, "↶", self._undo),
            (self.redo_button, "↷", self._redo),
        ):
            button.setText(sign)
            button.clicked.connect(act)
            row.addWidget(button)
        workspace.changed.connect(self._show)
        workspace.opened.connect(self._show)
        self._show()

    def _undo(self) -> None:
        """Take back the last edit."""
        self._workspace.undo()

    def _redo(self) -> None:
        """Do again what was taken back."""
        self._workspace.redo()

    def _show(self, *_: object) -> None:
        """Say what either would do."""
        for button, word, text in (
            (self.undo_button, "Undo", self._workspace.undo_text),
            (self.redo_button, "Redo", self._workspace.redo_text),
        ):
            said = word if text is None else f"{word}: {text}"
            button.setEnabled(text is not None)
            button.setAccessibleName(said)
            # a label may look like HTML
            button.setToolTip(html.escape(said))
