"""The widget that learns: from labels of slides or from regions, in seconds, saying how sure it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QScrollArea,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_prospector._napari.docks import DockedWidget
from napari_prospector._napari.fit_form import FitForm
from napari_prospector._napari.fit_job import FitJob, FitResult, fit_head, plan_fit, tally
from napari_prospector._napari.keys import bind_keys
from napari_prospector._napari.progress import JobProgress, Refusal, Steps
from napari_prospector._napari.tasks import TaskBar
from napari_prospector._napari.workspace import workspace_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.viewer import Viewer

    from napari_prospector.core.autofit import Tried
    from napari_prospector.core.head import ProspectorHead

__all__ = ["FitWidget"]

COLUMNS = {
    "map": "Which map.",
    "concepts": "How many kinds of tissue.",
    "radius": "How far pairs reach, in steps.",
    "kernel": "How the evidence is weighed.",
    "AUROC": "How well the map tells tokens of slides of the class from tokens of other slides, each drawn by a head "
    "that had not seen the slide: .5 is chance. In brackets the 95 % interval.",
    "agreement": "How well the map agrees, within slides of the class, with an independent read-out; "
    "what is chosen by. In brackets the 95 % interval.",
}


class FitWidget(DockedWidget):
    """Fit a head and say what came of it.

    Parameters
    ----------
    napari_viewer
        The viewer whose workspace holds slides, labels and regions.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._workspace = workspace_of(napari_viewer)
        self.form = FitForm()
        self.fit_button = QPushButton("Fit")
        self.fit_button.setToolTip("Learn a head; nothing but these labels is used.")
        self.bar = TaskBar(kept="Stopped. The head that was there is still in use.")
        self.missing = _paragraph()
        self.sentence = _paragraph()
        self.notes = _paragraph()
        self.table = QTableWidget(0, len(COLUMNS))
        self.head_name = _paragraph()
        self.open_button = QPushButton("Open head …")
        self.save_button = QPushButton("Save head as …")
        self._lay_out()
        self._connect()
        bind_keys(self, self._workspace, self.fit_button)
        self._say("", "")
        self.refresh()
        self._show_head()

    def _lay_out(self) -> None:
        """Put form, button, result and table under each other, in what can be scrolled."""
        inner = QWidget()
        column = QVBoxLayout(inner)
        for widget in (
            self.form,
            self.fit_button,
            self.missing,
            self.bar,
            self.sentence,
            self.table,
            self.notes,
            self.head_name,
        ):
            column.addWidget(widget)
        row = QHBoxLayout()
        row.addWidget(self.open_button)
        row.addWidget(self.save_button)
        column.addLayout(row)
        column.addStretch(1)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QScrollArea.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(inner)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)
        self.table.setHorizontalHeaderLabels(list(COLUMNS))
        for number, hint in enumerate(COLUMNS.values()):
            self.table.horizontalHeaderItem(number).setToolTip(hint)
        self.table.setAccessibleName("What was tried")
        self.table.verticalHeader().hide()
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.table.setMinimumHeight(150)
        self.table.hide()
        self.open_button.setToolTip("Take another head, from a file.")
        self.save_button.setToolTip("Write a copy of the head to another file.")
        self.setMinimumWidth(300)

    def _connect(self) -> None:
        """Listen to fields, buttons and the workspace."""
        self.form.changed.connect(self.refresh)
        self.fit_button.clicked.connect(self.start)
        self.open_button.clicked.connect(self._ask_head)
        self.save_button.clicked.connect(self._ask_place)
        self.bar.running_changed.connect(self.refresh)
        self._workspace.changed.connect(self.refresh)
        self._workspace.head_changed.connect(self._show_head)

    @property
    def planned(self) -> FitJob | Refusal:
        """What Fit would do now, or why it cannot."""
        return plan_fit(self.form.request, self._workspace.study)

    def refresh(self, *_: Any) -> None:
        """Count the classes, and say whether they can be learned from."""
        study = self._workspace.study
        counts = tally(study, self.form.request.use)
        self.form.show_classes(counts, _likely_target(list(counts)))
        if self.bar.is_running:
            self.fit_button.setEnabled(False)
            return
        planned = self.planned
        self.fit_button.setEnabled(isinstance(planned, FitJob))
        self.fit_button.setText("Fit" if study.head is None else "Fit again")
        self.missing.setText(planned.sentence if isinstance(planned, Refusal) else "")
        self.missing.setVisible(isinstance(planned, Refusal))

    def start(self) -> None:
        """Fit, in a thread; what was tried is shown as it comes."""
        planned = self.planned
        if isinstance(planned, Refusal):
            self.refresh()
            return
        keeper = self._workspace.keeper
        self.table.setRowCount(0)
        self._say("", "")
        self.bar.run(lambda: fit_head(planned, lambda: keeper.opened().heads), self._take, self.show_tried)

    def show_tried(self, tried: Sequence[Tried]) -> None:
        """Fill the table; the first row is the best so far."""
        self.table.setRowCount(len(tried))
        for number, row in enumerate(tried):
            separation = (row.separation, row.separation_low, row.separation_high)
            cells = (
                row.map,
                str(row.n_concepts),
                str(row.radius),
                row.kernel,
                _measured(*(0.5 + value for value in separation)),
                _measured(row.excess, row.excess_low, row.excess_high),
            )
            for place, text in enumerate(cells):
                item = QTableWidgetItem(text)
                font = item.font()
                font.setBold(number == 0)
                item.setFont(font)
                self.table.setItem(number, place, item)
        self.table.setVisible(bool(tried))

    def save_head(self, path: Path) -> None:
        """Write the head to another file; this one stays in use."""
        head = self._workspace.head
        if head is None:
            return
        named = path if path.suffix == ".prospector" else path.with_name(path.name + ".prospector")
        self.bar.run(_saving(head, named), lambda _: self.bar.say(f"Saved {named.name}."))

    def _take(self, result: FitResult) -> None:
        """Use the head, and say what came of the fit."""
        self._workspace.use_head(result.path, f"Fit {result.path.stem}")
        self._say(result.verdict.sentence(result.datum), "\n".join((*result.left_out, *result.head.notes_)))
        selection = result.head.selection_
        self.show_tried((*selection.maps, *selection.kernels))
        self.table.setToolTip(selection.sentence())

    def _say(self, sentence: str, notes: str) -> None:
        """Show what came of a fit, and what to know before trusting it."""
        for label, text in ((self.sentence, sentence), (self.notes, notes)):
            label.setText(text)
            label.setVisible(bool(text))

    def _show_head(self) -> None:
        """Say which head is in use."""
        study, head = self._workspace.study, self._workspace.head
        self.save_button.setEnabled(head is not None)
        if study.head is None:
            self.head_name.setText("No head yet: fit one, or open one.")
        elif head is None:
            self.head_name.setText(self._workspace.head_problem or f"{study.head.name} is being loaded.")
        else:
            self.head_name.setText(f"In use: {study.head.name}")
            self._show_verdict(head)

    def _show_verdict(self, head: ProspectorHead) -> None:
        """Say what the head's file says of it, where this widget has not just fitted it."""
        from napari_prospector.study.verdict import Verdict

        card = head.card_.get("out_of_fold")
        if card is not None and not self.sentence.text():
            self._say(Verdict.of_card(card).sentence(str(head.card_.get("datum", "slide"))), "\n".join(head.notes_))
            self.show_tried((*head.selection_.maps, *head.selection_.kernels))

    def _ask_head(self) -> None:
        """Ask for a head's file."""
        chosen, _ = QFileDialog.getOpenFileName(self, "Open a head", "", "Heads (*.prospector)")
        if chosen:
            self._say("", "")
            self._workspace.use_head(Path(chosen))

    def _ask_place(self) -> None:
        """Ask where to save the head."""
        study = self._workspace.study
        name = study.head.name if study.head is not None else ""
        chosen, _ = QFileDialog.getSaveFileName(self, "Save the head as", name, "Heads (*.prospector)")
        if chosen:
            self.save_head(Path(chosen))


def _saving(head: ProspectorHead, path: Path) -> Callable[[], Steps[None]]:
    """Return what writes a head."""

    def steps() -> Steps[None]:
        yield JobProgress(f"Saving {path.name}")
        head.save(path)

    return steps


def _likely_target(names: list[str]) -> str | None:
    """Return the class that is not named like a negative, as `ProspectorHead` would choose of two."""
    if len(names) != 2:
        return None
    from napari_prospector.core.labels import positive_label

    return str(positive_label(names))


def _measured(value: float, low: float, high: float) -> str:
    """Return a value with its interval."""
    if np.isnan(value):
        return "–"
    bounds = "" if np.isnan(low) else f" [{low:.2f}, {high:.2f}]"
    return f"{value:.2f}{bounds}"


def _paragraph() -> QLabel:
    """Return a label for sentences, which can be selected."""
    label = QLabel()
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label
