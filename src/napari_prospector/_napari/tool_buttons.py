"""The tools for drawing, as buttons with napari's own signs."""

from __future__ import annotations

from qtpy.QtCore import QByteArray, QEvent, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QIcon, QPainter, QPixmap
from qtpy.QtWidgets import QButtonGroup, QGridLayout, QPushButton, QSizePolicy, QWidget

__all__ = ["ToolButtons"]

# tool: (napari's sign, key, what it does)
SIGNS = {
    "move": ("pan_arrows", "Z", "Move the view: drag. Hold Space to do so with any tool."),
    "select": ("select", "S", "Click a region to select it; drag its outline to move it, a corner to stretch it."),
    "points": ("direct", "D", "Drag the points of an outline."),
    "add point": ("vertex_insert", "I", "Click the outline of a selected region to put in a point."),
    "remove point": ("vertex_remove", "X", "Click a point to take it out."),
    "polygon": ("polygon", "P", "Click point after point; double-click or Escape ends the polygon."),
    "rectangle": ("rectangle", "R", "Drag a rectangle."),
    "lasso": ("polygon_lasso", "L", "Go round what is meant with the button held."),
    "brush": ("paint", "B", "Paint: the stroke joins the regions of the class that it touches. Hold Alt to erase."),
    "eraser": ("erase", "E", "Erase: what is painted over is taken out of all regions that are not locked."),
}
SIGN_PX, PER_ROW = 22, 5


class ToolButtons(QWidget):
    """One button for each tool; one of them is down."""

    chosen = Signal(str)
    """A user chose a tool."""

    def __init__(self) -> None:
        super().__init__()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(3)
        self.group = QButtonGroup(self)
        self.buttons: dict[str, QPushButton] = {}
        for number, (tool, (_, key, text)) in enumerate(SIGNS.items()):
            button = QPushButton()
            button.setCheckable(True)
            button.setIconSize(QSize(SIGN_PX, SIGN_PX))
            button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            button.setFixedHeight(SIGN_PX + 12)
            button.setAccessibleName(tool.capitalize())
            button.setToolTip(f"{tool.capitalize()} ({key}). {text}")
            button.setProperty("tool", tool)
            button.clicked.connect(self._choose)
            self.group.addButton(button)
            self.buttons[tool] = button
            grid.addWidget(button, number // PER_ROW, number % PER_ROW)
        self.show_tool("move")
        self._paint_signs()

    def show_tool(self, tool: str) -> None:
        """Show which tool is in hand."""
        self.buttons[tool].setChecked(True)

    def changeEvent(self, event: QEvent) -> None:
        """Paint the signs anew where the theme is another."""
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange) and hasattr(self, "buttons"):
            self._paint_signs()
        super().changeEvent(event)

    def _choose(self) -> None:
        """Tell which tool was chosen."""
        self.chosen.emit(self.sender().property("tool"))

    def _paint_signs(self) -> None:
        """Paint each sign in the colour of text."""
        color = self.palette().text().color().name()
        for tool, button in self.buttons.items():
            button.setIcon(_sign(SIGNS[tool][0], color))


def _sign(name: str, color: str) -> QIcon:
    """Return one of napari's signs in a colour."""
    from napari.resources import get_colorized_svg, get_icon_path
    from qtpy.QtSvg import QSvgRenderer

    renderer = QSvgRenderer(QByteArray(get_colorized_svg(get_icon_path(name), color).encode()))
    picture = QPixmap(2 * SIGN_PX, 2 * SIGN_PX)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    renderer.render(painter, QRectF(picture.rect()))
    painter.end()
    return QIcon(picture)
