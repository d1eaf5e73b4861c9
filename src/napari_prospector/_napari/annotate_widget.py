"""The widget *Annotate*: regions by class on the slide at hand, drawn, listed, read from GeoJSON and written to it.

A thin shell over `annotator`, which draws, and the workspace, which keeps.
"""

from __future__ import annotations

import html
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_prospector._napari.annotate_layout import lay_out
from napari_prospector._napari.annotator import OWN_TOOLS, annotator_of
from napari_prospector._napari.docks import DockedWidget, show_widget
from napari_prospector._napari.keys import bind_keys
from napari_prospector._napari.region_classes import (
    counts,
    with_class,
    with_classes_of,
    with_color,
    with_label,
    with_name,
    without_class,
)
from napari_prospector._napari.region_jobs import counting, joined, reading, told, writing
from napari_prospector._napari.sources import Source
from napari_prospector._napari.tasks import Task
from napari_prospector._napari.workspace import workspace_of
from napari_prospector.errors import ProspectorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.viewer import Viewer
    from qtpy.QtGui import QDragEnterEvent, QDropEvent

    from napari_prospector.study.annotations import Annotations
    from napari_prospector.study.project import Study

__all__ = ["AnnotateWidget", "show_annotate"]

WIDGET = "Annotate"
GEOJSON = "GeoJSON (*.geojson *.json)"


