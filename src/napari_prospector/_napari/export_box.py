"""What to write of a map, and the button that does it."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QFileDialog, QFormLayout, QMessageBox, QPushButton, QWidget

from napari_prospector._napari.settings import settings

__all__ = ["ExportBox"]

MOST_NAMED = 5


class ExportBox(QWidget):
    """Three kinds of files to choose from, the tolerance of contours, and Export."""

    asked = Signal(object)
    """The folder to write to, a `Path`."""

    def __init__(self) -> None:
        super().__init__()
        self.start_folder: Path | None = None
        self.maps = QCheckBox("Maps and concepts (OME-Zarr)")
        self.maps.setToolTip("All maps of the head, with the concepts as labels, as OME-Zarr 0.5 in µm.")
        self.contours = QCheckBox("Contours (GeoJSON)")
        self.contours.setToolTip("The outlines of what lies above the threshold, holes kept, for QuPath.")
        self.table = QCheckBox("Tokens (CSV)")
        self.table.setToolTip("A line for each token: its place, all maps, its concept.")
        self.maps.setChecked(True)
        self.contours.setChecked(True)
        self.tolerance = QDoubleSpinBox()
        self.tolerance.setRange(0, 1000)
        self.tolerance.setValue(settings().tolerance_um)
        self.tolerance.setSuffix(" µm")
        self.tolerance.setAccessibleName("Tolerance of contours")
        self.tolerance.setToolTip(
            "How far contours may be from the borders of tokens, to have fewer points. 0 is exact."
        )
        self.button = QPushButton("Export …")
        self.button.setToolTip("Choose a folder and write there; files that are there are replaced after a question.")
        rows = QFormLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setVerticalSpacing(3)
        rows.addRow(self.maps)
        rows.addRow(self.contours)
        rows.addRow("Tolerance", self.tolerance)
        rows.addRow(self.table)
        rows.addRow(self.button)
        for box in (self.maps, self.contours, self.table):
            box.toggled.connect(self._check)
        self.button.clicked.connect(self._choose)

    def may_replace(self, files: list[Path]) -> bool:
        """Ask whether files that are there already may be replaced; where there is none, nothing is asked."""
        there = [file.name for file in files if file.exists()]
        if not there:
            return True
        more = f"\n… and {len(there) - MOST_NAMED} more" if len(there) > MOST_NAMED else ""
        question = "These are there already and will be replaced:\n\n" + "\n".join(there[:MOST_NAMED]) + more
        buttons = QMessageBox.StandardButton
        answer = QMessageBox.question(self, "Replace?", question, buttons.Yes | buttons.No, buttons.No)
        return bool(answer == buttons.Yes)

    def _check(self) -> None:
        """Let nothing be exported where nothing is chosen."""
        self.button.setEnabled(any(box.isChecked() for box in (self.maps, self.contours, self.table)))
        self.tolerance.setEnabled(self.contours.isChecked())

    def _choose(self) -> None:
        """Ask for the folder."""
        start = "" if self.start_folder is None else str(self.start_folder)
        chosen = QFileDialog.getExistingDirectory(self, "Export to a folder", start)
        if chosen:
            self.asked.emit(Path(chosen))
