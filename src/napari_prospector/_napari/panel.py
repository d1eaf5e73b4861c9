"""The dock widget: choose a slide and a head, and see where the class lives.

A thin shell. What the fields say becomes a `ProspectRequest`, `plan` turns it into a job or a refusal, and
`stoppable` does it in a thread; here is only what shows it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_prospector._napari.docks import show_widget
from napari_prospector._napari.fields import ColorBar
from napari_prospector._napari.form import ProspectForm
from napari_prospector._napari.job import ProspectResult, prospect
from napari_prospector._napari.layers import map_colors, provenance, result_layers, warm_up
from napari_prospector._napari.progress import Failure, JobProgress, Outcome, Refusal, stoppable
from napari_prospector._napari.request import (
    Facts,
    ProspectJob,
    ProspectRequest,
    default_tokens_path,
    encoder_of,
    head_caption,
    plan,
)
from napari_prospector._napari.sources import Source, sources
from napari_prospector.errors import ProspectorError

if TYPE_CHECKING:
    from napari.viewer import Viewer
    from qtpy.QtGui import QCloseEvent

    from napari_prospector.core.head import ProspectorHead

__all__ = ["ProspectPanel", "show_panel"]

WIDGET = "Prospect"


@dataclass(frozen=True)
class Running:
    """The job at work: for what, how to stop it, and napari's worker."""

    source: Source
    stop: threading.Event
    worker: Any


