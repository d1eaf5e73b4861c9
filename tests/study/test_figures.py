from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray

from napari_prospector.core.head import ProspectorHead
from napari_prospector.errors import InvalidInputError, MismatchError
from napari_prospector.study.figures import SlidePicture, draw_picture, draw_token_grid, map_colors, picture_of
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.pyramid import write_pyramid
from napari_prospector.tokens.store import DONE, TokenGrid

SLIDE = (500, 700)
GEOMETRY = GridGeometry(rows=5, cols=7, tile=100, stride=100, origin=(0, 0), slide_mpp=0.5, tile_px=100)
PLANTED = (3, 2)
PANEL_PX, GAP_PX = 600, 18


def picture(**changes: Any) -> SlidePicture:
    """A slide that is black at one token, which is also its highest score, a concept of its own and its truth."""
    mask = np.ones(GEOMETRY.shape, dtype=bool)
    mask[0, 6] = False
    planted = np.zeros(GEOMETRY.shape, dtype=bool)
    planted[PLANTED] = True
    overview = np.full((250, 350, 3), 255, dtype=np.uint8)
    overview[150:200, 100:150] = 0
    fields: dict[str, Any] = {
        "name": "a.svs",
        "label": "tumour",
        "geometry": GEOMETRY,
        "slide_shape": SLIDE,
        "mask": mask,
        "scores": np.where(planted, 3.0, -0.5)[mask],
        "limit": 2.0,
        "map_name": "evidence",
        "target": "tumour",
        "concepts": planted.astype(np.int32)[mask],
        "concept_names": ("stroma", "gland"),
        "overview": overview,
        "overview_scale": (2.0, 2.0),
        "truth": planted.astype(np.int8)[mask],
    }
    return SlidePicture(**{**fields, **changes})


def panels(path: Path, n_panels: int) -> list[NDArray[np.uint8]]:
    """Cut the frames of the panels out of a picture."""
    pixels = imagecodecs.png_decode(path.read_bytes())[..., :3]
    assert pixels.shape[1] == n_panels * (PANEL_PX + GAP_PX) + GAP_PX
    height = round(PANEL_PX * SLIDE[0] / SLIDE[1])
    return [
        pixels[93 : 93 + height, left : left + PANEL_PX] for left in range(18, pixels.shape[1] - 18, PANEL_PX + GAP_PX)
    ]


