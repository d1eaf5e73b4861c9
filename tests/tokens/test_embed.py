"""Slide → token grid: the right pixels, the same bytes whatever happens, and no silent zero."""

from __future__ import annotations

import json
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from embed_fakes import (
    BLOCK,
    COLS,
    MPP,
    ROWS,
    TILE_PX,
    FakeEncoder,
    FakeSlide,
    embed,
    files,
    ragged,
    speckled,
    tissue_of,
)

from napari_prospector.errors import (
    FileFormatError,
    InvalidInputError,
    MismatchError,
    PixelSizeError,
    ProspectorWarning,
    UnknownNameError,
)
from napari_prospector.tokens.embed import EmbedProgress, embed_slide, embed_to_grid
from napari_prospector.tokens.encoders.cards import load_encoder
from napari_prospector.tokens.slides import open_slide
from napari_prospector.tokens.staining import StainEstimate, remix
from napari_prospector.tokens.store import TokenGrid
from napari_prospector.tokens.tissue import TissueMask


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "fake.tokens.zarr"


def everywhere(slide: FakeSlide) -> TissueMask:
    return tissue_of(slide, np.ones(slide.shape, bool))


def test_each_embedding_is_that_of_the_pixels_under_its_token(path):
    image = speckled()
    grid = embed(path, FakeSlide(image))
    assert grid.geometry.shape == (11, 13)
    assert grid.mask.tolist() == ragged(FakeSlide(image)).mask[8::TILE_PX, 8::TILE_PX][:11, :13].tolist()
    for tokens, vectors in grid.iter_blocks():
        for (row, col), vector in zip(tokens, vectors, strict=True):
            row0, col0, row1, col1 = grid.geometry.box(row, col)
            # the fake adds n / 64 for batches of n tiles: at most 5
            np.testing.assert_allclose(vector[:3], image[row0:row1, col0:col1].mean((0, 1)), atol=5 / 64 + 0.07)


def test_a_planted_square_is_found_at_its_tokens_and_micrometres(path):
    image = np.full((ROWS, COLS, 3), 255, np.uint8)
    image[3 * TILE_PX : 5 * TILE_PX, 6 * TILE_PX : 9 * TILE_PX] = 40
    slide = FakeSlide(image)
    grid = embed(path, slide, FakeEncoder(batch_size=1), tissue=everywhere(slide), min_coverage=0)
    dark = np.asarray(grid.embeddings[:, :, 0]) < 128
    assert set(map(tuple, np.argwhere(dark))) == {(i, j) for i in (3, 4) for j in (6, 7, 8)}
    half_cell = np.array(grid.geometry.scale_um) / 2
    corner = grid.geometry.centre_um(3, 6) - half_cell
    assert corner.tolist() == [(3 * TILE_PX - 0.5) * MPP, (6 * TILE_PX - 0.5) * MPP]


def test_a_tile_over_the_edge_is_white_outside(path):
    slide = FakeSlide(np.zeros((ROWS, 2 * TILE_PX + 9, 3), np.uint8))
    grid = embed(path, slide, FakeEncoder(batch_size=1), tissue=everywhere(slide))
    assert grid.geometry.cols == 3
    share = np.asarray(grid.embeddings[2, :, 0], np.float64) / 255
    np.testing.assert_allclose(share, [0, 0, 7 / 16], atol=1e-3)


