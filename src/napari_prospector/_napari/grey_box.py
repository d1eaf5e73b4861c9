"""A clear answer for layers that are not in colour: which channel to look at, and what to expect of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_prospector._napari.array_slides import grey_levels, n_channels
from napari_prospector._napari.layers import provenance

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_prospector._napari.workspace import Workspace

__all__ = ["GreyBox"]


class GreyBox(QWidget):
    """Shown while a layer without colour is selected; makes a grey RGB layer of one of its channels.

    Parameters
    ----------
    viewer, workspace
        Not wrapped.
    """

    def __init__(self, viewer: Viewer, workspace: Workspace) -> None:
        super().__init__()
        self._viewer = viewer
        self.sentence = QLabel()
        self.sentence.setWordWrap(True)
        self.sentence.setTextFormat(Qt.TextFormat.PlainText)
        self.channel = QComboBox()
        self.channel.setAccessibleName("Channel")
        self.channel.setToolTip("Which channel to look at.")
        self.button = QPushButton("View in grey")
        self.button.setToolTip("Add this channel as a grey picture, in the contrast in which it is shown now.")
        self.button.clicked.connect(self.make)
        column, row = QVBoxLayout(self), QHBoxLayout()
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.sentence)
        row.addWidget(self.channel, 1)
        row.addWidget(self.button)
        column.addLayout(row)
        workspace.selected.connect(self.look)
        self.look()

    def look(self) -> None:
        """Show the box where a layer without colour is selected that nobody drew from a head."""
        from napari.layers import Image

        layer = self._viewer.layers.selection.active
        count = n_channels(layer) if isinstance(layer, Image) and not provenance(layer) else 0
        self.setVisible(count > 0)
        if not count:
            return
        what = "is grey" if count == 1 else f"has {count} channels"
        self.sentence.setText(
            f"Layer {layer.name!r} {what}; encoders were trained on slides in colour (H&E), so expect little of a head "
            "on it unless it was fitted on such pictures. Choose a channel to look at it in grey."
        )
        self.channel.clear()
        self.channel.addItems(["grey values"] if count == 1 else [f"channel {number}" for number in range(count)])

    def make(self) -> None:
        """Add the chosen channel as a grey RGB layer that lies where its layer does."""
        from napari.layers import Image

        layer = self._viewer.layers.selection.active
        if not isinstance(layer, Image) or not n_channels(layer):
            self.look()
            return
        levels = grey_levels(layer, self.channel.currentIndex())
        ending = "grey" if layer.ndim == 2 else self.channel.currentText()
        self._viewer.add_image(
            levels,
            rgb=True,
            multiscale=True,
            name=f"{layer.name} · {ending}",
            scale=layer.scale[-2:],
            translate=layer.translate[-2:],
            units=layer.units[-2:],
        )