def bounds(found: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """First and last row, first and last column of the True pixels."""
    rows, cols = np.nonzero(found)
    return int(rows.min()), int(rows.max()), int(cols.min()), int(cols.max())


def test_slide_map_concepts_and_truth_are_aligned_to_the_pixel(tmp_path: Path) -> None:
    path = draw_picture(tmp_path / "a.png", picture(truth=None))
    slide, scores, concepts = (panel.astype(int) for panel in panels(path, 3))
    reds = scores[..., 0] - scores[..., 2]
    planted = [slide.max(axis=2) < 60, reds > 100, concepts[..., 0] - concepts[..., 2] > 150]
    size = PANEL_PX / SLIDE[1] * 100
    expected = np.array([PLANTED[0], PLANTED[0] + 1, PLANTED[1], PLANTED[1] + 1]) * size - [0, 1, 0, 1]
    for found in planted:
        np.testing.assert_allclose(bounds(found), expected, atol=1.5)


def test_the_truth_panel_is_aligned_with_the_map(tmp_path: Path) -> None:
    *_, truth = panels(draw_picture(tmp_path / "a.png", picture()), 4)
    greens = truth[..., 1].astype(int) - truth[..., 0]
    size = PANEL_PX / SLIDE[1] * 100
    expected = np.array([PLANTED[0], PLANTED[0] + 1, PLANTED[1], PLANTED[1] + 1]) * size - [0, 1, 0, 1]
    np.testing.assert_allclose(bounds(greens > 100), expected, atol=1.5)


def test_overlapping_tiles_are_drawn_around_their_centres() -> None:
    overlapping = GridGeometry(rows=5, cols=7, tile=100, stride=50, origin=(10, 20), slide_mpp=0.5, tile_px=100)
    left, right, bottom, top = picture(geometry=overlapping).extent
    assert (left, right, top, bottom) == (20 + 25, 20 + 25 + 350, 10 + 25, 10 + 25 + 250)


def test_colours_of_a_map_are_symmetric_about_zero_and_end_at_the_limit() -> None:
    colors = map_colors([-9.0, -2.0, 0.0, 2.0, 9.0], 2.0)
    np.testing.assert_array_equal(colors[0], colors[1])
    np.testing.assert_array_equal(colors[3], colors[4])
    assert colors[2].min() > 0.95
    assert colors[0, 2] > colors[0, 0]
    assert map_colors([0.0, 1.0], 0.0).min() > 0.95


@pytest.mark.parametrize(
    "changes",
    [
        {"overview": None},
        {"overview": None, "truth": None},
        {"scores": np.zeros(34)},
        {"limit": 0.0, "scores": np.zeros(34)},
        {"truth": np.full(34, -1, np.int8)},
        {"name": "a$_$.svs", "target": "$x", "concept_names": ("$\\frac", "a very long name of a concept")},
        {"name": "\u8179\u90e8.svs"},
        {"slide_shape": (500, 3000), "label": ""},
    ],
)
def test_every_picture_can_be_drawn(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = draw_picture(tmp_path / "a.png", picture(**changes))
    assert imagecodecs.png_decode(path.read_bytes()).std() > 3
    assert not list(tmp_path.glob("*.partial"))


def test_pictures_are_the_same_each_time(tmp_path: Path) -> None:
    first, again = (draw_picture(tmp_path / f"{i}.png", picture()).read_bytes() for i in range(2))
    assert first == again


def test_arrays_that_do_not_fill_the_mask_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"scores must have shape \(34,\), one per token; got \(35,\)"):
        picture(scores=np.zeros(35))
    with pytest.raises(MismatchError, match=r"mask must have one cell per token, shape \(5, 7\)"):
        picture(mask=np.ones((7, 5), dtype=bool))


def test_a_picture_comes_from_a_head_a_token_grid_and_a_slide(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    write_pyramid(tmp_path / "a.tif", generator.integers(0, 255, (*SLIDE, 3), dtype=np.uint8), 0.5)
    card = {"name": "toy", "n_dims": 3}
    with TokenGrid.create(tmp_path / "a.tokens.zarr", GEOMETRY, card, "a.tif", "sha", SLIDE) as grid:
        for block in grid.blocks():
            state = np.full(GEOMETRY.shape, DONE, np.uint8)[block.tokens]
            grid.write_block(block, generator.normal(size=(*state.shape, 3)).astype(np.float32), state)
        graph = grid.graph()
    graphs = [graph.with_embeddings(graph.embeddings + i % 2) for i in range(8)]
    head = ProspectorHead(n_concepts=3, radius=1, kernel="fold-change").fit(graphs, ["a", "b"] * 4)
    whole = draw_token_grid(
        tmp_path / "whole.png",
        head,
        tmp_path / "a.tokens.zarr",
        tmp_path / "a.tif",
        truth=np.arange(35) < 11,
        label="b",
    )
    alone = draw_token_grid(tmp_path / "alone.png", head, tmp_path / "a.tokens.zarr", map_name="decision", target="a")
    assert len(panels(whole, 4)) == 4
    assert len(panels(alone, 2)) == 2
    with TokenGrid.open(tmp_path / "a.tokens.zarr") as grid:
        for name in (None, "evidence", "decision", "refined"):
            shown = picture_of(head, grid, map_name=name)
            assert shown.map_name == (name or head.best_map_)
            assert shown.limit == head.color_limits_[shown.map_name]
            np.testing.assert_array_equal(shown.scores, head.prospect(graph, name))
