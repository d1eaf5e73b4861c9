"""The regions above a threshold as a table: rank, area, mean score; each a place to fly to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QHBoxLayout, QHeaderView, QLabel, QTableView, QToolButton, QVBoxLayout
from qtpy.QtWidgets import QWidget as Widget

from napari_prospector._napari.threshold import area_text

if TYPE_CHECKING:
    from napari_prospector.study.outlines import ScoredRegion

__all__ = ["MOST_REGIONS", "RegionModel", "RegionsList"]

MOST_REGIONS = 200

COLUMNS = ("Rank", "Area", "Mean score")
ROWS_SHOWN = 5


class RegionModel(QAbstractTableModel):
    """Rows of `ScoredRegion`, best first."""

    def __init__(self) -> None:
        super().__init__()
        self.regions: tuple[ScoredRegion, ...] = ()

    def set_regions(self, regions: Sequence[ScoredRegion]) -> None:
        """Show other regions."""
        self.beginResetModel()
        self.regions = tuple(regions)
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of regions."""
        return 0 if parent is not None and parent.isValid() else len(self.regions)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of columns."""
        return 0 if parent is not None and parent.isValid() else len(COLUMNS)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the text of a cell, and that numbers stand on the right."""
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        if role != Qt.ItemDataRole.DisplayRole or not index.isValid():
            return None
        region = self.regions[index.row()]
        return (str(index.row() + 1), area_text(region.area_um2 / 1e6), f"{region.mean_score:+.3g}")[index.column()]

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the name of a column."""
        if role == Qt.ItemDataRole.DisplayRole and orientation == Qt.Orientation.Horizontal:
            return COLUMNS[section]
        return None


class RegionsList(Widget):
    """The table, and buttons to step through it."""

    chosen = Signal(object)
    """A `ScoredRegion` to fly to."""

    def __init__(self) -> None:
        super().__init__()
        self.model = RegionModel()
        self.title = QLabel("Top regions")
        self.table = QTableView()
        self.table.setModel(self.model)
        self.table.setAccessibleName("Top regions")
        self.table.setToolTip(
            "Regions above the threshold, the strongest first. Click one, or press Enter, to go there."
        )
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setTabKeyNavigation(False)
        self.table.setShowGrid(False)
        self._shape_table()
        self.table.clicked.connect(self._go)
        self.table.activated.connect(self._go)
        self.previous_button, self.next_button = QToolButton(), QToolButton()
        self.previous_button.setText("‹ Previous")
        self.next_button.setText("Next ›")
        self.previous_button.setToolTip("Go to the region before, in the order of the list (Alt+Up)")
        self.next_button.setToolTip("Go to the next region of the list (Alt+Down)")
        self.previous_button.setShortcut("Alt+Up")
        self.next_button.setShortcut("Alt+Down")
        self.previous_button.clicked.connect(self.go_to_previous)
        self.next_button.clicked.connect(self.go_to_next)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        row = QHBoxLayout()
        row.addWidget(self.title, 1)
        row.addWidget(self.previous_button)
        row.addWidget(self.next_button)
        column.addLayout(row)
        column.addWidget(self.table)
        self.set_regions(())

    def _shape_table(self) -> None:
        """Give the table narrow rows, of which some are seen at once."""
        rows, columns = self.table.verticalHeader(), self.table.horizontalHeader()
        assert rows is not None
        assert columns is not None
        height = self.fontMetrics().height() + 4
        rows.hide()
        rows.setMinimumSectionSize(height)
        rows.setDefaultSectionSize(height)
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        columns.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        columns.setHighlightSections(False)
        self.table.setFixedHeight(height * (ROWS_SHOWN + 1) + 10)

    def set_regions(self, regions: Sequence[ScoredRegion]) -> None:
        """Show other regions; the row at hand stays where there are as many."""
        at = self.table.currentIndex().row()
        self.model.set_regions(regions)
        more = "the top " if len(regions) == MOST_REGIONS else ""
        self.title.setText(f"Regions: {more}{len(regions)}" if regions else "No region above the threshold")
        for button in (self.previous_button, self.next_button):
            button.setEnabled(bool(regions))
        if 0 <= at < len(regions):
            self._select(at)

    def go_to_next(self) -> None:
        """Fly to the next region; from the last one to the first."""
        self._step(+1)

    def go_to_previous(self) -> None:
        """Fly to the region before; from the first one to the last."""
        self._step(-1)

    def _step(self, by: int) -> None:
        """Go up or down the list."""
        if not self.model.regions:
            return
        at = self.table.currentIndex().row()
        start = -1 if at < 0 and by > 0 else max(at, 0)
        self._select((start + by) % len(self.model.regions))
        self._go(self.table.currentIndex())

    def _select(self, row: int) -> None:
        """Take a row in hand."""
        self.table.setCurrentIndex(self.model.index(row, 0))

    def _go(self, index: QModelIndex) -> None:
        """Tell which region to fly to."""
        if 0 <= index.row() < len(self.model.regions):
            self.chosen.emit(self.model.regions[index.row()])
