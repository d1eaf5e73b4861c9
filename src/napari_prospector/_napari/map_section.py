"""What is done with a map that is drawn: its colours, a threshold with what lies above, and the regions to fly to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSlider, QVBoxLayout, QWidget

from napari_prospector._napari.camera import fly_to
from napari_prospector._napari.drawn_layers import is_open, layers_on, set_opacity, show_above
from napari_prospector._napari.export_box import ExportBox
from napari_prospector._napari.fields import ColorBar
from napari_prospector._napari.layers import map_colors
from napari_prospector._napari.map_export import ExportRequest, MapContent
from napari_prospector._napari.map_units import map_unit
from napari_prospector._napari.progress import Failure, JobProgress, Refusal, Steps, Stopped
from napari_prospector._napari.regions_list import MOST_REGIONS, RegionsList
from napari_prospector._napari.slide_truth import SlideTruth, truth_of
from napari_prospector._napari.tasks import Task, show_failure
from napari_prospector._napari.threshold import ThresholdTable, cells_above
from napari_prospector._napari.threshold_box import ThresholdBox

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_prospector._napari.workspace import DrawnMap, Workspace
    from napari_prospector.study.outlines import ScoredRegion

__all__ = ["MapSection"]

SETTLE_MS = 30
"""The layer follows a slider that moves at most this often."""
REGIONS_MS = 150
MARGIN = 3
"""Tokens around a region that is flown to."""


class MapSection(QWidget):
    """The lower half of the widget Prospect; hidden while nothing is drawn on the slide at hand.

    Parameters
    ----------
    viewer, workspace
        Not wrapped.
    """

    def __init__(self, viewer: Viewer, workspace: Workspace) -> None:
        super().__init__()
        self._viewer, self._workspace = viewer, workspace
        self._drawn: DrawnMap | None = None
        self._name = ""
        self._table: ThresholdTable | None = None
        self._truth: SlideTruth | None = None
        self._thresholds: dict[str, float] = {}
        self._tasks: dict[str, Task] = {}
        self.color_bar = ColorBar(map_colors(33))
        self.opacity = QSlider(Qt.Orientation.Horizontal)
        self.opacity.setRange(0, 100)
        self.opacity.setValue(65)
        self.opacity.setAccessibleName("Opacity")
        self.opacity.setToolTip("How much the maps of this slide cover the tissue.")
        self.threshold = ThresholdBox()
        self.regions = RegionsList()
        self.export = ExportBox()
        self._layer_timer, self._regions_timer = self._timer(SETTLE_MS), self._timer(REGIONS_MS)
        self._lay_out()
        self._connect()
        self.hide()

    def _timer(self, wait_ms: int) -> QTimer:
        """Return a clock that rings once, a while after its last start."""
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(wait_ms)
        return timer

    def _lay_out(self) -> None:
        """Put the colours above the threshold, the regions below it."""
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.color_bar)
        row = QHBoxLayout()
        row.addWidget(QLabel("Opacity"))
        row.addWidget(self.opacity, 1)
        column.addLayout(row)
        column.addWidget(self.threshold)
        column.addWidget(self.regions)
        column.addWidget(self.export)

    def _connect(self) -> None:
        """Listen to the controls, and to regions that are drawn."""
        self.opacity.valueChanged.connect(self._set_opacity)
        self.threshold.changed.connect(self._take_threshold)
        self.threshold.outlined.connect(self._outline)
        self.regions.chosen.connect(self.fly_to)
        self._layer_timer.timeout.connect(self._outline)
        self._regions_timer.timeout.connect(self._find_regions)
        self._workspace.changed.connect(self._take_study)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is being measured any more."""
        return not self._tasks and not self._layer_timer.isActive() and not self._regions_timer.isActive()

    def show_map(self, drawn: DrawnMap | None, name: str) -> None:
        """Show what belongs to a map; None hides all of it."""
        self.setVisible(drawn is not None)
        if drawn is self._drawn and name == self._name:
            return
        is_other_slide = drawn is None or self._drawn is None or drawn.source.layer is not self._drawn.source.layer
        self._drawn, self._name, self._table = drawn, name, None
        self.threshold.show_cut(None)
        if is_other_slide:
            self.regions.set_regions(())
        if drawn is None:
            return
        limit, unit = float(drawn.head.color_limits_[name]), map_unit(drawn.head, name, drawn.target)
        self.color_bar.set_scale(limit, unit.name, f"{unit.meaning} The colours are the same on every slide.")
        self.threshold.set_range(limit, self._thresholds.get(name, limit / 2))
        self._show_layer_state(drawn)
        self._measure()

    def fly_to(self, region: ScoredRegion) -> None:
        """Show a region in the middle of the canvas, with some tokens around it."""
        drawn = self._drawn
        if drawn is None or not is_open(self._viewer, drawn.source):
            return
        layers = layers_on(self._viewer, drawn.source, "map")
        if not layers:
            return
        # from continuous pixels to cells, whose centres lie at whole numbers of the layer
        first, step = drawn.geometry.centre_px(0, 0) + 0.5, drawn.geometry.stride
        row0, col0, row1, col1 = region.region.bounds
        corners = [(np.array(corner) - first) / step for corner in ((row0, col0), (row1, col1))]
        places = [layers[0].data_to_world(at) for at in (*corners, (0, 0), (1, 1))]
        low, high, origin, token = (np.asarray(place[-2:], dtype=np.float64) for place in places)
        extent = np.abs(high - low).max() + 2 * MARGIN * np.abs(token - origin).max()
        row, col = ((low + high) / 2).tolist()
        fly_to(self._viewer, (row, col), float(extent))

    def export_request(self, folder: Path) -> ExportRequest | None:
        """Return what the fields ask to be written of the map that is shown; None where none is."""
        if self._drawn is None:
            return None
        box = self.export
        return ExportRequest(
            drawn=MapContent.of_drawn(self._drawn),
            head_name=self._drawn.head_name,
            folder=folder,
            map=self._name,
            threshold=self.threshold.threshold,
            tolerance_um=box.tolerance.value(),
            maps=box.maps.isChecked(),
            contours=box.contours.isChecked(),
            table=box.table.isChecked(),
        )

    def _show_layer_state(self, drawn: DrawnMap) -> None:
        """Show opacity and outline as the layers of this slide have them."""
        maps = layers_on(self._viewer, drawn.source, "map")
        for field, value in (
            (self.opacity, round(100 * maps[0].opacity) if maps else None),
            (self.threshold.outline, bool(layers_on(self._viewer, drawn.source, "above"))),
        ):
            field.blockSignals(True)
            if isinstance(field, QSlider) and value is not None:
                field.setValue(value)
            elif not isinstance(field, QSlider):
                field.setChecked(bool(value))
            field.blockSignals(False)

    def _set_opacity(self, percent: int) -> None:
        """Draw the maps of this slide with another opacity."""
        if self._drawn is not None:
            set_opacity(self._viewer, self._drawn.source, percent / 100)

    def _take_study(self, before: Any, after: Any) -> None:
        """Measure again where regions were drawn on this slide, or its mask is another."""
        if self._drawn is None:
            return
        key, path = self._drawn.source.key, self._drawn.source.path
        is_same = before.regions(key) is after.regions(key) or before.regions(key) == after.regions(key)
        if not is_same or (path is not None and before.slide(path) != after.slide(path)):
            self._measure()

    def _measure(self) -> None:
        """Sort the scores and read the truth, in a thread."""
        drawn, name, study = self._drawn, self._name, self._workspace.study
        assert drawn is not None

        def steps() -> Steps[tuple[ThresholdTable, SlideTruth | None]]:
            yield JobProgress("Measuring")
            truth = truth_of(study, drawn)
            tokens = None if truth is None else truth.tokens
            return ThresholdTable.of(drawn.maps[name], drawn.geometry, tokens), truth

        self._run("measure", steps, self._take_table)

    def _take_table(self, measured: tuple[ThresholdTable, SlideTruth | None]) -> None:
        """Show what was measured."""
        self._table, self._truth = measured
        self._show_cut()
        self._layer_timer.start()
        self._regions_timer.start()

    def _take_threshold(self, threshold: float) -> None:
        """Show what another threshold leaves, at once; layer and regions follow when the slider rests."""
        self._thresholds[self._name] = threshold
        self._show_cut()
        self._layer_timer.start()
        self._regions_timer.start()

    def _show_cut(self) -> None:
        """Say what lies above the threshold."""
        if self._table is not None:
            origin = "" if self._truth is None else self._truth.origin
            self.threshold.show_cut(self._table.cut(self.threshold.threshold), self._table.average_precision, origin)

    def _outline(self) -> None:
        """Outline what lies above, or take the outline away."""
        drawn = self._drawn
        if drawn is None or not is_open(self._viewer, drawn.source):
            return
        is_wanted = self.threshold.outline.isChecked()
        above = cells_above(drawn.maps[self._name], self.threshold.threshold) if is_wanted else None
        show_above(self._viewer, drawn, above)

    def _find_regions(self) -> None:
        """List the regions above the threshold, in a thread."""
        drawn, name, threshold = self._drawn, self._name, self.threshold.threshold
        if drawn is None:
            return

        def steps() -> Steps[list[ScoredRegion]]:
            from napari_prospector.study.outlines import threshold_regions

            yield JobProgress("Finding regions")
            return threshold_regions(drawn.maps[name], threshold, drawn.geometry, drawn.target, most=MOST_REGIONS)

        self._run("regions", steps, self.regions.set_regions)

    def _run(self, kind: str, steps: Callable[[], Steps[Any]], on_result: Callable[[Any], None]) -> None:
        """Run a task in place of an earlier one of its kind, whose result is not wanted any more."""
        earlier = self._tasks.pop(kind, None)
        if earlier is not None:
            earlier.cancel()
        task = Task(steps, self)
        self._tasks[kind] = task
        task.finished.connect(lambda outcome: self._end(kind, task, outcome, on_result))
        task.start()

    def _end(self, kind: str, task: Task, outcome: Any, on_result: Callable[[Any], None]) -> None:
        """Use a result unless a later task of its kind was begun."""
        task.deleteLater()
        if isinstance(outcome, Failure):
            show_failure(outcome)
        if self._tasks.get(kind) is not task:
            return
        del self._tasks[kind]
        if isinstance(outcome, Refusal):
            self.threshold.area.setText(outcome.sentence)
        elif not isinstance(outcome, (Failure, Stopped)):
            on_result(outcome)
