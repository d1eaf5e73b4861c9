"""Small things to find out about many rows, one after the other, in a thread: the newest wish first."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_prospector._napari.progress import Failure, JobProgress, Steps
from napari_prospector._napari.tasks import Task, show_failure

__all__ = ["Lookout"]

# answers come in portions: each one interrupts the window
PORTION_S = 0.1


class Lookout(QObject):
    """Finds out one thing for each key that it is asked for.

    Parameters
    ----------
    find
        Called in the thread with a key; it must raise nothing that is not a bug.
    owner
        The widget that asks; where it is gone the thread stops.
    newest_first
        Whether what was asked for last is looked at first, as with rows that are scrolled past; else in order.
    most_waiting
        The oldest wishes beyond so many are dropped; None keeps all.
    """

    found = Signal(object)
    """A list of (key, answer)."""
    dropped = Signal(object)
    """A key that nobody will look at; it may be asked for again."""

    def __init__(
        self,
        find: Callable[[Any], object],
        owner: QObject,
        *,
        newest_first: bool = False,
        most_waiting: int | None = None,
    ) -> None:
        super().__init__(owner)
        self._find, self._newest_first, self._most_waiting = find, newest_first, most_waiting
        self._waiting: OrderedDict[Any, None] = OrderedDict()
        self._lock = Lock()
        self._task: Task | None = None

    @property
    def is_busy(self) -> bool:
        """Whether something is still to be found out."""
        return self._task is not None

    def ask(self, key: Any) -> None:
        """Ask for a key; once is enough until it is answered."""
        with self._lock:
            self._waiting[key] = None
            self._waiting.move_to_end(key)
            too_many = self._most_waiting is not None and len(self._waiting) > self._most_waiting
            old = self._waiting.popitem(last=False)[0] if too_many else None
        if old is not None:
            self.dropped.emit(old)
        if self._task is None:
            self._start()

    def forget(self) -> None:
        """Drop all wishes."""
        with self._lock:
            self._waiting.clear()

    def _start(self) -> None:
        """Begin to look."""
        # the thread holds what it needs, not this object, which Qt may delete meanwhile
        steps = _looking(self._next, self._find)
        self._task = Task(lambda: steps, self)
        self._task.progressed.connect(self._tell)
        self._task.finished.connect(self._end)
        self._task.start()

    def _next(self) -> tuple[Any] | None:
        """Return the next key; None where there is none. Called in the thread."""
        with self._lock:
            if not self._waiting:
                return None
            return (self._waiting.popitem(last=self._newest_first)[0],)

    def _tell(self, progress: JobProgress) -> None:
        """Pass on answers."""
        if progress.found is not None:
            self.found.emit(progress.found)

    def _end(self, outcome: Any) -> None:
        """Begin anew where something was asked for meanwhile."""
        task, self._task = self._task, None
        if task is not None:
            task.deleteLater()
        if isinstance(outcome, Failure):
            show_failure(outcome)
        with self._lock:
            is_more = bool(self._waiting)
        if is_more:
            self._start()


def _looking(following: Callable[[], tuple[Any] | None], find: Callable[[Any], object]) -> Steps[None]:
    """Find out what is asked for, until nothing is."""
    answers: list[tuple[Any, object]] = []
    told_at = time.monotonic()
    while (key := following()) is not None:
        answers.append((key[0], find(key[0])))
        is_due = time.monotonic() - told_at >= PORTION_S
        yield JobProgress("Looking", found=answers if is_due else None)
        if is_due:
            answers, told_at = [], time.monotonic()
    if answers:
        yield JobProgress("Looking", found=answers)
