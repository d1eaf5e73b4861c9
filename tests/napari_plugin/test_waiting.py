"""What napari waits for does not freeze the window."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from qtpy.QtCore import QTimer

from napari_prospector._napari.waiting import beside_window
from napari_prospector.errors import StorageError


def test_the_window_goes_on_while_a_file_is_written(qtbot: Any) -> None:
    ticks = [time.monotonic()]
    timer = QTimer()
    timer.timeout.connect(lambda: ticks.append(time.monotonic()))
    timer.start(5)
    threads = beside_window(lambda: (time.sleep(0.4), threading.current_thread().name)[1])
    timer.stop()
    assert threads.startswith("prospector-file")
    assert len(ticks) > 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prospector-file")]


def test_what_is_done_at_once_is_returned_at_once(qtbot: Any) -> None:
    start = time.monotonic()
    assert [beside_window(lambda number=number: number) for number in range(50)] == list(range(50))
    assert time.monotonic() - start < 5


def test_an_error_reaches_who_asked(qtbot: Any) -> None:
    def fail() -> None:
        raise StorageError("The disk is full.")

    with pytest.raises(StorageError, match="The disk is full"):
        beside_window(fail)


def test_outside_the_thread_of_the_window_work_is_done_where_it_is(qtbot: Any) -> None:
    names: list[str] = []
    thread = threading.Thread(
        target=lambda: names.append(beside_window(lambda: threading.current_thread().name)), name="elsewhere"
    )
    thread.start()
    thread.join()
    assert names == ["elsewhere"]
