"""The whole story of the plugin, driven through real widgets in a real viewer: for the test and for pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_prospector._napari.annotator import annotator_of
from napari_prospector._napari.camera import camera_of, canvas_of
from napari_prospector._napari.docks import show_named
from napari_prospector._napari.samples import N_SLIDES
from napari_prospector._napari.workspace import Workspace, workspace_of

__all__ = ["Story", "tell_all"]

LEFT = Qt.MouseButton.LeftButton
SOON_MS, LONG_MS = 30_000, 180_000
Shot = Callable[[str], None]
WaitUntil = Callable[[Callable[[], bool], int], None]


class Story:
    """A newcomer's first hour; every step leaves the viewer as the next one needs it.

    Parameters
    ----------
    viewer
        Empty.
    wait_until
        Turns the event loop until a condition holds, for at most so many milliseconds.
    shot
        Is called with the name of each picture when the window shows what it is of.
    """

    def __init__(self, viewer: Any, wait_until: WaitUntil, shot: Shot) -> None:
        self.viewer, self.wait_until, self.shot = viewer, wait_until, shot
        self.start = show_named(viewer, "Start")
        self.workspace: Workspace = workspace_of(viewer)
        self.rests(self.start.bar)

    def widget(self, name: str) -> Any:
        """Return a widget, opened as its button in Start does, when the window has had time to show it."""
        widget = show_named(self.viewer, name)
        self.pauses()
        return widget

    def pauses(self) -> None:
        """Let the window turn, as it does between two things that a hand can do."""
        QTest.qWait(120)

    def rests(self, bar: Any, within_ms: int = LONG_MS) -> None:
        """Wait until a task bar is at rest."""
        self.wait_until(lambda: not bar.is_running, within_ms)

    def begins_with_the_sample(self) -> None:
        """Try the sample: a labelled cohort, and its first slide in the viewer."""
        self.shot("start")
        self.start.sample_button.click()
        self.wait_until(lambda: len(self.workspace.study.slides) == N_SLIDES and len(self.viewer.layers) == 1, LONG_MS)

    def labels_and_embeds(self) -> None:
        """Give a slide another label, take that back, and embed all."""
        slides = self.widget("Slides")
        first = self.workspace.study.slides[0]
        slides.table.selectRow(0)
        self.pauses()
        slides.ui.label.setCurrentText("unsure")
        slides.ui.label_button.click()
        self.pauses()
        assert self.workspace.study.slides[0].label == "unsure"
        self.workspace.undo()
        assert self.workspace.study.slides[0] == first
        slides.ui.label.setCurrentText("")
        self.wait_until(slides.ui.embed_all_button.isEnabled, SOON_MS)
        slides.ui.embed_all_button.click()
        self.wait_until(lambda: slides.bar.is_running, SOON_MS)
        self.wait_until(lambda: not slides.bar.is_running and self.is_embedded(slides), LONG_MS)
        self.shot("slides")

    def is_embedded(self, slides: Any) -> bool:
        """Whether the table says of all slides that they are embedded."""
        states = [slides.model.state_of(slide) for slide in slides.model.slides]
        return len(states) == N_SLIDES and all(state is not None and state.is_finished for state in states)

    def fits(self) -> None:
        """Learn a head."""
        fit = self.widget("Fit")
        self.wait_until(fit.fit_button.isEnabled, SOON_MS)
        fit.fit_button.click()
        self.wait_until(lambda: self.workspace.head is not None and not fit.bar.is_running, LONG_MS)
        assert "AUROC" in fit.sentence.text()
        self.shot("fit")

    def draws_a_map(self) -> None:
        """Prospect the slide at hand."""
        prospect = self.widget("Prospect")
        self.wait_until(prospect.run_button.isEnabled, SOON_MS)
        prospect.run_button.click()
        self.wait_until(lambda: len(self.workspace.maps) == 1 and not prospect.is_running, LONG_MS)
        self.wait_until(lambda: prospect.section.is_settled, SOON_MS)
        self.shot("prospect")
        drawn = self.workspace.maps[0]
        assert set(drawn.maps) == set(drawn.head.maps_)
        assert np.isfinite(drawn.maps[drawn.shown][drawn.mask]).all()

    def works_with_concepts(self) -> None:
        """Look at typical tiles, rename the strongest concept, hide another and show it again."""
        concepts = self.widget("Concepts")
        assert self.workspace.head is not None
        weights, _ = self.workspace.head.concept_weights("evidence")
        strongest = int(np.argmax(weights))
        concepts.choose_concept(strongest)
        self.pauses()
        self.wait_until(lambda: concepts.tiles.gallery is not None, LONG_MS)
        concepts.rename(strongest, "infiltrate")
        self.wait_until(lambda: self.workspace.head.concept_edits_.name(strongest) == "infiltrate", SOON_MS)
        scores = np.array(self.workspace.maps[0].maps["evidence"])
        concepts.act("hide")
        self.wait_until(lambda: not np.array_equal(self.shown("evidence"), scores, equal_nan=True), SOON_MS)
        self.workspace.undo()
        self.wait_until(lambda: np.array_equal(self.shown("evidence"), scores, equal_nan=True), SOON_MS)
        self.wait_until(lambda: not concepts.tiles.tasks.is_running, LONG_MS)
        self.shot("concepts")

    def shown(self, name: str) -> Any:
        """Return what the layer of a map holds."""
        return np.array(next(layer.data for layer in self.viewer.layers if layer.name.endswith(f"· {name}")))

    def asks_why(self) -> None:
        """Click the place with the highest score: its parts add up, and there are examples of both classes."""
        why = self.widget("Why")
        drawn = self.workspace.maps[0]
        scores = drawn.maps["evidence"]
        token = np.unravel_index(int(np.nanargmax(scores)), scores.shape)
        self.clicks(tuple(drawn.geometry.centre_px(*token)))
        self.wait_until(lambda: why.answer is not None, SOON_MS)
        answer = why.answer
        assert (answer.row, answer.col) == tuple(int(at) for at in token)
        assert answer.score == pytest.approx(float(scores[token]), rel=1e-6)
        self.wait_until(lambda: not why.examples.tasks.is_running, LONG_MS)
        self.shot("why")

    def clicks(self, place: tuple[float, float]) -> None:
        """Click a place of the slide, (row, col) in pixels."""
        QTest.mouseMove(canvas_of(self.viewer), self.on_canvas(place))
        QTest.qWait(50)
        QTest.mouseClick(canvas_of(self.viewer), LEFT, pos=self.on_canvas(place))

    def on_canvas(self, place: tuple[float, float]) -> QPoint:
        """Return where a pixel of the slide lies on the canvas."""
        canvas, camera = canvas_of(self.viewer), camera_of(self.viewer)
        middle = np.array([canvas.height(), canvas.width()]) / 2
        world = np.array(self.viewer.layers[0].data_to_world(place))
        row, col = (world - camera.center[-2:]) * camera.zoom + middle
        return QPoint(round(col), round(row))

    def annotates(self) -> None:
        """Draw round a place with the rectangle and the brush, and take the last stroke back."""
        annotate = self.widget("Annotate")
        self.viewer.layers.selection.active = self.viewer.layers[0]
        self.pauses()
        key = self.workspace.study.slides[0].key
        annotate.tools.buttons["rectangle"].click()
        self.pauses()
        annotator_of(self.viewer).choose_class("tumour")
        self.pauses()
        self.drags((180.0, 900.0), (480.0, 1340.0))
        self.wait_until(lambda: len(self.workspace.study.regions(key)) == 1, SOON_MS)
        annotate.tools.buttons["brush"].click()
        self.pauses()
        self.drags((950.0, 1650.0), (1150.0, 1800.0))
        self.wait_until(lambda: len(self.workspace.study.regions(key)) == 2, SOON_MS)
        self.shot("annotate")
        annotate.undo.undo_button.click()
        self.pauses()
        assert len(self.workspace.study.regions(key)) == 1
        annotate.undo.redo_button.click()
        self.pauses()
        self.wait_until(lambda: len(self.workspace.study.regions(key)) == 2, SOON_MS)
        annotate.tools.buttons["move"].click()

    def drags(self, start: tuple[float, float], stop: tuple[float, float]) -> None:
        """Press the mouse at one place of the slide, (row, col) in pixels, and let go at another."""
        canvas, at = canvas_of(self.viewer), self.on_canvas
        QTest.mouseMove(canvas, at(start))
        QTest.mousePress(canvas, LEFT, pos=at(start))
        for share in np.linspace(0.1, 1, 10):
            row, col = (a + share * (b - a) for a, b in zip(start, stop, strict=True))
            QTest.mouseMove(canvas, at((row, col)))
            QTest.qWait(10)
        QTest.mouseRelease(canvas, LEFT, pos=at(stop))
        QTest.qWait(50)

    def exports(self, folder: Path) -> None:
        """Write maps and contours, and find them there."""
        prospect = self.widget("Prospect")
        folder.mkdir()
        prospect.section.export.asked.emit(folder)
        self.wait_until(lambda: not prospect.is_running and len(list(folder.iterdir())) >= 2, LONG_MS)

    def saves(self, folder: Path) -> None:
        """Give the project a name, and wait until it is on the disk."""
        self.start.save_as(folder)
        self.rests(self.start.bar)
        self.wait_until(lambda: self.workspace.keeper.is_saved and self.workspace.keeper.is_named, SOON_MS)

    def record(self) -> dict[str, Any]:
        """Return what must be the same after closing and opening again."""
        return {
            "study": self.workspace.study,
            "layers": [(layer.name, layer.visible, round(layer.opacity, 6)) for layer in self.viewer.layers],
            "maps": {name: scores for drawn in self.workspace.maps for name, scores in drawn.maps.items()},
        }


def tell_all(new_viewer: Callable[[], Any], wait_until: WaitUntil, shot: Shot, folder: Path) -> tuple[Story, Story]:
    """Tell the whole story; return it as it was before napari was closed, and as it is after."""
    story = Story(new_viewer(), wait_until, shot)
    story.begins_with_the_sample()
    story.labels_and_embeds()
    story.fits()
    story.draws_a_map()
    story.works_with_concepts()
    story.asks_why()
    story.annotates()
    story.exports(folder / "export")
    story.saves(folder / "lymphocytes")
    before = story.record()
    story.viewer.close()
    again = Story(new_viewer(), wait_until, shot)
    again.start.open_project(folder / "lymphocytes.prospect-project")
    again.wait_until(lambda: len(again.workspace.maps) == 1, LONG_MS)
    again.rests(again.start.bar)
    compare(before, again.record())
    return story, again


def compare(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Fail unless both records say the same."""
    assert after["layers"] == before["layers"], (before["layers"], after["layers"])
    one, other = before["study"], after["study"]
    assert replace(other, annotations={}) == replace(one, annotations={})
    assert {key: tuple(r.id for r in found) for key, found in other.annotations.items()} == {
        key: tuple(r.id for r in found) for key, found in one.annotations.items()
    }
    assert before["maps"].keys() == after["maps"].keys()
    for name, scores in before["maps"].items():
        np.testing.assert_array_equal(after["maps"][name], scores)
