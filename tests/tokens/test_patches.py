"""Patch tokens are stitched exactly: each lies where its pixels are, through to layers and contours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embed_fakes import FakeSlide, tissue_of
from patch_fakes import MPP, N_PATCHES, PATCH_PX, TILE_PX, Blurred, MeanColours, blurred, patch_means

from napari_prospector.errors import InvalidInputError, MismatchError, PixelSizeError, UnknownNameError
from napari_prospector.tokens.embed import embed_slide, embed_to_grid
from napari_prospector.tokens.encoders.cards import Encoder, EncoderCard
from napari_prospector.tokens.encoders.chosen_tokens import choose_tokens
from napari_prospector.tokens.encoders.projection import random_projection
from napari_prospector.tokens.patches import TokenLayout
from napari_prospector.tokens.store import BACKGROUND, DONE, FAILED, TokenGrid

# 7 whole patches and one whose centre is inside; 9 and one whose centre is not
ROWS, COLS = 7 * PATCH_PX + 3, 11 * PATCH_PX + 1


def image(rows: int = ROWS, cols: int = COLS, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, (rows, cols, 3), dtype=np.uint8)


def padded(pixels: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """The upper left corner of a slide that is white beyond its edge."""
    wide = np.full((rows, cols, 3), 255, np.uint8)
    inside = pixels[:rows, :cols]
    wide[: inside.shape[0], : inside.shape[1]] = inside
    return wide


def embed(path: Path, slide: FakeSlide, encoder: Encoder, mask: np.ndarray | None = None, **options: Any) -> TokenGrid:
    tissue = tissue_of(slide, np.ones(slide.shape, bool) if mask is None else mask)
    return embed_to_grid(slide, encoder, path, tissue=tissue, dtype="float32", **options)


@pytest.mark.parametrize("overlap", range(N_PATCHES))
@pytest.mark.parametrize("block", [1, 2, 16])
def test_each_token_is_the_mean_of_its_own_pixels(tmp_path: Path, overlap: int, block: int) -> None:
    pixels = image()
    encoder = choose_tokens(MeanColours(), overlap_px=overlap * PATCH_PX)
    grid = embed(tmp_path / "a.tokens.zarr", FakeSlide(pixels), encoder, block=block)
    assert grid.geometry.shape == (8, 11)
    expected = patch_means(padded(pixels, 8 * PATCH_PX, 11 * PATCH_PX))
    np.testing.assert_allclose(grid.embeddings[:], expected, rtol=1e-6)
    assert (grid.state == DONE).all()


@pytest.mark.parametrize("overlap", [2, 3])
def test_with_overlap_a_convolution_gives_what_it_gives_on_the_whole_slide(tmp_path: Path, overlap: int) -> None:
    pixels = image()
    encoder = choose_tokens(Blurred(), overlap_px=overlap * PATCH_PX)
    grid = embed(tmp_path / "a.tokens.zarr", FakeSlide(pixels), encoder)
    far = padded(pixels, ROWS + 2 * TILE_PX, COLS + 2 * TILE_PX)
    np.testing.assert_allclose(grid.embeddings[:], patch_means(blurred(far))[:8, :11], rtol=1e-5)


def test_without_overlap_it_does_so_but_at_the_seams(tmp_path: Path) -> None:
    pixels = image()
    grid = embed(tmp_path / "a.tokens.zarr", FakeSlide(pixels), choose_tokens(Blurred()))
    far = padded(pixels, ROWS + 2 * TILE_PX, COLS + 2 * TILE_PX)
    is_same = np.isclose(grid.embeddings[:], patch_means(blurred(far))[:8, :11], rtol=1e-5).all(axis=2)
    inner = np.ones((8, 11), bool)
    for seam in (4, 5):
        inner[seam], inner[:, seam] = False, False
    inner[:, [9, 10]] = False
    np.testing.assert_array_equal(is_same, inner)


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("overlap", [0, 2, 3])
def test_patches_of_a_downsampled_level_are_those_of_the_slide(tmp_path: Path, factor: int, overlap: int) -> None:
    # colours that are constant over `factor` px survive averaging exactly
    pixels = image().repeat(factor, 0).repeat(factor, 1)
    slide = FakeSlide(pixels, mpp=MPP / factor, factors=(1, factor))
    grid = embed(tmp_path / "a.tokens.zarr", slide, choose_tokens(MeanColours(), overlap_px=overlap * PATCH_PX))
    assert grid.geometry.tile == grid.geometry.stride == PATCH_PX * factor
    assert grid.geometry.tile_mpp == MPP
    expected = patch_means(padded(image(), 8 * PATCH_PX, 11 * PATCH_PX))
    np.testing.assert_allclose(grid.embeddings[:], expected, rtol=1e-6)
    assert {level for *_, level in slide.reads} == {1}


def test_patches_without_tissue_are_background_and_tiles_without_any_are_not_read(tmp_path: Path) -> None:
    pixels, encoder = image(), MeanColours()
    mask = np.zeros((ROWS, COLS), bool)
    mask[:PATCH_PX, PATCH_PX : 3 * PATCH_PX] = True  # two patches
    mask[PATCH_PX, 0] = True  # a sixteenth of one
    chosen = choose_tokens(encoder)
    before = encoder.n_tiles
    grid = embed(tmp_path / "a.tokens.zarr", FakeSlide(pixels), chosen, mask)
    expected = np.full((8, 11), BACKGROUND)
    expected[0, 1:3] = DONE
    np.testing.assert_array_equal(grid.state, expected)
    assert encoder.n_tiles - before == 1
    assert grid.coverage[1, 0] == pytest.approx(1 / 16)
    assert np.isnan(grid.embeddings[:][grid.state != DONE]).all()


def test_a_tile_that_cannot_be_read_fails_all_its_patches(tmp_path: Path) -> None:
    slide = FakeSlide(image())
    slide.damaged = [(2, TILE_PX + 1)]
    steps = list(
        embed_slide(
            slide,
            choose_tokens(MeanColours()),
            tmp_path / "a.tokens.zarr",
            tissue=tissue_of(slide, np.ones(slide.shape, bool)),
        )
    )
    failed = np.zeros((8, 11), bool)
    failed[:N_PATCHES, N_PATCHES : 2 * N_PATCHES] = True
    np.testing.assert_array_equal(TokenGrid.open(tmp_path / "a.tokens.zarr").state == FAILED, failed)
    (failure,) = [failure for step in steps for failure in step.failures]
    assert (failure.row, failure.col, failure.n_tokens) == (0, 5, 25)
    assert "cannot be decoded" in failure.reason
    assert (steps[-1].done, steps[-1].total, steps[-1].failed) == (88, 88, 25)


def test_a_single_patch_that_is_not_finite_fails_alone(tmp_path: Path) -> None:
    class Spoiled(MeanColours):
        def encode_patches(self, tiles: np.ndarray) -> np.ndarray:
            patches = super().encode_patches(tiles)
            patches[0, 1, 2] = 1e6
            return patches

    slide = FakeSlide(image())
    tissue = tissue_of(slide, np.ones(slide.shape, bool))
    path = tmp_path / "a.tokens.zarr"
    steps = list(embed_slide(slide, choose_tokens(Spoiled(batch_size=99)), path, tissue=tissue))
    assert np.argwhere(TokenGrid.open(path).state == FAILED).tolist() == [[1, 2]]
    (failure,) = steps[-1].failures
    assert (failure.row, failure.col, failure.n_tokens) == (1, 2, 1)
    assert "finite in float16" in failure.reason


def test_a_block_is_whole_tiles_and_bounded() -> None:
    card = EncoderCard("big", "fake", "tests", tile_px=224, mpp=0.5, patch_px=14, n_dims=1536, tokens="patch")
    layout = TokenLayout.of_card((9001, 9002), 0.5, card)
    side = layout.block_side(1536, 2)
    assert side == 4 * 16
    assert side**2 * 1536 * 2 <= 16 * 2**20
    assert layout.block_side(64, 2) == 16 * 16
    assert layout.block_side(64, 2, tiles=3) == 3 * 16
    assert layout.block_side(10**9, 2) == 16


def test_tile_tokens_are_laid_as_before() -> None:
    layout = TokenLayout.of_card((9001, 9002), 0.5, EncoderCard("a", "fake", "tests", 224, 0.5), 112)
    assert layout.tiles == layout.tokens
    assert (layout.kept, layout.tokens.stride, layout.block_side(10**9, 4, 77)) == (1, 112, 77)


def test_the_scale_is_that_of_whole_patches_and_recorded(tmp_path: Path) -> None:
    slide = FakeSlide(image(), mpp=0.52)
    grid = embed(tmp_path / "a.tokens.zarr", slide, choose_tokens(MeanColours()))
    assert grid.geometry.tile == PATCH_PX
    assert grid.geometry.tile_mpp == grid.tiles.tile_mpp == 0.52
    assert (grid.tiles.tile_px, grid.geometry.tile_px) == (TILE_PX, PATCH_PX)
    assert grid.tokens_card["tile_px"] == TILE_PX
    assert grid.attrs["tiles"]["stride"] == TILE_PX


def test_a_pixel_size_of_which_no_whole_number_makes_a_patch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PixelSizeError, match=r"4 px at 0.5 µm per pixel are 3.57 of 0.56 µm.*\+12 %.*--tile-mpp 0.56"):
        embed(tmp_path / "a.tokens.zarr", FakeSlide(image(), mpp=0.56), choose_tokens(MeanColours()))


def test_patch_tokens_take_no_stride(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="stride_px is for tile tokens; got 8"):
        embed(tmp_path / "a.tokens.zarr", FakeSlide(image()), choose_tokens(MeanColours()), stride_px=8)


@pytest.mark.parametrize("overlap", [1, TILE_PX, -PATCH_PX])
def test_an_overlap_is_a_whole_number_of_patches_and_leaves_one(overlap: int) -> None:
    with pytest.raises(
        InvalidInputError, match=f"overlap_px must be a whole number of patches, 0 to 16.*got {overlap}"
    ):
        choose_tokens(MeanColours(), overlap_px=overlap)


def test_tile_tokens_have_no_overlap_of_patches() -> None:
    with pytest.raises(InvalidInputError, match="overlap_px is for patch tokens"):
        choose_tokens(MeanColours(), "tile", overlap_px=4)


def test_the_kind_of_tokens_is_one_of_two() -> None:
    with pytest.raises(UnknownNameError, match="'tile' or 'patch'; got 'word'"):
        choose_tokens(MeanColours(), "word")


def test_an_encoder_without_patches_is_refused_with_what_else_to_do() -> None:
    from napari_prospector.tokens.encoders.cards import load_encoder

    with pytest.raises(InvalidInputError, match=r"'stain-texture' gives no patch tokens.*--stride-px"):
        choose_tokens(load_encoder("stain-texture"))


def test_patches_must_come_as_a_square_that_divides_the_tile() -> None:
    class Odd(MeanColours):
        def encode_patches(self, tiles: np.ndarray) -> np.ndarray:
            return np.zeros((len(tiles), 3, 3, 7), np.float32)

    with pytest.raises(InvalidInputError, match=r"k divides 20; got \(1, 3, 3, 7\)"):
        choose_tokens(Odd())


def test_a_card_without_patches_that_divide_its_tile_is_refused() -> None:
    card = EncoderCard("a", "fake", "tests", 20, 0.5, patch_px=3, tokens="patch")
    with pytest.raises(InvalidInputError, match="tiles of 20 px and patches of 3 px"):
        TokenLayout.of_card((900, 900), 0.5, card)


def test_tile_tokens_of_one_encoder_are_the_encoder_itself() -> None:
    encoder = MeanColours()
    assert choose_tokens(encoder, "tile") is encoder
    with pytest.raises(MismatchError, match="Call encode_patches"):
        choose_tokens(encoder).encode(np.zeros((1, TILE_PX, TILE_PX, 3), np.uint8))


def test_tokens_of_both_kinds_can_be_projected(tmp_path: Path) -> None:
    pixels, slide = image(), FakeSlide(image())
    plain = embed(tmp_path / "plain.tokens.zarr", slide, choose_tokens(MeanColours()))
    projection = random_projection(3, 2)
    grid = embed(tmp_path / "a.tokens.zarr", FakeSlide(pixels), choose_tokens(MeanColours(), projection=projection))
    np.testing.assert_allclose(grid.embeddings[:], plain.embeddings[:] @ projection.axes, rtol=1e-5)
    assert grid.card["projection"] == {"kind": "random", "n_from": 3, "n_dims": 2, "seed": 0, "sha256": None}
    tiles = choose_tokens(MeanColours(), "tile", projection=random_projection(4, 2))
    grid = embed(tmp_path / "b.tokens.zarr", FakeSlide(pixels), tiles)
    assert (grid.n_dims, "tokens" in grid.card) == (2, False)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (choose_tokens(MeanColours(), "tile"), "encoder.tokens"),
        (choose_tokens(MeanColours(), overlap_px=4), "overlap_px"),
        (choose_tokens(MeanColours(), projection=random_projection(3, 2)), "projection"),
    ],
)
def test_a_store_does_not_go_on_with_tokens_of_another_kind(tmp_path: Path, other: Encoder, words: str) -> None:
    path = tmp_path / "a.tokens.zarr"
    embed(path, FakeSlide(image()), choose_tokens(MeanColours()))
    with pytest.raises(MismatchError, match=words):
        embed(path, FakeSlide(image()), other)


def test_an_interrupted_store_finishes_with_the_same_tokens(tmp_path: Path) -> None:
    def steps(path: Path) -> Any:
        slide = FakeSlide(image())
        tissue = tissue_of(slide, np.ones(slide.shape, bool))
        return embed_slide(slide, choose_tokens(MeanColours()), path, tissue=tissue, block=1)

    list(steps(tmp_path / "whole.tokens.zarr"))
    broken = steps(tmp_path / "cut.tokens.zarr")
    for _ in range(3):
        next(broken)
    broken.close()
    counts = TokenGrid.open(tmp_path / "cut.tokens.zarr").counts()
    assert counts["pending"]
    assert counts["done"]
    list(steps(tmp_path / "cut.tokens.zarr"))
    whole, cut = (TokenGrid.open(tmp_path / f"{name}.tokens.zarr") for name in ("whole", "cut"))
    np.testing.assert_array_equal(whole.embeddings[:], cut.embeddings[:])


def test_layers_table_and_contours_lie_over_the_planted_square(tmp_path: Path) -> None:
    pixels = np.full((ROWS, COLS, 3), 200, np.uint8)
    rows, cols = slice(3 * PATCH_PX, 5 * PATCH_PX), slice(6 * PATCH_PX, 9 * PATCH_PX)
    pixels[rows, cols] = 0
    grid = embed(tmp_path / "a.tokens.zarr", FakeSlide(pixels), choose_tokens(MeanColours(), overlap_px=8))
    black = np.argwhere(grid.embeddings[:].max(axis=2) == 0)
    boxes = np.array([grid.geometry.box(int(row), int(col)) for row, col in black])
    assert (*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)) == (rows.start, cols.start, rows.stop, cols.stop)
    assert len(black) == 6
    # napari's world: pixel centres at whole numbers times the pixel size, so a cell's middle is that of its pixels
    world = np.array(grid.geometry.translate_um) + black * np.array(grid.geometry.scale_um)
    middles = (np.array([(rows.start + rows.stop - 1) / 2, (cols.start + cols.stop - 1) / 2])) * MPP
    np.testing.assert_allclose(world.mean(axis=0), middles)
    assert grid.geometry.token_at(rows.start, cols.start) == (3, 6)
    assert grid.geometry.token_at(rows.stop - 1, cols.stop - 1) == (4, 8)
    assert grid.geometry.ngff()["coordinateTransformations"][0]["scale"] == [PATCH_PX * MPP] * 2


def test_napari_draws_each_patch_over_its_own_pixels(tmp_path: Path) -> None:
    layers = pytest.importorskip("napari.layers")
    from napari_prospector._napari.layers import Placement, grid_layers, map_layer

    slide = FakeSlide(image(), mpp=MPP)
    grid = embed(tmp_path / "a.tokens.zarr", slide, choose_tokens(MeanColours(), overlap_px=8))
    placement = Placement.of_mpp(MPP)
    pixels = layers.Image(slide.images[0], **placement.of_slide())
    scores = np.arange(88.0).reshape(8, 11)
    drawn = map_layer(scores, grid.geometry, placement, slide="a", map="evidence", limit=1)
    for made in (drawn, *grid_layers(grid, grid.path, placement)[-2:]):
        layer = layers.Layer.create(*made)
        for row, col in ((0, 0), (7, 3), (2, 10)):
            top, left, bottom, right = grid.geometry.box(row, col)
            for corner, cell in (((top, left), (-0.5, -0.5)), ((bottom, right), (0.5, 0.5))):
                edge = pixels.data_to_world((corner[0] - 0.5, corner[1] - 0.5))
                np.testing.assert_allclose(layer.data_to_world((row + cell[0], col + cell[1])), edge, atol=1e-9)
