"""Layers lie where the tissue is, and look the same on every slide."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_prospector._napari.layers import (
    Placement,
    concept_layer,
    grid_layers,
    layer_name,
    map_colormap,
    map_layer,
    provenance,
)
from napari_prospector.core.colors import concept_colors
from napari_prospector.errors import MismatchError
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.store import DONE, FAILED, TokenGrid
from napari_prospector.tokens.tilequality import QualityGauge
from napari_prospector.tokens.tissue import TissueMask

ROWS, COLS = 5, 7
GEOMETRY = GridGeometry(ROWS, COLS, tile=23, stride=17, origin=(3, 11), slide_mpp=0.25)


def layer_of(layer_tuple: Any) -> Any:
    from napari.layers import Layer

    return Layer.create(*layer_tuple)


def slide_like(**transform: Any) -> Any:
    from napari.layers import Image

    return Image(np.zeros((131, 173, 3), np.uint8), rgb=True, **transform)


def test_a_grid_on_a_slide_in_micrometres_lies_where_the_geometry_says() -> None:
    placed = Placement.of_mpp(0.25).of_grid(GEOMETRY)
    assert placed["scale"] == pytest.approx(GEOMETRY.scale_um)
    assert placed["translate"] == pytest.approx(GEOMETRY.translate_um)
    assert placed["units"] == ("µm", "µm")


@pytest.mark.parametrize(
    "transform",
    [
        {},
        {"scale": (0.25, 0.25), "units": ("µm", "µm")},
        {"scale": (2.0, 3.0), "translate": (41.0, -7.0)},
        {"scale": (0.5, 0.5), "rotate": 30, "translate": (5, 6)},
        {"scale": (0.5, 0.7), "rotate": -75, "shear": [0.3]},
        {"affine": [[0.6, -0.8, 13], [0.8, 0.6, -9], [0, 0, 1]], "scale": (2, 2), "rotate": 10},
    ],
)
def test_a_map_follows_the_layer_of_its_slide(transform: dict[str, Any]) -> None:
    slide = slide_like(**transform)
    scores = np.zeros((ROWS, COLS), np.float32)
    drawn = layer_of(map_layer(scores, GEOMETRY, Placement.of_layer(slide), slide="s", map="evidence", limit=1))
    assert drawn.units == slide.units
    for token in ((0, 0), (4, 0), (2, 5), (4, 6)):
        centre = GEOMETRY.centre_px(*token)
        assert drawn.data_to_world(token) == pytest.approx(slide.data_to_world(centre), abs=1e-9)
        corner = np.array(token) + 0.5
        assert drawn.data_to_world(corner) == pytest.approx(slide.data_to_world(centre + 17 / 2), abs=1e-9)
    again = Placement.of_grid_layer(drawn, GEOMETRY).of_slide()
    assert again["scale"] == pytest.approx(slide.scale)
    assert again["translate"] == pytest.approx(slide.translate, abs=1e-9)


def test_a_slide_without_a_pixel_size_is_shown_in_pixels() -> None:
    placed = Placement.of_mpp(None).of_slide()
    assert placed["scale"] == (1.0, 1.0)
    assert placed["units"] == ("pixel", "pixel")


def test_a_map_is_named_symmetric_and_clear_where_it_says_nothing() -> None:
    scores = np.full((ROWS, COLS), np.nan)
    scores[2, 3] = -0.7
    drawn = layer_of(map_layer(scores, GEOMETRY, Placement.of_mpp(0.25), slide="case7", map="decision", limit=2.5))
    assert drawn.name == "case7 · decision"
    assert drawn.contrast_limits == [-2.5, 2.5]
    assert provenance(drawn)["map"] == "decision"
    against, zero, speaks, glass = map_colormap().map(np.array([0.0, 0.5, 1.0, np.nan]))
    assert (zero[3], glass[3]) == (0, 0)
    assert against[2] > against[0]
    assert speaks[0] > speaks[2]
    assert min(against[3], speaks[3]) == 1


def test_a_map_without_any_signal_still_has_a_width_of_colours() -> None:
    scores = np.zeros((ROWS, COLS))
    assert map_layer(scores, GEOMETRY, Placement.of_mpp(0.25), slide="s", map="evidence", limit=0)[1][
        "contrast_limits"
    ] == (-1.0, 1.0)


def test_scores_of_another_grid_are_refused() -> None:
    with pytest.raises(MismatchError, match=r"one cell per token, shape \(5, 7\)"):
        map_layer(np.zeros((7, 5)), GEOMETRY, Placement.of_mpp(0.25), slide="s", map="evidence", limit=1)


def test_concepts_keep_their_colour_and_say_their_name() -> None:
    concepts = np.full((ROWS, COLS), -1)
    concepts[1, 2], concepts[3, 4] = 0, 2
    names = ["stroma", "gland", "lymphocytes"]
    drawn = layer_of(concept_layer(concepts, names, GEOMETRY, Placement.of_mpp(0.25), slide="case7"))
    assert drawn.name == "case7 · concepts"
    assert np.unique(drawn.data).tolist() == [0, 1, 3]
    assert drawn.get_color(0) is None
    for label in (1, 2, 3):
        np.testing.assert_allclose(drawn.get_color(label), [*concept_colors(3)[label - 1], 1], atol=1e-6)
    lymphocytes = drawn.data_to_world((3, 4))
    assert "lymphocytes" in drawn.get_status(lymphocytes, world=True)["coordinates"]


def test_a_million_tokens_are_shown_without_compiling_anything() -> None:
    code = (
        "import sys, numpy as np\n"
        "from napari.layers import Layer\n"
        "from napari_prospector._napari.layers import Placement, concept_layer\n"
        "from napari_prospector.tokens.geometry import GridGeometry\n"
        "grid = GridGeometry(1009, 1013, tile=2, stride=2, origin=(0, 0), slide_mpp=1.0)\n"
        "concepts = np.arange(1009 * 1013).reshape(1009, 1013) % 31\n"
        "names = [str(name) for name in range(31)]\n"
        "Layer.create(*concept_layer(concepts, names, grid, Placement.of_mpp(1.0), slide='s'))\n"
        "print('numba.typed.typeddict' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_hundreds_of_concepts_do_not_overflow_their_labels() -> None:
    names = [f"concept {i}" for i in range(301)]
    labels = concept_layer(np.full((ROWS, COLS), 300), names, GEOMETRY, Placement.of_mpp(0.25), slide="s")[0]
    assert labels.max() == 301


def test_a_token_grid_shows_what_is_embedded_and_how_much_is_tissue(tmp_path: Path) -> None:
    share = np.linspace(0, 1, ROWS * COLS).reshape(ROWS, COLS).astype(np.float32)
    card = {"name": "fake", "n_dims": 3}
    path = tmp_path / "case7.fake.tokens.zarr"
    with TokenGrid.create(
        path, GEOMETRY, card, "case7.svs", "f0", (131, 173), coverage=share, mask=share > 0.2
    ) as grid:
        block = next(iter(grid.blocks()))
        state = grid.state
        state[state == 1] = DONE
        state[4, 6] = FAILED
        grid.write_block(block, np.zeros((ROWS, COLS, 3)), state)
    coverage, tokens = (layer_of(one) for one in grid_layers(TokenGrid.open(path), path))
    np.testing.assert_array_equal(coverage.data, share)
    assert not coverage.visible
    assert tokens.name == "case7.fake · tokens"
    assert tokens.data[4, 6] == FAILED
    assert "failed" in tokens.get_status(tokens.data_to_world((4, 6)), world=True)["coordinates"]
    assert tokens.scale == pytest.approx(GEOMETRY.scale_um)
    assert tokens.translate == pytest.approx(GEOMETRY.translate_um)


def test_the_tissue_mask_and_the_flags_of_a_grid_are_layers_hidden_at_their_places(tmp_path: Path) -> None:
    path = tmp_path / "case7.fake.tokens.zarr"
    mask = np.zeros((11, 13), bool)
    mask[2:7, 3:5] = True
    tissue = TissueMask(mask, (16.0, 15.5), (173, 199), 0.25, 0.05, "otsu", 0.0, "")
    record = QualityGauge().record
    with TokenGrid.create(
        path, GEOMETRY, {"name": "fake", "n_dims": 3}, "case7.svs", "f", (173, 199), tissue_mask=tissue, quality=record
    ) as grid:
        measured = np.zeros((ROWS, COLS, 4), np.float32)
        measured[1, 2, 0] = measured[3, 4, 1] = measured[3, 4, 2] = 1
        state = np.full((ROWS, COLS), DONE, np.uint8)
        grid.write_block(next(grid.blocks()), np.zeros((ROWS, COLS, 3)), state, measured)
    cells, coverage, quality, tokens = (layer_of(one) for one in grid_layers(TokenGrid.open(path), path))
    assert (cells.name, quality.name) == ("case7.fake · tissue", "case7.fake · quality")
    assert [layer.visible for layer in (cells, coverage, quality, tokens)] == [False, False, False, True]
    np.testing.assert_array_equal(cells.data, mask)
    assert cells.scale == pytest.approx(tissue.scale_um)
    assert cells.translate == pytest.approx(tissue.translate_um)
    assert np.argwhere(quality.data).tolist() == [[1, 2], [3, 4]]
    quality.visible = True  # napari says nothing about what it does not show
    assert "pen" in quality.get_status(quality.data_to_world((1, 2)), world=True)["coordinates"]
    assert "blur + fold" in quality.get_status(quality.data_to_world((3, 4)), world=True)["coordinates"]
    assert not np.array_equal(quality.get_color(1), quality.get_color(2))


@pytest.mark.parametrize(
    ("file", "name"), [("case7.svs", "case7"), ("a.b.ome.tif", "a.b.ome"), ("plain", "plain"), (".tif", ".tif")]
)
def test_a_layer_is_named_after_its_file(file: str, name: str) -> None:
    assert layer_name(file) == name


def test_units_are_built_whole_while_threads_make_layers() -> None:
    script = """
import threading, sys
import pint
from napari_prospector._napari.warming import warm_up
sys.setswitchinterval(1e-5)
failed = []
threading.excepthook = lambda args: failed.append(args.exc_value)
threads = [threading.Thread(target=warm_up) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert not failed, failed
assert pint.get_application_registry().pixel == pint.application_registry.get().pixel
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