def test_batches_never_cross_a_block(path):
    slide, encoder = FakeSlide(speckled()), FakeEncoder(batch_size=5)
    grid = embed(path, slide, encoder)
    sizes = [int(grid.mask[block.tokens].sum()) for block in grid.blocks()]
    expected = [[5] * (n // 5) + [n % 5] * (n % 5 > 0) for n in sizes]
    assert encoder.batches == [size for block in expected for size in block]


@pytest.mark.parametrize("n_readers", [1, 2, 7])
def test_the_bytes_do_not_depend_on_how_many_threads_read(path, uninterrupted, n_readers):
    embed(path, n_readers=n_readers)
    assert files(path) == uninterrupted


def test_progress_counts_tokens_from_nothing_to_all(path):
    slide = FakeSlide(speckled())
    steps = list(embed_slide(slide, FakeEncoder(), path, tissue=ragged(slide), block=BLOCK))
    total = TokenGrid.open(path).counts()["done"]
    assert steps[0] == EmbedProgress(0, total, 0)
    assert steps[-1] == EmbedProgress(total, total, 0)
    done = [step.done for step in steps]
    assert done == sorted(set(done))


def test_overlapping_tiles_are_embedded_each_for_itself(path):
    image = speckled()
    slide = FakeSlide(image)
    grid = embed(path, slide, FakeEncoder(batch_size=1), tissue=everywhere(slide), stride_px=5)
    assert grid.geometry.stride == 5
    row0, col0, row1, col1 = grid.geometry.box(17, 23)
    expected = image[row0:row1, col0:col1].mean((0, 1)) + 1 / 64
    np.testing.assert_allclose(grid.embeddings[17, 23, :3], expected, atol=0.07)


def test_the_store_says_how_tissue_and_pixels_were_found(path):
    attrs = embed(path).attrs
    assert attrs["tissue"] == {
        "method": "random",
        "threshold": 0.5,
        "mask_mpp": 0.5,
        "ink_share": 0.0,
        "min_coverage": 0.25,
    }
    assert attrs["reading"] == {"level": 0, "downsample": 1.0, "resampling": "area"}


def test_without_a_mask_tissue_is_found(path):
    image = np.full((503, 701, 3), 245, np.uint8)
    image[10 * TILE_PX : 26 * TILE_PX, 13 * TILE_PX : 31 * TILE_PX] = [170, 90, 160]
    grid = embed(path, FakeSlide(image), tissue=None)
    assert np.argwhere(grid.mask).min(0).tolist() == [10, 13]
    assert np.argwhere(grid.mask).max(0).tolist() == [25, 30]
    assert grid.attrs["tissue"]["method"] == "otsu"
    assert grid.attrs["tissue"]["mask_mpp"] == 8.0


def test_the_mask_of_a_slide_without_bounds_is_coarser(path, monkeypatch):
    monkeypatch.setattr("napari_prospector.tokens.embed._MOST_MASK_CELLS", 400)
    slide = FakeSlide(np.full((503, 701, 3), 120, np.uint8))
    assert embed(path, slide, tissue=None).attrs["tissue"]["mask_mpp"] == 16.0


def test_a_dense_block_is_read_at_once(path):
    slide = FakeSlide(speckled())
    grid = embed(path, slide, tissue=everywhere(slide))
    n_sampled = 64  # tiles, for the stain
    assert len(slide.reads) == n_sampled + len(list(grid.blocks()))


def test_a_damaged_tile_fails_by_itself_and_is_reported(path):
    slide = FakeSlide(speckled())
    token = tuple(np.argwhere(ragged(slide).mask[::TILE_PX, ::TILE_PX])[23])
    slide.damaged = [(token[0] * TILE_PX + 3, token[1] * TILE_PX + 5)]
    steps = list(embed_slide(slide, FakeEncoder(), path, tissue=ragged(slide), block=BLOCK))
    (failure,) = [failure for step in steps for failure in step.failures]
    assert (failure.row, failure.col) == token
    assert "cannot be decoded" in failure.reason
    assert (steps[-1].done, steps[-1].failed) == (steps[-1].total, 1)
    grid = TokenGrid.open(path)
    assert np.argwhere(grid.state == 3).tolist() == [list(token)]
    assert np.isnan(np.asarray(grid.embeddings[*token])).all()
    assert grid.is_complete


def test_failed_tiles_are_tried_again_only_on_request(path, uninterrupted):
    slide = FakeSlide(speckled())
    slide.damaged = [(3, 5), (80, 80), (81, 81), (100, 150)]
    first = embed(path, slide)
    failed = first.counts()["failed"]
    assert failed
    slide.damaged = []
    steps = list(embed_slide(slide, FakeEncoder(), path, tissue=ragged(slide)))
    assert [step.failed for step in steps] == [failed]
    embed(path, slide, retry_failed=True)
    # the stain stays the one that was found when some of the sampled tiles could not be read
    metadata = json.loads(uninterrupted["zarr.json"]), json.loads(files(path)["zarr.json"])
    stains = [each["attributes"].pop("stain") for each in metadata]
    assert stains[0] != stains[1]
    assert metadata[0] == metadata[1]
    assert files(path) | {"zarr.json": b""} == uninterrupted | {"zarr.json": b""}


def test_an_embedding_that_is_not_finite_fails_its_tile(path):
    encoder = FakeEncoder()

    def spoil(vectors: np.ndarray) -> np.ndarray:
        if len(encoder.batches) == 3:
            vectors[2, 1] = np.nan
        return vectors

    encoder.spoil = spoil
    slide = FakeSlide(speckled())
    steps = list(embed_slide(slide, encoder, path, tissue=ragged(slide), block=BLOCK))
    (failure,) = [failure for step in steps for failure in step.failures]
    assert (
        failure.reason
        == "Encoder 'fake' must give embeddings that are finite in float16; this one is not. Check its weights."
    )
    assert TokenGrid.open(path).counts()["failed"] == 1


@pytest.mark.parametrize(("value", "remedy"), [(np.nan, "Check its weights"), (1e6, r"Pass dtype='float32'")])
def test_an_encoder_that_gives_nothing_finite_is_refused_at_once(path, value, remedy):
    encoder = FakeEncoder()
    encoder.spoil = lambda vectors: np.full_like(vectors, value)
    with pytest.raises(InvalidInputError, match=rf"'fake' must give .* finite in float16; all 5 of a batch .*{remedy}"):
        embed(path, encoder=encoder)
    assert len(encoder.batches) == 1
    assert TokenGrid.open(path).counts()["done"] == 0


def test_embeddings_beyond_float16_fit_float32(path):
    encoder = FakeEncoder()
    encoder.spoil = lambda vectors: vectors * 1e6
    assert embed(path, encoder=encoder, dtype="float32").is_complete


def test_embeddings_of_another_shape_than_the_card_says_are_refused(path):
    encoder = FakeEncoder(n_dims=8)
    with pytest.raises(InvalidInputError, match=r"'fake' must give embeddings of shape \(5, 8\); got \(5, 7\)"):
        embed(path, encoder=encoder)


def test_a_slide_of_which_every_tile_fails_is_refused(path):
    slide = FakeSlide(speckled())
    slide.damaged = [(row, col) for row in range(8, ROWS, TILE_PX) for col in range(8, COLS, TILE_PX)]
    with pytest.raises(InvalidInputError, match=r"fake\.svs: every one of its \d+ tiles failed\. The first: .*decoded"):
        embed(path, slide)
    with pytest.raises(InvalidInputError, match="tiles failed. Pass retry_failed=True"):
        embed(path, slide)


def test_a_slide_without_tissue_is_refused_and_leaves_nothing(path):
    slide = FakeSlide(speckled())
    blank = tissue_of(slide, np.zeros(slide.shape, bool), "otsu", 0.07)
    match = r"fake\.svs must show tissue; no tile has a share of 0\.25 \(the most is 0\.00.*Lower min_coverage"
    with pytest.raises(InvalidInputError, match=match):
        embed(path, slide, tissue=blank)
    assert not path.parent.exists()


def test_a_slide_without_pixel_size_is_refused(path):
    with pytest.raises(PixelSizeError, match=r"fake\.svs states no pixel size\. Pass mpp="):
        list(embed_slide(FakeSlide(speckled(), mpp=None), FakeEncoder(), path))


def test_an_impossible_coverage_is_refused(path):
    with pytest.raises(InvalidInputError, match=r"min_coverage must be a share of tissue, 0 to 1; got 25"):
        embed(path, min_coverage=25)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"slide": FakeSlide(speckled(8))}, r"slide_fingerprint is .* there and .* here"),
        ({"encoder": FakeEncoder(pooling="class")}, r"encoder\.pooling is None there and 'class' here"),
        ({"encoder": FakeEncoder(weights_sha256="ab" * 32)}, r"encoder\.weights_sha256 is None there and 'abab"),
        ({"stride_px": 8}, r"geometry\.stride is 16 there and 8 here"),
        ({"slide": FakeSlide(speckled(), mpp=0.51)}, r"geometry\.slide_mpp is 0\.5 there and 0\.51 here"),
        ({"dtype": "float32"}, r"dtype is 'float16' there and 'float32' here"),
        ({"min_coverage": 0.5}, r"tissue\.min_coverage is 0\.25 there and 0\.5 here"),
        ({"min_coverage": 0.5, "tissue": None}, r"tissue\.min_coverage is 0\.25 there and 0\.5 here"),
    ],
)
def test_a_store_of_something_else_is_refused_and_says_what_differs(path, changes, match):
    embed(path)
    before = files(path)
    with pytest.raises(MismatchError, match=match + r".*Write to another path, or pass overwrite=True"):
        embed(path, **changes)
    assert files(path.parent) == {f"{path.name}/{name}": content for name, content in before.items()}


