"""The classes that one draws in, as a list with colours; add, rename, colour, delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QHBoxLayout,
    QInputDialog,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_prospector.study.annotations import NOT_HERE, AnnotationClass

__all__ = ["ClassList"]

SWATCH_PX = 14
SHOWN = 5
WITH_KEYS = 9


class ClassList(QWidget):
    """The list and its buttons; what is asked for is told, and the owner does it.

    Attributes
    ----------
    list
        The list itself.
    """

    chosen = Signal(str)
    """Draw in this class."""
    added = Signal(str)
    """A class of this name is wanted."""
    renamed = Signal(str, str)
    """A class is to have another name."""
    colored = Signal(str, tuple)
    """A class is to have another colour."""
    deleted = Signal(str)
    """A class is to go."""

    def __init__(self) -> None:
        super().__init__()
        self._classes: tuple[AnnotationClass, ...] = ()
        self.list = QListWidget()
        self.list.setAccessibleName("Classes")
        self.list.setToolTip("What you draw is of the class that is chosen here. Keys 1 to 9 choose one.")
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.list.setIconSize(QSize(SWATCH_PX, SWATCH_PX))
        self.list.setFixedHeight(SHOWN * (self.fontMetrics().height() + 7) + 6)
        self.add_button = QPushButton("Add …")
        self.rename_button = QPushButton("Rename …")
        self.color_button = QPushButton("Colour …")
        self.delete_button = QPushButton("Delete")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        column.addWidget(self.list)
        row = QHBoxLayout()
        row.setSpacing(3)
        for button, ask, tip in (
            (self.add_button, self._add, "Add a class."),
            (self.rename_button, self._rename, "Give the class, and its regions on all slides, another name."),
            (self.color_button, self._color, "Choose the colour of the class."),
            (self.delete_button, self._delete, "Delete the class; its regions stay, without a class."),
        ):
            button.clicked.connect(ask)
            button.setToolTip(tip)
            button.setMinimumWidth(40)
            row.addWidget(button)
        column.addLayout(row)
        self.list.currentRowChanged.connect(self._choose)

    @property
    def name(self) -> str | None:
        """The class that is chosen."""
        row = self.list.currentRow()
        return self._classes[row].name if 0 <= row < len(self._classes) else None

    def show_classes(
        self, classes: Sequence[AnnotationClass], label: str | None, counts: Mapping[str | None, int]
    ) -> None:
        """Show classes, one of them chosen, with how many regions of each there are on the slide."""
        self._classes = tuple(classes)
        self.list.blockSignals(True)
        self.list.clear()
        for number, each in enumerate(self._classes, 1):
            n_regions = counts.get(each.name, 0)
            item = QListWidgetItem(_swatch(each.color), f"{each.name}  ({n_regions:,})" if n_regions else each.name)
            key = f" Key {number}." if number <= WITH_KEYS else ""
            use = "Where attribution is unwanted." if each.name == NOT_HERE else "Drawn regions are of this class."
            item.setData(Qt.ItemDataRole.AccessibleTextRole, each.name)
            item.setData(Qt.ItemDataRole.StatusTipRole, f"{use}{key}")
            self.list.addItem(item)
            if each.name == label:
                self.list.setCurrentItem(item)
        self.list.blockSignals(False)
        self._enable()

    def _enable(self) -> None:
        """Let "not here" be neither renamed nor deleted."""
        is_free = self.name is not None and self.name != NOT_HERE
        self.rename_button.setEnabled(is_free)
        self.delete_button.setEnabled(is_free)
        self.color_button.setEnabled(self.name is not None)

    def _choose(self, row: int) -> None:
        """Tell which class was chosen."""
        self._enable()
        if self.name is not None:
            self.chosen.emit(self.name)

    def _add(self) -> None:
        """Ask for the name of a new class."""
        name, is_given = QInputDialog.getText(self, "Add a class", "Name of the class:")
        if is_given and name.strip():
            self.added.emit(name.strip())

    def _rename(self) -> None:
        """Ask for another name."""
        old = self.name
        if old is None:
            return
        name, is_given = QInputDialog.getText(self, "Rename a class", "Name of the class:", text=old)
        if is_given and name.strip() and name.strip() != old:
            self.renamed.emit(old, name.strip())

    def _color(self) -> None:
        """Ask for another colour."""
        name = self.name
        if name is None:
            return
        before = next(each.color for each in self._classes if each.name == name)
        color = QColorDialog.getColor(QColor(*before), self, "Colour of the class")
        if color.isValid():
            self.colored.emit(name, (color.red(), color.green(), color.blue()))

    def _delete(self) -> None:
        """Tell that the class is to go."""
        if self.name is not None:
            self.deleted.emit(self.name)


def _swatch(color: tuple[int, int, int]) -> QIcon:
    """Return a square of a colour."""
    picture = QPixmap(SWATCH_PX, SWATCH_PX)
    picture.fill(QColor(*color))
    return QIcon(picture)
