"""Which encoder slides are embedded with: its name, what its card says, and what can be set."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFormLayout, QLabel, QSizePolicy, QSpinBox, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_prospector._napari.fields import PathField
from napari_prospector._napari.progress import JobProgress, Steps
from napari_prospector._napari.request import MPP_RANGE
from napari_prospector.study.project import EncoderChoice

if TYPE_CHECKING:
    from napari_prospector.tokens.encoders.encodercard import EncoderCard

__all__ = ["EncoderForm", "card_caption", "listed_cards"]

STAINS = ("as scanned", "macenko")


def listed_cards() -> Steps[tuple[EncoderCard, ...]]:
    """Return the cards of all encoders; those of other packages are imported for it."""
    from napari_prospector.tokens.encoders.cards import list_encoders

    yield JobProgress("Listing the encoders")
    return list_encoders()


def card_caption(card: EncoderCard) -> str:
    """Return what the user sees of an encoder."""
    access = {True: "access on request", False: "open", None: "access not known"}[card.gated]
    if card.loader == "stain-texture":
        access = "built in, no download"
    parts = [access, f"licence {card.licence or 'not known'}", f"tiles of {card.tile_px} px at {card.mpp:g} µm"]
    if card.n_dims is not None:
        parts.append(f"{card.n_dims:,} numbers a tile")
    return " · ".join(parts)


class EncoderForm(QWidget):
    """The fields of an `EncoderChoice`."""

    changed = Signal()
    """The user chose something else: look at `choice`."""

    def __init__(self) -> None:
        super().__init__()
        self._choice = EncoderChoice()
        self._cards: dict[str, EncoderCard] = {}
        self.name = QComboBox()
        self.name.setEditable(True)
        self.name.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.name.setAccessibleName("Encoder")
        self.name.setToolTip("What turns tiles into numbers. Any timm model can be named, too, with its weights.")
        self.name.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.name.setMinimumContentsLength(8)
        self.name.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.caption = QLabel()
        self.caption.setWordWrap(True)
        self.caption.setTextFormat(Qt.TextFormat.PlainText)
        self.weights = PathField("Choose the encoder's weights", "Weights (*.safetensors *.pth *.pt *.bin)")
        self.tile_px = QSpinBox()
        self.tile_px.setRange(0, 4096)
        self.tile_px.setSpecialValueText("the encoder's own")
        self.tile_px.setSuffix(" px")
        self.tile_px.setAccessibleName("Width of a tile in pixels")
        self.tile_px.setToolTip("Width of a tile in pixels, where the encoder allows another than its own.")
        self.mpp = QDoubleSpinBox()
        self.mpp.setRange(0.0, MPP_RANGE[1])
        self.mpp.setDecimals(3)
        self.mpp.setSingleStep(0.25)
        self.mpp.setSpecialValueText("the encoder's own")
        self.mpp.setSuffix(" µm")
        self.mpp.setAccessibleName("Tile µm per pixel")
        self.mpp.setToolTip(
            "How finely tiles are seen: µm per pixel of a tile. Larger numbers see more context, faster."
        )
        self.stain = QComboBox()
        self.stain.addItems(STAINS)
        self.stain.setAccessibleName("Staining")
        self.stain.setToolTip("Macenko brings all tiles to one staining first; it costs as often as it helps.")
        self._lay_out()
        self._connect()
        self.set_choice(self._choice)

    def _lay_out(self) -> None:
        """Put the fields under each other, what few need folded away."""
        self.rows = QFormLayout()
        self.rows.setContentsMargins(0, 0, 0, 0)
        self.rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self.rows.addRow("Encoder", self.name)
        self.rows.addRow(self.caption)
        self.rows.addRow("Weights", self.weights)
        folded = QWidget()
        more = QFormLayout(folded)
        more.setContentsMargins(12, 0, 0, 0)
        more.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        more.addRow("Tile width", self.tile_px)
        more.addRow("Tile µm per px", self.mpp)
        more.addRow("Staining", self.stain)
        self.options = QCollapsible("Size of tiles, staining")
        self.options.setContent(folded)
        self.options.setDuration(0)
        self.options.collapse(animate=False)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(self.rows)
        column.addWidget(self.options)

    def _connect(self) -> None:
        """Listen to the fields."""
        self.name.activated.connect(self._take)
        line = self.name.lineEdit()
        assert line is not None
        line.editingFinished.connect(self._take)
        self.weights.changed.connect(self._take)
        for field in (self.tile_px, self.mpp):
            field.setKeyboardTracking(False)
            field.valueChanged.connect(self._take)
        self.stain.activated.connect(self._take)

    @property
    def choice(self) -> EncoderChoice:
        """What the fields say."""
        return self._choice

    @property
    def card(self) -> EncoderCard | None:
        """The card of the chosen encoder; None where it has none, or the list is not there yet."""
        return self._cards.get(self._choice.name)

    def set_cards(self, cards: tuple[EncoderCard, ...]) -> None:
        """List the encoders; the built-in one first, then those that are open to all."""
        ordered = sorted(cards, key=lambda card: (card.loader != "stain-texture", card.gated is not False, card.name))
        self._cards = {card.name: card for card in ordered}
        blocked = self.name.blockSignals(True)
        self.name.clear()
        for number, card in enumerate(ordered):
            self.name.addItem(card.name)
            self.name.setItemData(number, card_caption(card), Qt.ItemDataRole.ToolTipRole)
        self.name.blockSignals(blocked)
        self.set_choice(self._choice)

    def set_choice(self, choice: EncoderChoice) -> None:
        """Show a choice; tells of no change."""
        self._choice = choice
        fields = (self.name, self.weights, self.tile_px, self.mpp, self.stain)
        blocked = [field.blockSignals(True) for field in fields]
        self.name.setEditText(choice.name)
        self.weights.set_path(choice.weights)
        self.tile_px.setValue(choice.tile_px or 0)
        self.mpp.setValue(choice.mpp or 0.0)
        self.stain.setCurrentText(choice.stain_normalize or STAINS[0])
        for field, was in zip(fields, blocked, strict=True):
            field.blockSignals(was)
        self._describe()

    def _describe(self) -> None:
        """Say what the card says, and ask for weights where the encoder has some."""
        card = self.card
        if card is None:
            text = "A timm model by its name, with a file of weights." if self._cards else ""
            self.caption.setText(text)
        else:
            self.caption.setText(card_caption(card))
        self.caption.setVisible(bool(self.caption.text()))
        self.rows.setRowVisible(self.weights, card is None and bool(self._cards) or _has_weights(card))
        from_hub = card is not None and card.hub is not None
        self.weights.edit.setPlaceholderText("downloaded when first used" if from_hub else "needed: drop the file here")

    def _take(self, *_: object) -> None:
        """Take what the fields say, if it is new."""
        name = self.name.currentText().strip() or self._choice.name
        choice = EncoderChoice(
            name=name,
            weights=self.weights.path if name == self._choice.name else None,
            tile_px=self.tile_px.value() or None,
            mpp=self.mpp.value() or None,
            stain_normalize=None if self.stain.currentText() == STAINS[0] else self.stain.currentText(),
        )
        if name != self._choice.name:
            # sizes belong to the encoder that they were typed for
            choice = replace(choice, tile_px=None, mpp=None)
        if choice != self._choice:
            self.set_choice(choice)
            self.changed.emit()


def _has_weights(card: EncoderCard | None) -> bool:
    """Whether an encoder is loaded with weights."""
    return card is not None and card.loader == "timm"
