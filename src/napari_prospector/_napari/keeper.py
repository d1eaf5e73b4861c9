"""Nothing is lost: the study of a viewer is written to its project a moment after every change.

A study that has no project yet is kept in one without a name, in the user's own folder for programs' files. It is
offered again at the next start, so closing napari asks nothing and loses nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_prospector._napari.progress import Failure, JobProgress, Refusal, Steps
from napari_prospector._napari.tasks import Task, show_failure
from napari_prospector.errors import ProspectorError
from napari_prospector.study.project import Study
from napari_prospector.tokens.durable import WriterLock, storage_errors

if TYPE_CHECKING:
    from napari_prospector._napari.workspace import Workspace
    from napari_prospector.core.concept_edits import ConceptEdits
    from napari_prospector.study.project_files import Project

__all__ = ["ProjectKeeper", "Unnamed", "forget_unnamed", "unnamed_projects", "user_folder"]

SAVE_AFTER_MS = 800


@dataclass(frozen=True)
class Unnamed:
    """Work that was never given a name.

    Attributes
    ----------
    folder
        Its project.
    saved_at
        Seconds since 1970.
    summary
        What is in it.
    """

    folder: Path
    saved_at: float
    summary: str


class ProjectKeeper(QObject):
    """Saves the study of a workspace, by itself.

    Parameters
    ----------
    workspace
        What is kept.
    view
        Says what is open in the viewer, in types of JSON; called in the GUI thread.
    """

    saved = Signal()
    """All is on the disk."""
    problem_changed = Signal()
    """Look at `problem`."""

    def __init__(self, workspace: Workspace, view: Callable[[], Mapping[str, Any]]) -> None:
        super().__init__(workspace)
        self._workspace, self._view = workspace, view
        self.project: Project | None = None
        self.problem: str | None = None
        self._task: Task | None = None
        self._is_dirty = False
        # what the files of heads say of their concepts
        self._in_files: dict[Path, ConceptEdits] = {}
        self._making, self._writing = threading.Lock(), threading.Lock()
        # of the newest save: what is older is written no more
        self._newest = 0
        self._held: Mapping[str, Any] | None = None
        # what was seen before layers were removed in this turn of the event loop
        self._before_removal: Mapping[str, Any] = {}
        self._turn = QTimer(self)
        self._turn.setSingleShot(True)
        self._turn.setInterval(0)
        self._is_closed = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SAVE_AFTER_MS)
        self._timer.timeout.connect(self.save)
        workspace.changed.connect(self.touch)
        workspace.sources_changed.connect(self._touch_view)
        workspace.maps_changed.connect(self._touch_view)

    @property
    def is_named(self) -> bool:
        """Whether the user has given the project a place."""
        return self.project is not None and self.project.folder.parent != unnamed_folder()

    @property
    def is_saved(self) -> bool:
        """Whether all is on the disk."""
        return not self._is_dirty and self._task is None

    def touch(self, *_: Any) -> None:
        """Save in a moment, for something has changed."""
        if self._is_closed:
            # the window was to be closed, and was not
            self._is_closed, self._held = False, None
        self._is_dirty = True
        self._timer.start()

    def _touch_view(self) -> None:
        """Save in a moment what is seen, where there is a project."""
        if self.project is not None and not self._is_closed:
            self._is_dirty = True
            self._timer.start()

    def save(self) -> None:
        """Save now, in a thread; what changes meanwhile is saved next."""
        if self._task is not None or not self._is_dirty:
            return
        self._is_dirty = False
        task = Task(self._saving(), self)
        task.finished.connect(self._end)
        self._task = task
        task.start()

    def hold_view(self, view: Mapping[str, Any] | None) -> None:
        """Keep this view in place of what is open, while that is being opened; None: what is open again."""
        self._held = view

    def note_removal(self, *_: Any) -> None:
        """Take note of what is seen before layers are removed: napari removes all of them when it closes a viewer."""
        if not self._turn.isActive():
            self._before_removal = dict(self._seen())
            self._turn.start()

    def adopt(self, project: Project) -> None:
        """Keep the study in this project from now on; the one before is written and closed."""
        self._flush()
        self._go_to(project)

    def _go_to(self, project: Project) -> None:
        """Write to another project from now on; what is under way is waited for, what waits is left."""
        with self._writing:
            self._newest += 1
            before, self.project = self.project, project
        if before is not None:
            before.close()

    def note_head(self, path: Path, edits: ConceptEdits) -> None:
        """Take note of what a head's file says of its concepts; it is written again where they are edited."""
        self._in_files[path] = edits

    def save_as(self, folder: Path) -> Callable[[], Steps[tuple[Project, Study]]]:
        """Return what writes the study to another project and takes its own heads along; give the result to `move`.

        Parameters
        ----------
        folder
            Of the new project; it must not hold one.
        """
        study, view, old = self._workspace.study, dict(self._seen()), self.project

        def steps() -> Steps[tuple[Project, Study]]:
            from napari_prospector.errors import StorageError
            from napari_prospector.study.project_files import Project

            yield JobProgress(f"Saving {folder.name}")
            if (folder / "project.json").exists():
                raise StorageError(f"{folder.name} holds a project already. Choose another name.")
            project = Project(folder)
            moved = study
            try:
                if old is not None and study.head is not None and study.head.parent == old.heads:
                    _take_along(old.heads, project.heads)
                    moved = replace(study, head=project.heads / study.head.name)
                project.save(moved, view)
            except BaseException:
                project.close()
                raise
            return project, moved

        return steps

    def move(self, moved: tuple[Project, Study]) -> None:
        """Go on in the project that `save_as` wrote; an unnamed one is no longer needed."""
        old, new = self.project, moved[0]
        is_needed = self.is_named
        self._go_to(new)
        if old is not None:
            # one may have been fitted meanwhile
            _take_along(old.heads, new.heads)
            self._workspace.move_heads(lambda path: new.heads / path.name if path.parent == old.heads else path)
            self._in_files |= {new.heads / path.name: edits for path, edits in self._in_files.items()}
            if not is_needed:
                forget_unnamed(old.folder)
        self.touch()

    def close(self) -> None:
        """Let go of the project; what is unsaved is written first, here and now, and so is what is seen."""
        held = self._held
        if held is None and self._turn.isActive():
            self._held = self._before_removal
        if self.project is not None and self._seen() != self.project.view:
            self._is_dirty = True
        self._flush()
        self._held = held
        if self.project is not None:
            self.project.close()
            self._held, self._is_closed = self.project.view, True

    def _flush(self) -> None:
        """Write what is unsaved, here and now; where its place refuses, to a project without a name."""
        from napari_prospector.study.project_files import Project

        self._timer.stop()
        if not self._is_dirty and self._task is None:
            return
        self._is_dirty = False
        try:
            for _ in self._saving()():
                pass
        except ProspectorError as error:
            from napari.utils.notifications import show_error

            try:
                with Project(_new_unnamed()) as kept:
                    kept.save(self._workspace.study, dict(self._seen()))
                show_error(f"{error} This work is kept without a name instead, and offered under 'Start'.")
            except ProspectorError:
                show_error(f"The last changes are not saved: {error}")

    def _seen(self) -> Mapping[str, Any]:
        """Return what is open in the viewer, or is being opened."""
        return self._view() if self._held is None else self._held

    def opened(self) -> Project:
        """Return the project, made without a name where there is none; from any thread."""
        from napari_prospector.study.project_files import Project

        with self._making:
            if self.project is None:
                self.project = Project(_new_unnamed())
            return self.project

    def _saving(self) -> Callable[[], Steps[None]]:
        """Return what saves the study as it is now."""
        study, view, head = self._workspace.study, dict(self._seen()), self._workspace.head
        is_edited = head is not None and self._in_files.get(study.head or Path()) != head.concept_edits_
        self._newest += 1
        number = self._newest

        def steps() -> Steps[None]:
            yield JobProgress("Saving")
            with self._writing:
                if number != self._newest:
                    return
                self.opened().save(study, view)
                if is_edited and head is not None and study.head is not None:
                    head.save(study.head)
                    self._in_files[study.head] = head.concept_edits_

        return steps

    def _end(self, outcome: Any) -> None:
        """Tell what came of saving; where it failed the next change tries again."""
        task, self._task = self._task, None
        if task is not None:
            task.deleteLater()
        before = self.problem
        self.problem = outcome.sentence if isinstance(outcome, Refusal) else None
        if isinstance(outcome, Failure):
            show_failure(outcome)
            self.problem = f"Saving met a bug: {type(outcome.error).__name__}."
        if self.problem is not None:
            self._is_dirty = True
            if self.problem != before:
                from napari.utils.notifications import show_error

                show_error(self.problem)
        if self.problem != before:
            self.problem_changed.emit()
        if self.problem is None and self._is_dirty:
            self._timer.start()
        elif self.problem is None:
            self.saved.emit()


