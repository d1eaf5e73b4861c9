"""Work that napari wants done before it goes on, such as writing a file, without freezing the window meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from qtpy.QtCore import QCoreApplication, QEventLoop, QObject, Qt, QThread, Signal

__all__ = ["beside_window"]

Result = TypeVar("Result")


class _Bell(QObject):
    """Rung in a thread, heard in that of the window."""

    rung = Signal()


def beside_window(work: Callable[[], Result]) -> Result:
    """Do some work in a thread and return its result; meanwhile the window is drawn, and takes no input.

    Parameters
    ----------
    work
        Touches no layer and no widget. Outside the GUI thread, or without a window, it is called as it is.

    Returns
    -------
    object
        What `work` returned; what it raised is raised here.
    """
    application = QCoreApplication.instance()
    if application is None or QThread.currentThread() != application.thread():
        return work()
    bell, loop = _Bell(), QEventLoop()
    # queued, or it would be lost where the work is done before the loop begins
    bell.rung.connect(loop.quit, Qt.ConnectionType.QueuedConnection)
    with ThreadPoolExecutor(1, "prospector-file") as thread:
        future = thread.submit(work)
        future.add_done_callback(lambda _: bell.rung.emit())
        loop.exec(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)
        return future.result()
