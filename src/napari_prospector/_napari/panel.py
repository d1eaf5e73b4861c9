"""The widget Prospect: apply a head to a slide, and see where the class lives.

A thin shell. What the fields say becomes a `ProspectRequest`, `plan` turns it into a job or a refusal, and the task bar
does it in a thread; what is drawn is kept by the workspace, where the other widgets find it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QFrame, QLabel, QPushButton, QScrollArea, QVBoxLayout, QWidget

from napari_prospector._napari.array_slides import ArraySlide
from napari_prospector._napari.cohort_job import (
    CohortJob,
    CohortResult,
    SlideFound,
    cohort_files,
    plan_cohort,
    prospect_cohort,
)
from napari_prospector._napari.docks import DockedWidget, show_widget
from napari_prospector._napari.drawn_layers import add_result, is_open, show_map
from napari_prospector._napari.form import ProspectForm, small
from napari_prospector._napari.grey_box import GreyBox
from napari_prospector._napari.job import ProspectResult, prospect
from napari_prospector._napari.keys import bind_keys
from napari_prospector._napari.live_maps import live_maps_of
from napari_prospector._napari.map_export import export_files, export_map
from napari_prospector._napari.map_section import MapSection
from napari_prospector._napari.request import (
    Facts,
    ProspectRequest,
    Refusal,
    default_tokens_path,
    encoder_of,
    head_caption,
    plan,
)
from napari_prospector._napari.sources import Source
from napari_prospector._napari.tasks import TaskBar
from napari_prospector._napari.workspace import DrawnMap, workspace_of

if TYPE_CHECKING:
    from napari.viewer import Viewer
    from qtpy.QtGui import QCloseEvent

    from napari_prospector.study.project import Study

__all__ = ["ProspectPanel", "show_panel"]

WIDGET = "Prospect"
KEPT = "Stopped. What was embedded is kept; Prospect goes on from there."


class ProspectPanel(DockedWidget):
    """Apply a head to an open slide.

    Parameters
    ----------
    napari_viewer
        The viewer that holds the slide and gets the map.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer: Viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.workspace = workspace_of(napari_viewer)
        self._running: Source | None = None
        self._start_with: tuple[Path, str | None, str | None] | None = None
        self.form, self.grey = ProspectForm(), GreyBox(self._viewer, self.workspace)
        self.run_button = QPushButton("Prospect")
        self.run_button.setToolTip("Embed what is missing of the slide, and draw all maps of the head.")
        self.hint, self.verdict = _text("Why it cannot start"), _text("What the head says about the slide")
        self.notes = small(_text("What to know before trusting it"))
        self.tasks = TaskBar(KEPT)
        self.live_maps = live_maps_of(self._viewer, self.workspace)
        self.section = MapSection(self._viewer, self.workspace)
        self._lay_out()
        self._connect()
        bind_keys(self, self.workspace, self.run_button)
        self._list_sources()
        self._show_head()

    def _lay_out(self) -> None:
        """Put form, button, progress and results under each other, in a frame that scrolls where it is too low."""
        inside = QWidget()
        column = QVBoxLayout(inside)
        for widget in (
            self.grey,
            self.form,
            self.run_button,
            self.hint,
            self.tasks,
            self.verdict,
            self.notes,
            self.section,
        ):
            column.addWidget(widget)
        column.addStretch(1)
        frame = QScrollArea()
        frame.setWidget(inside)
        frame.setWidgetResizable(True)
        frame.setFrameShape(QFrame.Shape.NoFrame)
        frame.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        outside = QVBoxLayout(self)
        outside.setContentsMargins(0, 0, 0, 0)
        outside.addWidget(frame)
        self.setMinimumWidth(300)

    def _connect(self) -> None:
        """Listen to fields, buttons and the workspace."""
        self.form.changed.connect(self.refresh)
        self.form.slide_chosen.connect(self._choose_slide)
        self.form.map_chosen.connect(self._choose_map)
        self.form.head.changed.connect(self._use_head)
        self.run_button.clicked.connect(self._begin)
        self.section.export.asked.connect(self.export_to)
        self.tasks.finished.connect(self._rest)
        self.workspace.sources_changed.connect(self._list_sources)
        self.workspace.head_changed.connect(self._show_head)
        self.workspace.maps_changed.connect(self._show_drawn)
        self.workspace.changed.connect(self._take_study)

    @property
    def is_running(self) -> bool:
        """Whether a job is at work."""
        return self.tasks.is_running

    @property
    def request(self) -> ProspectRequest:
        """What the fields ask for now."""
        source, study = self.workspace.current, self.workspace.study
        row = None if source is None or source.path is None else study.slide(source.path)
        return ProspectRequest(
            layer=source.layer.name if source else None,
            kind=source.kind if source else "slide",
            path=source.path if source else None,
            head=study.head,
            map=self.form.asked_map,
            target=self.form.asked_target,
            mpp=self.form.asked_mpp or (None if row is None else row.mpp),
            tokens=self.form.tokens.path or (None if row is None else row.tokens),
            weights=self.form.weights.path,
        )

    @property
    def facts(self) -> Facts:
        """What is known about what the fields name."""
        source = self.workspace.current
        return Facts(source.mpp if source else None, self.workspace.head, self.workspace.head_problem)

    def choose_head(self, path: Path) -> None:
        """Take a head, as if the user had chosen it."""
        self.workspace.use_head(path)

    def ask(
        self,
        head: Path,
        *,
        map: str | None = None,
        target: str | None = None,
        tokens: Path | None = None,
        weights: Path | None = None,
    ) -> None:
        """Fill in the fields and start as soon as the head is loaded; a map or class that it lacks is refused."""
        self.form.tokens.set_path(tokens)
        self.form.weights.set_path(weights)
        self._start_with = (head, map, target)
        self.choose_head(head)

    def refresh(self) -> None:
        """Show what is known, and whether the job can start; else why not."""
        source, head = self.workspace.current, self.workspace.head
        slide = source.path if source is not None and source.kind == "slide" else None
        self.form.show_slide(
            source.caption if source else "",
            needs_mpp=source is not None and source.kind == "slide" and source.mpp is None,
        )
        if source is not None and source.is_array:
            self.form.show_tokens(None, "in your cache")
        elif slide is not None and head is not None:
            self.form.show_tokens(default_tokens_path(slide, encoder_of(head)))
        planned = self._cohort_job(Path()) if self.form.is_for_all else plan(self.request, self.facts)
        is_refused = isinstance(planned, Refusal)
        n_slides = len(self.workspace.study.slides)
        self.run_button.setText(f"Prospect {n_slides:,} slides …" if self.form.is_for_all else "Prospect")
        self.run_button.setEnabled(not is_refused and not self.is_running)
        self.section.export.setEnabled(not self.is_running)
        self.hint.setText(planned.sentence if isinstance(planned, Refusal) else "")
        self.hint.setVisible(is_refused)
        self.tasks.setVisible(self.is_running or bool(self.tasks.status.text()))

    def _begin(self) -> None:
        """Start on this slide, or ask where the maps of all slides are to go."""
        if not self.form.is_for_all:
            self.start()
            return
        project = self.workspace.keeper.project if self.workspace.keeper.is_named else None
        start = "" if project is None else str(project.folder / "maps")
        folder = QFileDialog.getExistingDirectory(self, "Maps of all slides go to", start)
        if folder:
            self.start_all(Path(folder))

    def start_all(self, folder: Path) -> None:
        """Prospect all slides of the cohort; maps that are there already are replaced only after a question."""
        job = self._cohort_job(folder)
        if self.is_running or isinstance(job, Refusal):
            self.refresh()
        elif self.section.export.may_replace(cohort_files(job)):
            self.tasks.run(lambda: prospect_cohort(job), self._tell_cohort, self._add_found)
            self.refresh()

    def _cohort_job(self, folder: Path) -> CohortJob | Refusal:
        """Return what prospects all slides of the cohort."""
        shown = frozenset(source.path for source in self.workspace.sources if source.path is not None)
        return plan_cohort(self.workspace.study.slides, self.request, self.facts, folder, shown)

    def _add_found(self, found: SlideFound) -> None:
        """Show what was found on a slide of the cohort that is open."""
        for source in self.workspace.sources:
            if source.path == found.path:
                self.workspace.keep_map(add_result(self._viewer, source, found.result))

    def _tell_cohort(self, result: CohortResult) -> None:
        """Say what came of the cohort."""
        self.tasks.say(result.sentence(), is_error=bool(result.problems))

    def start(self) -> None:
        """Do what the fields ask for, in a thread."""
        source, planned = self.workspace.current, plan(self.request, self.facts)
        if self.is_running or source is None or isinstance(planned, Refusal):
            self.refresh()
            return
        self._running = source
        job = replace(planned, array=ArraySlide.of_layer(source.layer, planned.mpp)) if planned.is_array else planned
        self.tasks.run(lambda: prospect(job), self._add_result)
        self.refresh()

    def export_to(self, folder: Path) -> None:
        """Write what the fields ask for of the map that is shown; what is there already only after a question."""
        request = self.section.export_request(folder)
        if self.is_running or request is None or not self.section.export.may_replace(export_files(request)):
            return
        self.tasks.run(lambda: export_map(request), self._tell_written)
        self.refresh()

    def _tell_written(self, files: list[Path]) -> None:
        """Say what was written."""
        self.tasks.say(f"Written to {files[0].parent}: {', '.join(file.name for file in files)}")

    def cancel(self) -> None:
        """Ask the job to stop; it does so after the batch at hand, and what is embedded is kept."""
        self.tasks.cancel()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Stop the job with the panel."""
        self.cancel()
        super().closeEvent(event)

    def _use_head(self) -> None:
        """Take the head that was typed, chosen or dropped, unless it is the one at hand."""
        path, study = self.form.head.path, self.workspace.study
        if path is None and study.head is not None:
            self.workspace.edit("Put the head away", replace(study, head=None, concepts=None))
        elif path is not None and path != study.head:
            self.workspace.use_head(path)

    def _show_head(self) -> None:
        """Describe the head at hand, and start where that was asked for."""
        head, path = self.workspace.head, self.workspace.study.head
        self.form.show_head_file(path)
        self.form.show_head(head, "" if head is None else head_caption(head))
        self._show_drawn()
        self.refresh()
        if head is not None and self._start_with is not None and self._start_with[0] == path:
            (_, map, target), self._start_with = self._start_with, None
            self._start_as_asked(map, target)

    def _start_as_asked(self, map: str | None, target: str | None) -> None:
        """Choose map and class, None for those that are chosen already, and start; refuse what the head lacks."""
        for field, name in ((self.form.map, map), (self.form.target, target)):
            if name is not None:
                field.setCurrentText(name)
        # a name that is not listed leaves its field as it was
        asked = replace(self.request, map=map or self.request.map, target=target or self.request.target)
        planned = plan(asked, self.facts)
        if asked != self.request and isinstance(planned, Refusal):
            self.tasks.say(planned.sentence, is_error=True)
            self.refresh()
            return
        self.start()

    def _add_result(self, result: ProspectResult) -> None:
        """Show what a job found on the slide that it was for, whichever is at hand now."""
        source = self._running
        if source is not None and is_open(self._viewer, source):
            self.workspace.keep_map(add_result(self._viewer, source, result))

    def _rest(self) -> None:
        """Come to rest after a job."""
        source, self._running = self._running, None
        if source is not None and not is_open(self._viewer, source):
            self.tasks.say("The slide was removed, so its job stopped. What was embedded is kept.")
        self.refresh()

    def _take_study(self, before: Study, after: Study) -> None:
        """Count the slides of the cohort again."""
        if before.slides is not after.slides:
            self.refresh()

    def _show_drawn(self) -> None:
        """Show what was found on the slide at hand."""
        drawn = self.workspace.map_of(self.workspace.current)
        notes = () if drawn is None else (*drawn.head.notes_, *drawn.head.concept_edits_.notes())
        verdict = "" if drawn is None else self._other_head(drawn) + drawn.verdict
        for label, text in ((self.verdict, verdict), (self.notes, "\n".join(notes))):
            label.setText(text)
            label.setVisible(bool(text))
        self.section.show_map(drawn, "" if drawn is None else self._shown_map())

    def _other_head(self, drawn: DrawnMap) -> str:
        """Say so where the map is of another head than the one at hand."""
        head = self.workspace.study.head
        if head is None or not drawn.head_name or head.name == drawn.head_name:
            return ""
        return f"This map is of {drawn.head_name}; press Prospect to draw that of {head.name}.\n"

    def _shown_map(self) -> str:
        """Return the map of the slide at hand that is looked at: the chosen one, if its head draws it."""
        drawn = self.workspace.map_of(self.workspace.current)
        assert drawn is not None
        asked = self.form.asked_map
        return asked if asked is not None and asked in drawn.maps else drawn.shown

    def _choose_slide(self, index: int) -> None:
        """Take the chosen slide in hand."""
        known = self.workspace.sources
        if 0 <= index < len(known):
            # selected too, so that selecting another slide's layer is a change
            self._viewer.layers.selection.active = known[index].layer
            self.workspace.choose(known[index])

    def _choose_map(self) -> None:
        """Show the chosen map where it is drawn already."""
        drawn = self.workspace.map_of(self.workspace.current)
        if drawn is not None:
            show_map(self._viewer, drawn.source, self._shown_map())
        self._show_drawn()

    def _list_sources(self) -> None:
        """List the layers that can be prospected, and stop the job of one that was removed."""
        if self._running is not None and not is_open(self._viewer, self._running):
            self.cancel()
        known, current = self.workspace.sources, self.workspace.current
        at = next((i for i, source in enumerate(known) if current and source.layer is current.layer), -1)
        self.form.set_slides([source.layer.name for source in known], at)
        self._show_drawn()
        self.refresh()


def show_panel(viewer: Viewer) -> ProspectPanel:
    """Return the panel of a viewer, opened if it is not there yet."""
    return show_widget(viewer, ProspectPanel, WIDGET)


def _text(name: str) -> QLabel:
    """Return a label for a sentence, hidden until there is one; what files say is text, whatever it looks like."""
    label = QLabel()
    label.setAccessibleName(name)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.hide()
    return label
