"""How far long work is, and what came of it: records and generators, without Qt."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from threading import Event
from typing import TypeAlias, TypeVar

from napari_prospector.errors import ProspectorError
from napari_prospector.tokens.stopping import StopRequested, check_stop, stopping_when

__all__ = ["Failure", "JobProgress", "Outcome", "Refusal", "Steps", "Stopped", "TimeLeft", "reported", "stoppable"]

# a rate from less than this is a guess
SURE_AFTER_S = 1.0
# people do not read faster, and each word to the GUI thread takes time there
TELL_EVERY_S = 0.05

Result = TypeVar("Result")


@dataclass(frozen=True)
class JobProgress:
    """How far a job is.

    Attributes
    ----------
    stage
        What is being done.
    done, total
        n of N; `total` is 0 where the stage has no number.
    seconds_left
        Of this stage; None while it cannot be told.
    found
        Something to show at once, such as the row of a table that is finished; it is never left out.
    """

    stage: str
    done: int = 0
    total: int = 0
    seconds_left: float | None = None
    found: object = None

    def __str__(self) -> str:
        """Return one line for the user."""
        parts = [self.stage]
        if self.total:
            parts.append(f"{self.done:,} of {self.total:,}")
        if self.seconds_left is not None:
            parts.append(f"{_duration(self.seconds_left)} left")
        return " · ".join(parts)


@dataclass(frozen=True)
class Refusal:
    """Why a request cannot be fulfilled: one sentence that says what to do."""

    sentence: str


@dataclass(frozen=True)
class Stopped:
    """The job was stopped on request; what is finished is kept."""


@dataclass(frozen=True)
class Failure:
    """The job met a bug; the error keeps its traceback.

    Attributes
    ----------
    error
        The error.
    is_shown
        Whether napari has shown it already.
    """

    error: Exception
    is_shown: bool = False


Steps: TypeAlias = Generator[JobProgress, None, Result]
Outcome: TypeAlias = Result | Refusal | Stopped | Failure


class TimeLeft:
    """Time left, from the rate since the first count; what was there before does not count as work."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[float, int] | None = None

    def __call__(self, done: int, total: int) -> float | None:
        """Return the seconds left after `done` of `total`; None before there is a rate."""
        now = self._clock()
        if self._first is None:
            self._first = now, done
            return None
        passed, worked = now - self._first[0], done - self._first[1]
        if passed < SURE_AFTER_S or worked <= 0:
            return None
        return passed / worked * max(total - done, 0)


def stoppable(steps: Steps[Result], stop: Event) -> Steps[Outcome[Result]]:
    """Do a job until it is done, refused, or `stop` is set; for a thread of its own.

    Parameters
    ----------
    steps
        The job. It is closed, and with it the files that it holds, in this thread before the generator returns.
    stop
        Looked at after each step, and within steps by what calls `check_stop`.

    Yields
    ------
    JobProgress
        Of a new stage, or with something found, always; else at most twenty times a second.

    Returns
    -------
    Result, Refusal, Stopped or Failure
        Errors for the user become a `Refusal`. Other errors pass, but for RuntimeError, which becomes a `Failure`:
        napari's worker would swallow it and never finish.
    """
    told_at, stage = -TELL_EVERY_S, None
    try:
        with closing(steps):
            while not stop.is_set():
                with stopping_when(stop.is_set):
                    progress = next(steps)
                now = time.monotonic()
                if progress.stage != stage or progress.found is not None or now - told_at >= TELL_EVERY_S:
                    told_at, stage = now, progress.stage
                    yield progress
        return Stopped()
    except StopRequested:
        return Stopped()
    except StopIteration as finished:
        result: Result = finished.value
        return result
    except ProspectorError as error:
        return Refusal(str(error))
    except RuntimeError as error:
        return Failure(error)


def reported(work: Callable[[Callable[[JobProgress], None]], Result]) -> Steps[Result]:
    """Do what is one long call, and tells how far it is, as steps.

    Parameters
    ----------
    work
        Is given a function to tell its progress with. It runs in a thread of its own and must write nothing: closing
        these steps returns at once, and makes the next telling, or the next `check_stop`, end the work.

    Yields
    ------
    JobProgress
        As told, and the last one again while nothing new is told, so that the steps can be closed at any time.

    Returns
    -------
    Result
        Of the work. Its errors pass.
    """
    from concurrent.futures import ThreadPoolExecutor

    told: queue.SimpleQueue[JobProgress | None] = queue.SimpleQueue()
    abandoned = Event()

    def tell(progress: JobProgress) -> None:
        if abandoned.is_set():
            raise StopRequested
        told.put(progress)

    executor = ThreadPoolExecutor(1, "napari-prospector work")
    future = executor.submit(_watched, lambda: work(tell), abandoned)
    future.add_done_callback(lambda _: told.put(None))
    executor.shutdown(wait=False)
    try:
        yield from _told(told)
    finally:
        abandoned.set()
    return future.result()


def _watched(work: Callable[[], Result], abandoned: Event) -> Result:
    """Do a piece of work that ends, where it looks, once nobody waits for it."""
    with stopping_when(abandoned.is_set):
        return work()


def _told(told: queue.SimpleQueue[JobProgress | None]) -> Iterator[JobProgress]:
    """Yield what is told until None is; the last one again where nothing is for a while."""
    last: JobProgress | None = None
    while True:
        try:
            last = told.get(timeout=TELL_EVERY_S)
        except queue.Empty:
            check_stop()  # work that has told nothing yet can be left, too
            if last is not None:
                yield replace(last, found=None)
            continue
        if last is None:
            return
        yield last


def _duration(seconds: float) -> str:
    """Return a duration as people say it."""
    if seconds < 59.5:
        return f"{max(1, round(seconds))} s"
    if seconds < 3570:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
