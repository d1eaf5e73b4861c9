"""The cohort as Qt's table model: a row for each slide, whatever their number; nothing is read from files here."""

from __future__ import annotations

import enum
import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, QSize, Qt, Signal
from qtpy.QtGui import QFont, QImage, QPixmap

from napari_prospector._napari.slide_state import SlideState
from napari_prospector.study.project import StudySlide

__all__ = ["THUMBNAIL_PX", "Column", "SlidesModel"]

THUMBNAIL_PX = 44
FILL_IN = "fill in"

Index: TypeAlias = QModelIndex | QPersistentModelIndex


class Column(enum.IntEnum):
    """The columns of the table."""

    PICTURE = 0
    NAME = 1
    LABEL = 2
    STATE = 3
    MPP = 4
    GROUP = 5


HEADERS = {
    Column.PICTURE: ("", "The slide, small"),
    Column.NAME: ("Slide", "Double-click a slide, or press Enter, to open it in the viewer."),
    Column.LABEL: ("Label", "The class of the whole slide; type it, or choose one that exists."),
    Column.GROUP: ("Group", "The patient: slides of one group are never divided between training and test."),
    Column.MPP: ("µm/px", "Width of a pixel in µm; fill it in where the file states none."),
    Column.STATE: ("State", "How far the slide is embedded, or what is wrong with it."),
}


