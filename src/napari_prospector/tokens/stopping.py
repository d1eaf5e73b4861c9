"""A job that is to be stopped stops in the middle of a step too: long loops ask whether anybody still waits for them.

Who runs a job says in `stopping_when` how to know that it was stopped; loops that take long, such as the layers of a
network or the blocks of an overview, call `check_stop`. Where nobody said anything it does nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

__all__ = ["StopRequested", "check_stop", "stopping_when"]

_asked: ContextVar[Callable[[], bool] | None] = ContextVar("napari_prospector_stop", default=None)


class StopRequested(BaseException):
    """Nobody wants the result any more.

    No `Exception`, as with KeyboardInterrupt: what turns errors into a row of a table must not take a stop for one.
    """


@contextlib.contextmanager
def stopping_when(is_stopped: Callable[[], bool]) -> Iterator[None]:
    """Let `check_stop` end what this thread does within the block as soon as a function says so.

    Parameters
    ----------
    is_stopped
        Asked often; quick, and safe to call from this thread.
    """
    token = _asked.set(is_stopped)
    try:
        yield
    finally:
        _asked.reset(token)


def check_stop() -> None:
    """Raise `StopRequested` if the job of this thread was stopped."""
    is_stopped = _asked.get()
    if is_stopped is not None and is_stopped():
        raise StopRequested
