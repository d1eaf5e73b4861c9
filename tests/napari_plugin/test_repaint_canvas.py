"""What is seen on the canvas when concepts are hidden and highlighted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Layer
from test_painter import COLS, GEOMETRY, ROWS

from napari_prospector._napari.camera import camera_of
from napari_prospector._napari.layers import Placement, concept_layer, map_layer
from napari_prospector._napari.repaint import recolor_concepts, repaint_map
from napari_prospector.core.colors import concept_colors
from napari_prospector.core.concept_edits import ConceptEdits

PLACEMENT = Placement.of_mpp(0.5)


def colour_at(viewer: Any, layer: Any, cell: tuple[int, int]) -> np.ndarray:
    """The colour, 0 to 1, in the middle of a cell of a layer."""
    camera_of(viewer).center = (0, *layer.data_to_world(cell))
    picture = viewer.screenshot(canvas_only=True, flash=False)
    row, col = picture.shape[0] // 2, picture.shape[1] // 2
    return np.asarray(picture[row - 2 : row + 3, col - 2 : col + 3, :3].mean((0, 1)) / 255)


def test_scores_and_colours_that_are_set_are_seen(plugin: Any, make_napari_viewer: Callable[..., Any]) -> None:
    viewer = make_napari_viewer(show=True, strict_qt="raise")
    concepts = np.zeros((ROWS, COLS), int)
    concepts[:, 6:] = 1
    edits = ConceptEdits.of(3)
    layer = viewer.add_layer(
        Layer.create(*concept_layer(concepts, [], GEOMETRY, PLACEMENT, slide="s", edits=edits, visible=True))
    )
    layer.opacity = 1
    left, right = (3, 2), (3, 8)
    nothing = colour_at(viewer, layer, (20, 60))
    np.testing.assert_allclose(colour_at(viewer, layer, left), concept_colors(2)[0], atol=0.02)
    recolor_concepts(layer, edits.hide(0))
    np.testing.assert_allclose(colour_at(viewer, layer, left), nothing, atol=0.02)
    np.testing.assert_allclose(colour_at(viewer, layer, right), concept_colors(2)[1], atol=0.02)
    recolor_concepts(layer, edits.merge([0, 1]))
    np.testing.assert_allclose(colour_at(viewer, layer, right), concept_colors(2)[0], atol=0.02)
    layer.visible = False
    scores = np.where(concepts == 1, 1.0, -1.0).astype(np.float32)
    shown = viewer.add_layer(
        Layer.create(*map_layer(scores, GEOMETRY, PLACEMENT, slide="s", map="evidence", limit=1.0))
    )
    shown.opacity = 1
    before = colour_at(viewer, shown, right)
    assert before[0] > before[2] + 0.2  # red speaks for
    repaint_map(shown, -scores)
    after = colour_at(viewer, shown, right)
    assert after[2] > after[0] + 0.2
