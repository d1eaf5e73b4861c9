"""The painter of maps, and layers that are changed while they are shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.layers import Layer

from napari_prospector._napari.layers import Placement, concept_layer, map_layer
from napari_prospector._napari.painter import MapPainter
from napari_prospector._napari.repaint import label_colors, recolor_concepts, repaint_map
from napari_prospector.core.colors import concept_colors
from napari_prospector.core.concept_edits import ConceptEdits
from napari_prospector.core.graph import TokenGraph, grid_graph
from napari_prospector.core.head import ProspectorHead
from napari_prospector.errors import MismatchError
from napari_prospector.tokens.geometry import GridGeometry

ROWS, COLS = 7, 11
GEOMETRY = GridGeometry(ROWS, COLS, tile=13, stride=13, origin=(0, 0), slide_mpp=0.5)


def datum(seed: int) -> TokenGraph:
    rng = np.random.default_rng(seed)
    mask = rng.random((ROWS, COLS)) > 0.2
    return grid_graph(mask, 5 * np.eye(5)[rng.integers(0, 3 + seed % 2, mask.sum())] + rng.normal(size=(mask.sum(), 5)))


@pytest.fixture(scope="module")
def head() -> ProspectorHead:
    return ProspectorHead(n_concepts=4, radius=1).fit([datum(i) for i in range(8)], ["no", "tumour"] * 4)


def test_a_painted_map_has_the_scores_at_their_cells_and_nan_elsewhere(head: ProspectorHead) -> None:
    graph = datum(31)
    assert graph.mask is not None
    painter, edits = MapPainter(head, graph), head.concept_edits_.hide(1)
    for map_name in head.maps_:
        painted = painter.scores(map_name, "tumour", edits)
        assert painted.dtype == np.float32
        assert np.isnan(painted[~graph.mask]).all()
        wanted = head.with_edits(edits).prospect(graph, map_name, "tumour")
        np.testing.assert_allclose(painted[graph.mask], wanted, rtol=1e-6, atol=1e-12)


def test_the_grid_of_concepts_has_minus_one_where_there_is_no_tissue(head: ProspectorHead) -> None:
    graph = datum(32)
    painter = MapPainter(head, graph, concepts=head.concepts(graph))
    np.testing.assert_array_equal(painter.concept_grid()[graph.mask], head.concepts(graph))
    assert (painter.concept_grid()[~np.asarray(graph.mask)] == -1).all()
    assert painter.head is head


def test_an_array_of_the_painter_can_be_painted_over(head: ProspectorHead) -> None:
    painter = MapPainter(head, datum(33))
    first = painter.scores("evidence")
    again = painter.scores("evidence", edits=head.concept_edits_.hide(0), out=first)
    assert again is first
    np.testing.assert_array_equal(again, painter.scores("evidence", edits=head.concept_edits_.hide(0)))


def test_a_mask_of_other_tokens_is_refused(head: ProspectorHead) -> None:
    graph = datum(34)
    with pytest.raises(MismatchError, match=rf"True cell for each of the {graph.n_tokens} tokens; got 77 in shape"):
        MapPainter(head, graph, np.ones((ROWS, COLS), bool))
    chain = TokenGraph.from_edges([[0, 1]], np.ones((2, 5)))
    with pytest.raises(MismatchError, match="got none. Pass the mask of the token grid"):
        MapPainter(head, chain)


def test_hidden_concepts_are_clear_merged_ones_share_a_colour_and_others_than_highlighted_are_pale() -> None:
    colors = label_colors(ConceptEdits.of(5).merge([1, 3]).hide(2).highlight(3))
    np.testing.assert_array_equal(colors[0], 0)
    np.testing.assert_array_equal(colors[[2, 4], :3], concept_colors(5)[[1, 1]])
    assert colors[:, 3].tolist() == [0, 0.12, 1, 0, 1, 0.12]
    assert label_colors(ConceptEdits.of(2))[:, 3].tolist() == [0, 1, 1]


def layer_of(made: tuple[Any, dict[str, Any], str]) -> Any:
    return Layer.create(*made)


def test_a_concept_layer_is_recoloured_and_renamed_without_touching_its_labels() -> None:
    concepts = np.arange(ROWS * COLS).reshape(ROWS, COLS) % 5 - 1
    before = ConceptEdits.of(4)
    made = concept_layer(concepts, [], GEOMETRY, Placement.of_mpp(0.5), slide="case7", edits=before)
    layer, labels = layer_of(made), made[0].copy()
    recolor_concepts(layer, before.rename(1, "mucus").merge([1, 2]).hide(0))
    np.testing.assert_array_equal(layer.data, labels)
    assert layer.get_color(1)[3] == 0
    for label in (2, 3):
        np.testing.assert_allclose(layer.get_color(label), [*concept_colors(4)[1], 1], atol=1e-6)
    row, col = np.argwhere(concepts == 2)[0]
    assert "mucus" in layer.get_status(layer.data_to_world((row, col)), world=True)["coordinates"]
    row, col = np.argwhere(concepts == 0)[0]
    assert "concept 0 (hidden)" in layer.get_status(layer.data_to_world((row, col)), world=True)["coordinates"]


def test_a_map_layer_is_repainted_with_its_limits_and_tells_listeners() -> None:
    scores = np.linspace(-1, 1, ROWS * COLS, dtype=np.float32).reshape(ROWS, COLS)
    layer = layer_of(map_layer(scores, GEOMETRY, Placement.of_mpp(0.5), slide="s", map="evidence", limit=0.7))
    heard: list[Any] = []
    layer.events.data.connect(heard.append)
    repaint_map(layer, scores / 2)
    assert len(heard) == 1
    np.testing.assert_array_equal(layer.data, scores / 2)
    assert layer.contrast_limits == [-0.7, 0.7]
    with pytest.raises(MismatchError, match=r"shape of the layer 's · evidence', \(7, 11\); got \(11, 7\)"):
        repaint_map(layer, scores.T)
