"""Maps as files: geometry in µm, what is outside the tissue, the table of tokens."""

import csv
import uuid
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tifffile import xml2dict

from napari_prospector.core.classkernels import MAPS
from napari_prospector.core.head import ProspectorHead
from napari_prospector.errors import InvalidInputError, StorageError
from napari_prospector.study.exchange import on_grid, write_map, write_slide_map, write_token_table
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.store import DONE, TokenGrid

GEOMETRY = GridGeometry(rows=5, cols=7, tile=448, stride=224, origin=(13, 29), slide_mpp=0.25, tile_px=224)
MASK = np.random.default_rng(0).random((5, 7)) < 0.7


def test_values_lie_where_their_tokens_are_and_the_rest_is_filled() -> None:
    grid = on_grid(np.arange(MASK.sum()), MASK, np.nan)
    np.testing.assert_array_equal(grid[MASK], np.arange(MASK.sum()))
    assert np.isnan(grid[~MASK]).all()
    assert on_grid(np.arange(MASK.sum()) + 1, MASK, 0).dtype.kind == "i"


def test_as_many_values_as_tokens_are_needed() -> None:
    with pytest.raises(InvalidInputError, match=rf"shape \({MASK.sum()},\), one per token; got \(3,\)"):
        on_grid(np.zeros(3), MASK, 0)


def test_an_ome_tiff_states_stride_and_first_centre_in_um(tmp_path: Path) -> None:
    image = on_grid(np.linspace(-3, 3, MASK.sum()), MASK, np.nan).astype(np.float32)
    path = write_map(tmp_path / "slide.evidence.ome.tif", image, GEOMETRY, "evidence for tumour", {"map": "evidence"})
    np.testing.assert_array_equal(tifffile.imread(path), image)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        picture = xml2dict(tiff.ome_metadata)["OME"]["Image"]
    pixels = picture["Pixels"]
    assert picture["Name"] == "evidence for tumour"
    assert (pixels["PhysicalSizeY"], pixels["PhysicalSizeX"]) == (56.0, 56.0)
    # the centre of a tile of 448 px that begins at px 13: (13 + 447 / 2) * 0.25 µm
    assert (pixels["Plane"]["PositionY"], pixels["Plane"]["PositionX"]) == ((13 + 223.5) * 0.25, (29 + 223.5) * 0.25)


def test_the_table_gives_every_token_its_box_centre_and_exact_score(tmp_path: Path) -> None:
    scores = np.random.default_rng(1).normal(size=MASK.sum())
    path = write_token_table(
        tmp_path / "slide.csv", MASK, GEOMETRY, {"evidence": scores, "concept": np.arange(MASK.sum())}
    )
    with open(path, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == MASK.sum()
    for (row, col), score, line in zip(np.argwhere(MASK), scores, rows, strict=True):
        assert (int(line["row"]), int(line["col"])) == (row, col)
        assert (int(line["row0_px"]), int(line["col0_px"])) == (13 + 224 * row, 29 + 224 * col)
        assert float(line["row_um"]) == pytest.approx((13 + 224 * row + 223.5) * 0.25, abs=1e-3)
        assert float(line["evidence"]) == score


def test_without_a_name_the_best_map_is_written_and_every_file_says_which_it_is(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    card = {"name": "toy", "n_dims": 3}
    with TokenGrid.create(tmp_path / "a.tokens.zarr", GEOMETRY, card, "a.tif", "f", (1400, 1900)) as grid:
        for block in grid.blocks():
            state = np.full(GEOMETRY.shape, DONE, np.uint8)[block.tokens]
            grid.write_block(block, generator.normal(size=(*state.shape, 3)).astype(np.float32), state)
        graph = grid.graph()
    graphs = [graph.with_embeddings(graph.embeddings + i % 2) for i in range(8)]
    head = ProspectorHead(n_concepts=3, radius=1, kernel="fold-change").fit(graphs, ["a", "b"] * 4)
    for name in (None, *MAPS):
        written = write_slide_map(tmp_path / str(name), head, tmp_path / "a.tokens.zarr", name)
        shown = head.best_map_ if name is None else name
        assert written.map == shown
        assert [path.name for path in written.files] == [f"a.{shown}.ome.tif", "a.concepts.ome.tif", f"a.{shown}.csv"]
        np.testing.assert_allclose(tifffile.imread(written.files[0]).ravel(), head.prospect(graph, shown), rtol=1e-6)
        assert written.files[2].read_text(encoding="utf-8").splitlines()[0].endswith(f"{shown},concept,concept_name")
    with pytest.raises(InvalidInputError, match="map must be one of 'evidence', 'decision', 'refined'"):
        write_slide_map(tmp_path / "none", head, tmp_path / "a.tokens.zarr", "saliency")
    assert not (tmp_path / "none").exists()


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(StorageError):
        write_map(tmp_path / "taken" / "map.ome.tif", np.zeros((5, 7), np.float32), GEOMETRY, "m", {})
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_an_image_of_another_grid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="image"):
        write_map(tmp_path / "map.ome.tif", np.zeros((7, 5), np.float32), GEOMETRY, "m", {})
    assert not list(tmp_path.iterdir())


def test_a_map_holds_neither_clock_nor_address_of_the_machine(tmp_path: Path) -> None:
    image = on_grid(np.linspace(-3, 3, MASK.sum()), MASK, np.nan).astype(np.float32)
    first, second = (write_map(tmp_path / name, image, GEOMETRY, "e", {}).read_bytes() for name in ("a.tif", "b.tif"))
    assert first == second
    other = write_map(tmp_path / "c.tif", image + 1, GEOMETRY, "e", {})
    with tifffile.TiffFile(other) as tiff, tifffile.TiffFile(tmp_path / "a.tif") as same:
        marks = [xml2dict(file.ome_metadata)["OME"]["UUID"] for file in (tiff, same)]
    assert marks[0] != marks[1]
    assert f"{uuid.getnode():012x}" not in marks[0]