def test_what_is_only_said_about_weights_may_change_while_a_store_is_made(path, uninterrupted):
    slide = FakeSlide(speckled())
    steps = embed_slide(slide, FakeEncoder(), path, tissue=ragged(slide), block=BLOCK)
    for _ in range(9):
        next(steps)
    steps.close()
    embed(
        path, slide, FakeEncoder(licence="mit", citation="A paper", hub="me/mine", weight_files=("a.bin",), n_prefix=1)
    )
    assert files(path) == uninterrupted


def test_another_tissue_mask_is_refused_and_none_goes_on_with_that_of_the_store(path, uninterrupted):
    slide = FakeSlide(speckled())
    steps = embed_slide(slide, FakeEncoder(), path, tissue=ragged(slide), block=BLOCK)
    for _ in range(9):
        next(steps)
    steps.close()
    with pytest.raises(
        MismatchError, match=r"another tissue mask: \d+ tokens there, \d+ here, \d+ differ\. Leave tissue"
    ):
        embed(path, slide, tissue=ragged(slide, seed=12))
    embed(path, slide, tissue=None)
    assert files(path) == uninterrupted


def test_overwriting_starts_anew(path, uninterrupted):
    embed(path, encoder=FakeEncoder(weights_sha256="ab" * 32))
    embed(path, overwrite=True)
    assert files(path) == uninterrupted


