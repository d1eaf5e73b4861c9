"""Everything is opened and closed many times; nothing of it is left: no widgets, threads or files, and memory is flat.

How memory is judged: the resident set after each round, with garbage collected; the first rounds, which import and
fill caches, do not count; of the others the median of the last third may exceed that of the first third by a small
bound, far below what one forgotten slide, widget or map a round would add up to.
"""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npe2 import PluginManifest
from qtpy.QtCore import QThreadPool
from qtpy.QtTest import QTest

from napari_prospector._napari.docks import show_named
from napari_prospector._napari.keeper import ProjectKeeper
from napari_prospector._napari.panel import ProspectPanel
from napari_prospector._napari.workspace import workspace_of

MANIFEST = Path(__file__).resolve().parents[2] / "src" / "napari_prospector" / "napari.yaml"
WIDGETS = [one.display_name for one in PluginManifest.from_file(MANIFEST).contributions.widgets or ()]
OURS, PACKAGE = "napari-prospector", "napari_prospector._napari"
LONG_MS = 20_000
WARM_UP = 3
MOST_GROWN_MB = 24


def alive() -> Counter[str]:
    """Count the objects of our classes of widgets, workspaces and drawn maps that are alive."""
    gc.collect()
    kinds = Counter(type(one).__name__ for one in gc.get_objects() if str(type(one).__module__).startswith(PACKAGE))
    return Counter({name: n for name, n in kinds.items() if not name.startswith("_")})


def own_threads() -> set[threading.Thread]:
    """Return the threads of Python; those of Qt's pool, which it keeps for the next task, are none of them."""
    return {one for one in threading.enumerate() if "Dummy" not in one.name}


def open_files(folder: Path) -> list[str]:
    """Return the files in a folder that this process holds open."""
    links = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            links.append(os.readlink(link))
        except OSError:
            continue
    return sorted(link for link in links if link.startswith(str(folder)))


def resident_mb() -> float:
    """Return the memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_everything(viewer: Any, slide: Path, head: Path, qtbot: Any) -> list[weakref.ref[Any]]:
    """Open a slide, all widgets and a map; return what must be gone afterwards."""
    viewer.open(str(slide), plugin=OURS)
    widgets = [show_named(viewer, name) for name in WIDGETS]
    panel = next(one for one in widgets if isinstance(one, ProspectPanel))
    panel.ask(head)
    workspace = workspace_of(viewer)
    qtbot.waitUntil(lambda: bool(workspace.maps) and not panel.is_running and panel.section.is_settled, timeout=LONG_MS)
    panel.section.threshold.outline.setChecked(True)
    qtbot.waitUntil(lambda: panel.section.is_settled and workspace.keeper.is_saved, timeout=LONG_MS)
    return [weakref.ref(one) for one in (*widgets, *viewer.layers, workspace.maps[0])]


def close_layers_and_widgets(viewer: Any, qtbot: Any) -> None:
    """Close what was opened; the window stays."""
    viewer.layers.clear()
    for dock in list(viewer.window._wrapped_dock_widgets.values()):
        viewer.window.remove_dock_widget(dock)
    qtbot.wait(50)


@pytest.mark.parametrize("n_rounds", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_nothing_is_left_of_what_is_closed_in_a_window_that_stays(
    viewer: Any, n_rounds: int, slide_file: Path, head_file: Path, qtbot: Any
) -> None:
    # what belongs to the window is made once, with the first round
    left = run(
        n_rounds,
        lambda: open_everything(viewer, slide_file, head_file, qtbot),
        lambda: close_layers_and_widgets(viewer, qtbot),
        slide_file.parent,
    )
    assert not workspace_of(viewer).maps
    assert left == Counter()


def until_gone(made: list[weakref.ref[Any]]) -> None:
    """Let Qt delete what it was told to; fail where something is held."""
    end = time.monotonic() + LONG_MS / 1000
    while any(ref() is not None for ref in made) and time.monotonic() < end:
        QTest.qWait(20)
        gc.collect()
    assert [repr(ref()) for ref in made if ref() is not None] == []


def run(
    n_rounds: int, begin: Callable[[], list[weakref.ref[Any]]], end: Callable[[], None], folder: Path
) -> Counter[str]:
    """Do all of it again and again; return by which classes more objects are alive after the last round."""
    memory, counts, threads = [], [], []
    for _ in range(n_rounds):
        made = begin()
        end()
        until_gone(made)
        assert open_files(folder) == []
        counts.append(alive())
        threads.append(own_threads())
        memory.append(resident_mb())
    assert not threads[-1] - threads[0]
    assert QThreadPool.globalInstance().activeThreadCount() == 0
    if n_rounds >= 3 * WARM_UP:
        settled = memory[WARM_UP:]
        third = len(settled) // 3
        assert np.median(settled[-third:]) - np.median(settled[:third]) < MOST_GROWN_MB, memory
    return counts[-1] - counts[0]


@pytest.mark.parametrize("n_rounds", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_nothing_is_left_of_a_window_that_is_closed(
    plugin: Any, make_napari_viewer: Callable[..., Any], n_rounds: int, slide_file: Path, head_file: Path, qtbot: Any
) -> None:
    viewers: list[Any] = []

    def begin() -> list[weakref.ref[Any]]:
        viewers.append(make_napari_viewer(strict_qt="raise"))
        made = open_everything(viewers[-1], slide_file, head_file, qtbot)
        keeper = workspace_of(viewers[-1]).findChild(ProjectKeeper)
        return [*made, weakref.ref(workspace_of(viewers[-1])), weakref.ref(keeper)]

    def end() -> None:
        viewers.pop().close()
        qtbot.wait(50)

    assert run(n_rounds, begin, end, slide_file.parent) == Counter()
