"""A drawn map in a real viewer: threshold, truth, regions to fly to, concepts that are hidden, slides that move."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.compat import isalive

from napari_prospector._napari.camera import camera_of
from napari_prospector._napari.drawn_layers import layers_on
from napari_prospector._napari.layers import provenance
from napari_prospector._napari.panel import ProspectPanel, show_panel
from napari_prospector.study.annotations import Region

OURS = "napari-prospector"
LONG_MS = 60_000


@pytest.fixture
def panel(viewer: Any, slide_file: Path, head_file: Path, qtbot: Any) -> Iterator[ProspectPanel]:
    """A panel with a map drawn, all measured."""
    viewer.open(str(slide_file), plugin=OURS)
    panel = show_panel(viewer)
    panel.choose_head(head_file)
    qtbot.waitUntil(panel.run_button.isEnabled, timeout=LONG_MS)
    panel.run_button.click()
    qtbot.waitUntil(lambda: not panel.is_running, timeout=LONG_MS)
    settle(panel, qtbot)
    yield panel
    if isalive(panel):
        settle(panel, qtbot)


def settle(panel: ProspectPanel, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: panel.section.is_settled and not panel.live_maps.is_at_work, timeout=LONG_MS)


def square(planted: Any) -> Region:
    """The planted square as somebody draws it."""
    (top, bottom), (left, right) = ((place.start, place.stop) for place in planted.pixels)
    return Region((([[top, left], [top, right], [bottom, right], [bottom, left]],),), "tumour")


def test_the_threshold_tells_its_area_and_outlines_it_in_place(
    viewer: Any, panel: ProspectPanel, planted: Any, qtbot: Any
) -> None:
    box = panel.section.threshold
    n_square = 6
    cell_mm2 = (planted.tile * planted.mpp / 1000) ** 2
    assert box.area.text().startswith(f"{n_square * cell_mm2:.2f} mm² above")
    assert box.agreement.isHidden()
    box.outline.click()
    (layer,) = layers_on(viewer, panel.workspace.current, "above")  # type: ignore[arg-type]
    factor = provenance(layer)["cells_per_token"]
    expected = np.zeros(planted.grid, bool)
    expected[planted.tokens] = True
    np.testing.assert_array_equal(layer.data.astype(bool), expected.repeat(factor, 0).repeat(factor, 1))
    corner = np.array([place.start * factor for place in planted.tokens]) - 0.5
    in_slide = np.array([place.start for place in planted.pixels]) - 0.5
    assert layer.data_to_world(corner) == pytest.approx(viewer.layers["case7"].data_to_world(in_slide))
    box.slider.setValue(box.slider.maximum())
    settle(panel, qtbot)
    assert layers_on(viewer, panel.workspace.current, "above") == [layer]  # type: ignore[arg-type]
    box.outline.click()
    assert not layers_on(viewer, panel.workspace.current, "above")  # type: ignore[arg-type]


def test_regions_that_are_drawn_are_the_truth_it_is_measured_against(
    panel: ProspectPanel, planted: Any, qtbot: Any
) -> None:
    workspace, box = panel.workspace, panel.section.threshold
    key = workspace.current.key  # type: ignore[union-attr]
    workspace.edit("Draw", workspace.study.with_regions(key, [square(planted)]))
    settle(panel, qtbot)
    assert box.agreement.text() == "Dice 1.00 at this threshold · AP 1.00 of the map"
    assert "all else counts as not tumour" in box.agreement.toolTip()
    box.number.setValue(-1e6)
    n_tokens = panel.workspace.maps[0].graph.n_tokens
    assert box.agreement.text().startswith(f"Dice {2 * 6 / (n_tokens + 6):.2f}")
    workspace.undo()
    settle(panel, qtbot)
    assert box.agreement.isHidden()


def test_a_region_is_flown_to_by_the_list_and_by_next(
    viewer: Any, panel: ProspectPanel, planted: Any, qtbot: Any
) -> None:
    regions = panel.section.regions
    assert len(regions.model.regions) == 1
    camera_of(viewer).center = (0, 0, 0)
    regions.next_button.click()
    centre = [(place.start + place.stop - 1) / 2 * planted.mpp for place in planted.pixels]
    assert camera_of(viewer).center[-2:] == pytest.approx(centre)
    camera_of(viewer).center = (0, 0, 0)
    regions.table.activated.emit(regions.model.index(0, 0))
    assert camera_of(viewer).center[-2:] == pytest.approx(centre)
    viewer.layers.remove("case7 · evidence")
    viewer.layers.remove("case7 · decision")
    regions.previous_button.click()


def test_another_map_has_its_own_scale_unit_and_threshold(panel: ProspectPanel, qtbot: Any) -> None:
    box, bar = panel.section.threshold, panel.section.color_bar
    head = panel.workspace.head
    assert head is not None
    assert bar.texts[1] == "log2 fold change, summed"
    box.number.setValue(0.5)
    panel.form.map.setCurrentText("decision")
    settle(panel, qtbot)
    assert bar.texts == (
        f"−{head.color_limits_['decision']:.2g}",
        "log-odds of the slide",
        f"+{head.color_limits_['decision']:.2g}",
    )
    assert box.threshold == pytest.approx(head.color_limits_["decision"] / 2, abs=1e-3)  # as `--threshold auto`
    panel.form.map.setCurrentText("evidence")
    assert box.threshold == 0.5


def test_opacity_is_that_of_all_maps_of_the_slide(viewer: Any, panel: ProspectPanel) -> None:
    panel.section.opacity.setValue(31)
    assert [viewer.layers[f"case7 · {name}"].opacity for name in ("evidence", "decision")] == [0.31, 0.31]


def test_hiding_a_concept_redraws_the_maps_and_undo_brings_them_back(
    viewer: Any, panel: ProspectPanel, planted: Any, qtbot: Any
) -> None:
    workspace = panel.workspace
    before, head = viewer.layers["case7 · evidence"].data.copy(), workspace.head
    assert head is not None
    (drawn,) = workspace.maps
    token = drawn.token_at(*(place.start for place in planted.tokens))
    concept = int(drawn.concepts[token])
    edits = head.concept_edits_.rename(concept, "purple").hide(concept)
    workspace.edit("Hide", replace(workspace.study, concepts=edits))
    settle(panel, qtbot)
    expected = head.with_edits(edits).prospect(drawn.graph, "evidence")
    shown = viewer.layers["case7 · evidence"].data
    np.testing.assert_allclose(shown[drawn.mask], expected, rtol=1e-6)
    assert shown[planted.tokens].max() == 0
    assert "purple (hidden)" in list(viewer.layers["case7 · concepts"].features["concept"])
    assert "purple" in panel.notes.text()
    assert workspace.maps[0].head.concept_edits_ == edits
    workspace.undo()
    qtbot.waitUntil(lambda: workspace.head is not None, timeout=LONG_MS)
    settle(panel, qtbot)
    np.testing.assert_array_equal(viewer.layers["case7 · evidence"].data, before)


def test_maps_follow_a_slide_that_is_moved_or_given_other_units(
    viewer: Any, panel: ProspectPanel, planted: Any
) -> None:
    slide, drawn = viewer.layers["case7"], viewer.layers["case7 · evidence"]
    panel.section.threshold.outline.click()
    above = viewer.layers["case7 · above threshold"]
    factor = provenance(above)["cells_per_token"]
    slide.translate, slide.scale, slide.rotate = (17, -5), (0.25, 0.25), 30
    slide.units = ("mm", "mm")
    in_slide = slide.data_to_world(np.array([place.start for place in planted.pixels]) - 0.5)
    token = np.array([place.start for place in planted.tokens])
    assert drawn.data_to_world(token - 0.5) == pytest.approx(in_slide)
    assert above.data_to_world(token * factor - 0.5) == pytest.approx(in_slide)
    assert drawn.units == slide.units


def test_a_threshold_of_a_large_map_is_told_within_a_tenth_of_a_second(panel: ProspectPanel, qtbot: Any) -> None:
    from napari_prospector._napari.threshold import ThresholdTable

    (drawn,) = panel.workspace.maps
    scores = np.random.default_rng(0).normal(size=(317, 331)).astype(np.float32)
    truth = (scores.ravel() > 1).astype(np.int8)
    panel.section._table = ThresholdTable.of(scores, drawn.geometry, truth)
    started = time.perf_counter()
    panel.section.threshold.slider.setValue(77)
    assert time.perf_counter() - started < 0.1
    assert "Dice" in panel.section.threshold.agreement.text()


def test_a_widget_that_is_closed_and_opened_again_shows_what_is_drawn(
    viewer: Any, panel: ProspectPanel, planted: Any, qtbot: Any
) -> None:
    panel.section.threshold.outline.click()
    area, live_maps = panel.section.threshold.area.text(), panel.live_maps
    viewer.window.remove_dock_widget(panel)
    with qtbot.waitSignal(panel.destroyed):
        panel.deleteLater()
    viewer.layers["case7"].name = "renamed"
    viewer.layers.selection.active = viewer.layers["renamed"]
    again = show_panel(viewer)
    settle(again, qtbot)
    assert again.form.slide.currentText() == "renamed"
    assert again.form.head.path == again.workspace.study.head is not None
    assert again.section.threshold.outline.isChecked()
    assert again.section.threshold.area.text() == area
    assert again.live_maps is live_maps


def test_closing_the_window_in_the_middle_of_measuring_is_harmless(viewer: Any, panel: ProspectPanel) -> None:
    panel.section.threshold.slider.setValue(3)
    panel.section._find_regions()
    panel.section._measure()
    viewer.close()
    assert not isalive(panel)


def test_removing_map_layers_leaves_the_rest_at_work(viewer: Any, panel: ProspectPanel, qtbot: Any) -> None:
    for name in ("case7 · evidence", "case7 · concepts"):
        viewer.layers.remove(name)
    workspace = panel.workspace
    assert workspace.head is not None
    workspace.edit("Hide", replace(workspace.study, concepts=workspace.head.concept_edits_.hide(0)))
    settle(panel, qtbot)
    panel.section.threshold.outline.click()
    panel.section.opacity.setValue(50)
    viewer.layers.remove("case7")
    panel.section.threshold.slider.setValue(9)
    settle(panel, qtbot)
    assert panel.section.isHidden()
