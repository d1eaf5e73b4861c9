"""The regions of a slide as a table: class, name, area; rows are made when they are looked at."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QItemSelection, QItemSelectionModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

from napari_prospector._napari.region_classes import color_of
from napari_prospector.study.annotations import AnnotationClass, Region

__all__ = ["RegionModel", "RegionTable", "area_text"]

COLUMNS = ("Class", "Name", "Area")
NAME = 1
UM2_PER_MM2 = 1e6


def area_text(area_px: float, mpp: float | None) -> str:
    """Return an area as people read it: in mm², in µm² where it is small, in pixels where their size is unknown."""
    if mpp is None:
        return f"{area_px:,.0f} px²"
    um2 = area_px * mpp**2
    return f"{um2 / UM2_PER_MM2:,.3g} mm²" if um2 >= UM2_PER_MM2 / 100 else f"{um2:,.0f} µm²"


class RegionModel(QAbstractTableModel):
    """What the table shows."""

    renamed = Signal(str, str)
    """Somebody gave a region, by its id, a name."""

    def __init__(self) -> None:
        super().__init__()
        self.regions: tuple[Region, ...] = ()
        self._classes: tuple[AnnotationClass, ...] = ()
        self._mpp: float | None = None

    def show(self, regions: tuple[Region, ...], classes: Iterable[AnnotationClass], mpp: float | None) -> None:
        """Show other regions."""
        self.beginResetModel()
        self.regions, self._classes, self._mpp = regions, tuple(classes), mpp
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of regions."""
        return 0 if parent is not None and parent.isValid() else len(self.regions)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of columns."""
        return len(COLUMNS)

    def headerData(self, section: int, orientation: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the title of a column."""
        if role == Qt.ItemDataRole.DisplayRole and orientation == Qt.Orientation.Horizontal:
            return COLUMNS[section]
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a text, the colour of a class, or what is edited."""
        region, column = self.regions[index.row()], index.column()
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.EditRole):
            if column == NAME:
                return region.name
            return (region.label or "no class") if column == 0 else area_text(region.area_px, self._mpp)
        if role == Qt.ItemDataRole.DecorationRole and column == 0:
            return QColor(*color_of(self._classes, region.label))
        if role == Qt.ItemDataRole.TextAlignmentRole and column == len(COLUMNS) - 1:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        if role == Qt.ItemDataRole.FontRole and region.locked:
            return None
        return None

    def flags(self, index: QModelIndex) -> Any:
        """Say that names can be edited."""
        usual = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        return usual | Qt.ItemFlag.ItemIsEditable if index.column() == NAME else usual

    def setData(self, index: QModelIndex, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        """Pass on a new name."""
        region = self.regions[index.row()]
        if role != Qt.ItemDataRole.EditRole or index.column() != NAME or str(value) == region.name:
            return False
        self.renamed.emit(region.id, str(value))
        return True


class RegionTable(QTableView):
    """The table; what is selected in it is told by ids."""

    selected = Signal(list)
    """The ids of the regions that a user selected."""

    def __init__(self) -> None:
        super().__init__()
        self.regions = RegionModel()
        self.setModel(self.regions)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(self.fontMetrics().height() + 8)
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        for column, mode in enumerate(("Interactive", "Stretch", "Interactive")):
            self.horizontalHeader().setSectionResizeMode(column, getattr(QHeaderView.ResizeMode, mode))
        self.setColumnWidth(0, 110)
        self.setColumnWidth(2, 84)
        self.setShowGrid(False)
        self.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.setAccessibleName("Regions of the slide")
        self.setToolTip("Click a region to fly there. Double-click its name to change it.")
        self._is_showing = False
        self.selectionModel().selectionChanged.connect(self._tell)

    @property
    def selected_ids(self) -> list[str]:
        """The ids of the regions that are selected, in the order of the table."""
        rows = sorted(index.row() for index in self.selectionModel().selectedRows())
        return [self.regions.regions[row].id for row in rows]

    def show_regions(
        self, regions: tuple[Region, ...], classes: Iterable[AnnotationClass], mpp: float | None, ids: Collection[str]
    ) -> None:
        """Show regions, some of them selected."""
        self._is_showing = True
        self.regions.show(regions, classes, mpp)
        self._is_showing = False
        self.select(ids)

    def select(self, ids: Collection[str]) -> None:
        """Select regions by their ids, and tell nobody."""
        if set(ids) == set(self.selected_ids):
            return
        wanted = set(ids)
        rows = [row for row, region in enumerate(self.regions.regions) if region.id in wanted]
        selection = QItemSelection()
        for row in rows:
            selection.select(self.regions.index(row, 0), self.regions.index(row, len(COLUMNS) - 1))
        self._is_showing = True
        self.selectionModel().select(selection, QItemSelectionModel.SelectionFlag.ClearAndSelect)
        self._is_showing = False
        if len(rows) == 1:
            self.scrollTo(self.regions.index(rows[0], 0))

    def _tell(self, *_: object) -> None:
        """Tell what a user selected."""
        if not self._is_showing:
            self.selected.emit(self.selected_ids)
