"""Maps that follow: drawn again when concepts are hidden, renamed or merged, and moved when their slide is.

One for a viewer, made with the first widget that draws maps and living as long as the workspace, so that maps follow
whichever widgets are open.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_prospector._napari.drawn_layers import is_open, move_layers, redraw_layers, rename_layers
from napari_prospector._napari.job import class_of
from napari_prospector._napari.progress import Failure, JobProgress, Refusal, Steps, Stopped
from napari_prospector._napari.tasks import Task, show_failure
from napari_prospector._napari.workspace import DrawnMap, Workspace

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_prospector.core.head import ProspectorHead

__all__ = ["LiveMaps", "live_maps_of"]

OBJECT_NAME = "napari-prospector live maps"
MOVES = ("scale", "translate", "rotate", "shear", "affine", "units")
"""Events of a layer after which it lies elsewhere."""

Scores = dict[str, NDArray[np.float32]]


class LiveMaps(QObject):
    """Keeps the layers of drawn maps as the head's concepts and the slides are now.

    Parameters
    ----------
    viewer
        Its viewer, not wrapped.
    workspace
        Its workspace, which owns this.
    """

    redrawn = Signal(object)
    """The layers of a `DrawnMap` show other edits of the concepts."""

    def __init__(self, viewer: Viewer, workspace: Workspace) -> None:
        super().__init__(workspace)
        self.setObjectName(OBJECT_NAME)
        self._viewer, self._workspace = viewer, workspace
        self._task: Task | None = None
        self._followed: list[Any] = []
        self._names: dict[Any, str] = {}
        workspace.head_changed.connect(self._redraw)
        workspace.maps_changed.connect(self._follow)
        self._follow()

    @property
    def is_at_work(self) -> bool:
        """Whether maps are being drawn again."""
        return self._task is not None

    def _outdated(self) -> DrawnMap | None:
        """Return a map of the head at hand that shows other edits of its concepts; the one at hand first."""
        head, current = self._workspace.head, self._workspace.map_of(self._workspace.current)
        for drawn in (current, *self._workspace.maps):
            if drawn is not None and head is not None and _are_one(drawn.head, head):
                if drawn.painter is not None and drawn.head.concept_edits_ != head.concept_edits_:
                    return drawn
        return None

    def _redraw(self) -> None:
        """Draw the next outdated map, unless one is being drawn; that one ends first, in a moment."""
        drawn, head = self._outdated(), self._workspace.head
        if self._task is not None or drawn is None or head is None:
            return
        self._task = Task(lambda: _drawing(drawn, head), self)
        self._task.progressed.connect(lambda progress: self._show(drawn, head, progress))
        self._task.finished.connect(lambda outcome: self._end(drawn, head, outcome))
        self._task.start()

    def _show(self, drawn: DrawnMap, head: ProspectorHead, progress: JobProgress) -> None:
        """Show a map that was drawn again."""
        if isinstance(progress.found, dict) and is_open(self._viewer, drawn.source):
            redraw_layers(self._viewer, drawn.source, progress.found, head.concept_edits_)

    def _end(self, drawn: DrawnMap, head: ProspectorHead, outcome: Any) -> None:
        """Keep what was drawn again, and draw the next."""
        task, self._task = self._task, None
        if task is not None:
            task.deleteLater()
        if isinstance(outcome, Failure):
            show_failure(outcome)
            return
        if isinstance(outcome, (Refusal, Stopped)):
            return
        kept = self._workspace.map_of(drawn.source)
        # a run of Prospect may have put another in its place
        if kept is drawn:
            again = replace(drawn, head=head, maps=outcome)
            self._workspace.keep_map(again)
            self.redrawn.emit(again)
        self._redraw()

    def _follow(self) -> None:
        """Listen to the slides that have maps; a second listening to one of them is none."""
        for layer in self._followed:
            layer.events.name.disconnect(self._rename)
            for name in MOVES:
                getattr(layer.events, name).disconnect(self._move)
        self._followed = [drawn.source.layer for drawn in self._workspace.maps]
        self._names = {drawn.source.layer.unique_id: drawn.source.name for drawn in self._workspace.maps}
        for layer in self._followed:
            layer.events.name.connect(self._rename)
            for name in MOVES:
                getattr(layer.events, name).connect(self._move)

    def _rename(self, event: Any) -> None:
        """Name the layers of a map after its slide."""
        for drawn in self._workspace.maps:
            if drawn.source.layer is event.source:
                old, self._names[event.source.unique_id] = self._names[event.source.unique_id], drawn.source.name
                rename_layers(self._viewer, drawn.source, old)

    def _move(self, event: Any) -> None:
        """Move the layers of a map after its slide."""
        for drawn in self._workspace.maps:
            if drawn.source.layer is event.source:
                move_layers(self._viewer, drawn)


def live_maps_of(viewer: Viewer, workspace: Workspace) -> LiveMaps:
    """Return what keeps the maps of a viewer live, made on first use."""
    found = workspace.findChild(LiveMaps, OBJECT_NAME)
    return found if isinstance(found, LiveMaps) else LiveMaps(viewer, workspace)


def _are_one(head: ProspectorHead, other: ProspectorHead) -> bool:
    """Say whether two heads are one but for the edits of its concepts."""
    if head is other or head.kernels_ is other.kernels_:
        return True
    # read from one file twice, as undoing the first edit does
    pairs = ((one.kernels_.evidence, one.kernels_.decision, one.quantizer_.mean_) for one in (head, other))
    return all(np.array_equal(mine, theirs) for mine, theirs in zip(*pairs, strict=True))


def _drawing(drawn: DrawnMap, head: ProspectorHead) -> Steps[Scores]:
    """Draw the maps of a slide under the edits of a head; the one that is looked at comes first."""
    painter = drawn.painter
    assert painter is not None
    maps: Scores = {}
    for name in sorted(drawn.maps, key=lambda name: name != drawn.shown):
        maps[name] = painter.scores(name, class_of(head, drawn.target), head.concept_edits_)
        yield JobProgress("Drawing the maps again", found={name: maps[name]})
    return {name: maps[name] for name in drawn.maps}
