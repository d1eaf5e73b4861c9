"""The dock widget of the cohort: add slides, label them, embed them, open them.

A thin shell: `find_slides`, `look_at`, `plan_embedding` and `embed` do the work; every edit is one of the study,
and the study is what the table shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QFileDialog

from napari_prospector._napari.docks import DockedWidget, show_widget
from napari_prospector._napari.embed_job import EmbedJob, EmbedResult, check_embedding, embed, estimate, plan_embedding
from napari_prospector._napari.encoder_form import listed_cards
from napari_prospector._napari.find_slides import Found, find_slides
from napari_prospector._napari.keys import bind_keys
from napari_prospector._napari.lookout import Lookout
from napari_prospector._napari.open_slides import (
    add_layers,
    bring_to_front,
    open_source,
    picture,
    read_grid,
    read_slide,
)
from napari_prospector._napari.progress import Failure, JobProgress, Refusal, Steps
from napari_prospector._napari.request import MPP_RANGE
from napari_prospector._napari.slide_state import SlideState, look_at
from napari_prospector._napari.slides_layout import SlidesLayout
from napari_prospector._napari.slides_model import THUMBNAIL_PX, Column
from napari_prospector._napari.tasks import Task, show_failure
from napari_prospector._napari.workspace import workspace_of
from napari_prospector.study.project import EncoderChoice, Study, StudySlide

if TYPE_CHECKING:
    from napari.viewer import Viewer
    from qtpy.QtGui import QDragEnterEvent, QDropEvent

    from napari_prospector._napari.sources import Source
    from napari_prospector.tokens.doctor import Check
    from napari_prospector.tokens.estimate import EmbeddingEstimate

__all__ = ["SlidesWidget", "show_slides"]

WIDGET = "Slides"
FIELDS = {Column.LABEL: "label", Column.GROUP: "group", Column.MPP: "mpp"}


class SlidesWidget(DockedWidget):
    """The cohort as a table.

    Parameters
    ----------
    napari_viewer
        The viewer that slides are opened in.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.workspace = workspace_of(napari_viewer)
        self.ui = SlidesLayout(self, self.workspace)
        self.model, self.table, self.bar = self.ui.model, self.ui.table, self.ui.bar
        self._looked: dict[Path, tuple[object, ...]] = {}
        self._adding: object = None
        self._n_before = 0
        self._asked_to_embed: EmbedJob | None = None
        self._states = Lookout(lambda asked: look_at(*asked), self)
        self._pictures = Lookout(partial(picture, most_px=2 * THUMBNAIL_PX), self, newest_first=True, most_waiting=60)
        self._connect()
        bind_keys(self, self.workspace, self.ui.embed_all_button)
        self.setAcceptDrops(True)
        self._follow(Study(), self.workspace.study)
        cards = Task(listed_cards, self)
        cards.finished.connect(self._take_cards)
        cards.start()

    def _connect(self) -> None:
        """Listen to the workspace, the table, the fields and the buttons."""
        self.workspace.changed.connect(self._follow)
        self.workspace.sources_changed.connect(self.refresh)
        self.workspace.maps_changed.connect(self._look_again)
        self.model.picture_wanted.connect(self._pictures.ask)
        self._pictures.found.connect(self._show_pictures)
        self._pictures.dropped.connect(self.model.ask_again)
        self._states.found.connect(self._show_states)
        self.table.edited.connect(self._edit_cells)
        self.table.opened.connect(self.open_slides)
        self.table.removed.connect(self.remove)
        self.table.selectionModel().selectionChanged.connect(self.refresh)
        self.ui.encoder.changed.connect(self._choose_encoder)
        self.bar.running_changed.connect(self.refresh)
        self.ui.adding.running_changed.connect(self.refresh)
        for button, act in (
            (self.ui.files_button, self._ask_files),
            (self.ui.folder_button, self._ask_folder),
            (self.ui.table_button, self._ask_table),
            (self.ui.save_button, self._ask_save),
            (self.ui.label_button, self._label_selected),
            (self.ui.remove_button, self._remove_selected),
            (self.ui.open_button, self._open_selected),
            (self.ui.grid_button, self._show_grid),
            (self.ui.embed_button, self._embed_selected),
            (self.ui.embed_all_button, self._embed_all),
            (self.ui.check_button, self._check),
            (self.ui.anyway_button, self._embed_anyway),
        ):
            button.clicked.connect(act)

    # -- the study and the table

    def _follow(self, before: Study, now: Study) -> None:
        """Show the study as it is, and look at the slides of which something is not known."""
        if before.slides is not now.slides or self.model.rowCount() != len(now.slides):
            self.model.set_slides(now.slides)
        if self.ui.encoder.choice != now.encoder:
            self.ui.encoder.set_choice(now.encoder)
        if before.encoder != now.encoder:
            self._states.forget()
            self._looked.clear()
            self.ui.show_verdict(())
        self._look_at([slide for slide in now.slides if self._is_unknown(slide, now.encoder)])
        self.ui.set_labels(now.labels)
        self.refresh()

    def _is_unknown(self, slide: StudySlide, choice: EncoderChoice) -> bool:
        """Whether nobody has looked at a slide, or only with other settings."""
        return self._looked.get(slide.path) != (choice, slide.mpp, slide.tokens)

    def _look_at(self, slides: Sequence[StudySlide]) -> None:
        """Find out what is to be known of slides."""
        choice = self.workspace.study.encoder
        self.model.forget_states([slide.path for slide in slides])
        for slide in slides:
            self._looked[slide.path] = (choice, slide.mpp, slide.tokens)
            self._states.ask((slide, choice))

    def _look_again(self) -> None:
        """Look at the slides that maps were drawn for: they may have been embedded for it."""
        drawn = {one.source.path for one in self.workspace.maps}
        self._look_at([slide for slide in self.workspace.study.slides if slide.path in drawn])

    def _show_states(self, answers: Sequence[tuple[tuple[StudySlide, EncoderChoice], SlideState]]) -> None:
        """Show what was found of slides, unless it is out of date."""
        for (_, choice), state in answers:
            if choice == self.workspace.study.encoder:
                self.model.set_state(state)
        self.refresh()

    def _show_pictures(self, answers: Sequence[tuple[StudySlide, Any]]) -> None:
        """Show thumbnails."""
        for slide, image in answers:
            self.model.set_picture(slide.path, image)

    def _take_cards(self, outcome: Any) -> None:
        """List the encoders."""
        if isinstance(outcome, tuple):
            self.ui.encoder.set_cards(outcome)
        elif isinstance(outcome, Failure):
            show_failure(outcome)

    def _choose_encoder(self) -> None:
        """Take the encoder that was chosen."""
        choice = self.ui.encoder.choice
        study = self.workspace.study
        if choice != study.encoder:
            self.workspace.edit(f"Choose the encoder {choice.name}", replace(study, encoder=choice), key="encoder")

    def _edit_cells(self, column: int, paths: Sequence[Path], text: str) -> None:
        """Give slides a label, a group or a pixel size."""
        name = FIELDS[Column(column)]
        value: str | float | None = text or None
        if name == "mpp" and text:
            value = _pixel_size(text)
            if value is None:
                low, high = MPP_RANGE
                self.bar.say(f"A pixel size is a number between {low} and {high} µm; got {text!r}.")
                return
        if name == "mpp":
            # where the file states one it counts
            paths = [path for path in paths if self._states_no_mpp(path)]
        what = "pixel size" if name == "mpp" else name
        said = f"Set {what} of {_count(len(paths))}" if value is not None else f"Clear {what} of {_count(len(paths))}"
        if name == "label" and value is not None:
            said = f"Label {_count(len(paths))} {value}"
        study = self.workspace.study.with_fields(paths, **{name: value})
        if study != self.workspace.study:
            self.workspace.edit(said, study)

    def _states_no_mpp(self, path: Path) -> bool:
        """Whether the file of a slide states no pixel size."""
        slide = self.workspace.study.slide(path)
        state = None if slide is None else self.model.state_of(slide)
        return state is not None and state.stated_mpp is None

    def _label_selected(self) -> None:
        """Give the selected slides the label of the box."""
        self._edit_cells(
            Column.LABEL, [slide.path for slide in self.table.selected], self.ui.label.currentText().strip()
        )

    def remove(self, slides: Sequence[StudySlide]) -> None:
        """Take slides out of the cohort; their files stay."""
        if slides:
            study = self.workspace.study.without_slides(slide.path for slide in slides)
            self.workspace.edit(f"Remove {_count(len(slides))}", study)

    def _remove_selected(self) -> None:
        """Take the selected slides out."""
        self.remove(self.table.selected)

    # -- adding and saving

    def add(self, paths: Sequence[Path]) -> None:
        """Add files, what folders hold, and the slides of cohort tables, as one edit."""
        self.run_adding(partial(find_slides, list(paths)), self._say_found)

    def run_adding(self, steps: Any, on_result: Any) -> None:
        """Run what finds slides, and add them as they come."""
        if self.ui.adding.is_running:
            self.ui.adding.say("Wait until the slides before are found, or cancel that.")
            return
        self._adding, self._n_before = object(), len(self.workspace.study.slides)
        self.ui.adding.run(steps, on_result, self._add_found)

    def _add_found(self, slides: Sequence[StudySlide]) -> None:
        """Add slides that were found; all of one search are one edit."""
        study = self.workspace.study.with_slides(slides)
        if study != self.workspace.study:
            self.workspace.edit("Add slides", study, key=self._adding)

    def add_sample(self, steps: Callable[[], Steps[list[StudySlide]]], on_file: Callable[[Path], None]) -> None:
        """Make a cohort of samples and add it; tell of each file that is there."""

        def add(slides: list[StudySlide]) -> None:
            study = self.workspace.study.with_slides(slides)
            if study != self.workspace.study:
                self.workspace.edit("Add sample slides", study)
            self.ui.adding.say("These slides have labels. Embed all, then fit a head under Fit.")

        self.ui.adding.run(steps, add, on_file)

    def _say_found(self, found: Found) -> None:
        """Say how many there were."""
        n_new = max(0, len(self.workspace.study.slides) - self._n_before)
        self.ui.adding.say(found.sentence(min(n_new, found.n_slides)))

    def _ask_files(self) -> None:
        """Ask for slide files."""
        names, _ = QFileDialog.getOpenFileNames(self, "Add slides", "", "All files (*)")
        if names:
            self.add([Path(name) for name in names])

    def _ask_folder(self) -> None:
        """Ask for a folder."""
        name = QFileDialog.getExistingDirectory(self, "Add a folder of slides")
        if name:
            self.add([Path(name)])

    def _ask_table(self) -> None:
        """Ask for a cohort's table."""
        name, _ = QFileDialog.getOpenFileName(self, "Open a cohort table", "", "Tables (*.csv)")
        if name:
            self.add([Path(name)])

    def _ask_save(self) -> None:
        """Ask where to save the table."""
        name, _ = QFileDialog.getSaveFileName(self, "Save the cohort table", "cohort.csv", "Tables (*.csv)")
        if name:
            self.save(Path(name))

    def save(self, path: Path) -> None:
        """Save the table, with paths relative to it."""
        slides = self.workspace.study.slides

        def steps() -> Steps[Path]:
            from napari_prospector.study.cohort_table import write_cohort

            yield JobProgress(f"Saving {path.name}")
            return write_cohort(path, [slide.row() for slide in slides])

        def said(table: Path) -> None:
            self.ui.adding.say(f"Saved {_count(len(slides))} in {table.name}.")

        self.ui.adding.run(steps, said)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Accept files and folders."""
        if any(url.isLocalFile() for url in event.mimeData().urls()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Add what was dropped."""
        event.acceptProposedAction()
        self.add([Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()])

    # -- opening

    def open_slides(self, slides: Sequence[StudySlide]) -> None:
        """Open slides in the viewer, or bring those that are open to the front."""
        for slide in slides:
            source = open_source(self.workspace.sources, slide.path)
            if source is not None:
                bring_to_front(self._viewer, source.layer)
            else:
                self._read(read_slide(slide), self._show_slide)

    def _open_selected(self) -> None:
        """Open the selected slides."""
        self.open_slides(self.table.selected)

    def _show_grid(self) -> None:
        """Show the token grid of the selected slide over it."""
        for slide in self.table.selected:
            source, state = open_source(self.workspace.sources, slide.path), self.model.state_of(slide)
            if source is not None and source.kind == "slide" and state is not None and state.tokens is not None:
                self._read(read_grid(state.tokens, source), partial(self._show_over, source))

    def _read(self, steps: Any, show: Any) -> None:
        """Read layers in a thread, and show them."""
        task = Task(steps, self)

        def finish(outcome: Any) -> None:
            task.deleteLater()
            if isinstance(outcome, Refusal):
                self.bar.say(outcome.sentence, is_error=True)
            elif isinstance(outcome, list):
                show(outcome)
            elif isinstance(outcome, Failure):
                show_failure(outcome)

        task.finished.connect(finish)
        task.start()

    def _show_slide(self, layers: Any) -> None:
        """Add a slide that was read, and frame it."""
        added = add_layers(self._viewer, layers)
        self._viewer.layers.selection.active = added[-1]
        self._viewer.reset_view()

    def _show_over(self, source: Source, layers: Any) -> None:
        """Add layers that were read over their slide, which stays the one at hand; not if it was closed meanwhile."""
        if any(source.layer is layer for layer in self._viewer.layers):
            add_layers(self._viewer, layers)
            self._viewer.layers.selection.active = source.layer

    # -- embedding

    def refresh(self, *_: object) -> None:
        """Enable what can be done now, and say why the rest cannot."""
        selected = self.table.selected
        states = [self.model.state_of(slide) for slide in selected]
        choice = self.workspace.study.encoder
        self.ui.enable(
            selected,
            has_grid=any(
                state is not None and state.total and open_source(self.workspace.sources, state.slide.path) is not None
                for state in states
            ),
            plan_selected=plan_embedding(states, choice) if selected else Refusal("Select slides in the table first."),
            plan_all=plan_embedding([self.model.state_of(slide) for slide in self.workspace.study.slides], choice),
        )

    def _meant(self, *, selected: bool) -> EmbedJob | Refusal:
        """Return the job of the selected slides, or of all."""
        slides = self.table.selected if selected else list(self.workspace.study.slides)
        return plan_embedding([self.model.state_of(slide) for slide in slides], self.workspace.study.encoder)

    def _embed_selected(self) -> None:
        """Embed the selected slides."""
        self._start(self._meant(selected=True))

    def _embed_all(self) -> None:
        """Embed all slides."""
        self._start(self._meant(selected=False))

    def _start(self, job: EmbedJob | Refusal) -> None:
        """Ask the doctor, and begin unless something is to be looked at first."""
        if isinstance(job, Refusal):
            self.bar.say(job.sentence)
            return
        self._asked_to_embed = job
        self.ui.show_verdict(())
        self.bar.run(partial(check_embedding, job), partial(self._judge, job))

    def _judge(self, job: EmbedJob, checks: tuple[Check, ...]) -> None:
        """Begin if the doctor has nothing to say; else show it."""
        if all(check.verdict == "green" for check in checks):
            self.embed(job)
            return
        self.ui.show_verdict(checks, can_start=all(check.verdict != "red" for check in checks))

    def _embed_anyway(self) -> None:
        """Begin in spite of warnings."""
        self.ui.show_verdict(())
        if self._asked_to_embed is not None:
            self.embed(self._asked_to_embed)

    def embed(self, job: EmbedJob) -> None:
        """Embed slides, whatever the doctor says."""
        self.bar.run(partial(embed, job), self._say_embedded, self._show_state)

    def _say_embedded(self, result: EmbedResult) -> None:
        """Say what came of it."""
        self.bar.say(result.sentence(), is_error=bool(result.problems))

    def _show_state(self, state: Any) -> None:
        """Show how far a slide is."""
        if isinstance(state, SlideState) and state.choice == self.workspace.study.encoder:
            self.model.set_state(state)

    def _check(self) -> None:
        """Ask the doctor, slides included, and measure how long it would take."""
        job = self._meant(selected=bool(self.table.selected))
        if isinstance(job, Refusal):
            self.bar.say(job.sentence)
            return
        self._asked_to_embed = job
        self.ui.show_verdict(())
        self.bar.run(partial(check_embedding, job), partial(self._estimate, job))

    def _estimate(self, job: EmbedJob, checks: tuple[Check, ...]) -> None:
        """Show what the doctor says, and measure unless it says no."""
        is_possible = all(check.verdict != "red" for check in checks)
        self.ui.show_verdict(checks, can_start=is_possible, always=True)
        if is_possible:
            self.bar.run(partial(estimate, job), self._say_estimate, self._show_state)

    def _say_estimate(self, found: EmbeddingEstimate) -> None:
        """Say how much it would be."""
        self.bar.say(self.ui.estimate_sentence(found))


def show_slides(viewer: Viewer) -> SlidesWidget:
    """Return the widget of a viewer, opened if it is not there yet."""
    return show_widget(viewer, SlidesWidget, WIDGET)


def _count(n_slides: int) -> str:
    """Return a number of slides in words."""
    return "1 slide" if n_slides == 1 else f"{n_slides:,} slides"


def _pixel_size(text: str) -> float | None:
    """Return a pixel size that was typed, with a point or a comma; None where it cannot be one."""
    try:
        mpp = float(text.replace("µm", "").replace(",", ".").strip())
    except ValueError:
        return None
    low, high = MPP_RANGE
    return mpp if low <= mpp <= high else None
