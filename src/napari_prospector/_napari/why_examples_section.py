"""The nearest examples of a place: the cohort read once for a head, rows of pictures, and the way to each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QPushButton, QVBoxLayout, QWidget

from napari_prospector._napari.camera import fly_to
from napari_prospector._napari.open_slides import add_layers, bring_to_front, open_source, read_slide
from napari_prospector._napari.tasks import TaskBar
from napari_prospector._napari.why_ask import Asker, ExamplePicture, Nearest
from napari_prospector._napari.why_canvas import world_of
from napari_prospector._napari.why_cohort import CohortExamples, CohortRequest, read_cohort
from napari_prospector._napari.why_examples import ExampleRows
from napari_prospector._napari.why_layout import say, sentence

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_prospector._napari.sources import Source
    from napari_prospector._napari.workspace import Workspace
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.study.nearest import Example

__all__ = ["ExamplesSection"]

SEEN = 8
"""Tokens that are seen around an example that is flown to."""
NO_LABELS = "Examples come from labelled slides. Give labels under 'Slides'."


class ExamplesSection(QWidget):
    """Shows the nearest examples, and reads what is needed to find them.

    Parameters
    ----------
    viewer, workspace
        Not wrapped.
    """

    outdated = Signal()
    """Other examples would be found now."""

    def __init__(self, viewer: Viewer, workspace: Workspace) -> None:
        super().__init__()
        self._viewer, self._workspace = viewer, workspace
        self._cohort: CohortExamples | None = None
        self._wanted: CohortRequest | None = None
        self._going: tuple[CohortExamples, Example] | None = None
        self._opener = Asker(self)
        self.hint = sentence("About the examples")
        self.rows = ExampleRows()
        self.with_own = QCheckBox("From this slide too")
        self.with_own.setToolTip("Whether tokens of the very slide that is asked about may be among its examples.")
        self.read = QPushButton("Read the cohort")
        self.read.setToolTip("Read tokens of the labelled slides, once for a head, to find examples among them.")
        self.tasks = TaskBar("Stopped. Press 'Read the cohort' to find examples.")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        for widget in (self.hint, self.rows, self.with_own, self.read, self.tasks):
            column.addWidget(widget)
        self.with_own.toggled.connect(self._tell)
        self.read.clicked.connect(self._read)
        self.rows.chosen.connect(self.go_to)
        self.tasks.finished.connect(self.refresh)
        self._opener.finished.connect(self._show_slide)
        self._opener.refused.connect(self._refuse)
        self.clear()

    def cohort_for(self, head: ProspectorHead) -> CohortExamples | None:
        """Return the cohort as it was read for a head; None where it was not: then it is read, unless it cannot be."""
        wanted = CohortRequest.of(head, self._workspace.study.slides)
        if self._cohort is not None and wanted.is_same(self._cohort.request):
            return self._cohort
        self.rows.clear()
        if not self.tasks.is_running and not wanted.is_same(self._wanted):
            self._wanted = wanted
            if wanted.slides:
                self._read()
        self.refresh()
        return None

    def show_nearest(self, nearest: Nearest) -> None:
        """Show examples; their pictures follow."""
        n_missing = nearest.cohort.n_missing
        say(self.hint, f"{n_missing} labelled slides are not embedded." if n_missing else "")
        self.rows.show_nearest(nearest)

    def show_picture(self, found: ExamplePicture) -> None:
        """Show the picture of an example."""
        self.rows.show_picture(found)

    def clear(self) -> None:
        """Show no examples."""
        self.rows.clear()
        self.refresh()

    def refresh(self) -> None:
        """Offer to read the cohort where it was not read, and say what examples need."""
        cohort, wanted = self._cohort, self._wanted
        is_read = cohort is not None and wanted is not None and wanted.is_same(cohort.request)
        can_read = wanted is not None and bool(wanted.slides) and not is_read and not self.tasks.is_running
        self.read.setVisible(can_read)
        self.with_own.setVisible(is_read)
        self.tasks.setVisible(self.tasks.is_running or bool(self.tasks.status.text()))
        if not is_read:
            has_labels = any(slide.label for slide in self._workspace.study.slides)
            say(self.hint, "" if has_labels else NO_LABELS)

    def go_to(self, example: Example) -> None:
        """Open the slide of an example if need be, bring it to the front, and fly there."""
        cohort = self._cohort
        if cohort is None:
            return
        slide = cohort.slides[example.slide]
        source = open_source(self._workspace.sources, slide.path)
        if source is None:
            self._going = cohort, example
            self._opener.ask(read_slide(slide))
            return
        bring_to_front(self._viewer, source.layer)
        self._fly_to(source, cohort, example)

    def _read(self) -> None:
        """Read the tokens of the cohort in a thread."""
        wanted = self._wanted
        if wanted is not None:
            self.tasks.run(lambda: read_cohort(wanted), self._take)
            self.refresh()

    def _take(self, found: CohortExamples | str) -> None:
        """Find examples from now on; or say why there are none."""
        if isinstance(found, str):
            self.tasks.say(found)
            return
        self._cohort = found
        self.outdated.emit()

    def _tell(self, _: bool) -> None:
        """Tell that other examples are wanted."""
        self.outdated.emit()

    def _show_slide(self, layers: Any) -> None:
        """Add the slide of an example, and fly to it."""
        going, self._going = self._going, None
        if going is None:
            return
        cohort, example = going
        added = add_layers(self._viewer, layers)
        self._viewer.layers.selection.active = added[-1]
        source = open_source(self._workspace.sources, cohort.slides[example.slide].path)
        if source is not None:
            self._fly_to(source, cohort, example)

    def _refuse(self, why: str) -> None:
        """Say why the slide of an example cannot be opened."""
        say(self.hint, why)

    def _fly_to(self, source: Source, cohort: CohortExamples, example: Example) -> None:
        """Show an example in the middle of the canvas."""
        geometry = cohort.grids[example.slide].geometry
        centre = geometry.centre_px(example.row, example.col)
        at = world_of(self._viewer, source, geometry, centre)
        beside = world_of(self._viewer, source, geometry, centre + np.array([geometry.tile * SEEN, 0]))
        fly_to(self._viewer, at, float(np.hypot(beside[0] - at[0], beside[1] - at[1])))
