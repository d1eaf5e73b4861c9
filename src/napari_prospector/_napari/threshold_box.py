"""A threshold as a slider and a number, with what lies above it in words."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QHBoxLayout, QLabel, QSlider, QVBoxLayout, QWidget

from napari_prospector._napari.threshold import Cut

__all__ = ["ThresholdBox"]

STEPS = 200


class ThresholdBox(QWidget):
    """Slider and number from one end of the colours to the other, and two lines: area, and agreement with the truth."""

    changed = Signal(float)
    """Another threshold, in the unit of the map."""
    outlined = Signal(bool)
    """Whether what lies above is to be outlined."""

    def __init__(self) -> None:
        super().__init__()
        self._limit = 1.0
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(-STEPS, STEPS)
        self.slider.setPageStep(STEPS // 10)
        self.slider.setAccessibleName("Threshold")
        self.number = QDoubleSpinBox()
        self.number.setAccessibleName("Threshold as a number")
        self.number.setKeyboardTracking(False)
        self.number.setMaximumWidth(96)
        for field in (self.slider, self.number):
            field.setToolTip("Tokens with a higher score count as above; 0 speaks neither for nor against the class.")
        self.outline = QCheckBox("Outline what lies above")
        self.outline.setToolTip("Draw a line around the tokens above the threshold, in a layer of its own.")
        self.area, self.agreement = QLabel(), QLabel()
        for label, name in ((self.area, "Area above the threshold"), (self.agreement, "Agreement with the truth")):
            label.setAccessibleName(name)
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setWordWrap(True)
        self._lay_out()
        self.slider.valueChanged.connect(self._take_slider)
        self.number.valueChanged.connect(self._take_number)
        self.outline.toggled.connect(self.outlined)

    def _lay_out(self) -> None:
        """Put slider and number side by side, the words under them."""
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        row = QHBoxLayout()
        row.addWidget(QLabel("Threshold"))
        row.addWidget(self.slider, 1)
        row.addWidget(self.number)
        column.addLayout(row)
        for widget in (self.area, self.agreement, self.outline):
            column.addWidget(widget)

    @property
    def threshold(self) -> float:
        """In the unit of the map."""
        return float(self.number.value())

    def set_range(self, limit: float, threshold: float) -> None:
        """Take the colours' end of another map, and its threshold; tells of no change."""
        self._limit = limit if limit > 0 else 1.0
        # three digits of the smallest step: decision scores may be tiny
        digits = 3
        while self._limit * 10**digits < 1000 and digits < 9:
            digits += 1
        for field in (self.number, self.slider):
            field.blockSignals(True)
        self.number.setDecimals(digits)
        self.number.setSingleStep(self._limit / 20)
        self.number.setRange(-1e3 * self._limit, 1e3 * self._limit)
        self.number.setValue(threshold)
        self.slider.setValue(round(threshold / self._limit * STEPS))
        for field in (self.number, self.slider):
            field.blockSignals(False)

    def show_cut(self, cut: Cut | None, average_precision: float | None = None, origin: str = "") -> None:
        """Say what lies above, and how well it agrees with the truth where there is one."""
        self.area.setText("" if cut is None else str(cut))
        has_truth = cut is not None and cut.dice is not None and average_precision is not None
        self.agreement.setVisible(has_truth)
        if cut is not None and has_truth:
            self.agreement.setText(f"Dice {cut.dice:.2f} at this threshold · AP {average_precision:.2f} of the map")
            self.agreement.setToolTip(f"Measured against {origin}.")

    def _take_slider(self, step: int) -> None:
        """Follow the slider."""
        self.number.blockSignals(True)
        self.number.setValue(step / STEPS * self._limit)
        self.number.blockSignals(False)
        self.changed.emit(self.threshold)

    def _take_number(self, threshold: float) -> None:
        """Follow the number."""
        self.slider.blockSignals(True)
        self.slider.setValue(round(threshold / self._limit * STEPS))
        self.slider.blockSignals(False)
        self.changed.emit(threshold)
