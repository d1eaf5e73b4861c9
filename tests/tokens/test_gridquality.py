"""Quality measures and the tissue mask in a token grid, flags and thresholds, and stores of version 1."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from embed_fakes import FakeEncoder, FakeSlide, embed, ragged, speckled
from zarr.codecs import ZstdCodec

from napari_prospector.errors import FileFormatError, InvalidInputError, UnknownNameError
from napari_prospector.tokens.geometry import GridGeometry
from napari_prospector.tokens.quality import MEASURES, flag_bits, parse_rules, resolved
from napari_prospector.tokens.store import DONE, PENDING, TokenGrid
from napari_prospector.tokens.tilequality import QualityGauge

ROWS, COLS, DIMS, BLOCK = 11, 13, 7, 5
GEOMETRY = GridGeometry(ROWS, COLS, tile=23, stride=23, origin=(0, 0), slide_mpp=0.5, tile_px=23)
CARD = {"name": "fake", "n_dims": DIMS}
VALUES = np.random.default_rng(31).random((ROWS, COLS, len(MEASURES))).astype(np.float32)


def filled(path: Path, quality: bool = True) -> TokenGrid:
    record = QualityGauge().record if quality else None
    with TokenGrid.create(path, GEOMETRY, CARD, "a.svs", "f0", (257, 307), block=BLOCK, quality=record) as grid:
        for block in grid.blocks():
            state = np.full((block.rows.stop - block.rows.start, block.cols.stop - block.cols.start), DONE, np.uint8)
            grid.write_block(block, np.ones((*state.shape, DIMS)), state, VALUES[block.tokens])
    return TokenGrid.open(path)


def old_store(path: Path, version: int = 1) -> Path:
    """A store as version 1 laid it out, written with zarr alone: half of it done, half pending."""
    attrs = {
        "format": "napari-prospector token grid",
        "format_version": version,
        "package_version": "0.1.0",
        "geometry": GEOMETRY.to_json(),
        "encoder": CARD,
        "tissue": {"method": "otsu"},
        "reading": {},
        "dtype": "float16",
        "slide_name": "a.svs",
        "slide_fingerprint": "f0",
        "level0_shape": [257, 307],
    }
    group = zarr.create_group(store=str(path), attributes=attrs, zarr_format=3)
    common = {"compressors": ZstdCodec(level=3, checksum=True)}
    state = np.full((ROWS, COLS), PENDING, np.uint8)
    state[:BLOCK] = DONE
    group.create_array("state", shape=(ROWS, COLS), chunks=(BLOCK, BLOCK), dtype="uint8", fill_value=255, **common)[
        :
    ] = state
    group.create_array(
        "coverage", shape=(ROWS, COLS), chunks=(ROWS, COLS), dtype="float32", fill_value=np.nan, **common
    )[:] = 1
    embeddings = group.create_array(
        "embeddings",
        shape=(ROWS, COLS, DIMS),
        chunks=(BLOCK, BLOCK, DIMS),
        dtype="float16",
        fill_value=np.nan,
        **common,
    )
    embeddings[:BLOCK] = 3
    return path


def test_measures_come_back_at_their_places_and_flags_are_those_above_the_thresholds(tmp_path):
    grid = filled(tmp_path / "a.tokens.zarr")
    np.testing.assert_array_equal(grid.quality.values, VALUES)
    assert grid.quality.measures == MEASURES
    limits = {"pen": 0.2, "blur": 0.4, "fold": 0.6, "bubble": 0.8}
    flags = grid.flags(limits)
    for row in range(ROWS):
        for col in range(COLS):
            wanted = {name for name, value in zip(MEASURES, VALUES[row, col], strict=True) if value > limits[name]}
            assert {name for i, name in enumerate(MEASURES) if flags[row, col] >> i & 1} == wanted


def test_what_was_not_measured_is_never_flagged():
    values = np.full((3, 5, 4), np.nan, np.float32)
    assert not flag_bits(values, MEASURES, dict.fromkeys(MEASURES, 0.0)).any()


def test_flagged_tokens_are_holes_of_the_graph(tmp_path):
    grid = filled(tmp_path / "a.tokens.zarr")
    rules = {"pen": 0.9, "fold": 0.7}
    kept = (VALUES[..., 0] <= 0.9) & (VALUES[..., 2] <= 0.7)
    graph = grid.graph(without=rules)
    np.testing.assert_array_equal(graph.positions, np.argwhere(kept))
    assert sum(len(tokens) for tokens, _ in grid.iter_blocks(rules)) == kept.sum()
    assert len(grid.graph().positions) == ROWS * COLS
    with pytest.raises(InvalidInputError, match="must keep a token; all 143 carry a flag that is left out"):
        grid.graph(without={"pen": 0.0, "blur": 0.0})


def test_a_grid_opened_without_flags_leaves_them_out_of_all_that_it_gives(tmp_path):
    path = filled(tmp_path / "a.tokens.zarr").path
    grid = TokenGrid.open(path, without={"blur": 0.5})
    kept = VALUES[..., 1] <= 0.5
    np.testing.assert_array_equal(grid.mask, kept)
    np.testing.assert_array_equal(grid.graph().positions, np.argwhere(kept))
    assert sum(len(tokens) for tokens, _ in grid.iter_blocks()) == kept.sum()
    assert grid.is_complete
    assert len(grid.graph(without=()).positions) == ROWS * COLS
    with pytest.raises(UnknownNameError, match="'dust' is unknown"):
        TokenGrid.open(path, without=["dust"])


def test_thresholds_that_are_changed_in_the_store_hold_for_later_readers(tmp_path):
    path = tmp_path / "a.tokens.zarr"
    before = filled(path).quality.thresholds
    with TokenGrid.open(path, "r+") as grid:
        grid.set_thresholds(blur=0.5)
        np.testing.assert_array_equal(grid.usable(["blur"]), VALUES[..., 1] <= 0.5)
    again = TokenGrid.open(path)
    assert again.quality.thresholds == before | {"blur": 0.5}
    np.testing.assert_array_equal(again.usable(["blur"]), VALUES[..., 1] <= 0.5)
    with pytest.raises(InvalidInputError, match="opened for reading"):
        again.set_thresholds(blur=0.6)


def test_shares_count_finished_tokens_only(tmp_path):
    grid = filled(tmp_path / "a.tokens.zarr")
    done = np.zeros((ROWS, COLS), bool)
    done[:3] = True
    shares = grid.quality.shares(done, {"pen": 0.3, "blur": 1.0, "fold": 1.0, "bubble": 1.0})
    assert shares["pen"] == pytest.approx((VALUES[:3, :, 0] > 0.3).mean())
    assert shares["any"] == shares["pen"]
    assert shares["fold"] == 0


def test_a_store_without_measures_refuses_to_leave_flags_out(tmp_path):
    grid = filled(tmp_path / "a.tokens.zarr", quality=False)
    assert grid.quality.measures == ()
    assert not (grid.path / "quality").exists()
    with pytest.raises(InvalidInputError, match=r"made without, by an earlier version.*--overwrite.*leave no flags"):
        grid.graph(without=["pen"])
    with pytest.raises(InvalidInputError, match="made without"):
        TokenGrid.open(grid.path, without=["pen"])
    with TokenGrid.open(grid.path, "r+") as writer, pytest.raises(InvalidInputError, match="made without"):
        writer.set_thresholds(pen=0.5)


@pytest.mark.parametrize(
    ("rules", "error", "match"),
    [
        (["penn"], UnknownNameError, "Quality flag 'penn' is unknown. Known are 'pen', 'blur', 'fold', 'bubble'"),
        ({"blur": 1.5}, InvalidInputError, "threshold of blur must be a number, 0 to 1; got 1.5"),
        ("pen", InvalidInputError, r"must be a list of names, such as \['pen', 'blur'\]; got 'pen'"),
    ],
)
def test_flags_and_thresholds_that_cannot_be_are_refused(rules, error, match):
    with pytest.raises(error, match=match):
        resolved(rules, QualityGauge().record["thresholds"])


def test_words_of_the_command_line_become_rules():
    assert parse_rules(["pen, blur=0.6", "fold"]) == {"pen": None, "blur": 0.6, "fold": None}
    with pytest.raises(InvalidInputError, match="threshold of blur must be a number, 0 to 1; got 'much'"):
        parse_rules(["blur=much"])


def test_embedding_measures_every_finished_tile_and_keeps_the_tissue_mask(tmp_path):
    slide = FakeSlide(speckled())
    slide.damaged = [(40, 50)]
    grid = embed(tmp_path / "a.tokens.zarr", slide, tissue=ragged(slide, share=1.0))
    pen = grid.quality.values[..., 0]
    np.testing.assert_array_equal(np.isfinite(pen), grid.mask)
    row, col = 3, 4
    pixels = slide.read(16 * row, 16 * col, 16, 16)
    expected = QualityGauge().measure(pixels[None], grid.geometry.tile_mpp)[0]
    np.testing.assert_array_equal(grid.quality.values[row, col], expected)
    kept, made = grid.tissue_mask(), ragged(slide, share=1.0)
    assert kept is not None
    np.testing.assert_array_equal(kept.mask, made.mask)
    assert (kept.scale, kept.slide_shape, kept.method) == (made.scale, made.slide_shape, made.method)


def test_quality_is_of_the_tile_as_scanned_not_of_the_normalized_one(tmp_path, monkeypatch):
    from napari_prospector.tokens import embed as embedding

    slide = FakeSlide(speckled())
    plain = embed(tmp_path / "a.tokens.zarr", slide)
    monkeypatch.setattr(embedding, "remixed", lambda tiles, source: tiles)
    monkeypatch.setattr(embedding, "stain_record", lambda reader, mask: {"problem": None})
    monkeypatch.setattr(embedding.StainEstimate, "from_json", classmethod(lambda cls, record: None))
    normalized = embed(tmp_path / "b.tokens.zarr", slide, stain_normalize="macenko")
    np.testing.assert_array_equal(plain.quality.values, normalized.quality.values)


def test_a_lost_part_of_the_tissue_mask_is_noticed(tmp_path):
    grid = embed(tmp_path / "a.tokens.zarr")
    next((grid.path / "tissue" / "c").rglob("0")).rename(tmp_path / "lost")
    with pytest.raises(FileFormatError, match="the array tissue cannot be read .*missing"):
        grid.tissue_mask()


def test_quality_that_does_not_fit_the_grid_is_refused(tmp_path):
    path = filled(tmp_path / "a.tokens.zarr").path
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["attributes"]["quality"]["measures"].append("dust")
    (path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(FileFormatError, match=r"quality of shape \(11, 13, 4\), not \(11, 13, 5\)"):
        TokenGrid.open(path)


def test_a_store_of_version_1_is_read_and_gone_on_with(tmp_path):
    path = old_store(tmp_path / "old.tokens.zarr")
    grid = TokenGrid.open(path)
    assert grid.counts() == {"background": 0, "pending": (ROWS - BLOCK) * COLS, "done": BLOCK * COLS, "failed": 0}
    assert len(grid.graph(partial=True).positions) == BLOCK * COLS
    assert grid.tissue_mask() is None
    assert grid.quality.measures == ()
    with TokenGrid.open(path, "r+") as grid:
        for block in grid.blocks():
            state = np.full(grid.state[block.tokens].shape, DONE, np.uint8)
            grid.write_block(block, np.ones((*state.shape, DIMS)), state, VALUES[block.tokens])
    assert TokenGrid.open(path).is_complete
    assert TokenGrid.open(path).attrs["format_version"] == 1


def test_an_embedding_that_version_1_began_is_finished(tmp_path, uninterrupted):
    path = tmp_path / "old.tokens.zarr"
    slide = FakeSlide(speckled())
    with TokenGrid.open(embed(path, slide).path, "r+") as grid:
        whole = np.asarray(grid.embeddings[:])
        block = next(grid.blocks())
        state = grid.state[block.tokens]
        grid.write_block(block, np.ones((*state.shape, 7)), np.where(state == DONE, PENDING, state).astype(np.uint8))
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["attributes"]["format_version"] = 1
    del metadata["attributes"]["quality"]
    (path / "zarr.json").write_text(json.dumps(metadata))
    encoder = FakeEncoder()
    np.testing.assert_array_equal(np.asarray(embed(path, slide, encoder).embeddings[:]), whole)
    assert encoder.batches


@pytest.mark.parametrize(
    ("version", "match"),
    [
        (3, "version 1 to 2; it is of version 3. Update napari-prospector, or embed the slide again"),
        (0, r"version 1 to 2; it is of version 0\. Embed the slide again with overwrite=True"),
        ("two", r"it is of version 'two'\. Embed the slide again with overwrite=True"),
    ],
)
def test_other_versions_are_refused_with_the_way_out(tmp_path, version, match):
    with pytest.raises(FileFormatError, match=match):
        TokenGrid.open(old_store(tmp_path / "old.tokens.zarr", version))
