"""Where settings are changed: napari's preferences, or below napari 0.9 a dialog of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QSpinBox,
    QToolButton,
    QWidget,
)

from napari_prospector._napari.settings import PLACES, Settings, keep_settings, napari_settings, settings

if TYPE_CHECKING:
    from napari.viewer import Viewer

__all__ = ["SettingsDialog", "show_settings"]


class SettingsDialog(QDialog):
    """All settings in one form; OK keeps them.

    Parameters
    ----------
    parent
        Over which it lies.
    """

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Prospector: settings")
        self.encoder, self.tokens, self.folder = QLineEdit(), QComboBox(), QLineEdit()
        self.offline = QCheckBox("Never ask a hub for weights")
        self.opacity, self.tolerance, self.memory = QSpinBox(), QDoubleSpinBox(), QDoubleSpinBox()
        self.tokens.addItems(PLACES)
        self.opacity.setRange(0, 100)
        self.opacity.setSuffix(" %")
        self.tolerance.setRange(0, 1000)
        self.tolerance.setSuffix(" µm")
        self.memory.setRange(0, 1024)
        self.memory.setSuffix(" GiB")
        self._lay_out()
        self.show_settings(settings())

    def _lay_out(self) -> None:
        """Put the fields under each other."""
        form = QFormLayout(self)
        for name, field, hint in (
            ("Encoder of new work", self.encoder, "The name of an encoder, as the widget Slides lists them."),
            ("Keep tokens", self.tokens, "Where token grids are written; those that are there are found anyway."),
            ("Folder for tokens", self._folder_row(), "Used where tokens are kept in this folder."),
            ("", self.offline, "Weights come from files and from what was downloaded before."),
            ("Opacity of maps", self.opacity, "How much a new map covers the tissue."),
            ("Tolerance of contours", self.tolerance, "What Export begins with; 0 is exact."),
            ("Most memory for tokens", self.memory, "What Fit keeps; beyond it tokens are read again."),
        ):
            field.setToolTip(hint)
            field.setAccessibleName(name or self.offline.text())
            form.addRow(name, field)
        self.folder.setAccessibleName("Folder for tokens")
        buttons = QDialogButtonBox.StandardButton
        box = QDialogButtonBox(buttons.Ok | buttons.Cancel | buttons.RestoreDefaults)
        box.accepted.connect(self.accept)
        box.rejected.connect(self.reject)
        box.button(buttons.RestoreDefaults).clicked.connect(self._restore)
        form.addRow(box)

    def _folder_row(self) -> QWidget:
        """Return the field of the folder, with what chooses one."""
        row, button = QWidget(), QToolButton()
        button.setText("…")
        button.setAccessibleName("Choose the folder for tokens")
        button.clicked.connect(self._choose_folder)
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.folder)
        line.addWidget(button)
        return row

    @property
    def chosen(self) -> Settings:
        """What the fields say."""
        return Settings(
            encoder=self.encoder.text().strip(),
            tokens=self.tokens.currentText(),
            tokens_folder=self.folder.text().strip(),
            offline=self.offline.isChecked(),
            opacity=self.opacity.value(),
            tolerance_um=self.tolerance.value(),
            graph_memory_gib=self.memory.value(),
        )

    def show_settings(self, kept: Settings) -> None:
        """Fill the fields."""
        self.encoder.setText(kept.encoder)
        self.tokens.setCurrentText(kept.tokens)
        self.folder.setText(kept.tokens_folder)
        self.offline.setChecked(kept.offline)
        self.opacity.setValue(kept.opacity)
        self.tolerance.setValue(kept.tolerance_um)
        self.memory.setValue(kept.graph_memory_gib)

    def accept(self) -> None:
        """Keep the settings."""
        keep_settings(self.chosen)
        super().accept()

    def _restore(self) -> None:
        """Show what the settings are until somebody changes them."""
        self.show_settings(Settings())

    def _choose_folder(self) -> None:
        """Ask for the folder."""
        chosen = QFileDialog.getExistingDirectory(self, "Folder for tokens", self.folder.text())
        if chosen:
            self.folder.setText(chosen)


def show_settings(viewer: Viewer, parent: QWidget) -> QDialog:
    """Open the preferences of napari on our page; below napari 0.9 our own dialog.

    Parameters
    ----------
    viewer
        Whose window.
    parent
        Over which our own dialog lies.
    """
    window = getattr(viewer, "__wrapped__", viewer).window
    if napari_settings() is None:
        dialog = SettingsDialog(parent)
        dialog.show()
        return dialog
    # napari has no public way to its preferences; its menu does the same
    preferences: QDialog = window._open_preferences_dialog()
    pages = preferences._list
    for row in range(pages.count()):
        if pages.item(row).text() == "Prospector":
            pages.setCurrentRow(row)
    return preferences
