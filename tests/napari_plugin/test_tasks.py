"""Long work and its bar, in a real window."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from napari_prospector._napari.progress import JobProgress, Steps, reported
from napari_prospector._napari.tasks import TaskBar
from napari_prospector.errors import InvalidInputError
from napari_prospector.tokens.stopping import check_stop


@pytest.fixture
def bar(qtbot: Any) -> TaskBar:
    bar = TaskBar(kept="Stopped. The first ones are kept.")
    qtbot.addWidget(bar)
    bar.show()
    return bar


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What napari's corner says."""
    from napari.utils import notifications

    notes: list[Any] = []
    monkeypatch.setattr(notifications.notification_manager, "dispatch", notes.append)
    return notes


def counting(total: int, threads: list[int] | None = None, found: bool = False) -> Any:
    def steps() -> Steps[int]:
        for done in range(total):
            if threads is not None:
                threads.append(threading.get_ident())
            yield JobProgress("Counting", done, total, found=done if found else None)
            time.sleep(0.01)
        return total

    return steps


def failing(error: Exception) -> Any:
    def steps() -> Steps[int]:
        yield JobProgress("Counting")
        raise error

    return steps


def test_a_task_runs_beside_the_window_and_returns_in_it(bar: TaskBar, qtbot: Any) -> None:
    threads: list[int] = []
    results: list[tuple[int, int]] = []
    found: list[int] = []
    with qtbot.waitSignal(bar.finished):
        bar.run(counting(7, threads, found=True), lambda n: results.append((n, threading.get_ident())), found.append)
        assert bar.is_running
        assert bar.cancel_button.isVisible()
    assert results == [(7, threading.get_ident())]
    assert threading.get_ident() not in threads
    assert found == list(range(7)), "what is found is never left out"
    assert not bar.is_running
    assert not bar.progress.isVisible()


def test_a_second_task_waits_for_nobody_and_is_not_begun(bar: TaskBar, qtbot: Any) -> None:
    results: list[int] = []
    with qtbot.waitSignal(bar.finished):
        bar.run(counting(7), results.append)
        bar.run(counting(3), results.append)
    assert results == [7]


def test_cancel_stops_after_the_step_and_says_what_is_kept(bar: TaskBar, qtbot: Any) -> None:
    results: list[int] = []
    bar.run(counting(10_000), results.append)
    qtbot.waitUntil(lambda: bar.progress.value() > 0)
    with qtbot.waitSignal(bar.finished, timeout=2000):
        bar.cancel_button.click()
        assert bar.status.text() == "Stopping …"
    assert results == []
    assert bar.status.text() == "Stopped. The first ones are kept."


def test_an_error_for_the_user_is_a_sentence(bar: TaskBar, qtbot: Any, said: list[Any]) -> None:
    with qtbot.waitSignal(bar.finished):
        bar.run(failing(InvalidInputError("Give labels <b>first</b>.")), pytest.fail)
    assert bar.status.text() == "Give labels <b>first</b>."
    assert len(said) == 1


@pytest.mark.parametrize("error", [RuntimeError("of torch"), KeyError("of ours")])
def test_a_bug_is_shown_once_with_its_traceback(
    bar: TaskBar, qtbot: Any, error: Exception, capture_errors: list[Any]
) -> None:
    # other errors than RuntimeError are raised again in the event loop, where napari's hook shows them
    with qtbot.capture_exceptions() as raised, qtbot.waitSignal(bar.finished):
        bar.run(failing(error), pytest.fail)
    assert type(error).__name__ in bar.status.text()
    qtbot.waitUntil(lambda: len(raised) + len(capture_errors) == 1)


def test_a_widget_that_is_gone_stops_its_task(qtbot: Any) -> None:
    bar, steps = TaskBar(), []

    def counts() -> Steps[int]:
        for done in range(100_000):
            steps.append(done)
            yield JobProgress("Counting", done, 100_000)
            time.sleep(0.001)
        return 1

    bar.run(counts, pytest.fail)
    qtbot.waitUntil(lambda: len(steps) > 3)
    bar.deleteLater()
    qtbot.wait(200)
    n_steps = len(steps)
    qtbot.wait(100)
    assert len(steps) == n_steps


@pytest.fixture
def capture_errors(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Errors that napari would show with a traceback."""
    from napari.utils import notifications

    errors: list[Any] = []
    monkeypatch.setattr(
        notifications.notification_manager, "receive_error", lambda *error: errors.append(error), raising=True
    )
    return errors


def test_one_long_call_is_steps_that_can_be_closed_at_any_time() -> None:
    ended = threading.Event()

    def work(tell: Any) -> int:
        try:
            for done in range(3):
                tell(JobProgress("Working", done, 3, found=done))
            time.sleep(0.3)
            tell(JobProgress("Late"))
        finally:
            ended.set()
        return 7

    results: list[int] = []

    def whole() -> Steps[None]:
        results.append((yield from reported(work)))

    seen = list(whole())
    assert results == [7]
    assert [progress.found for progress in seen if progress.found is not None] == [0, 1, 2]
    assert len(seen) > 4, "the last one is told again while the work goes on, so that a cancel is heard"

    ended.clear()
    steps = reported(work)
    next(steps)
    started = time.monotonic()
    steps.close()
    assert time.monotonic() - started < 0.2, "closing does not wait for the work"
    assert ended.wait(5), "the work ends at its next word"


def test_errors_of_one_long_call_pass() -> None:
    def work(tell: Any) -> int:
        tell(JobProgress("Working"))
        raise InvalidInputError("Give labels first.")

    with pytest.raises(InvalidInputError, match="Give labels"):
        list(reported(work))


def test_cancel_stops_within_a_step_that_asks(bar: TaskBar, qtbot: Any) -> None:
    begun = threading.Event()

    def steps() -> Steps[int]:
        yield JobProgress("One long step")
        begun.set()
        for _ in range(3000):
            check_stop()
            time.sleep(0.01)
        return 1

    bar.run(steps, pytest.fail)
    qtbot.waitUntil(begun.is_set)
    with qtbot.waitSignal(bar.finished, timeout=2000):
        bar.cancel()
    assert bar.status.text() == "Stopped. The first ones are kept."


def test_one_long_call_that_nobody_waits_for_ends_where_it_looks() -> None:
    ended = threading.Event()

    def work(tell: Any) -> None:
        tell(JobProgress("Working"))
        try:
            while True:
                check_stop()
                time.sleep(0.01)
        finally:
            ended.set()

    steps = reported(work)
    next(steps)
    steps.close()
    assert ended.wait(5)


def test_cancel_leaves_one_long_call_that_has_told_nothing(bar: TaskBar, qtbot: Any) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def load(_: Any) -> int:
        begun.set()
        may_end.wait(30)
        return 7

    bar.run(lambda: reported(load), pytest.fail)
    qtbot.waitUntil(begun.is_set)
    with qtbot.waitSignal(bar.finished, timeout=2000):
        bar.cancel()
    may_end.set()
