"""Where the parts of the Slides widget lie, and what they say; nothing of what they do."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_prospector._napari.embed_job import EmbedJob, remedy
from napari_prospector._napari.encoder_form import EncoderForm
from napari_prospector._napari.fields import UndoButtons
from napari_prospector._napari.progress import JobProgress, Refusal
from napari_prospector._napari.slides_model import SlidesModel
from napari_prospector._napari.slides_view import SlidesView
from napari_prospector._napari.tasks import TaskBar

if TYPE_CHECKING:
    from napari_prospector._napari.workspace import Workspace
    from napari_prospector.study.project import StudySlide
    from napari_prospector.tokens.doctor import Check
    from napari_prospector.tokens.estimate import EmbeddingEstimate

__all__ = ["SlidesLayout"]

CHECK_TIP = "Look whether embedding can start, and how many tiles, hours and GB it would be."
ALL_FINE = "✓ Everything that embedding needs is there."
SIGNS = {"green": "✓", "amber": "!", "red": "✗"}
SPOKEN = {"green": "fine", "amber": "look at this", "red": "would fail"}


class SlidesLayout:
    """The parts of the widget.

    Parameters
    ----------
    widget
        The widget that they are put into.
    workspace
        Of its viewer.
    """

    def __init__(self, widget: QWidget, workspace: Workspace) -> None:
        self.model = SlidesModel(widget)
        self.table = SlidesView(self.model)
        self.files_button = _button("Files…", "Add slide files, cohort tables or token grids.")
        self.folder_button = _button("Folder…", "Add all slides of a folder, with the folders in it.")
        self.table_button = _button("Table…", "Open a cohort table: CSV with the columns path and label.")
        self.save_button = _button("Save…", "Save the cohort as a table (CSV); paths are relative to it.")
        self.undo = UndoButtons(workspace)
        self.adding = TaskBar(kept="Stopped. What was found before is in the table.")
        self.label = QComboBox()
        self.label_button = _button("Set label", "Give this label to all selected slides; an empty one takes it away.")
        self.open_button = _button(
            "Open", "Open the selected slides in the viewer, or bring them to the front (Enter)."
        )
        self.grid_button = _button("Show tokens", "Show the token grid of the selected slide over it.")
        self.remove_button = _button("Remove", "Take the selected slides out of the cohort; files stay (Delete).")
        self.encoder = EncoderForm()
        self.embed_button = _button("Embed selected", "")
        self.embed_all_button = _button("Embed all", "")
        self.check_button = _button("Check and estimate", CHECK_TIP)
        self.verdict, self.findings = QLabel(), QScrollArea()
        self.anyway_button = _button("Start anyway", "Begin in spite of what was found.")
        self.bar = TaskBar(kept="Stopped. What was embedded is kept; Embed goes on from there.")
        self._set_up()
        self._lay_out(widget)

    def _set_up(self) -> None:
        """Give the parts their kinds."""
        self.label.setEditable(True)
        self.label.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.label.setAccessibleName("Label for the selected slides")
        self.label.setToolTip("A label for the selected slides: type it, or choose one that exists.")
        self.label.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.label.setMinimumContentsLength(6)
        self.label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        line = self.label.lineEdit()
        assert line is not None
        line.setPlaceholderText("label")
        line.returnPressed.connect(self.label_button.click)
        self.verdict.setWordWrap(True)
        self.verdict.setTextFormat(Qt.TextFormat.RichText)
        self.verdict.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.verdict.setAccessibleName("What was found before embedding")
        self.verdict.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self.findings.setWidget(self.verdict)
        self.findings.setWidgetResizable(True)
        self.findings.setFrameShape(QFrame.Shape.NoFrame)
        self.findings.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.table.setMinimumHeight(150)

    def _lay_out(self, widget: QWidget) -> None:
        """Put the parts under each other."""
        column = QVBoxLayout(widget)
        column.setSpacing(4)
        for parts in (
            (self.files_button, self.folder_button, self.table_button, self.save_button, self.undo),
            (self.table,),
            (self.adding,),
            (self.label, self.label_button),
            (self.open_button, self.grid_button, self.remove_button),
            (self.encoder,),
            (self.embed_button, self.embed_all_button),
            (self.check_button,),
            (self.findings,),
            (self.anyway_button,),
            (self.bar,),
        ):
            if len(parts) == 1:
                column.addWidget(parts[0], 1 if parts[0] is self.table else 0)
                continue
            row = QHBoxLayout()
            row.setSpacing(4)
            for part in parts:
                row.addWidget(part, 0 if part is self.undo else 1)
            column.addLayout(row)
        self.findings.hide()
        self.anyway_button.hide()
        widget.setMinimumWidth(300)

    def set_labels(self, labels: Sequence[str]) -> None:
        """List the labels that exist; what was typed stays."""
        if [self.label.itemText(number) for number in range(self.label.count())] == list(labels):
            return
        typed = self.label.currentText()
        blocked = self.label.blockSignals(True)
        self.label.clear()
        self.label.addItems(list(labels))
        self.label.setEditText(typed)
        self.label.blockSignals(blocked)

    def enable(
        self,
        selected: Sequence[StudySlide],
        *,
        has_grid: bool,
        plan_selected: EmbedJob | Refusal,
        plan_all: EmbedJob | Refusal,
    ) -> None:
        """Enable the buttons that can do something; the others say why not."""
        is_any = bool(selected)
        for button in (self.label_button, self.open_button, self.remove_button):
            button.setEnabled(is_any)
        self.grid_button.setEnabled(has_grid)
        self.save_button.setEnabled(self.model.rowCount() > 0 and not self.adding.is_running)
        self.anyway_button.setEnabled(not self.bar.is_running)
        for button, plan, whose in (
            (self.embed_button, plan_selected, "selected slides"),
            (self.embed_all_button, plan_all, "slides"),
        ):
            is_possible = isinstance(plan, EmbedJob)
            button.setEnabled(is_possible and not self.bar.is_running)
            if isinstance(plan, EmbedJob):
                button.setToolTip(f"Embed {len(plan.slides):,} {whose}; what is embedded already is left as it is.")
            else:
                button.setToolTip(plan.sentence)
        wanted = plan_selected if is_any else plan_all
        self.check_button.setEnabled(isinstance(wanted, EmbedJob) and not self.bar.is_running)
        self.check_button.setToolTip(CHECK_TIP if isinstance(wanted, EmbedJob) else wanted.sentence)

    def show_verdict(self, checks: Sequence[Check], *, can_start: bool = False, always: bool = False) -> None:
        """Show what is to be looked at, what would fail first; where nothing is, say so if `always`."""
        told = sorted(checks, key=lambda check: ("red", "amber", "green").index(check.verdict))
        worth = [check for check in told if check.verdict != "green"]
        lines = [_line(check) for check in worth] or ([ALL_FINE] if always else [])
        self.verdict.setText("<br>".join(lines))
        self.findings.setVisible(bool(lines))
        n_lines = 6 if worth else 1.5
        self.findings.setFixedHeight(round(n_lines * self.verdict.fontMetrics().lineSpacing()))
        is_warned = can_start and any(check.verdict == "amber" for check in checks)
        self.anyway_button.setVisible(is_warned)

    def estimate_sentence(self, found: EmbeddingEstimate) -> str:
        """Return what an estimate says."""
        from napari_prospector.tokens.encoders.hub import readable_size

        counted = [slide for slide in found.slides if slide.error is None]
        if not counted:
            return f"None of these slides can be embedded. {found.slides[0].error}"
        left = str(JobProgress("", seconds_left=found.seconds)).removeprefix(" · ").removesuffix(" left")
        size = readable_size(found.n_bytes)
        slides = "1 slide" if len(counted) == 1 else f"{len(counted):,} slides"
        said = f"{slides}: {found.n_tiles:,} tiles, about {left} on this machine, {size} of embeddings."
        broken = [slide for slide in found.slides if slide.error is not None]
        return f"{said} {len(broken):,} cannot be embedded: {broken[0].slide}: {broken[0].error}" if broken else said


def _line(check: Check) -> str:
    """Return one finding as a line of rich text; what it says is text."""
    what_to_do = f" <b>{html.escape(remedy(check))}</b>" if check.remedy else ""
    sign = f"{SIGNS[check.verdict]} {html.escape(check.name)} ({SPOKEN[check.verdict]})"
    return f"<b>{sign}</b>: {html.escape(check.sentence)}{what_to_do}"


def _button(text: str, tip: str) -> QPushButton:
    """Return a button that may shrink."""
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setAccessibleName(text.removesuffix("…"))
    button.setMinimumWidth(30)
    return button
