"""Long work beside the window: a task in a thread, and the bar that shows it, with n of N, time left and cancel."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_prospector._napari.progress import Failure, JobProgress, Refusal, Steps, Stopped, stoppable

__all__ = ["Task", "TaskBar", "show_failure"]

Result = TypeVar("Result")


class Task(QObject):
    """A generator that runs in a thread of napari's; its signals arrive in the GUI thread.

    Parameters
    ----------
    steps
        Makes the generator; called in the thread.
    owner
        The widget that wants the result: where it is gone the task stops by itself, and nobody is told.
    """

    progressed = Signal(object)
    """A `JobProgress`."""
    finished = Signal(object)
    """What came of it: the generator's result, `Refusal`, `Stopped` or `Failure`; exactly once."""

    def __init__(self, steps: Callable[[], Steps[Any]], owner: QObject) -> None:
        super().__init__(owner)
        self._stop = threading.Event()
        self._steps = steps
        self._worker: Any = None
        # no function of ours: where Python collects the owner, it may have been taken apart when Qt calls it
        owner.destroyed.connect(self._stop.set)

    @property
    def is_running(self) -> bool:
        """Whether it has been started and has not finished."""
        return self._worker is not None

    @property
    def is_stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop.is_set()

    def start(self) -> None:
        """Begin, in a thread that napari stops with its window."""
        from napari.qt.threading import create_worker

        self._worker = create_worker(_run, self._steps, self._stop, _start_thread=False)
        self._worker.yielded.connect(self._progress)
        self._worker.returned.connect(self._finish)
        # not a lambda: a worker may outlive the task, and would hold it with all that its steps know
        self._worker.errored.connect(self._fail)
        self._worker.start()

    def cancel(self) -> None:
        """Ask it to stop; it does so after the step at hand."""
        self._stop.set()

    def _progress(self, progress: JobProgress) -> None:
        """Pass on how far it is, but for what was under way when it was cancelled."""
        if not self._stop.is_set():
            self.progressed.emit(progress)

    def _fail(self, error: Exception) -> None:
        """Pass on an error that the worker has shown."""
        self._finish(Failure(error, is_shown=True))

    def _finish(self, outcome: object) -> None:
        """Pass on what came of it."""
        self._worker = None
        self.finished.emit(outcome)


def _run(steps: Callable[[], Steps[Any]], stop: threading.Event) -> Steps[Any]:
    """Make the generator in the thread and do what it says."""
    return (yield from stoppable(_made(steps), stop))


def _made(steps: Callable[[], Steps[Any]]) -> Steps[Any]:
    """Make the generator at the first step, where its errors are caught."""
    return (yield from steps())


class TaskBar(QWidget):
    """One task at a time: a progress bar, a line of text, and Cancel while it runs.

    Parameters
    ----------
    kept
        What is said after a stop: what is kept, and how to go on.
    """

    finished = Signal()
    """No task is at work any more."""
    running_changed = Signal(bool)
    """A task began, or ended."""

    def __init__(self, kept: str = "Stopped.") -> None:
        super().__init__()
        self._kept = kept
        self._task: Task | None = None
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setAccessibleName("Cancel")
        self.cancel_button.setToolTip("Stop; what is finished is kept.")
        self.cancel_button.clicked.connect(self.cancel)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        # a longer word must not widen the dock: the canvas would be drawn anew at each step
        self.status.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        # what a file says is text, whatever it looks like
        self.status.setTextFormat(Qt.TextFormat.PlainText)
        row = QHBoxLayout()
        row.addWidget(self.progress, 1)
        row.addWidget(self.cancel_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(row)
        column.addWidget(self.status)
        self._rest()

    @property
    def is_running(self) -> bool:
        """Whether a task is at work."""
        return self._task is not None

    def run(
        self,
        steps: Callable[[], Steps[Result]],
        on_result: Callable[[Result], None],
        on_found: Callable[[Any], None] | None = None,
    ) -> None:
        """Start a task unless one is at work.

        Parameters
        ----------
        steps
            Makes the generator; called in the thread, so it must touch no widget and no layer.
        on_result
            Called in the GUI thread with its result. After a stop or a refusal it is not called: the bar says so.
        on_found
            Called in the GUI thread with each `JobProgress.found`.
        """
        if self._task is not None:
            return
        task = Task(steps, self)
        task.progressed.connect(lambda progress: self._show(progress, on_found))
        task.finished.connect(lambda outcome: self._end(outcome, on_result))
        self._task = task
        self.status.setText("")
        self.progress.setRange(0, 0)
        self.progress.show()
        self.cancel_button.setEnabled(True)
        self.cancel_button.show()
        self.running_changed.emit(True)
        task.start()

    def cancel(self) -> None:
        """Ask the task to stop; what is finished is kept."""
        if self._task is not None:
            self._task.cancel()
            self.cancel_button.setEnabled(False)
            self.status.setText("Stopping …")

    def say(self, sentence: str, *, is_error: bool = False) -> None:
        """Show a sentence; an error in napari's corner too."""
        self.status.setText(sentence)
        if is_error:
            from napari.utils.notifications import show_error

            show_error(sentence)

    def _show(self, progress: JobProgress, on_found: Callable[[Any], None] | None) -> None:
        """Show n of N and the time left, and pass on what was found."""
        self.progress.setRange(0, progress.total)
        self.progress.setValue(progress.done)
        self.status.setText(str(progress))
        if on_found is not None and progress.found is not None:
            on_found(progress.found)

    def _end(self, outcome: Any, on_result: Callable[[Any], None]) -> None:
        """Come to rest and say what came of the task."""
        task, self._task = self._task, None
        if task is not None:
            task.deleteLater()
        self._rest()
        if isinstance(outcome, Refusal):
            self.say(outcome.sentence, is_error=True)
        elif isinstance(outcome, Failure):
            self.status.setText(f"A bug stopped this: {type(outcome.error).__name__}. What is finished is kept.")
            show_failure(outcome)
        elif isinstance(outcome, Stopped):
            self.status.setText(self._kept)
        else:
            self.status.setText("")
            on_result(outcome)
        self.running_changed.emit(False)
        self.finished.emit()

    def _rest(self) -> None:
        """Hide what is shown of a task only."""
        self.progress.hide()
        self.cancel_button.hide()


def show_failure(failure: Failure) -> None:
    """Show a bug with its traceback, as napari does, unless it has."""
    if failure.is_shown:
        return
    from napari.utils.notifications import notification_manager

    notification_manager.receive_error(type(failure.error), failure.error, failure.error.__traceback__)