def restained(seed: int = 7) -> np.ndarray:
    """The speckled image as amounts of two stains."""
    mixture = speckled(seed).astype(np.float64)[..., :2] / 100
    vectors = np.array([[0.70, 0.62, 0.354], [0.12, 0.93, 0.348]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.rint(np.clip(244 * np.exp(-mixture @ vectors) - 1, 0, 255)).astype(np.uint8)


def test_normalized_tiles_are_those_that_the_store_s_own_stain_gives(path):
    slide = FakeSlide(restained())
    grid = embed(path, slide, FakeEncoder(batch_size=1), stain_normalize="macenko")
    assert grid.card["stain_normalize"] == "macenko"
    assert grid.attrs["stain"]["problem"] is None
    source = StainEstimate.from_json(grid.attrs["stain"])
    for row, col in np.argwhere(grid.mask):
        row0, col0, row1, col1 = grid.geometry.box(row, col)
        expected = remix(slide.images[0][row0:row1, col0:col1], source).mean((0, 1)) + 1 / 64
        np.testing.assert_allclose(grid.embeddings[row, col, :3], expected, atol=0.07)
    plain = embed(path.with_name("plain.tokens.zarr"), slide, FakeEncoder(batch_size=1))
    assert plain.card["stain_normalize"] is None
    assert plain.attrs["stain"] == grid.attrs["stain"]
    assert not np.allclose(np.asarray(plain.embeddings)[grid.mask], np.asarray(grid.embeddings)[grid.mask], atol=2)


def test_a_card_may_ask_for_normalized_tiles(path):
    grid = embed(path, FakeSlide(restained()), FakeEncoder(stain_normalize="macenko"))
    assert grid.card["stain_normalize"] == "macenko"


def test_stopping_a_normalizing_run_leaves_a_store_that_goes_on_to_the_same_bytes(path):
    slide, whole = FakeSlide(restained()), path.with_name("whole.tokens.zarr")
    embed(whole, slide, stain_normalize="macenko")
    for n_steps in (1, 2, 7):
        steps = embed_slide(slide, FakeEncoder(), path, tissue=ragged(slide), block=BLOCK, stain_normalize="macenko")
        for _ in range(n_steps):
            next(steps)
        steps.close()
    embed(path, slide, stain_normalize="macenko")
    assert files(path) == files(whole)


@pytest.mark.parametrize(
    ("first", "then", "text"),
    [(None, "macenko", "None there and 'macenko' here"), ("macenko", None, "'macenko' there")],
)
def test_going_on_with_another_normalization_is_refused(path, first, then, text):
    slide = FakeSlide(restained())
    steps = embed_slide(slide, FakeEncoder(), path, tissue=ragged(slide), block=BLOCK, stain_normalize=first)
    next(steps)
    steps.close()
    with pytest.raises(MismatchError, match=f"encoder.stain_normalize is {text}.*overwrite=True"):
        embed(path, slide, stain_normalize=then)


def test_an_unknown_normalization_is_refused(path):
    with pytest.raises(UnknownNameError, match="must be 'macenko', or None; got 'vahadane'"):
        embed(path, stain_normalize="vahadane")


def test_a_slide_whose_stain_cannot_be_told_is_embedded_but_not_normalized(path):
    slide = FakeSlide(np.full((ROWS, COLS, 3), 120, np.uint8))
    with pytest.raises(InvalidInputError, match=r"stain of fake\.svs cannot be normalized: 0 of .* Leave stain_norm"):
        embed(path, slide, stain_normalize="macenko")
    assert not path.exists()
    stain = embed(path, slide).attrs["stain"]
    assert stain["vectors"] is None
    assert "denser than glass" in stain["problem"]


def test_the_store_says_what_the_slide_was_scanned_with(path):
    slide = FakeSlide(speckled())
    slide.scanner = "Maker Model"
    assert embed(path, slide).attrs["scanner"] == "Maker Model"


def test_a_store_of_before_stains_were_looked_at_opens_and_goes_on(path, uninterrupted):
    slide = FakeSlide(speckled())
    steps = embed_slide(slide, FakeEncoder(), path, tissue=ragged(slide), block=BLOCK)
    for _ in range(9):
        next(steps)
    steps.close()
    metadata = json.loads((path / "zarr.json").read_text())
    del metadata["attributes"]["scanner"], metadata["attributes"]["stain"]
    del metadata["attributes"]["encoder"]["stain_normalize"]
    (path / "zarr.json").write_text(json.dumps(metadata))
    assert embed(path).is_complete
    ours = files(path)
    assert {name: ours[name] for name in ours if name != "zarr.json"} == {
        name: content for name, content in uninterrupted.items() if name != "zarr.json"
    }
    with pytest.raises(MismatchError, match="encoder.stain_normalize is None there and 'macenko' here"):
        embed(path, stain_normalize="macenko")


def test_a_normalized_store_that_has_lost_its_stain_is_damaged(path):
    slide = FakeSlide(restained())
    steps = embed_slide(slide, FakeEncoder(), path, tissue=ragged(slide), block=BLOCK, stain_normalize="macenko")
    next(steps)
    steps.close()
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["attributes"]["stain"]["vectors"] = None
    (path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(FileFormatError, match=r"fake\.tokens\.zarr is damaged: the stain in zarr\.json"):
        embed(path, slide, stain_normalize="macenko")


def test_a_slide_that_was_scanned_too_coarsely_for_the_encoder_is_told(tmp_path):
    path = tmp_path / "coarse.png"
    noise = np.random.default_rng(3).integers(0, 200, (64, 96, 3), dtype=np.uint8)
    path.write_bytes(imagecodecs.png_encode(noise))
    encoder = load_encoder("stain-texture")
    with (
        open_slide(path, mpp=4.0) as slide,
        pytest.warns(ProspectorWarning, match=r"wants 0\.5: tiles are enlarged 8\.0 times"),
    ):
        embed_to_grid(slide, encoder, tmp_path / "a.tokens.zarr")
