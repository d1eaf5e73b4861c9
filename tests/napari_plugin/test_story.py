"""One test of everything, and of how the window feels meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from story import tell_all
from watchdog import Watchdog, watching

# the promise is 0.1 s on an idle machine (benchmarks/story.py measures it); here it is processor time, and a slow
# machine's too
LONGEST_CPU_S = 0.2


def report(dog: Watchdog) -> str:
    """Say who held up the window for how long."""
    lines = [
        f"{what}: {getattr(dog.longest(what), what):.3f} s {dog.longest(what).where}"
        for what in ("seconds", "through_us", "ours", "waiting")
    ]
    return "\n".join([f"ours_cpu: {dog.ours_cpu:.3f} s", *lines])


def test_the_whole_story(
    plugin: Any, make_napari_viewer: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(tmp_path / "cache"))

    def new_viewer() -> Any:
        viewer = make_napari_viewer(show=True, strict_qt="raise")
        viewer.window.resize(1280, 800)
        return viewer

    def wait_until(holds: Any, within_ms: int) -> None:
        qtbot.waitUntil(holds, timeout=within_ms)

    with watching() as dog:
        tell_all(new_viewer, wait_until, lambda name: None, tmp_path)
    (tmp_path / "blocks.txt").write_text(report(dog))
    assert dog.ours_cpu <= LONGEST_CPU_S, report(dog)
