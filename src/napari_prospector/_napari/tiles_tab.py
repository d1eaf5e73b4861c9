"""Typical tiles of the chosen concept, found once for a head, then shown at once; each opens its slide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from napari_prospector._napari.concept_legend import LegendRow, have_same_concepts
from napari_prospector._napari.concept_places import fly_to_px
from napari_prospector._napari.gallery_job import Gallery, find_gallery, place_of, read_pictures
from napari_prospector._napari.open_slides import add_layers, bring_to_front, open_source, read_slide
from napari_prospector._napari.progress import Failure, Refusal, Stopped
from napari_prospector._napari.tasks import Task, TaskBar, show_failure
from napari_prospector._napari.tiles_view import TilesView

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_prospector._napari.workspace import Workspace
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.study.best_tokens import Example
    from napari_prospector.tokens.tilepictures import Place

__all__ = ["TilesTab"]

MOST_SHOWN = 12
CHOOSE = "Choose a concept to see its most typical tiles."
NO_TOKENS = "There are no slides yet. Add and embed them under 'Slides', or draw a map under 'Prospect'."


class TilesTab(QWidget):
    """The gallery, and the task that fills it.

    Parameters
    ----------
    viewer
        Its viewer, not wrapped.
    workspace
        Of the viewer.
    """

    found = Signal()
    """The tokens of the cohort were looked at: look at `gallery`."""

    def __init__(self, viewer: Viewer, workspace: Workspace) -> None:
        super().__init__()
        self._viewer, self._workspace = viewer, workspace
        self.gallery: Gallery | None = None
        self._rows: tuple[LegendRow, ...] = ()
        self._chosen: LegendRow | None = None
        self._queue: tuple[tuple[Place, ...], ...] = ()
        self._tried: ProspectorHead | None = None
        self._is_stopped = False
        self.caption = QLabel(CHOOSE)
        self.again_button = QToolButton()
        self.view = TilesView()
        self.tasks = TaskBar("Stopped. ↻ goes on.")
        self._lay_out()
        self.again_button.clicked.connect(self.look_again)
        self.tasks.cancel_button.clicked.connect(self._stop)
        self.tasks.finished.connect(self._go_on)
        self.view.opened.connect(self.open_example)

    def _lay_out(self) -> None:
        """Put the caption over the pictures, and the task under them."""
        self.caption.setWordWrap(True)
        self.caption.setTextFormat(Qt.TextFormat.PlainText)
        self.caption.setAccessibleName("What the tiles are")
        self.caption.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.again_button.setText("↻")
        self.again_button.setAccessibleName("Look again")
        self.again_button.setToolTip("Look at the slides again, or go on reading tiles after a stop.")
        row = QHBoxLayout()
        row.addWidget(self.caption, 1)
        row.addWidget(self.again_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(2, 4, 2, 2)
        column.setSpacing(4)
        column.addLayout(row)
        column.addWidget(self.view, 1)
        column.addWidget(self.tasks)

    def show_rows(self, rows: Sequence[LegendRow], chosen: LegendRow | None, target: str) -> None:
        """Show the tiles of a row of the legend.

        Parameters
        ----------
        rows
            All rows, in the order in which their pictures are read.
        chosen
            The row; None: none is chosen.
        target
            The class that is looked for.
        """
        head = self._workspace.head
        if self.gallery is not None and (head is None or not have_same_concepts(self.gallery.head, head)):
            self.gallery = None
            self.tasks.cancel()
        self._rows, self._chosen = tuple(rows), chosen
        self.view.set_target(target)
        self._show()
        self._go_on()

    def _go_on(self) -> None:
        """Read what is wanted; of a head that was not looked at yet, find it first."""
        head = self._workspace.head
        if head is None or self._chosen is None or self._is_stopped:
            return
        if self.gallery is not None:
            self._read()
        elif self._tried is None or not have_same_concepts(self._tried, head):
            self._find()

    def look_again(self) -> None:
        """Go on reading after a stop; otherwise look at all tokens again."""
        was_stopped, self._is_stopped = self._is_stopped, False
        if self.gallery is not None and was_stopped:
            self._read()
        else:
            self._find()

    def open_example(self, example: Example) -> None:
        """Show a tile on its slide, which is opened if it is not."""
        gallery = self.gallery
        if gallery is None:
            return
        slide = gallery.slides[example.slide]
        if open_source(self._workspace.sources, slide.path) is not None:
            self._fly(gallery, example)
            return
        task = Task(read_slide(slide), self)
        task.finished.connect(lambda outcome: self._take_slide(task, gallery, example, outcome))
        task.start()

    def _take_slide(self, task: Task, gallery: Gallery, example: Example, outcome: Any) -> None:
        """Add a slide that was read, and fly there."""
        task.deleteLater()
        if isinstance(outcome, Failure):
            show_failure(outcome)
        elif isinstance(outcome, Refusal):
            self.tasks.say(outcome.sentence, is_error=True)
        elif not isinstance(outcome, Stopped):
            if open_source(self._workspace.sources, gallery.slides[example.slide].path) is None:
                add_layers(self._viewer, outcome)
            self._fly(gallery, example)

    def _fly(self, gallery: Gallery, example: Example) -> None:
        """Show a tile of a slide that is open."""
        source = open_source(self._workspace.sources, gallery.slides[example.slide].path)
        if source is None:
            return
        bring_to_front(self._viewer, source.layer)
        geometry = gallery.grids[example.slide].geometry
        row, col = geometry.centre_px(example.row, example.col).tolist()
        fly_to_px(self._viewer, source, geometry, (row, col))

    def _find(self) -> None:
        """Look for the typical tokens of all concepts, in a thread."""
        head, study, maps = self._workspace.head, self._workspace.study, self._workspace.maps
        if head is None or self.tasks.is_running:
            return
        if not (study.slides or maps):
            self.caption.setText(NO_TOKENS)
            return
        self._tried, self._is_stopped = head, False
        self.tasks.run(find_gallery(head, study, maps), self._take_gallery)

    def _take_gallery(self, gallery: Gallery) -> None:
        """Keep what was found, unless the head is another one by now."""
        head = self._workspace.head
        if head is None or not have_same_concepts(gallery.head, head):
            return
        self.gallery = gallery
        self.found.emit()
        self._show()
        self._read()

    def _show(self) -> None:
        """Show the tiles of the chosen row, those that are read."""
        gallery, row = self.gallery, self._chosen
        if row is None or gallery is None:
            self.view.tiles.set_examples(None, ())
            self.caption.setText(CHOOSE if row is None else row.name)
            return
        examples = gallery.of_group(row.members, MOST_SHOWN)
        self.view.tiles.set_examples(gallery, examples)
        self._caption()

    def _caption(self) -> None:
        """Say what the tiles are, and why some have no picture."""
        gallery, row = self.gallery, self._chosen
        if gallery is None or row is None:
            return
        read = [gallery.pictures.get(place_of(example)) for example in self.view.tiles.examples]
        problems = sorted({picture.problem for picture in read if picture is not None and picture.problem})
        self.caption.setText(" ".join([f"{row.name}: {gallery.sentence(row.members)}.", *problems[:1]]))

    def _read(self) -> None:
        """Read the pictures that are missing, the chosen concept's first."""
        gallery = self.gallery
        if gallery is None:
            return
        first = [self._chosen] if self._chosen is not None else []
        self._queue = tuple(
            tuple(place_of(example) for example in gallery.of_group(row.members, MOST_SHOWN))
            for row in (*first, *self._rows)
        )
        is_missing = any(place not in gallery.pictures for places in self._queue for place in places)
        if is_missing and not self.tasks.is_running and not self._is_stopped:
            # what becomes wanted in its last moment is read by the next, once this one is finished
            self.tasks.run(read_pictures(gallery, lambda: self._queue), _nothing, self._take_picture)

    def _take_picture(self, place: Place) -> None:
        """Show a picture that was read."""
        self.view.tiles.show_picture(place)
        if any(place_of(example) == place for example in self.view.tiles.examples):
            self._caption()

    def _stop(self) -> None:
        """Remember that the user does not want it."""
        self._is_stopped = True


def _nothing(_: object) -> None:
    """Do nothing with a result."""
