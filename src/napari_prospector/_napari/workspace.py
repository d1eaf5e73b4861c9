"""What all widgets of a viewer share: the study with undo, the head, the slide at hand, and the maps that are drawn.

Widgets do not know each other. Each reads the workspace, edits it, and listens to its signals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QObject, Signal

from napari_prospector._napari.history import History
from napari_prospector._napari.keeper import ProjectKeeper
from napari_prospector._napari.progress import Failure, JobProgress, Refusal, Steps
from napari_prospector._napari.settings import settings
from napari_prospector._napari.sources import Source, sources
from napari_prospector._napari.tasks import Task, show_failure
from napari_prospector._napari.view_record import view_record
from napari_prospector.errors import MismatchError
from napari_prospector.study.project import EncoderChoice, Study

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_prospector._napari.painter import MapPainter
    from napari_prospector.core.concept_edits import ConceptEdits
    from napari_prospector.core.graph import TokenGraph
    from napari_prospector.core.head import ProspectorHead
    from napari_prospector.tokens.geometry import GridGeometry

__all__ = ["DrawnMap", "Workspace", "workspace_of"]

OBJECT_NAME = "napari-prospector workspace"
LISTED = ("name", "scale", "units")
"""Events of a layer after which it is another source: of arrays, the pixel size may be another."""


@dataclass(frozen=True, eq=False)
class DrawnMap:
    """What a head found on a slide that is open.

    Attributes
    ----------
    source
        The slide's layer, with what is known of it.
    tokens
        Folder of the token grid.
    geometry
        Of the grid.
    mask
        Shape (rows, cols): where there is a token.
    graph
        The tokens, in the order of `mask`.
    concepts
        Shape (n_tokens,): the concept of each token, as it was learned; merged ones are not yet one.
    head
        The head that drew it.
    probabilities
        Of each class for the whole slide.
    target
        The class that the maps look for.
    maps
        Name to scores of every map of the head, shape (rows, cols); NaN where there is no token.
    shown
        Name of the map that is looked at.
    verdict
        What the head says about the whole slide, for the user.
    painter
        Draws the maps again when concepts are hidden.
    head_name
        The file name of the head.
    """

    source: Source
    tokens: Path
    geometry: GridGeometry
    mask: NDArray[np.bool_]
    graph: TokenGraph
    concepts: NDArray[np.int32]
    head: ProspectorHead
    probabilities: dict[str, float]
    target: str = ""
    maps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    shown: str = ""
    verdict: str = ""
    painter: MapPainter | None = None
    head_name: str = ""

    def token_at(self, row: int, col: int) -> int | None:
        """Return the number of the token of a cell; None where there is none."""
        rows, cols = self.mask.shape
        if not (0 <= row < rows and 0 <= col < cols and self.mask[row, col]):
            return None
        return int(np.count_nonzero(self.mask.ravel()[: row * cols + col]))


class Workspace(QObject):
    """The state that the widgets of one viewer share; get it with `workspace_of`.

    Parameters
    ----------
    viewer
        Its viewer, not wrapped.
    """

    changed = Signal(object, object)
    """The study: as it was, as it is now. Sent by edit, undo and redo."""
    opened = Signal()
    """Another study took the place of the old one; there is nothing to undo."""
    head_changed = Signal()
    """Another head, other edits of its concepts, or none; look at `head` and `head_problem`."""
    sources_changed = Signal()
    """Slides or grids were opened, closed or renamed, or another one is at hand: look at `sources` and `current`."""
    selected = Signal()
    """Another layer is selected, of whatever kind."""
    maps_changed = Signal()
    """A map was drawn or forgotten."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer.window._qt_window)
        self.setObjectName(OBJECT_NAME)
        self._viewer = viewer
        self._history = History(Study(encoder=EncoderChoice(settings().encoder)))
        self.keeper = ProjectKeeper(self, lambda: view_record(viewer, self))
        self.head: ProspectorHead | None = None
        self.head_problem: str | None = None
        # what a head's file said of its concepts before edits were written into it: undo goes back to that
        self._as_read: dict[Path, ConceptEdits] = {}
        self._maps: list[DrawnMap] = []
        self._sources: list[Source] = []
        self._current: Any = None
        events = viewer.layers.events
        events.inserted.connect(self._list_sources)
        events.removing.connect(self.keeper.note_removal)
        events.removed.connect(self._forget_layer)
        events.reordered.connect(self._list_sources)
        viewer.layers.selection.events.active.connect(self._follow_selection)
        viewer.window._qt_window.installEventFilter(self)
        self._list_sources()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Save what is unsaved when the window closes."""
        if event.type() == QEvent.Type.Close:
            self.keeper.close()
        return False

    @property
    def study(self) -> Study:
        """The study as it is."""
        return self._history.now

    @property
    def undo_text(self) -> str | None:
        """What `undo` would take back."""
        return self._history.undo_text

    @property
    def redo_text(self) -> str | None:
        """What `redo` would do again."""
        return self._history.redo_text

    def edit(self, text: str, study: Study, key: object = None) -> None:
        """Change the study, so that it can be undone.

        Parameters
        ----------
        text
            What was done, as the undo button says it.
        study
            The new state, made from `study`.
        key
            As in `History.edit`.
        """
        before = self.study
        self._history.edit(text, study, key)
        self._tell(before)

    def undo(self) -> None:
        """Take back the last edit, of whichever widget."""
        before = self.study
        if self._history.undo():
            self._tell(before)

    def redo(self) -> None:
        """Do again what was taken back last."""
        before = self.study
        if self._history.redo():
            self._tell(before)

    def open_study(self, study: Study) -> None:
        """Put another study in place of this one; its history is gone, so the caller asks and saves first."""
        before = self.study
        self._history = History(study)
        self._as_read.clear()
        self._follow_head(before)
        self.opened.emit()
        self.changed.emit(before, study)

    def use_head(self, path: Path, text: str | None = None) -> None:
        """Take another head, as an edit that can be undone; it is loaded in a thread, then `head_changed` is sent."""
        after = replace(self.study, head=path, concepts=None)
        self._as_read.pop(path, None)
        if after == self.study:
            self._load_head()  # the file may be another by now
        else:
            self.edit(text or f"Use {path.name}", after)

    def move_heads(self, moved: Callable[[Path], Path]) -> None:
        """Say where the files of heads lie now; they are the same heads, before each edit too, and nothing to undo."""
        before = self.study
        self._as_read |= {moved(path): edits for path, edits in self._as_read.items()}
        self._history.amend(lambda study: replace(study, head=study.head and moved(study.head)))
        if self.study != before:
            if self.head is None:
                self._load_head()  # it was being read where it lay
            self.changed.emit(before, self.study)

    @property
    def sources(self) -> list[Source]:
        """The slides and token grids that are open, in the order of layers."""
        return self._sources

    @property
    def current(self) -> Source | None:
        """The slide at hand: the one whose layer, map or annotation was selected last; None where none is open."""
        return next((source for source in self._sources if source.layer is self._current), None)

    def choose(self, source: Source) -> None:
        """Take another slide in hand."""
        if source.layer is not self._current:
            self._current = source.layer
            self.sources_changed.emit()

    @property
    def maps(self) -> tuple[DrawnMap, ...]:
        """What heads found on open slides."""
        return tuple(self._maps)

    def map_of(self, source: Source | None) -> DrawnMap | None:
        """Return what was found on a slide; None where nothing was drawn yet."""
        if source is None:
            return None
        return next((drawn for drawn in self._maps if drawn.source.layer is source.layer), None)

    def keep_map(self, drawn: DrawnMap) -> None:
        """Keep what was found on a slide, in place of what was found before."""
        self._maps = [other for other in self._maps if other.source.layer is not drawn.source.layer] + [drawn]
        self.maps_changed.emit()

    def _tell(self, before: Study) -> None:
        """Follow a change of the study, and tell of it."""
        self._follow_head(before)
        self.changed.emit(before, self.study)

    def _follow_head(self, before: Study) -> None:
        """Load the head if it is another one, or edit its concepts."""
        is_edited = self.study.concepts is not before.concepts
        if self.study.head != before.head or (is_edited and self.head_problem is not None):
            self._load_head()
        elif is_edited and self.head is not None:
            self._edit_concepts()

    def _load_head(self) -> None:
        """Read the study's head in a thread; the first one imports scikit-learn and numba."""
        path = self.study.head
        self.head = self.head_problem = None
        self.head_changed.emit()
        if path is not None:
            task = Task(_reading(path), self)
            task.finished.connect(lambda outcome: self._take_head(path, outcome))
            task.finished.connect(task.deleteLater)
            task.start()

    def _take_head(self, path: Path, outcome: Any) -> None:
        """Use the head that was read, unless another one was chosen meanwhile."""
        if path != self.study.head:
            return
        if isinstance(outcome, Failure):
            show_failure(outcome)
            self.head_problem = f"{path.name} could not be read: {type(outcome.error).__name__}."
        elif isinstance(outcome, Refusal):
            self.head_problem = outcome.sentence
        else:
            self.head = outcome
            self.keeper.note_head(path, outcome.concept_edits_)
            self._as_read.setdefault(path, outcome.concept_edits_)
            self._edit_concepts()
            return
        self.head_changed.emit()

    def _edit_concepts(self) -> None:
        """Give the head the edits that the study holds; None: those that its file came with."""
        path, head = self.study.head, self.head
        assert head is not None
        assert path is not None
        edits = self._as_read.get(path) if self.study.concepts is None else self.study.concepts
        if edits is None:
            self._load_head()
            return
        try:
            self.head = head if edits == head.concept_edits_ else head.with_edits(edits)
        except MismatchError:
            self.head = None
            self.head_problem = (
                f"{path.name} is another head than the one whose {edits.n_concepts} concepts were named here. "
                "Undo that, or choose the head again to use it as it is."
            )
        self.head_changed.emit()

    def _list_sources(self, event: Any = None) -> None:
        """List the layers that can be prospected; a slide that was just opened is taken in hand."""
        self._sources = sources(self._viewer.layers)
        inserted = getattr(event, "value", None)
        known = [source.layer for source in self._sources]
        for layer in known:
            for name in LISTED:
                getattr(layer.events, name).connect(self._list_sources)
        if inserted is not None and any(layer is inserted for layer in known):
            self._current = inserted
        elif not any(layer is self._current for layer in known):
            self._current = known[-1] if known else None
        self.sources_changed.emit()

    def _forget_layer(self, event: Any) -> None:
        """Forget the map of a slide that was closed."""
        for name in LISTED:
            getattr(event.value.events, name).disconnect(self._list_sources)
        n_maps = len(self._maps)
        self._maps = [drawn for drawn in self._maps if drawn.source.layer is not event.value]
        self._list_sources()
        if len(self._maps) != n_maps:
            self.maps_changed.emit()

    def _follow_selection(self, event: Any) -> None:
        """Take in hand the slide that is selected, or whose map, concepts or annotation is."""
        from napari_prospector._napari.layers import provenance

        self.selected.emit()
        if event.value is None:
            return
        slide = provenance(event.value).get("slide_id")
        for source in self._sources:
            if source.layer is event.value or source.layer.unique_id == slide:
                self.choose(source)


def workspace_of(viewer: Viewer) -> Workspace:
    """Return the workspace of a viewer, made on first use; it lives as long as the viewer's window."""
    bare = getattr(viewer, "__wrapped__", viewer)
    window = bare.window._qt_window
    found = window.findChild(Workspace, OBJECT_NAME)
    return found if isinstance(found, Workspace) else Workspace(bare)


def _reading(path: Path) -> Callable[[], Steps[ProspectorHead]]:
    """Return what reads a head; meanwhile napari imports what its layers will need."""

    def steps() -> Steps[ProspectorHead]:
        from napari_prospector._napari.warming import warm_up
        from napari_prospector.core.head import load_head

        yield JobProgress(f"Reading {path.name}")
        head = load_head(path)
        warm_up()
        return head

    return steps
