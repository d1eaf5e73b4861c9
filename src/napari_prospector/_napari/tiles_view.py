"""A gallery of tiles: pictures that come one by one, each with its slide and class."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractListModel, QModelIndex, QPersistentModelIndex, QRect, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QKeyEvent, QPainter, QPen
from qtpy.QtWidgets import QAbstractItemView, QListView, QStyle, QStyledItemDelegate, QStyleOptionViewItem

from napari_prospector._napari.gallery_job import Gallery, place_of
from napari_prospector._napari.legend_table import AGAINST, FOR

if TYPE_CHECKING:
    from napari_prospector.study.best_tokens import Example
    from napari_prospector.tokens.tilepictures import Place

__all__ = ["TILE_PX", "TileModel", "TilesView"]

TILE_PX, STRIPE_PX, MARGIN_PX = 60, 4, 2
EXAMPLE_ROLE = Qt.ItemDataRole.UserRole
IMAGE_ROLE = Qt.ItemDataRole.UserRole + 1


class TileModel(QAbstractListModel):
    """The typical tiles of what is chosen in the legend."""

    def __init__(self) -> None:
        super().__init__()
        self.examples: tuple[Example, ...] = ()
        self._gallery: Gallery | None = None
        self._images: dict[Place, QImage] = {}

    def set_examples(self, gallery: Gallery | None, examples: Sequence[Example]) -> None:
        """Show other tiles."""
        if gallery is self._gallery and tuple(examples) == self.examples:
            return
        self.beginResetModel()
        self._gallery, self.examples = gallery, tuple(examples)
        self._images.clear()
        self.endResetModel()

    def show_picture(self, place: Place) -> None:
        """Show a picture that was read."""
        for row, example in enumerate(self.examples):
            if place_of(example) == place:
                self.dataChanged.emit(self.index(row), self.index(row))

    def rowCount(self, parent: QModelIndex | QPersistentModelIndex | None = None) -> int:
        """Return the number of tiles."""
        return 0 if parent is not None and parent.isValid() else len(self.examples)

    def data(self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the picture of a tile, and what is known of it."""
        if not index.isValid() or self._gallery is None:
            return None
        example = self.examples[index.row()]
        if role == EXAMPLE_ROLE:
            return example
        if role == IMAGE_ROLE:
            return self._image(place_of(example))
        if role in (Qt.ItemDataRole.ToolTipRole, Qt.ItemDataRole.AccessibleTextRole):
            lines = self._gallery.caption(example)
            picture = self._gallery.pictures.get(place_of(example))
            if picture is not None and picture.problem:
                lines.append(picture.problem)
            if role == Qt.ItemDataRole.AccessibleTextRole:
                return ", ".join(lines)
            return "<qt>" + "<br>".join(html.escape(line) for line in lines) + "</qt>"
        return None

    def _image(self, place: Place) -> QImage | None:
        """Return a picture for Qt; None while it is not read."""
        assert self._gallery is not None
        if place not in self._images and place in self._gallery.pictures:
            pixels = self._gallery.pictures[place].pixels
            rows, cols = pixels.shape[:2]
            image = QImage(pixels.tobytes(), cols, rows, 3 * cols, QImage.Format.Format_RGB888)
            self._images[place] = image.copy()
        return self._images.get(place)


class TilePainter(QStyledItemDelegate):
    """Draws a tile with a stripe in the colour of its class, and a frame where it is chosen."""

    target = ""
    """The class whose stripe has the colour of what speaks for it."""

    def paint(self, painter: QPainter | None, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Draw a tile, or its place while it is not read."""
        if painter is None:
            return
        area = QRect(option.rect.topLeft(), QSize(TILE_PX, TILE_PX)).translated(MARGIN_PX, MARGIN_PX)
        image = index.data(IMAGE_ROLE)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        if image is None:
            painter.setPen(QPen(option.palette.mid().color()))
            painter.drawRect(area.adjusted(0, 0, -1, -1))
        else:
            painter.drawImage(area, image)
        label = str(index.data(EXAMPLE_ROLE).label)
        stripe = QRect(area.left(), area.bottom() + 1, area.width(), STRIPE_PX - 1)
        color = option.palette.mid().color() if not label else FOR if label == self.target else AGAINST
        painter.fillRect(stripe, color)
        if option.state & QStyle.StateFlag.State_Selected:
            for frame, margin in ((QColor("white"), 1), (QColor("black"), 3)):
                painter.setPen(QPen(frame, 2))
                painter.drawRect(area.adjusted(margin, margin, -margin, -margin))
        painter.restore()

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:
        """Return the size of a tile with its stripe."""
        return QSize(TILE_PX + 2 * MARGIN_PX, TILE_PX + STRIPE_PX + 2 * MARGIN_PX)


class TilesView(QListView):
    """The gallery; a double click or Enter opens a tile's slide there."""

    opened = Signal(object)
    """An `Example`."""

    def __init__(self) -> None:
        super().__init__()
        self.tiles = TileModel()
        self.setModel(self.tiles)
        self._painter = TilePainter(self)
        self.setItemDelegate(self._painter)
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setMovement(QListView.Movement.Static)
        self.setUniformItemSizes(True)
        self.setSpacing(0)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setAccessibleName("Most typical tiles")
        self.doubleClicked.connect(self._open)

    def set_target(self, target: str) -> None:
        """Say which class has the colour of what speaks for it."""
        self._painter.target = target
        self.setToolTip(
            "<qt>The most typical tiles of the concept. A double click, or Enter, opens the slide there. The stripe is "
            f"orange under tiles of {html.escape(target)}, and blue under those of other classes.</qt>"
        )

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Open the tile at hand by Enter."""
        if event is not None and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self._open(self.currentIndex())
        else:
            super().keyPressEvent(event)

    def _open(self, index: QModelIndex) -> None:
        """Tell which tile is to be opened."""
        if index.isValid():
            self.opened.emit(index.data(EXAMPLE_ROLE))
