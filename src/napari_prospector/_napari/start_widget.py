"""The first widget: three ways to begin, what was being worked on, and where it is kept."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QFrame,
    QGridLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QMessageBox,
    QPushButton,
    QVBoxLayout,
)

from napari_prospector._napari.docks import DockedWidget, show_named
from napari_prospector._napari.help_page import WIDGETS, show_help
from napari_prospector._napari.keeper import forget_unnamed, unnamed_projects, when
from napari_prospector._napari.keys import bind_keys
from napari_prospector._napari.progress import JobProgress, Steps
from napari_prospector._napari.recent import note_recent, recent_projects
from napari_prospector._napari.reopening import Reopening, read_for_viewer
from napari_prospector._napari.settings_dialog import show_settings
from napari_prospector._napari.tasks import TaskBar
from napari_prospector._napari.workspace import workspace_of
from napari_prospector.errors import ProspectorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.viewer import Viewer

    from napari_prospector._napari.keeper import Unnamed
    from napari_prospector.study.project_files import Project

__all__ = ["StartWidget"]

WIDGET = "Start"
SUFFIX = ".prospect-project"
MODULES = ("slides_widget", "annotate_widget", "fit_widget", "panel", "concepts_widget", "why_widget")
RESEARCH = "For research use only; not a medical device."


class StartWidget(DockedWidget):
    """Begin: the sample, slides of one's own, or a project.

    Parameters
    ----------
    napari_viewer
        The viewer that is worked in.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self._workspace = workspace_of(napari_viewer)
        self.sample_button = QPushButton("Try the sample")
        self.slides_button = QPushButton("Open slides …")
        self.project_button = QPushButton("Open a project …")
        self.recent = QListWidget()
        self.recent.setAccessibleName("Recent work")
        self.recent.setToolTip("Enter or a double click opens it.")
        self.kept = QLabel()
        self.kept.setWordWrap(True)
        self.kept.setTextFormat(Qt.TextFormat.PlainText)
        self.save_button = QPushButton("Save project as …")
        self.forget_button = QPushButton("Forget")
        self.help_button = QPushButton("Keys and help")
        self.settings_button = QPushButton("Settings …")
        self.bar = TaskBar()
        self._next: tuple[Any, Any] | None = None
        self._lay_out()
        self._connect()
        bind_keys(self, self._workspace)
        self.refresh()
        self.look_for_recent()

    def _lay_out(self) -> None:
        """Put the three ways over what was worked on, and where it is kept under it."""
        column = QVBoxLayout(self)
        column.addWidget(_text("Where on a slide does a class live, and why? Learn it from labels of whole slides."))
        for button, sentence in (
            (self.sample_button, "A small cohort of drawn slides with labels: everything works on it, offline."),
            (self.slides_button, "Slide files, folders of them, or a table (CSV) with labels."),
            (self.project_button, "Go on where you left off: slides, labels, annotations, heads and layers."),
        ):
            button.setMinimumHeight(34)
            button.setToolTip(sentence)
            column.addWidget(button)
            column.addWidget(_text(sentence, small=True))
        column.addWidget(_line())
        column.addWidget(QLabel("Widgets, in the order of the work"))
        column.addLayout(self._doors())
        self.recent_title = QLabel("Recent work")
        column.addWidget(self.recent_title)
        self.recent.setMaximumHeight(110)
        self.recent.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        column.addWidget(self.recent)
        grid = QGridLayout()
        for number, button in enumerate((self.save_button, self.forget_button, self.help_button, self.settings_button)):
            grid.addWidget(button, number // 2, number % 2)
        column.addWidget(self.kept)
        column.addLayout(grid)
        column.addWidget(self.bar)
        column.addStretch(1)
        column.addWidget(_text(RESEARCH, small=True))
        self.forget_button.setToolTip("Remove the chosen work without a name from the disk; asks first.")
        self.save_button.setToolTip("Give this work a name and a place; it is kept there from then on.")
        self.settings_button.setToolTip("Where tokens are kept, the encoder of new work, how maps look.")
        self.help_button.setToolTip("What each key does, and what each widget is for.")

    def _doors(self) -> QGridLayout:
        """Return a button for each other widget."""
        grid = QGridLayout()
        for number, (name, what) in enumerate(WIDGETS[1:]):
            button = QPushButton(name)
            button.setToolTip(f"{what[0].upper()}{what[1:]}.")
            button.clicked.connect(lambda _, name=name: show_named(self._viewer, name))
            grid.addWidget(button, number // 3, number % 3)
        return grid

    def _connect(self) -> None:
        """Listen to buttons, the list and the keeper."""
        self.sample_button.clicked.connect(self.try_sample)
        self.slides_button.clicked.connect(self.open_slides)
        self.project_button.clicked.connect(self.ask_project)
        self.save_button.clicked.connect(self.ask_place)
        self.forget_button.clicked.connect(self._ask_forget)
        self.help_button.clicked.connect(self.show_help)
        self.settings_button.clicked.connect(self.show_settings)
        self.recent.itemActivated.connect(self._open_item)
        self.recent.currentItemChanged.connect(self.refresh)
        self.bar.finished.connect(self._run_next)
        keeper = self._workspace.keeper
        keeper.saved.connect(self.refresh)
        keeper.problem_changed.connect(self.refresh)
        self._workspace.changed.connect(self.refresh)

    def refresh(self, *_: Any) -> None:
        """Say where the work is kept."""
        keeper = self._workspace.keeper
        if keeper.problem is not None:
            text = f"Not saved: {keeper.problem}"
        elif keeper.is_named and keeper.project is not None:
            text = f"Project {keeper.project.folder.name}: every change is saved by itself."
        elif keeper.project is not None:
            text = "This work has no name yet. It is kept by itself, and offered here at the next start."
        else:
            text = "Every change is kept by itself; nothing has been changed yet."
        self.kept.setText(text)
        item = self.recent.currentItem()
        self.forget_button.setEnabled(item is not None and item.data(Qt.ItemDataRole.UserRole)[0] == "unnamed")
        is_empty = self.recent.count() == 0
        self.recent.setVisible(not is_empty)
        self.recent_title.setVisible(not is_empty)

    def look_for_recent(self) -> None:
        """List recent projects and work without a name; they are read in a thread."""
        self.bar.run(_recent_steps, self._list_recent)

    def try_sample(self) -> None:
        """Draw the sample cohort, unless it was drawn before, and open its first slide."""
        self._viewer.open_sample("napari-prospector", "cohort")

    def open_slides(self) -> None:
        """Open the table of slides, where files are added."""
        show_named(self._viewer, "Slides")

    def open_project(self, folder: Path) -> None:
        """Open a project in place of what is there, which is kept."""
        keeper = self._workspace.keeper
        if keeper.project is not None and keeper.project.folder == folder:
            self.bar.say(f"{folder.name} is open already.")
            return
        self._run(read_for_viewer(folder), self._take_project)

    def show_help(self) -> None:
        """Show what each key does."""
        show_help(self)

    def show_settings(self) -> None:
        """Show what can be set once and for all."""
        show_settings(self._viewer, self)

    def _take_project(self, project: Project) -> None:
        """Show a project that was read."""
        self._workspace.keeper.adopt(project)
        note_recent(project.folder)
        Reopening(self._viewer, self._workspace, project.view, self.bar).start(project.study)
        self.look_for_recent()

    def _run(self, steps: Callable[[], Steps[Any]], on_result: Callable[[Any], None]) -> None:
        """Run a task, now or after the one at work: what the user asked last is done."""
        if self.bar.is_running:
            self._next = (steps, on_result)
        else:
            self.bar.run(steps, on_result)

    def _run_next(self) -> None:
        """Run what was asked for while another task was at work, unless that led to one more."""
        if self._next is not None and not self.bar.is_running:
            asked, self._next = self._next, None
            self.bar.run(*asked)

    def _list_recent(self, found: tuple[list[Path], list[Unnamed]]) -> None:
        """Show what was worked on lately."""
        self.recent.clear()
        for unnamed in found[1]:
            self._add_item(f"Without a name: {unnamed.summary}, {when(unnamed.saved_at)}", "unnamed", unnamed.folder)
        for folder in found[0]:
            self._add_item(folder.name.removesuffix(SUFFIX), "project", folder)
        self.refresh()

    def _add_item(self, text: str, kind: str, folder: Path) -> None:
        """Add a line to what was worked on."""
        item = QListWidgetItem(text)
        item.setToolTip(text)
        item.setData(Qt.ItemDataRole.UserRole, (kind, str(folder)))
        self.recent.addItem(item)

    def _open_item(self, item: QListWidgetItem) -> None:
        """Open what was worked on."""
        self.open_project(Path(item.data(Qt.ItemDataRole.UserRole)[1]))

    def ask_project(self) -> None:
        """Ask for a project's folder."""
        chosen = QFileDialog.getExistingDirectory(self, "Open a project: a folder whose name ends in .prospect-project")
        if chosen:
            self.open_project(Path(chosen))

    def ask_place(self) -> None:
        """Ask where the project is to be kept."""
        chosen, _ = QFileDialog.getSaveFileName(self, "Save the project as", f"study{SUFFIX}", f"Projects (*{SUFFIX})")
        if chosen:
            self.save_as(Path(chosen))

    def save_as(self, folder: Path) -> None:
        """Keep the work in this folder from now on."""
        named = folder if folder.name.endswith(SUFFIX) else folder.with_name(folder.name + SUFFIX)
        keeper = self._workspace.keeper

        def done(moved: Any) -> None:
            keeper.move(moved)
            note_recent(named)
            self.bar.say(f"Kept in {named.name} from now on.")
            self.refresh()

        self._run(keeper.save_as(named), done)

    def _ask_forget(self) -> None:
        """Remove work without a name, after asking."""
        item = self.recent.currentItem()
        if item is None:
            return
        asked = QMessageBox.question(self, "Forget this work?", f"{item.text()}\n\nIt cannot be brought back.")
        if asked == QMessageBox.StandardButton.Yes:
            try:
                forget_unnamed(Path(item.data(Qt.ItemDataRole.UserRole)[1]))
            except ProspectorError as error:
                self.bar.say(str(error))
            else:
                self.look_for_recent()


def _recent_steps() -> Steps[tuple[list[Path], list[Unnamed]]]:
    """Look for recent projects and for work without a name."""
    yield JobProgress("Looking for recent work")
    for name in MODULES:  # each takes tens of milliseconds, which would be felt when its widget is opened
        import_module(f"napari_prospector._napari.{name}")
        yield JobProgress("Looking for recent work")
    return recent_projects(), unnamed_projects()


def _text(sentence: str, small: bool = False) -> QLabel:
    """Return a sentence."""
    label = QLabel(sentence)
    label.setWordWrap(True)
    if small:
        font = label.font()
        font.setPointSizeF(font.pointSizeF() * 0.9)
        label.setFont(font)
    return label


def _line() -> QFrame:
    """Return a thin line."""
    line = QFrame()
    line.setFrameShape(QFrame.Shape.HLine)
    return line