class AnnotateWidget(DockedWidget):
    """Draw regions by class.

    Parameters
    ----------
    napari_viewer
        The viewer whose slides are drawn on.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self._workspace = workspace_of(napari_viewer)
        self._annotator = annotator_of(napari_viewer)
        self._tokens: Counter[str | None] | None = None
        self._counting: Task | None = None
        self._shown: tuple[Any, ...] = ()
        lay_out(self, self._workspace)
        self._connect()
        bind_keys(self, self._workspace)
        self.setAcceptDrops(True)
        self.refresh()

    def _connect(self) -> None:
        """Listen to the controls, to what draws and to the workspace."""
        self.tools.chosen.connect(self._choose_tool)
        self.brush.valueChanged.connect(self._annotator.set_brush)
        self.classes.chosen.connect(self._annotator.choose_class)
        self.classes.added.connect(self._add_class)
        self.classes.renamed.connect(self._rename_class)
        self.classes.colored.connect(self._color_class)
        self.classes.deleted.connect(self._delete_class)
        self.table.selected.connect(self._select)
        self.table.clicked.connect(self._fly)
        self.table.activated.connect(self._fly)
        self.table.regions.renamed.connect(self._name_region)
        self.label_button.clicked.connect(self._label_regions)
        self.lock_button.clicked.connect(self._lock_regions)
        self.delete_button.clicked.connect(self._delete_regions)
        self.clear_button.clicked.connect(self._delete_all)
        self.import_button.clicked.connect(self._ask_for_import)
        self.export_button.clicked.connect(self._ask_for_export)
        self._annotator.selected.connect(self._follow_selection)
        self._annotator.tool_changed.connect(self._show_tool)
        self._annotator.layers_changed.connect(self._show_hint)
        self._annotator.said.connect(self.bar.say)
        self._workspace.changed.connect(self.refresh)
        self._workspace.sources_changed.connect(self.refresh)
        self._workspace.maps_changed.connect(self.refresh)

    def refresh(self, *_: object) -> None:
        """Show the regions of the slide at hand, and what can be done."""
        source, regions = self._annotator.source, self._annotator.regions
        name = None if source is None else source.name
        now = (name, regions, self._annotator.classes, _mpp_of(source))
        if now != self._shown:
            self._shown = now
            mpp = now[-1]
            selected = self.table.selected_ids
            self.table.show_regions(regions, self._annotator.classes, mpp, selected)
        here = counts(self._workspace.study, source.key) if source is not None else Counter()
        self.classes.show_classes(self._annotator.classes, self._annotator.label, here)
        for widget in (self.tools, self.import_button):
            widget.setEnabled(source is not None)
        for widget in (self.export_button, self.clear_button):
            widget.setEnabled(bool(regions))
        self._enable_rows()
        self._show_tool()
        self._show_hint()
        self._count_tokens(here)

    def _show_hint(self) -> None:
        """Say on which slide one draws, or why one cannot."""
        source = self._annotator.source
        if source is not None:
            text = source.name
            if self._annotator.is_hidden:
                text += ": the layer was taken away, its regions are kept. Choose a tool to show them."
        elif self._workspace.current is not None:
            text = f"{self._workspace.current.name} shows tokens. Open its slide to draw on it."
        else:
            text = "Open a slide to draw on it: drop its file on the viewer."
        self.slide.setText(text)
        self.slide.setToolTip(html.escape(text))

    def _show_tool(self) -> None:
        """Show the tool, the class and the brush in hand."""
        tool = self._annotator.tool
        self.tools.show_tool(tool)
        self.brush.blockSignals(True)
        self.brush.setValue(self._annotator.brush_px)
        self.brush.blockSignals(False)
        is_brush = tool in OWN_TOOLS and tool != "lasso"
        for widget in (self.brush, self.brush_width, self.brush_label):
            widget.setEnabled(is_brush)
        wide = self._annotator.brush_on_slide()
        mpp = _mpp_of(self._annotator.source)
        if wide is None:
            self.brush_width.setText("")
        else:
            self.brush_width.setText(f"{wide:,.0f} px" if mpp is None else f"{wide * mpp:,.0f} µm")
        if self.classes.name != self._annotator.label:
            self.classes.show_classes(self._annotator.classes, self._annotator.label, self._here())

    def _here(self) -> Counter[str | None]:
        """Return the number of regions of each class on the slide at hand."""
        source = self._annotator.source
        return Counter() if source is None else counts(self._workspace.study, source.key)

    def _count_tokens(self, here: Counter[str | None]) -> None:
        """Say what Fit could learn from; tokens are counted in a thread where the slide's are known."""
        self.use.setText(told(here, None))
        if self._counting is not None:
            self._counting.cancel()
        self._counting = None
        drawn = self._workspace.map_of(self._annotator.source)
        if drawn is None or not self._annotator.regions:
            return
        task = Task(counting(self._annotator.regions, drawn.geometry, drawn.mask), self)
        self._counting = task
        task.finished.connect(self._take_count)
        task.start()

    def _take_count(self, found: Any) -> None:
        """Show how many tokens the regions hold, unless they are others by now."""
        task = self.sender()
        if task is self._counting and isinstance(found, Counter):
            self.use.setText(told(self._here(), found))
            self._counting = None
        if isinstance(task, Task):
            task.deleteLater()

    def _choose_tool(self, tool: str) -> None:
        """Take a tool."""
        self._annotator.choose_tool(tool)

    def _edit(self, text: str, change: Callable[[Study], Study]) -> None:
        """Change the study, or say why not."""
        try:
            study = change(self._workspace.study)
        except ProspectorError as error:
            self.bar.say(str(error))
            return
        if study != self._workspace.study:
            self._workspace.edit(text, study)

    def _add_class(self, name: str) -> None:
        """Add a class, and draw in it."""
        self._edit(f"Add class {name}", lambda study: with_class(study, name))
        self._annotator.choose_class(name)

    def _rename_class(self, old: str, new: str) -> None:
        """Rename a class."""
        is_at_hand = self._annotator.label == old
        self._edit(f"Rename class {old}", lambda study: with_name(study, old, new))
        if is_at_hand and any(each.name == new for each in self._annotator.classes):
            self._annotator.choose_class(new)

    def _color_class(self, name: str, color: tuple[int, int, int]) -> None:
        """Colour a class."""
        self._edit(f"Colour class {name}", lambda study: with_color(study, name, color))

    def _delete_class(self, name: str) -> None:
        """Delete a class; ask where it has regions."""
        n_regions = counts(self._workspace.study)[name]
        question = f"{n_regions:,} regions are of class “{name}”. Delete the class, and keep them without a class?"
        if n_regions == 0 or self._agrees("Delete the class", question):
            self._edit(f"Delete class {name}", lambda study: without_class(study, name))

    def _agrees(self, title: str, question: str) -> bool:
        """Ask before something goes."""
        buttons = QMessageBox.StandardButton
        box = QMessageBox(QMessageBox.Icon.Question, title, question, buttons.Yes | buttons.Cancel, self)
        box.setTextFormat(Qt.TextFormat.PlainText)
        return int(box.exec()) == int(buttons.Yes.value)

    def _select(self, ids: list[str]) -> None:
        """Select on the canvas what was selected in the table."""
        if self._annotator.at_hand is not None:
            self._annotator.at_hand.select(ids)
        self._enable_rows()

    def _follow_selection(self) -> None:
        """Select in the table what was selected on the canvas."""
        if self._annotator.at_hand is not None:
            self.table.select(self._annotator.at_hand.selected_ids)
        self._enable_rows()

    def _fly(self, index: Any) -> None:
        """Fly to the region of a row."""
        self._annotator.fly_to(self.table.regions.regions[index.row()])

    def _enable_rows(self) -> None:
        """Offer what can be done with the regions that are selected."""
        ids = set(self.table.selected_ids)
        for button in (self.label_button, self.lock_button, self.delete_button):
            button.setEnabled(bool(ids))
        locked = [region.locked for region in self._annotator.regions if region.id in ids]
        self.lock_button.setText("Unlock" if locked and all(locked) else "Lock")

    def _change_regions(self, text: str, **fields: Any) -> None:
        """Change fields of the regions that are selected."""
        ids = set(self.table.selected_ids)
        regions = (replace(region, **fields) if region.id in ids else region for region in self._annotator.regions)
        self._annotator.edit(text, regions)

    def _label_regions(self) -> None:
        """Give the regions that are selected the class in hand."""
        source, ids, label = self._annotator.source, set(self.table.selected_ids), self._annotator.label
        if source is not None:
            self._edit(f"Class {label}", lambda study: with_label(study, source.key, ids, label))

    def _lock_regions(self) -> None:
        """Lock the regions that are selected, or unlock them."""
        is_locking = self.lock_button.text() == "Lock"
        self._change_regions(self.lock_button.text(), locked=is_locking)
        self._enable_rows()

    def _name_region(self, key: str, name: str) -> None:
        """Give a region a name."""
        regions = (replace(region, name=name) if region.id == key else region for region in self._annotator.regions)
        self._annotator.edit(f"Name a region {name}", regions)

    def _delete_regions(self) -> None:
        """Delete the regions that are selected."""
        ids = set(self.table.selected_ids)
        text = "Delete a region" if len(ids) == 1 else f"Delete {len(ids)} regions"
        self._annotator.edit(text, [region for region in self._annotator.regions if region.id not in ids])

    def _delete_all(self) -> None:
        """Delete all regions of the slide, if the user agrees."""
        source, n_regions = self._annotator.source, len(self._annotator.regions)
        if source is None:
            return
        question = f"Delete all {n_regions:,} regions of {source.name}? Undo brings them back."
        if self._agrees("Delete all regions", question):
            self._annotator.edit(f"Delete all {n_regions} regions", ())

    def _ask_for_import(self) -> None:
        """Ask for a file with regions."""
        path, _ = QFileDialog.getOpenFileName(self, "Import regions", "", GEOJSON)
        if path:
            self.import_file(Path(path))

    def import_file(self, path: Path) -> None:
        """Add the regions of a GeoJSON file to the slide at hand; they are read in a thread."""
        source = self._annotator.source
        if source is None:
            self.bar.say(f"Open the slide of {path.name} first, then import its regions.", is_error=True)
            return
        if self.bar.is_running:
            self.bar.say("A file is being read or written. Wait for it, or cancel it.")
            return
        self.bar.run(reading(path), lambda found: self._take_import(path, source, found))

    def _take_import(self, path: Path, source: Source, found: Annotations) -> None:
        """Put the regions of a file on the slide that was at hand when it was chosen."""
        study, key = self._workspace.study, source.key
        after = study.with_regions(key, joined(study.regions(key), found.regions))
        if found.regions:
            self._workspace.edit(f"Import {path.name}", with_classes_of(after, found.classes))
        text = f"{len(found.regions):,} regions of {path.name} are on {source.name}."
        self.bar.say(" ".join((text, *found.notes)))

    def _ask_for_export(self) -> None:
        """Ask where the regions shall be written."""
        source = self._annotator.source
        name = "regions" if source is None else source.name
        path, _ = QFileDialog.getSaveFileName(self, "Export regions", f"{name}.geojson", GEOJSON)
        if path:
            self.export_file(Path(path))

    def export_file(self, path: Path) -> None:
        """Write the regions of the slide at hand as GeoJSON, in a thread."""
        self._annotator.settle()
        regions = self._annotator.regions
        job = writing(path, regions, self._annotator.classes)
        self.bar.run(job, lambda file: self.bar.say(f"{len(regions):,} regions are written to {file.name}."))

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Accept GeoJSON files."""
        if any(url.toLocalFile().lower().endswith((".geojson", ".json")) for url in event.mimeData().urls()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Import the first file."""
        event.acceptProposedAction()
        self.import_file(Path(event.mimeData().urls()[0].toLocalFile()))


def show_annotate(viewer: Viewer) -> AnnotateWidget:
    """Return the widget of a viewer, opened if it is not there yet."""
    return show_widget(viewer, AnnotateWidget, WIDGET)


def _mpp_of(source: Source | None) -> float | None:
    """Return the pixel size of a slide in µm; None where it is not known."""
    return None if source is None else source.mpp