def user_folder() -> Path:
    """Return the folder for what programs keep for a user, as the system has it."""
    if sys.platform == "win32":
        home = Path(os.environ.get("APPDATA", Path.home() / "AppData" / "Roaming"))
    elif sys.platform == "darwin":
        home = Path.home() / "Library" / "Application Support"
    else:
        home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return home / "napari-prospector"


def unnamed_folder() -> Path:
    """Return where projects without a name are kept."""
    return user_folder() / "unnamed"


def _new_unnamed() -> Path:
    """Return the folder of a new project without a name."""
    return unnamed_folder() / f"{uuid.uuid4().hex[:12]}.prospect-project"


def _take_along(heads: Path, there: Path) -> None:
    """Copy the heads of a project into another one, but for those that are there."""
    with storage_errors(there):
        for file in heads.glob("*.prospector"):
            if not (there / file.name).exists():
                there.mkdir(exist_ok=True)
                shutil.copy2(file, there / file.name)


def unnamed_projects() -> list[Unnamed]:
    """Return the work without a name that is open nowhere and not empty, newest first; empty ones are removed."""
    from napari_prospector.study.project_files import Project

    found = []
    for file in unnamed_folder().glob("*.prospect-project/project.json"):
        folder = file.parent
        # damaged or open elsewhere: not to be offered, and not to be removed
        with contextlib.suppress(ProspectorError, OSError), Project(folder) as project:
            study = project.study
            if not (study.slides or study.annotations or study.head):
                shutil.rmtree(folder)
                continue
            n_regions = sum(map(len, study.annotations.values()))
            counts = {"slide": len(study.slides), "region": n_regions, "head": int(study.head is not None)}
            summary = ", ".join(f"{n} {what}{'s' * (n > 1)}" for what, n in counts.items() if n)
            found.append(Unnamed(folder, file.stat().st_mtime, summary))
    return sorted(found, key=lambda unnamed: -unnamed.saved_at)


def forget_unnamed(folder: Path) -> None:
    """Remove work without a name; the caller has asked.

    Raises
    ------
    StoreBusyError
        It is open somewhere.
    """
    if folder.parent == unnamed_folder() and folder.exists():
        with WriterLock(folder / "project.lock", folder):
            shutil.rmtree(folder, ignore_errors=True)


def when(saved_at: float) -> str:
    """Return a time as people say it."""
    return time.strftime("%d %b %H:%M", time.localtime(saved_at))
