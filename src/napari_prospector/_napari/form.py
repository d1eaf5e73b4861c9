"""The fields of the panel: what is asked, and nothing of how it is done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLabel,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_prospector._napari.fields import PathField
from napari_prospector._napari.request import MPP_RANGE, encoder_of

if TYPE_CHECKING:
    from napari_prospector.core.head import ProspectorHead

__all__ = ["ProspectForm", "small"]

ALL = "all slides of the cohort"

MAP_HINTS = {
    "evidence": "Evidence: where the class lives.",
    "decision": "Decision: what the classifier used; it adds up to the slide's score.",
    "refined": "Refined: what a read-out of the embeddings finds that labels and the kernel have taught; "
    "no sum over concepts.",
}


class ProspectForm(QWidget):
    """Slide, head, map, class, and the options that only some slides and heads need."""

    changed = Signal()
    """A field is another; of slide, map and head the signals of their own come before."""
    slide_chosen = Signal(int)
    """The user chose a slide, by its place in the list."""
    map_chosen = Signal(str)
    """The user chose a map."""

    def __init__(self) -> None:
        super().__init__()
        self.slide = _choice("Slide", "The slide at hand; selecting its layer, or one of its maps, chooses it too.")
        self.slide_caption = _caption()
        self.scope = _choice("On", "Prospect the slide at hand, or every slide of the cohort, open or not.")
        self.scope.addItems(["this slide", ALL])
        self.head = PathField("Choose a head", "Heads (*.prospector)")
        self.head.edit.setPlaceholderText("drop a *.prospector file here")
        self.head_caption = _caption()
        self.map = _choice("Map", "The map to look at; all maps of the head are drawn.")
        # what the user chose, not the panel; it outlives the head
        self._chosen_map: str | None = None
        self._chosen_target: str | None = None
        self.target = _choice("Class", "The class that the maps look for.")
        self.mpp = QDoubleSpinBox()
        self.mpp.setAccessibleName("Pixel size")
        self.mpp.setToolTip("The width of a pixel of this slide in µm, since its file does not state it.")
        # the lowest value stands for "not given"
        self.mpp.setRange(0.0, MPP_RANGE[1])
        self.mpp.setDecimals(4)
        self.mpp.setSingleStep(0.05)
        self.mpp.setSuffix(" µm")
        self.mpp.setSpecialValueText("fill in")
        self.weights = PathField("Choose the encoder's weights", "Weights (*.safetensors *.pth *.pt *.bin)")
        self.tokens = PathField("Choose where the tokens are kept", "Token grids (*.tokens.zarr)", mode="save")
        self._lay_out()
        self._connect()

    def _connect(self) -> None:
        """Tell of what the user chooses."""
        self.map.currentTextChanged.connect(self._note_chosen_map)
        self.target.currentTextChanged.connect(self._note_chosen_target)
        self.slide.currentIndexChanged.connect(self.slide_chosen)
        for box in (self.slide, self.map, self.target, self.scope):
            box.currentIndexChanged.connect(lambda _: self.changed.emit())
        self.mpp.valueChanged.connect(lambda _: self.changed.emit())
        for field in (self.weights, self.tokens):
            field.changed.connect(self.changed)

    def _lay_out(self) -> None:
        """Put the fields under each other."""
        self.rows = QFormLayout(self)
        self.rows.setContentsMargins(0, 0, 0, 0)
        self.rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self.rows.addRow("Slide", _over(self.slide, self.slide_caption))
        self.rows.addRow("Pixel size", self.mpp)
        self.rows.addRow("Head", _over(self.head, self.head_caption))
        self.rows.addRow("Weights", self.weights)
        self.rows.addRow("Map", self.map)
        self.rows.addRow("Class", self.target)
        self.rows.addRow("Tokens", self.tokens)
        self.rows.addRow("On", self.scope)
        self.show_slide("", needs_mpp=False)
        self.show_head(None, "")

    def set_slides(self, names: list[str], chosen: int) -> None:
        """List the layers that can be chosen; tells of no change."""
        self.slide.blockSignals(True)
        self.slide.clear()
        self.slide.addItems(names)
        self.slide.setCurrentIndex(chosen)
        self.slide.blockSignals(False)

    def show_slide(self, caption: str, needs_mpp: bool) -> None:
        """Describe the chosen slide, and ask for its pixel size if it states none."""
        self.slide_caption.setText(caption)
        self.slide_caption.setVisible(bool(caption))
        self.rows.setRowVisible(self.mpp, needs_mpp)

    def show_head_file(self, path: Path | None) -> None:
        """Show which file the head is; tells of no change."""
        self.head.blockSignals(True)
        self.head.set_path(path)
        self.head.blockSignals(False)

    def show_head(self, head: ProspectorHead | None, caption: str) -> None:
        """Describe the head, list its maps and classes, and ask for weights if its encoder has some."""
        self.head_caption.setText(caption)
        self.head_caption.setVisible(bool(caption))
        self.rows.setRowVisible(self.weights, head is not None and bool(encoder_of(head).get("weights_sha256")))
        self.target.blockSignals(True)
        self.target.clear()
        if head is not None:
            names = [str(name) for name in head.classes_]
            self.target.addItems(names)
            own = None if head.target_ is None else str(head.target_)
            shown = self._chosen_target if self._chosen_target in names else own
            self.target.setCurrentIndex(-1 if shown is None else names.index(shown))
        self.target.blockSignals(False)
        self._list_maps(head)

    def _list_maps(self, head: ProspectorHead | None) -> None:
        """List the maps of a head; its best is shown, unless the user has chosen one that it draws too."""
        self.map.blockSignals(True)
        self.map.clear()
        if head is not None:
            for name in head.maps_:
                hint = MAP_HINTS[name] + (" The best of this head." if name == head.best_map_ else "")
                self.map.addItem(name)
                self.map.setItemData(self.map.count() - 1, hint, Qt.ItemDataRole.ToolTipRole)
            self.map.setCurrentText(self._chosen_map if self._chosen_map in head.maps_ else head.best_map_)
        self.map.blockSignals(False)

    def _note_chosen_map(self, name: str) -> None:
        """Remember the user's choice; lists are filled with signals blocked."""
        self._chosen_map = name
        self.map_chosen.emit(name)

    def show_tokens(self, default: Path | None, where: str = "beside the slide") -> None:
        """Say where the tokens will be kept unless the user says otherwise."""
        text = "" if default is None else str(default)
        self.tokens.edit.setPlaceholderText(default.name if default is not None else where)
        self.tokens.edit.setToolTip(text)

    def _note_chosen_target(self, name: str) -> None:
        """Remember the user's choice; lists are filled with signals blocked."""
        self._chosen_target = name

    @property
    def is_for_all(self) -> bool:
        """Whether all slides of the cohort are meant."""
        return bool(self.scope.currentIndex() == 1)

    @property
    def asked_mpp(self) -> float | None:
        """The pixel size that was typed; None where none was, or the slide states its own."""
        return self.mpp.value() if self.mpp.value() > 0 and not self.mpp.isHidden() else None

    @property
    def asked_map(self) -> str | None:
        """The map that is chosen; None while there is no head."""
        return self.map.currentText() or None

    @property
    def asked_target(self) -> str | None:
        """The class that was chosen."""
        return self.target.currentText() or None


def _choice(name: str, tip: str) -> QComboBox:
    """Return an empty list to choose from; long names are cut off rather than widening the panel."""
    box = QComboBox()
    box.setAccessibleName(name)
    box.setToolTip(tip)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(6)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return box


def small(label: QLabel) -> QLabel:
    """Return a label whose letters are a little smaller than those of fields."""
    font = label.font()
    font.setPointSizeF(font.pointSizeF() * 0.9)
    label.setFont(font)
    return label


def _caption() -> QLabel:
    """Return a small label for what is known about the field above it."""
    label = QLabel()
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return small(label)


def _over(field: QWidget, caption: QLabel) -> QWidget:
    """Put a field over its caption."""
    both = QWidget()
    column = QVBoxLayout(both)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(2)
    column.addWidget(field)
    column.addWidget(caption)
    return both
