"""What the widget Why consists of, without what it does."""

from __future__ import annotations

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QKeyEvent, QPixmap
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFrame,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_prospector._napari.bar_chart import BarChart
from napari_prospector._napari.why_ask import TOKEN_PX

__all__ = ["TokenView", "WhyLayout", "say", "sentence"]

STEPS = {
    Qt.Key.Key_Up: (-1, 0),
    Qt.Key.Key_Down: (1, 0),
    Qt.Key.Key_Left: (0, -1),
    Qt.Key.Key_Right: (0, 1),
}


class TokenView(QLabel):
    """The picture of a token; arrow keys go to the next one."""

    stepped = Signal(int, int)
    """Rows and columns to go."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedSize(QSize(TOKEN_PX, TOKEN_PX))
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Picture of the token")
        self.setToolTip("The token as it was scanned. Arrow keys go from token to token.")

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Go to the next token."""
        step = STEPS.get(Qt.Key(event.key()))
        if step is None:
            super().keyPressEvent(event)
        else:
            self.stepped.emit(*step)

    def show_picture(self, pixmap: QPixmap | None, problem: str | None) -> None:
        """Show a picture; None shows none."""
        self.clear() if pixmap is None else self.setPixmap(pixmap)
        self.setAccessibleDescription(problem or "")


class WhyLayout(QWidget):
    """All controls, in a frame that scrolls where it is too low."""

    def __init__(self, examples: QWidget, regions: QWidget) -> None:
        super().__init__()
        self.ask = QCheckBox("Click to ask")
        self.ask.setChecked(True)
        self.ask.setToolTip(
            "While this is on, a click on a slide with a map asks why it has its score there, and arrow keys go on."
        )
        self.map = QComboBox()
        self.map.setAccessibleName("Map")
        self.map.setToolTip("The map whose scores are explained.")
        self.map.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.map.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.map.setMinimumContentsLength(8)
        self.view = TokenView()
        self.where, self.message = sentence("Where"), sentence("What to know")
        self.where.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.chart = BarChart("Parts of the score")
        self.copy = QPushButton("Copy as text")
        self.copy.setToolTip("Copy what is shown, the split and the regions, as plain text.")
        self._lay_out(_titled("Nearest examples", examples), _titled("Two regions", regions))

    def _lay_out(self, *sections: QWidget) -> None:
        """Put the question above the answer, and the sections under it."""
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(4, 4, 4, 4)
        first, second = QHBoxLayout(), QHBoxLayout()
        first.addWidget(self.ask)
        first.addWidget(self.map, 1)
        second.addWidget(self.view, 0, Qt.AlignmentFlag.AlignTop)
        second.addWidget(self.where, 1)
        column.addLayout(first)
        column.addLayout(second)
        for widget in (self.message, self.chart, self.copy, *sections):
            column.addWidget(widget)
        column.addStretch(1)
        frame = QScrollArea()
        frame.setWidget(inside)
        frame.setWidgetResizable(True)
        frame.setFrameShape(QFrame.Shape.NoFrame)
        frame.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        outside = QVBoxLayout(self)
        outside.setContentsMargins(0, 0, 0, 0)
        outside.addWidget(frame)
        self.setMinimumWidth(310)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)


def _titled(title: str, widget: QWidget) -> QGroupBox:
    """Return a widget under a title."""
    box = QGroupBox(title)
    box.setFlat(True)
    inner = QVBoxLayout(box)
    inner.setContentsMargins(0, 0, 0, 0)
    inner.addWidget(widget)
    return box


def sentence(name: str) -> QLabel:
    """Return a label for text, hidden while it is empty; what files say is text, whatever it looks like."""
    label = QLabel()
    label.setAccessibleName(name)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def say(label: QLabel, text: str) -> None:
    """Show a sentence; an empty one hides its label."""
    label.setText(text)
    label.setVisible(bool(text))
