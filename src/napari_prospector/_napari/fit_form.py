"""What to fit from and how: the fields of the Fit widget, options folded away."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLabel, QSizePolicy, QSpinBox, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_prospector._napari.fit_job import USES, FitRequest

__all__ = ["FitForm"]

AUTO = "automatic"
FLAGS = ("pen", "blur", "fold", "bubble")
USE_TEXTS = {"labels": "labels of slides", "regions": "regions drawn on slides"}


class FitForm(QWidget):
    """Where labels come from, the class to look for, and options that need no touching."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.use = _combo("Learn from", [USE_TEXTS[use] for use in USES])
        self.counts = QLabel()
        self.counts.setWordWrap(True)
        self.counts.setTextFormat(Qt.TextFormat.PlainText)
        self.target = _combo("Look for", [])
        self.target.setToolTip("The class that maps show: what speaks for it is warm, what speaks against it is cold.")
        self.concepts = _combo("Concepts", [AUTO, "10", "20", "30", "40"])
        self.concepts.setToolTip("Into how many kinds of tissue tokens are sorted.")
        self.radius = _combo("Radius", [AUTO, "0", "1", "2", "3"])
        self.radius.setToolTip("Tokens within this many steps pair with each other; 0: each stands for itself.")
        self.kernel = _combo("Kernel", [AUTO, "fold-change", "linear"])
        self.kernel.setToolTip("Fold change: how much more frequent in the class. Linear: the weight of a classifier.")
        self.refine = QCheckBox("Refined map")
        self.refine.setChecked(True)
        self.refine.setToolTip("Also learn a read-out of the embeddings that labels and the kernel teach.")
        self.by_patient = QCheckBox("A patient is one datum")
        self.by_patient.setToolTip(
            "Slides of a patient share the label; column 'group' of the slides says whose they are."
        )
        self.flags = {name: QCheckBox(f"Without {name}") for name in FLAGS}
        for name, box in self.flags.items():
            box.setToolTip(f"Leave out tiles that are flagged as {name} while they were embedded.")
        self.seed = QSpinBox()
        self.seed.setRange(0, 2**31 - 1)
        self.seed.setAccessibleName("Seed")
        self.seed.setToolTip("The same seed gives the same head.")
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        """Put the fields under each other, options under a fold."""
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        rows = QFormLayout()
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        rows.addRow("Learn from", self.use)
        rows.addRow("", self.counts)
        rows.addRow("Look for", self.target)
        column.addLayout(rows)
        self.options = QCollapsible("Options")
        inner = QWidget()
        more = QFormLayout(inner)
        more.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        for text, field in (("Concepts", self.concepts), ("Radius", self.radius), ("Kernel", self.kernel)):
            more.addRow(text, field)
        for box in (self.refine, self.by_patient, *self.flags.values()):
            # over both columns: beside the labels it would be too wide for a dock
            more.addRow(box)
        more.addRow("Seed", self.seed)
        self.options.addWidget(inner)
        column.addWidget(self.options)

    def _connect(self) -> None:
        """Tell of every change."""
        for combo in (self.use, self.target, self.concepts, self.radius, self.kernel):
            combo.currentIndexChanged.connect(self._tell)
        for box in (self.refine, self.by_patient, *self.flags.values()):
            box.toggled.connect(self._tell)
        self.seed.valueChanged.connect(self._tell)

    def _tell(self, *_: Any) -> None:
        """Tell of a change."""
        self.changed.emit()

    def show_classes(self, counts: dict[str, int], guess: str | None) -> None:
        """List the classes with how many there are of each; the chosen one stays, else `guess` is chosen."""
        what = "slides" if self.request.use == "labels" else "regions"
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        self.counts.setText(f"{sum(counts.values())} {what}: {told}" if counts else f"no labelled {what} yet")
        chosen = self.target.currentData()
        self.target.blockSignals(True)
        self.target.clear()
        if len(counts) > 2:
            self.target.addItem("each class", None)
        else:
            for name in counts:
                self.target.addItem(name, name)
        wanted = chosen if chosen in counts else guess
        self.target.setCurrentIndex(max(self.target.findData(wanted), 0))
        # a head of more classes has a map for each of them; which is shown is chosen when it is drawn
        self.target.setEnabled(len(counts) == 2)
        self.target.blockSignals(False)

    @property
    def request(self) -> FitRequest:
        """What the fields ask for now."""
        options: dict[str, Any] = {"random_state": self.seed.value()}
        for name, combo in (("n_concepts", self.concepts), ("radius", self.radius)):
            if combo.currentText() != AUTO:
                options[name] = int(combo.currentText())
        if self.kernel.currentText() != AUTO:
            options["kernel"] = self.kernel.currentText()
        if not self.refine.isChecked():
            options["refine"] = False
        without = tuple(name for name, box in self.flags.items() if box.isChecked())
        use = USES[self.use.currentIndex()]
        return FitRequest(use, self.target.currentData(), self.by_patient.isChecked(), without, options)


def _combo(name: str, items: list[str]) -> QComboBox:
    """Return a box of choices."""
    combo = QComboBox()
    combo.setAccessibleName(name)
    combo.addItems(items)
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(8)
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return combo