class ProspectPanel(QWidget):
    """Apply a head to an open slide.

    Parameters
    ----------
    napari_viewer
        The viewer that holds the slide and gets the map.
    """

    finished = Signal()
    """No job is at work any more."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._head: ProspectorHead | None = None
        self._head_problem: str | None = None
        self._sources: list[Source] = []
        self._running: Running | None = None
        self._start_with: tuple[Path, str | None, str | None] | None = None
        self.form = ProspectForm()
        self.run_button = QPushButton("Prospect")
        self.cancel_button = QPushButton("Cancel")
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.color_bar = ColorBar(map_colors(33))
        self._lay_out()
        self._connect()
        self._list_sources()

    def _lay_out(self) -> None:
        """Put form, buttons, progress and status under each other."""
        column = QVBoxLayout(self)
        column.addWidget(self.form)
        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button, 2)
        buttons.addWidget(self.cancel_button, 1)
        column.addLayout(buttons)
        for widget in (self.progress, self.status, self.color_bar):
            column.addWidget(widget)
        column.addStretch(1)
        self.progress.hide()
        self.color_bar.hide()
        self.cancel_button.setEnabled(False)
        self.setMinimumWidth(280)

    def _connect(self) -> None:
        """Listen to fields, buttons and the viewer's layers."""
        self.form.changed.connect(self.refresh)
        self.form.head.changed.connect(self._load_head)
        self.run_button.clicked.connect(self.start)
        self.cancel_button.clicked.connect(self.cancel)
        events = self._viewer.layers.events
        events.inserted.connect(self._list_sources)
        events.removed.connect(self._forget_layer)
        events.reordered.connect(self._list_sources)

    @property
    def is_running(self) -> bool:
        """Whether a job is at work."""
        return self._running is not None

    @property
    def request(self) -> ProspectRequest:
        """What the fields ask for now."""
        source = self._chosen_source()
        return ProspectRequest(
            layer=source.layer.name if source else None,
            kind=source.kind if source else "slide",
            path=source.path if source else None,
            head=self.form.head.path,
            map=self.form.asked_map,
            target=self.form.asked_target,
            mpp=self.form.asked_mpp,
            tokens=self.form.tokens.path,
            weights=self.form.weights.path,
        )

    @property
    def facts(self) -> Facts:
        """What is known about what the fields name."""
        source = self._chosen_source()
        return Facts(source.mpp if source else None, self._head, self._head_problem)

    def choose_head(self, path: Path) -> None:
        """Take a head, as if the user had chosen it."""
        self.form.head.set_path(path)

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
        source = self._chosen_source()
        slide = source.path if source is not None and source.kind == "slide" else None
        self.form.show_slide(
            source.caption if source else "", needs_mpp=slide is not None and source is not None and source.mpp is None
        )
        if slide is not None and self._head is not None:
            self.form.show_tokens(default_tokens_path(slide, encoder_of(self._head)))
        if self.is_running:
            return
        planned = plan(self.request, self.facts)
        self.run_button.setEnabled(isinstance(planned, ProspectJob))
        self.status.setText(planned.sentence if isinstance(planned, Refusal) else "")

    def start(self) -> None:
        """Do what the fields ask for, in a thread."""
        source, planned = self._chosen_source(), plan(self.request, self.facts)
        if self.is_running or source is None or isinstance(planned, Refusal):
            self.refresh()
            return
        from napari.qt.threading import create_worker

        stop = threading.Event()
        worker = create_worker(stoppable, prospect(planned), stop, _start_thread=False)
        worker.yielded.connect(self._show_progress)
        worker.returned.connect(self._finish)
        worker.errored.connect(self._break_off)
        # a panel that is gone wants no result
        self.destroyed.connect(lambda *_: stop.set())
        self._running = Running(source, stop, worker)
        self.run_button.setEnabled(False)
        self.cancel_button.setEnabled(True)
        self.color_bar.hide()
        self.progress.setRange(0, 0)
        self.progress.show()
        worker.start()

    def cancel(self) -> None:
        """Ask the job to stop; it does so after the batch at hand, and what is embedded is kept."""
        if self._running is not None:
            self._running.stop.set()
            self.cancel_button.setEnabled(False)
            self.status.setText("Stopping after this batch …")

    def closeEvent(self, event: QCloseEvent) -> None:
        """Stop the job with the panel."""
        self.cancel()
        super().closeEvent(event)

    def _load_head(self) -> None:
        """Read the chosen head in a thread; the first one imports scikit-learn and numba."""
        from napari.qt.threading import create_worker

        path = self.form.head.path
        self._head = self._head_problem = None
        self.form.show_head(None, "")
        if path is not None:
            worker = create_worker(_read_head, path, _start_thread=False)
            worker.returned.connect(self._take_head)
            worker.start()
        self.refresh()

    def _take_head(self, read: tuple[Path, ProspectorHead | Refusal]) -> None:
        """Use the head that was read, unless another one was chosen meanwhile."""
        path, head = read
        if path != self.form.head.path:
            return
        if isinstance(head, Refusal):
            self._head_problem = head.sentence
        else:
            self._head = head
            self.form.show_head(head, head_caption(head))
        self.refresh()
        wanted, self._start_with = self._start_with, None
        if wanted is not None and wanted[0] == path:
            self._start_as_asked(*wanted[1:])

    def _start_as_asked(self, map: str | None, target: str | None) -> None:
        """Choose map and class, None for those that are chosen already, and start; refuse what the head lacks."""
        for field, name in ((self.form.map, map), (self.form.target, target)):
            if name is not None:
                field.setCurrentText(name)
        # a name that is not listed leaves its field as it was
        asked = replace(self.request, map=map or self.request.map, target=target or self.request.target)
        planned = plan(asked, self.facts)
        if asked != self.request and isinstance(planned, Refusal):
            self._say(planned.sentence)
            return
        self.start()

    def _show_progress(self, progress: JobProgress) -> None:
        """Show n of N and the time left."""
        if self._running is None or self._running.stop.is_set():
            return
        self.progress.setRange(0, progress.total)
        self.progress.setValue(progress.done)
        self.status.setText(str(progress))

    def _finish(self, outcome: Outcome[ProspectResult]) -> None:
        """Show what came of the job."""
        running, self._running = self._running, None
        self._stop_showing()
        is_there = running is not None and running.source.layer in self._viewer.layers
        if isinstance(outcome, Failure):
            from napari.utils.notifications import notification_manager

            notification_manager.receive_error(type(outcome.error), outcome.error, outcome.error.__traceback__)
            self._break_off(outcome.error)
            return
        if isinstance(outcome, Refusal):
            self._say(outcome.sentence)
        elif not is_there:
            self.status.setText("The slide was removed, so its job stopped. What was embedded is kept.")
        elif isinstance(outcome, ProspectResult) and running is not None:
            self._add_result(outcome, running.source)
        else:
            self.status.setText("Stopped. What was embedded is kept; Prospect goes on from there.")
        self.finished.emit()

    def _break_off(self, error: Exception) -> None:
        """Come to rest after a bug; napari shows the traceback."""
        self._running = None
        self._stop_showing()
        self.status.setText(f"A bug stopped the job: {type(error).__name__}. What was embedded is kept.")
        self.finished.emit()

    def _stop_showing(self) -> None:
        """Return the buttons and the bar to rest."""
        self.progress.hide()
        self.cancel_button.setEnabled(False)
        self.refresh()

    def _say(self, sentence: str) -> None:
        """Show an error's sentence here and in napari's corner."""
        from napari.utils.notifications import show_error

        self.status.setText(sentence)
        show_error(sentence)

    def _add_result(self, result: ProspectResult, source: Source) -> None:
        """Add the layers of a finished job over its slide, in place of those of an earlier run."""
        from napari.layers import Layer as AnyLayer

        layers = self._viewer.layers
        for array, arguments, kind in result_layers(result, source.placement(result.geometry), source.name):
            name = arguments["name"]
            if name in layers and provenance(layers[name]).get("kind") in ("map", "concepts"):
                layers.remove(name)
            self._viewer.add_layer(AnyLayer.create(array, arguments, kind))
        self.status.setText(result.verdict())
        self.color_bar.set_scale(result.limit, f"{result.job.map} for {result.target}")
        self.color_bar.show()

    def _chosen_source(self) -> Source | None:
        """Return the layer that is chosen, with what is known about it."""
        index = self.form.slide.currentIndex()
        return self._sources[index] if 0 <= index < len(self._sources) else None

    def _list_sources(self, event: Any = None) -> None:
        """List the layers that can be prospected; a slide that was just opened is chosen."""
        chosen = self._chosen_source()
        self._sources = sources(self._viewer.layers)
        wanted = chosen.layer if chosen else None
        inserted = getattr(event, "value", None)
        for source in self._sources:
            source.layer.events.name.connect(self._list_sources)
            # the viewer may be wrapped by napari, so its layers are compared, not identified
            if source.layer == inserted:
                wanted = inserted
        layers = [source.layer for source in self._sources]
        at = layers.index(wanted) if wanted in layers else len(layers) - 1
        self.form.set_slides([layer.name for layer in layers], at)
        self.refresh()

    def _forget_layer(self, event: Any) -> None:
        """Stop the job of a layer that was removed, and list what is left."""
        event.value.events.name.disconnect(self._list_sources)
        if self._running is not None and self._running.source.layer == event.value:
            self.cancel()
        self._list_sources()


def show_panel(viewer: Viewer) -> ProspectPanel:
    """Return the panel of a viewer, opened if it is not there yet."""
    return show_widget(viewer, ProspectPanel, WIDGET)


def _read_head(path: Path) -> tuple[Path, ProspectorHead | Refusal]:
    """Read a head, or say why it cannot be read; meanwhile have napari import what its layers will need."""
    from napari_prospector.core.head import load_head

    try:
        head = load_head(path)
    except ProspectorError as error:
        return path, Refusal(str(error))
    warm_up()
    return path, head
