"""What the screen shows: the map's square lies on the tissue's square, to the pixel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_prospector._napari.panel import ProspectPanel, show_panel

OURS = "napari-prospector"
LONG_MS = 60_000


@pytest.fixture
def shown(
    plugin: Any, make_napari_viewer: Callable[..., Any], slide_file: Path, head_file: Path, qtbot: Any
) -> tuple[Any, ProspectPanel]:
    """A viewer on the screen, with a slide, its concepts and its map."""
    viewer = make_napari_viewer(show=True, strict_qt="raise")
    viewer.window.resize(1280, 800)
    viewer.open(str(slide_file), plugin=OURS)
    panel = show_panel(viewer)
    panel.choose_head(head_file)
    qtbot.waitUntil(panel.run_button.isEnabled, timeout=LONG_MS)
    panel.run_button.click()
    qtbot.waitUntil(lambda: not panel.is_running, timeout=LONG_MS)
    return viewer, panel


def look(viewer: Any, only: str, qtbot: Any) -> np.ndarray:
    """Return the canvas with one layer visible, opaque and unsmoothed."""
    for layer in viewer.layers:
        layer.visible = layer.name == only
    layer = viewer.layers[only]
    layer.opacity = 1
    if hasattr(layer, "interpolation2d"):
        layer.interpolation2d = "nearest"
    qtbot.wait(50)
    return np.asarray(viewer.screenshot(canvas_only=True, flash=False))[..., :3].astype(int)


def camera(viewer: Any) -> Any:
    """Return the camera, where napari 0.9 and older ones have it."""
    return getattr(viewer, "scene", viewer).camera


def corners(mask: np.ndarray) -> list[int]:
    """Return first and last row and column of what is True."""
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(edge) for edge in (rows[0], rows[-1], cols[0], cols[-1])]


@pytest.mark.parametrize("screen_px_per_pixel", [2.0, 1.0, 0.37, 0.2])
def test_the_planted_square_lies_under_its_map_and_its_concept(
    shown: tuple[Any, ProspectPanel], planted: Any, qtbot: Any, screen_px_per_pixel: float
) -> None:
    viewer, _ = shown
    centre_px = [(place.start + place.stop - 1) / 2 for place in planted.pixels]
    # at 2.0 only the upper left corner of the square fits the canvas
    seen_px = [place.start for place in planted.pixels] if screen_px_per_pixel > 1 else centre_px
    # a fifth of a pixel aside, for no pixel of the screen to lie on an edge of the slide's, where rounding decides
    camera(viewer).center = (0, *[(place + 0.2) * planted.mpp for place in seen_px])
    camera(viewer).zoom = screen_px_per_pixel / planted.mpp
    tissue, drawn, concepts = (look(viewer, name, qtbot) for name in ("case7", "case7 · evidence", "case7 · concepts"))
    assert tissue.std() > 3
    assert drawn.std() > 3
    is_purple = (tissue[..., 0] < 160) & (tissue[..., 2] > 100)
    speaks = drawn[..., 0] > drawn[..., 2] + 30
    square = concepts[
        np.array(speaks.nonzero()).mean(1).astype(int)[0], np.array(speaks.nonzero()).mean(1).astype(int)[1]
    ]
    is_concept = (concepts == square).all(-1)
    off = np.abs(np.array(corners(is_purple)) - corners(speaks))
    # where a coarser level is shown, one of its pixels may mix both tissues
    assert off.max() <= (0 if screen_px_per_pixel >= 1 else 1)
    assert corners(is_concept) == corners(speaks)
    if screen_px_per_pixel <= 1:
        height, width = (place.stop - place.start for place in planted.pixels)
        found = corners(speaks)
        assert found[1] - found[0] + 1 == pytest.approx(height * screen_px_per_pixel, abs=1)
        assert found[3] - found[2] + 1 == pytest.approx(width * screen_px_per_pixel, abs=1)


def test_glass_stays_clear_under_the_map(shown: tuple[Any, ProspectPanel], planted: Any, qtbot: Any) -> None:
    viewer, _ = shown
    camera(viewer).center = (0, 0, 0)
    camera(viewer).zoom = 1 / planted.mpp
    without = look(viewer, "case7", qtbot)
    viewer.layers["case7 · evidence"].visible = True
    qtbot.wait(50)
    with_map = np.asarray(viewer.screenshot(canvas_only=True, flash=False))[..., :3].astype(int)
    rows, cols = np.array(without.shape[:2]) // 2
    glass = np.s_[rows + 5 : rows + planted.tile - 5, cols + 5 : cols + planted.tile - 5]
    np.testing.assert_array_equal(with_map[glass], without[glass])
    assert without[glass].mean() > 230
