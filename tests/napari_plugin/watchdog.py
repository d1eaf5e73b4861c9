"""Who holds up the window: a watch on the event loop that says how long it did not turn, and whose code was running."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from qtpy.QtCore import QTimer

__all__ = ["Block", "Watchdog"]

BEAT_MS, LOOK_S = 4, 0.005
LATE_S = 0.03
# whose frame is innermost decides; what these call (numpy, zarr, Qt) is theirs
OURS, THEIRS = "napari_prospector", ("napari", "vispy", "superqt", "magicgui", "app_model", "psygnal", "npe2")


@dataclass
class Block:
    """A time in which the event loop did not turn.

    Attributes
    ----------
    seconds
        How long.
    cpu
        Processor seconds that the window's thread spent in it: without what other processes took.
    ours
        Seconds in our code, or in what it calls that is not napari's: numpy, zarr, Qt.
    through_us
        Seconds with a frame of ours anywhere on the stack: napari's work that we asked for included.
    waiting
        Seconds in which no Python code of the window ran: the loop waited for the interpreter or for the machine.
    where
        Our innermost frames that were seen, and what of napari's they had called, with how often.
    """

    seconds: float = 0.0
    cpu: float = 0.0
    ours: float = 0.0
    through_us: float = 0.0
    waiting: float = 0.0
    where: dict[str, int] = field(default_factory=dict)


class Watchdog:
    """Watches the event loop of this thread; `blocks` are filled until `stop`."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._window = threading.get_ident()
        self._beat, self._spent = time.perf_counter(), time.thread_time()
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)
        self._timer.start(BEAT_MS)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watchdog")
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._done.set()
        self._thread.join()
        self._timer.stop()

    @property
    def ours_cpu(self) -> float:
        """Processor seconds of our code in the block that has most of them."""
        return max(
            (block.ours * min(block.cpu / block.seconds, 1) for block in self.blocks if block.seconds), default=0
        )

    def longest(self, what: str) -> Block:
        """Return the block with the most seconds of a kind."""
        return max(self.blocks, key=lambda block: float(getattr(block, what)), default=Block())

    def _tick(self) -> None:
        """Beat: the loop turns."""
        self._spent = time.thread_time()
        self._beat = time.perf_counter()

    def _watch(self) -> None:
        """Look at the stack of the window's thread while its beat is late."""
        block, began, seen_at, spent = None, self._beat, time.perf_counter(), self._spent
        while not self._done.is_set():
            time.sleep(LOOK_S)
            now, beat = time.perf_counter(), self._beat
            if now - beat < LATE_S or beat != began:
                if block is not None:
                    block.seconds, block.cpu = beat - began, self._spent - spent
                    self.blocks.append(block)
                block, began, seen_at, spent = None, beat, beat, self._spent
                continue
            if block is None:
                block, seen_at = Block(), beat
            _note(block, _stack_of(self._window), now - seen_at)
            seen_at = now


def _stack_of(thread: int) -> list[tuple[dict[str, Any], CodeType, int]]:
    """Return globals, code and line of the frames of a thread, innermost first.

    No frame is kept: one that outlives its function keeps what is local to it, such as a painter at work, and to let
    go of that in another thread than Qt's ends in a crash. No call is made on the way, where threads could switch.
    """
    stack = []
    frame = sys._current_frames().get(thread)
    while frame is not None:
        stack += [(frame.f_globals, frame.f_code, frame.f_lineno)]
        frame = frame.f_back
    return stack


def _note(block: Block, stack: list[tuple[dict[str, Any], CodeType, int]], seconds: float) -> None:
    """Give a piece of time to whom it belongs."""
    frames = list(_packages(stack))
    if not frames:
        block.waiting += seconds
        return
    if any(package == OURS for package, _ in frames):
        block.through_us += seconds
        package, innermost = frames[0]
        where = next(place for package, place in frames if package == OURS)
        where += "" if package == OURS else f" > {innermost}"
        block.where[where] = block.where.get(where, 0) + 1
        if package == OURS:
            block.ours += seconds


def _packages(stack: list[tuple[dict[str, Any], CodeType, int]]) -> Iterator[tuple[str, str]]:
    """Yield the frames of us and of napari's family, innermost first."""
    for names, code, line in stack:
        package = str(names.get("__name__", "")).partition(".")[0]
        # this file and pytest turn the loop: they are nobody's work
        if package == OURS or package in THEIRS:
            yield package, f"{code.co_filename.rpartition('/')[2]}:{line} {code.co_name}"


@contextmanager
def watching() -> Iterator[Watchdog]:
    """Watch while a block of code runs."""
    dog = Watchdog()
    try:
        yield dog
    finally:
        dog.stop()