class SlidesModel(QAbstractTableModel):
    """The slides of a study, sorted by any column.

    Parameters
    ----------
    parent
        The widget that shows it.
    """

    picture_wanted = Signal(object)
    """A `StudySlide` whose thumbnail is in sight and not known yet."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._slides: list[StudySlide] = []
        self._states: dict[Path, SlideState] = {}
        self._pictures: dict[Path, QPixmap | None] = {}
        self._asked: set[Path] = set()
        self._sorted_by, self._direction = -1, Qt.SortOrder.AscendingOrder
        self._places: dict[Path, int] = {}
        self._rows: dict[Path, int] | None = None

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008  # as Qt declares it
        """Return the number of slides."""
        return 0 if parent.isValid() else len(self._slides)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008  # as Qt declares it
        """Return the number of columns."""
        return 0 if parent.isValid() else len(Column)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return name and meaning of a column."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return HEADERS[Column(section)][0]
        return HEADERS[Column(section)][1] if role == Qt.ItemDataRole.ToolTipRole else None

    def flags(self, index: Index) -> Qt.ItemFlag:
        """Say which cells can be edited: labels and groups, and pixel sizes that no file states."""
        flags = super().flags(index)
        if not index.isValid():
            return flags
        state = self._states.get(self._slides[index.row()].path)
        is_open = index.column() in (Column.LABEL, Column.GROUP) or (
            index.column() == Column.MPP and state is not None and state.shape is not None and state.stated_mpp is None
        )
        return flags | Qt.ItemFlag.ItemIsEditable if is_open else flags

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what a cell shows."""
        if not index.isValid():
            return None
        slide, column = self._slides[index.row()], Column(index.column())
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.EditRole):
            return self._text(slide, column, for_editing=role == Qt.ItemDataRole.EditRole)
        if role == Qt.ItemDataRole.DecorationRole and column == Column.PICTURE:
            return self._picture(slide)
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._tooltip(slide)
        if role == Qt.ItemDataRole.SizeHintRole and column == Column.PICTURE:
            return QSize(THUMBNAIL_PX + 6, THUMBNAIL_PX + 4)
        if role == Qt.ItemDataRole.FontRole and self._is_remark(slide, column):
            font = QFont()
            font.setItalic(True)
            return font
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return self._text(slide, column) or f"{HEADERS[column][0]} of {slide.path.name}: empty"
        return None

    def set_slides(self, slides: Sequence[StudySlide]) -> None:
        """Show the slides of a study; rows that stay keep their selection."""
        places = {slide.path: number for number, slide in enumerate(slides)}
        shown = [slide.path for slide in self._slides]
        new = [slide for slide in slides if slide.path not in self._places]
        n_kept = len(slides) - len(new)
        kept = [path for path in shown if path in places]
        self._places = places
        if len(kept) < len(shown):
            self._remove({path for path in shown if path not in places})
        for row, slide in enumerate(self._slides):
            now = slides[places[slide.path]]
            if now != slide:
                self._slides[row] = now
                self.dataChanged.emit(self.index(row, 0), self.index(row, len(Column) - 1))
        if new:
            self.beginInsertRows(QModelIndex(), n_kept, n_kept + len(new) - 1)
            self._slides += new
            self._rows = None
            self.endInsertRows()
        self._sort()

    def slide_at(self, row: int) -> StudySlide:
        """Return the slide of a row."""
        return self._slides[row]

    def row_of(self, path: Path) -> int | None:
        """Return the row of a slide; None where it is not in the table."""
        if self._rows is None:
            self._rows = {slide.path: number for number, slide in enumerate(self._slides)}
        return self._rows.get(path)

    @property
    def slides(self) -> tuple[StudySlide, ...]:
        """The slides as they are shown, from top to bottom."""
        return tuple(self._slides)

    def state_of(self, slide: StudySlide) -> SlideState | None:
        """Return what is known of a slide; None where nobody has looked yet."""
        return self._states.get(slide.path)

    def set_state(self, state: SlideState) -> None:
        """Show what was found of a slide."""
        self._states[state.slide.path] = state
        self._changed(state.slide.path)

    def forget_states(self, paths: Sequence[Path]) -> None:
        """Forget what is known of slides, for it is no longer true."""
        for path in paths:
            self._states.pop(path, None)
            self._changed(path)

    def set_picture(self, path: Path, image: QImage | None) -> None:
        """Show the thumbnail of a slide; None: it has none."""
        pixmap = None if image is None else QPixmap.fromImage(image)
        if pixmap is not None:
            # sharp on screens of any density
            longest = max(pixmap.width(), pixmap.height())
            pixmap.setDevicePixelRatio(max(1.0, longest / THUMBNAIL_PX))
        self._pictures[path] = pixmap
        self._changed(path)

    def ask_again(self, slide: StudySlide) -> None:
        """Ask for a thumbnail again when it is next in sight; it was not made."""
        self._asked.discard(slide.path)

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column; by none (-1) as in the study."""
        self._sorted_by, self._direction = column, order
        self._sort()

    def _sort(self) -> None:
        """Bring the rows in order, and the selection with them."""
        key = self._key()
        is_down = self._direction == Qt.SortOrder.DescendingOrder and self._sorted_by >= 0
        ordered = sorted(self._slides, key=key, reverse=is_down)
        if ordered == self._slides:
            return
        self.layoutAboutToBeChanged.emit()
        before = [(index, self._slides[index.row()].path) for index in self.persistentIndexList()]
        self._slides = ordered
        rows = self._rows = {slide.path: row for row, slide in enumerate(ordered)}
        after = [self.index(rows[path], index.column()) for index, path in before]
        self.changePersistentIndexList([index for index, _ in before], after)
        self.layoutChanged.emit()

    def _key(self) -> Callable[[StudySlide], Any]:
        """Return what the rows are sorted by; ties stay as in the study."""
        keys: dict[int, Callable[[StudySlide], Any]] = {
            Column.NAME: lambda slide: slide.path.name.casefold(),
            Column.LABEL: lambda slide: (slide.label is None, (slide.label or "").casefold()),
            Column.GROUP: lambda slide: (slide.group is None, (slide.group or "").casefold()),
            Column.MPP: lambda slide: self._mpp(slide) or 0.0,
            Column.STATE: self._rank,
        }
        by_column = keys.get(self._sorted_by)
        if by_column is None:
            return lambda slide: self._places[slide.path]
        return lambda slide: (by_column(slide), self._places[slide.path])

    def _rank(self, slide: StudySlide) -> tuple[int, float]:
        """Return the order of a slide by its state."""
        state = self._states.get(slide.path)
        return (2, 0.0) if state is None else state.rank

    def _remove(self, paths: set[Path]) -> None:
        """Take rows out, one run of neighbours at a time, so that the selection of the others stays."""
        last = len(self._slides) - 1
        while last >= 0:
            if self._slides[last].path not in paths:
                last -= 1
                continue
            first = last
            while first > 0 and self._slides[first - 1].path in paths:
                first -= 1
            self.beginRemoveRows(QModelIndex(), first, last)
            del self._slides[first : last + 1]
            self._rows = None
            self.endRemoveRows()
            last = first - 1

    def _changed(self, path: Path) -> None:
        """Tell that a row shows something else."""
        row = self.row_of(path)
        if row is not None:
            self.dataChanged.emit(self.index(row, 0), self.index(row, len(Column) - 1))

    def _mpp(self, slide: StudySlide) -> float | None:
        """Return the pixel size that counts."""
        state = self._states.get(slide.path)
        return slide.mpp or (state.stated_mpp if state is not None else None)

    def _text(self, slide: StudySlide, column: Column, for_editing: bool = False) -> str:
        """Return the text of a cell."""
        state, mpp = self._states.get(slide.path), self._mpp(slide)
        if column == Column.MPP:
            if mpp is None:
                return FILL_IN if state is not None and state.needs_mpp and not for_editing else ""
            return f"{mpp:.4g}"
        texts = {
            Column.NAME: slide.path.name,
            Column.LABEL: slide.label or "",
            Column.GROUP: slide.group or "",
            Column.STATE: "…" if state is None else str(state),
        }
        return texts.get(column, "")

    def _is_remark(self, slide: StudySlide, column: Column) -> bool:
        """Whether a cell shows what is to be done, not what is."""
        state = self._states.get(slide.path)
        return column == Column.MPP and state is not None and state.needs_mpp

    def _picture(self, slide: StudySlide) -> QPixmap | None:
        """Return the thumbnail; ask for it where it is not known."""
        if slide.path not in self._asked:
            self._asked.add(slide.path)
            self.picture_wanted.emit(slide)
        return self._pictures.get(slide.path)

    def _tooltip(self, slide: StudySlide) -> str:
        """Return all that is known of a slide, as text, whatever it looks like."""
        state = self._states.get(slide.path)
        lines = str(slide.path) if state is None else state.details()
        # Qt takes what looks like HTML for it
        return "<p style='white-space:pre-wrap'>" + html.escape(lines).replace("\n", "<br>") + "</p>"
