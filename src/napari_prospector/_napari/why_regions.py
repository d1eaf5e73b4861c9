"""Two regions side by side: which ones, and what they are worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from napari_prospector._napari.bar_chart import BarChart, ChartRow
from napari_prospector._napari.why_ask import RegionChoice
from napari_prospector.study.why_answer import Comparison, shown_values

if TYPE_CHECKING:
    from napari_prospector.study.annotations import Region
    from napari_prospector.study.why_answer import Bar, RegionAnswer

__all__ = ["ABOVE", "RegionsBox", "region_names"]

ABOVE = "above the threshold"
LETTERS = ("A", "B")


class RegionsBox(QWidget):
    """Lets two regions be chosen, and shows their values."""

    changed = Signal()
    """Other regions are chosen."""
    dragging = Signal(bool)
    """Whether the next drag on the canvas draws a rectangle."""

    def __init__(self) -> None:
        super().__init__()
        self._regions: tuple[Region, ...] = ()
        self._rectangles: list[Region | None] = [None, None]
        self.choices = [self._choice(letter) for letter in LETTERS]
        self.rectangle_buttons = [self._button(letter) for letter in LETTERS]
        self.table = QGridLayout()
        self.chart = BarChart("Share of each concept in the mean score of both regions")
        self.meaning = QLabel("Bars: what each concept gives to the mean score; A filled, B pale.")
        self.meaning.setWordWrap(True)
        self._lay_out()
        self.show_comparison(None)

    def _choice(self, letter: str) -> QComboBox:
        """Return the field that chooses a region."""
        field = QComboBox()
        field.setAccessibleName(f"Region {letter}")
        field.setToolTip("A region that was drawn on this slide, what lies above the threshold, or a rectangle.")
        field.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        field.setMinimumContentsLength(8)
        field.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        field.activated.connect(self._tell)
        return field

    def _button(self, letter: str) -> QToolButton:
        """Return the button that draws a rectangle."""
        button = QToolButton()
        button.setText("▭")
        button.setCheckable(True)
        button.setAccessibleName(f"Drag a rectangle for region {letter}")
        button.setToolTip("Drag a rectangle on the slide.")
        button.toggled.connect(self._arm)
        return button

    def _lay_out(self) -> None:
        """Put the choices above the values."""
        grid = QGridLayout()
        grid.setColumnStretch(1, 1)
        for number, letter in enumerate(LETTERS):
            grid.addWidget(QLabel(letter), number, 0)
            grid.addWidget(self.choices[number], number, 1)
            grid.addWidget(self.rectangle_buttons[number], number, 2)
        self.table.setColumnStretch(0, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for part in (grid, self.table):
            column.addLayout(part)
        column.addWidget(self.meaning)
        column.addWidget(self.chart)

    def set_regions(self, regions: Sequence[Region]) -> None:
        """Offer the regions of a slide; what is chosen stays, unless it is gone."""
        names = region_names(regions)
        self._regions = tuple(regions)
        for number, field in enumerate(self.choices):
            chosen = field.currentData()
            field.blockSignals(True)
            field.clear()
            field.addItem("—", None)
            for name, region in zip(names, self._regions, strict=True):
                field.addItem(name, region.id)
            field.addItem(ABOVE, ABOVE)
            if self._rectangles[number] is not None:
                field.addItem(f"rectangle {LETTERS[number]}", "rectangle")
            field.setCurrentIndex(max(0, field.findData(chosen)) if chosen is not None else 0)
            field.blockSignals(False)

    def forget_rectangles(self) -> None:
        """Drop the rectangles: they lay on another slide."""
        self._rectangles = [None, None]

    def chosen(self, number: int) -> RegionChoice | str | None:
        """Return what is chosen as region A (0) or B (1): a region, `ABOVE`, or nothing."""
        key: Any = self.choices[number].currentData()
        if key == ABOVE:
            return ABOVE
        if key == "rectangle":
            return RegionChoice(f"rectangle {LETTERS[number]}", self._rectangles[number])
        named = zip(region_names(self._regions), self._regions, strict=True)
        return next((RegionChoice(name, region) for name, region in named if region.id == key), None)

    @property
    def armed(self) -> int | None:
        """For which of the regions the next drag draws a rectangle; None: for none."""
        return next((number for number, button in enumerate(self.rectangle_buttons) if button.isChecked()), None)

    def disarm(self) -> None:
        """Let drags move the camera again."""
        for button in self.rectangle_buttons:
            button.setChecked(False)

    def take_rectangle(self, region: Region) -> None:
        """Choose a rectangle that was dragged."""
        number = self.armed
        self.disarm()
        if number is not None:
            self._rectangles[number] = region
            self.set_regions(self._regions)
            self.choices[number].setCurrentIndex(self.choices[number].findData("rectangle"))
            self.changed.emit()

    def show_comparison(self, comparison: Comparison | None) -> None:
        """Show the values of the regions; None shows none."""
        while (item := self.table.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.deleteLater()
        rows = [] if comparison is None else [("", *LETTERS), *comparison.rows()]
        for number, texts in enumerate(rows):
            for column, text in enumerate(texts):
                label = QLabel(text)
                label.setTextFormat(Qt.TextFormat.PlainText)
                label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
                side = Qt.AlignmentFlag.AlignLeft if column == 0 else Qt.AlignmentFlag.AlignRight
                self.table.addWidget(label, number, column, side)
        self.meaning.setVisible(comparison is not None)
        self.chart.set_rows(() if comparison is None else chart_rows(comparison))

    def _arm(self, is_on: bool) -> None:
        """Let the next drag draw a rectangle for one of the regions only."""
        if is_on:
            for button in self.rectangle_buttons:
                if button is not self.sender():
                    button.blockSignals(True)
                    button.setChecked(False)
                    button.blockSignals(False)
        self.dragging.emit(self.armed is not None)

    def _tell(self, _: int) -> None:
        """Tell that another region is chosen."""
        self.changed.emit()


def region_names(regions: Sequence[Region]) -> list[str]:
    """Return what to call each region: its name, or its class and a number."""
    names, seen = [], Counter[str | None]()
    for region in regions:
        if not region.name:
            seen[region.label] += 1
        names.append(region.name or f"{region.label or 'region'} {seen[region.label]}")
    return names


def chart_rows(comparison: Comparison) -> list[ChartRow]:
    """Return what each concept gives to the mean score of either region, and the means."""
    pairs = comparison.concepts()
    columns = [
        _shares([pair[place] for pair in pairs], one) for place, one in enumerate((comparison.first, comparison.second))
    ]
    rows = []
    for number, (first, second) in enumerate(pairs):
        bar = first or second
        assert bar is not None
        name = f"{bar.name}{' (hidden)' if bar.is_hidden else ''}"
        values = tuple(column[0][number] for column in columns)
        texts = tuple(column[1][number] for column in columns)
        rows.append(ChartRow(name, None if bar.is_hidden else bar.color, values, texts))
    sums = tuple(column[2] for column in columns)
    return [*rows, ChartRow("mean score", None, (None, None), sums, is_sum=True)]


def _shares(bars: Sequence[Bar | None], region: RegionAnswer | None) -> tuple[list[float | None], list[str], str]:
    """Return what concepts give to the mean of a region, as numbers and as text, and the mean as text."""
    if region is None:
        return [None] * len(bars), [""] * len(bars), ""
    there = [bar for bar in bars if bar is not None]
    texts, mean = shown_values([bar.value / region.n_tokens for bar in there], region.mean)
    found = dict(zip((bar.concept for bar in there), texts, strict=True))
    values = [None if bar is None else bar.value / region.n_tokens for bar in bars]
    return values, ["" if bar is None else found[bar.concept] for bar in bars], mean
