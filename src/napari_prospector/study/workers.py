"""Functions called in processes of this machine: the same results as here, on more cores."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from types import TracebackType
from typing import Any

from napari_prospector.errors import InvalidInputError, WorkerLostError

__all__ = ["LocalProcesses", "is_cancelled", "watched"]

# What numpy, numba and torch ask for their number of threads; each is read when a process starts.
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

_here = threading.local()


def is_cancelled() -> bool:
    """Whether nobody wants the result any more of what this thread is doing; long functions ask now and then."""
    check: Callable[[], bool] | None = getattr(_here, "check", None)
    return check is not None and check()


def watched(check: Callable[[], bool]) -> None:
    """Let `is_cancelled` of this thread answer what a function says."""
    _here.check = check


class LocalProcesses:
    """Worker processes on this machine; use it in a ``with`` block, or close it.

    They are started anew (spawned) on every system, so that a script must keep what it runs under
    ``if __name__ == "__main__":``. A process that dies is replaced and what it was doing is tried again.

    Parameters
    ----------
    n_processes
        How many.
    attempts
        How often a task may lose its process before it is given up.

    Raises
    ------
    InvalidInputError
        Either is below 1.

    Examples
    --------
    >>> from napari_prospector.study.workers import LocalProcesses
    >>> with LocalProcesses(4) as client:  # doctest: +SKIP
    ...     graphs = CohortGraphs(paths, client=client)
    ...     head = ProspectorHead().fit(graphs, labels)
    """

    def __init__(self, n_processes: int, attempts: int = 3) -> None:
        for name, value in (("n_processes", n_processes), ("attempts", attempts)):
            if value < 1:
                raise InvalidInputError(f"{name} must be at least 1; got {value}.")
        self.n_processes, self.attempts = n_processes, attempts
        self._stop = get_context("spawn").Event()
        self._pool: ProcessPoolExecutor | None = None
        n_threads = str(max(1, (os.cpu_count() or 1) // n_processes))
        self._limits = {name: n_threads for name in _THREAD_LIMITS if name not in os.environ}

    def run(
        self,
        function: Callable[..., Any],
        tasks: Sequence[tuple[Any, ...]],
        names: Sequence[str],
        shared: Any,
        on_lost: Callable[[int, str], Any] | None = None,
    ) -> Generator[tuple[int, Any]]:
        """Call ``function(shared, *task)`` for every task, as `core.each.Workers` says.

        Parameters
        ----------
        function, tasks, names, shared
            As there.
        on_lost
            Given the number of a task whose process died every time, and why; what it returns stands for the result.
            None: that is an error.

        Raises
        ------
        WorkerLostError
            The process that worked on one task died `attempts` times.
        """
        waiting, suspects = deque(range(len(tasks))), deque[int]()
        losses = [0] * len(tasks)
        running: dict[Future[Any], int] = {}
        try:
            while waiting or suspects or running:
                # what may have killed a process runs alone, so that the guilty one shows and takes no other with it
                most = 1 if suspects else 2 * self.n_processes
                while (waiting or suspects) and len(running) < most:
                    number = (suspects or waiting).popleft()
                    running[self._submit(function, shared, tasks[number])] = number
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                lost = []
                for future in finished:
                    number = running.pop(future)
                    try:
                        result = future.result()
                    except BrokenProcessPool:
                        lost.append(number)
                        continue
                    yield number, result
                if lost:
                    lost += running.values()
                    running.clear()
                    self._discard()
                for number in sorted(lost):
                    losses[number] += 1
                    if losses[number] < self.attempts:
                        suspects.append(number)
                    else:
                        yield number, _given_up(number, names[number], self.attempts, on_lost)
        finally:
            self._cancel(running)

    def check(self, paths: Sequence[Any], folder: Any = None) -> None:
        """See that workers see these files: those of this machine do."""

    def close(self) -> None:
        """End the processes; what they are doing is finished first, unless it asks `is_cancelled`."""
        self._stop.set()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool = None
        self._stop.clear()

    def __enter__(self) -> LocalProcesses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _submit(self, function: Callable[..., Any], shared: Any, task: tuple[Any, ...]) -> Future[Any]:
        """Give a task to the pool; a process that it starts for it inherits the limits of threads."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.n_processes, mp_context=get_context("spawn"), initializer=_begin, initargs=(self._stop,)
            )
        os.environ.update(self._limits)
        try:
            return self._pool.submit(function, shared, *task)
        except BrokenProcessPool as error:  # an idle process died: the others of its pool are gone with it
            broken: Future[Any] = Future()
            broken.set_exception(error)
            return broken
        finally:
            for name in self._limits:
                os.environ.pop(name, None)

    def _discard(self) -> None:
        """Drop a pool that has lost a process."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool = None

    def _cancel(self, running: dict[Future[Any], int]) -> None:
        """Wait for what has begun to end, early if it can, and forget the rest."""
        if not running:
            return
        self._stop.set()
        wait([future for future in running if not future.cancel()])
        self._stop.clear()


def _begin(stop: Any) -> None:
    """Prepare a worker process."""
    # Ctrl-C reaches the whole group of processes; the parent decides what it means and tells by the flag
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watched(stop.is_set)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent is gone, however that ended; stores survive it as they survive kill -9."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _given_up(number: int, name: str, attempts: int, on_lost: Callable[[int, str], Any] | None) -> Any:
    """Return what stands for a result that cannot be had; raise where nothing does."""
    reason = (
        f"The process that worked on {name} died {attempts} times; most often memory had run out. "
        "Use fewer workers at a time, or look at the system's log."
    )
    if on_lost is None:
        raise WorkerLostError(reason)
    return on_lost(number, reason)
