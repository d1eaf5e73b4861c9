"""The watch on the event loop finds blocks, their length and whose they are."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from qtpy.QtCore import QTimer
from watchdog import watching


def sleeper(package: str, inner: Any = None) -> Any:
    """A function that sleeps, or calls another, as if it stood in a module of a package."""
    scope: dict[str, Any] = {"__name__": f"{package}.module", "work": inner or (lambda: time.sleep(0.2))}
    exec("def run():\n    work()", scope)
    return scope["run"]


@pytest.mark.parametrize(
    ("work", "ours", "through_us"),
    [
        (sleeper("napari_prospector"), 0.2, 0.2),
        (sleeper("napari"), 0.0, 0.0),
        (sleeper("napari_prospector", sleeper("napari")), 0.0, 0.2),
        (sleeper("napari", sleeper("napari_prospector")), 0.2, 0.2),
    ],
    ids=["ours", "napari's", "napari's that we asked for", "ours that napari calls"],
)
def test_a_block_is_measured_and_given_to_whose_it_is(qtbot: Any, work: Any, ours: float, through_us: float) -> None:
    with watching() as dog:
        qtbot.wait(50)
        QTimer.singleShot(0, work)
        qtbot.wait(400)
    block = dog.longest("seconds")
    assert block.seconds == pytest.approx(0.2, abs=0.08)
    assert block.ours == pytest.approx(ours, abs=0.08)
    assert block.through_us == pytest.approx(through_us, abs=0.08)


def test_a_loop_that_turns_has_no_block(qtbot: Any) -> None:
    with watching() as dog:
        qtbot.wait(300)
    assert dog.longest("ours").ours == 0


def test_what_is_local_to_a_function_dies_with_it_though_it_was_seen_at_work(qtbot: Any) -> None:
    deaths = []

    class Painter:
        def __del__(self) -> None:
            deaths.append(threading.get_ident())

    def paint() -> None:
        painter = Painter()
        time.sleep(0.1)
        assert painter

    def block() -> None:
        for n_painted in range(1, 6):
            paint()
            assert len(deaths) == n_painted
            # time for another look: the loop still does not turn
            time.sleep(0.02)

    with watching() as dog:
        qtbot.wait(50)
        QTimer.singleShot(0, block)
        qtbot.wait(900)
    assert dog.longest("seconds").seconds > 0.4
    assert deaths == [threading.get_ident()] * 5
