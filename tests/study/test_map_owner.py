"""Maps of one slide do not replace those of another of the same name."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_prospector.core.head import ProspectorHead
from napari_prospector.errors import StorageError
from napari_prospector.study.exchange import write_map, write_slide_map
from napari_prospector.study.map_owner import check_slide_of_maps, map_words
from napari_prospector.study.omezarr_maps import read_omezarr
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.store import DONE, TokenGrid

GEOMETRY = GridGeometry(rows=5, cols=7, tile=448, stride=448, origin=(0, 0), slide_mpp=0.25, tile_px=224)


def grid(path: Path, slide: str, fingerprint: str, seed: int = 0) -> Path:
    generator = np.random.default_rng(seed)
    card = {"name": "toy", "n_dims": 3}
    with TokenGrid.create(path, GEOMETRY, card, slide, fingerprint, (2240, 3136)) as store:
        for block in store.blocks():
            state = np.full(GEOMETRY.shape, DONE, np.uint8)[block.tokens]
            store.write_block(block, generator.normal(size=(*state.shape, 3)).astype(np.float32), state)
    return path


@pytest.fixture
def head(tmp_path: Path) -> ProspectorHead:
    with TokenGrid.open(grid(tmp_path / "fit.tokens.zarr", "fit.svs", "f")) as store:
        graph = store.graph()
    graphs = [graph.with_embeddings(graph.embeddings + i % 2) for i in range(8)]
    return ProspectorHead(n_concepts=3, radius=1, kernel="fold-change").fit(graphs, ["a", "b"] * 4)


@pytest.mark.parametrize(
    ("slide", "fingerprint", "named"),
    [("case7.tif", "b", "another slide, case7.svs"), ("case7.svs", "b", "another slide of that name, case7.svs")],
)
@pytest.mark.parametrize("ome_zarr", [False, True])
def test_the_map_of_another_slide_is_not_overwritten(
    head: ProspectorHead, tmp_path: Path, slide: str, fingerprint: str, named: str, ome_zarr: bool
) -> None:
    first = grid(tmp_path / "1.tokens.zarr", "case7.svs", "a")
    other = grid(tmp_path / "2.tokens.zarr", slide, fingerprint, seed=1)
    written = write_slide_map(tmp_path / "m", head, first, "evidence", ome_zarr=ome_zarr)
    if ome_zarr:
        # what is left of a folder of maps may be the OME-Zarr alone
        for file in written.files[:2]:
            file.unlink()
    before = {file: file.read_bytes() for file in (tmp_path / "m").rglob("*") if file.is_file()}
    with pytest.raises(StorageError, match=f"shows {named}.*Choose another folder"):
        write_slide_map(tmp_path / "m", head, other, "evidence", ome_zarr=ome_zarr)
    assert before == {file: file.read_bytes() for file in (tmp_path / "m").rglob("*") if file.is_file()}
    write_slide_map(tmp_path / "elsewhere", head, other, "evidence", ome_zarr=ome_zarr)


def test_the_same_slide_is_mapped_again_and_a_moved_grid_is_the_same_slide(
    head: ProspectorHead, tmp_path: Path
) -> None:
    first = grid(tmp_path / "1.tokens.zarr", "case7.svs", "a")
    moved = Path(shutil.copytree(first, tmp_path / "moved.tokens.zarr"))
    for store in (first, first, moved):
        written = write_slide_map(tmp_path / "m", head, store, "evidence", head_name="toy", ome_zarr=True)
    assert [file.name for file in written.files] == [
        "case7.evidence.ome.tif",
        "case7.concepts.ome.tif",
        "case7.evidence.csv",
        "case7.evidence.prospect.ome.zarr",
    ]
    found = read_omezarr(written.files[3])
    np.testing.assert_array_equal(found.scores.values, tifffile.imread(written.files[0]))
    np.testing.assert_array_equal(found.concepts.labels, tifffile.imread(written.files[1]))
    assert found.scores.limit == head.color_limits_["evidence"]
    assert found.concepts.names == tuple(head.concept_names_)
    assert (found.origin.slide, found.origin.head, found.origin.fingerprint) == ("case7.svs", "toy", "a")
    assert found.origin.geometry == replace(GEOMETRY)


def test_maps_without_a_fingerprint_are_told_apart_by_the_name_of_the_slide(tmp_path: Path) -> None:
    said = {"map": "evidence", "slide": "case7.svs"}
    file = write_map(tmp_path / "case7.evidence.ome.tif", np.zeros((5, 7), np.float32), GEOMETRY, "e", said)
    check_slide_of_maps([file, tmp_path / "nowhere.ome.tif"], "case7.svs", "a")
    with pytest.raises(StorageError, match=r"another slide, case7\.svs"):
        check_slide_of_maps([file], "case7.tif", "a")


def test_what_is_no_map_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.ome.tif").write_text("no TIFF")
    (tmp_path / "b.prospect.ome.zarr").mkdir()
    tifffile.imwrite(tmp_path / "c.ome.tif", np.zeros((5, 7), np.uint8), ome=True)
    assert map_words(tmp_path / "a.ome.tif") is None
    assert map_words(tmp_path / "c.ome.tif") is None
    check_slide_of_maps(sorted(tmp_path.iterdir()), "case7.tif", "a")
